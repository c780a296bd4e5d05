//! What one guest, or strangers, use up is not taken from other guests (H03, H04, H09).

use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{self, tcp, udp};
use tapgate_tests::recipe::{GUEST_A, GUEST_B, NET_A, PROVIDER, REMOTE};
use tapgate_tests::router::Router;

/// Sessions that fit.
const ROOM: u32 = 2_000;

/// A provider, and guests `a`, of which `guest_a` tells the addresses, and `b`, at ports of their own.
fn site(guest_a: &str) -> String {
    format!(
        "
        [ports]
        uplink = {{ memory = true }}
        a = {{ memory = true }}
        b = {{ memory = true }}
        [personalities.x]
        port = \"uplink\"
        mac = \"02:00:00:00:00:aa\"
        addresses = [\"203.0.113.10/24\"]
        gateway = \"203.0.113.1\"
        [networks.n]
        ports = [\"a\", \"b\"]
        addresses = [\"10.0.0.254/24\"]
        mac = \"{NET_A}\"
        [guests.a]
        port = \"a\"
        {guest_a}
        [guests.b]
        port = \"b\"
        mac = \"{GUEST_B}\"
        addresses = [\"10.0.0.2\"]
        public = [\"203.0.113.22\"]
        "
    )
}

/// Guests `a` and `b`, each with an inside and a public address; `limits` are those of `a`.
fn two_guests(limits: &str) -> Router {
    let site = site(&format!(
        "mac = \"{GUEST_A}\"
        addresses = [\"10.0.0.1\"]
        public = [\"203.0.113.21\"]
        limits = {{ {limits} }}"
    ));
    let mut router = Router::settled(&format!(
        "
        [router]
        sessions = {ROOM}
        icmp_errors_per_second = 1000
        {site}
        [tables]
        main = [{{ to = \"default\", dev = \"x\" }}]
        [nat]
        snat = [{{ from = \"10.0.0.0/24\", to = \"203.0.113.10\" }}]
        "
    ));
    router.answer_everything();
    // The gateway is known.
    send(&mut router, "a", "10.0.0.1:1", &format!("{REMOTE}:1"));
    send(&mut router, "b", "10.0.0.2:1", &format!("{REMOTE}:1"));
    router.take_all();
    router
}

/// A guest sends a datagram.
fn send(router: &mut Router, guest: &str, from: &str, to: &str) -> Verdict {
    let mac = if guest == "a" { GUEST_A } else { GUEST_B };
    let frame = udp(from, to, b"x").link(mac, NET_A);
    router.inject(guest, frame.bytes())
}

/// Somebody outside sends a datagram to a public address.
fn receive(router: &mut Router, from: &str, to: &str) -> Verdict {
    let frame = udp(from, to, b"x").link(PROVIDER, packet::mac("02:00:00:00:00:aa"));
    router.inject("uplink", frame.bytes())
}

/// Guest `a` opens this many flows, ten thousand a second at most, and nobody answers.
fn flood(router: &mut Router, flows: u32) {
    for n in 0..flows {
        let to = format!("198.51.100.{}:{}", n % 250, 1_000 + n / 250);
        send(
            router,
            "a",
            &format!("10.0.0.1:{}", 2_000 + n % 60_000),
            &to,
        );
        if n % 1_000 == 999 {
            router.wait(100);
        }
        router.take_all();
    }
}

/// How many of five flows that `b` opens leave.
fn opened_by_b(router: &mut Router) -> usize {
    let new = |port: &u16| {
        let from = format!("10.0.0.2:{port}");
        send(router, "b", &from, "192.0.2.77:53") == router.emit("uplink")
    };
    (40_000..40_005).filter(new).count()
}

#[test]
fn h03_one_guest_that_opens_sessions_without_end_displaces_its_own() {
    let mut router = two_guests("");
    let running = format!("{REMOTE}:5000");
    send(&mut router, "b", "10.0.0.2:6000", &running);
    flood(&mut router, 500_000 / 20);
    let usage = router.usage("a");
    assert!((990..=1_000).contains(&usage.opened.0), "{usage:?}");
    assert_eq!(opened_by_b(&mut router), 5);
    assert_eq!(router.dropped(DropReason::SessionTableFull), 0);
    let counts = router.counts();
    assert!(counts["sessions_displaced"] > 20_000, "{counts:?}");
    // What was running goes on, in the same session.
    let before = counts["sessions_created"];
    assert_eq!(
        send(&mut router, "b", "10.0.0.2:6000", &running),
        router.emit("uplink")
    );
    assert_eq!(router.counts()["sessions_created"], before);
    // The guest itself goes on too: its newest flows are there.
    assert_eq!(
        send(&mut router, "a", "10.0.0.1:9", "192.0.2.78:53"),
        router.emit("uplink")
    );
}

/// `a` opens TCP connections, which `answer`s come to.
fn connect(router: &mut Router, connections: std::ops::Range<u32>) -> usize {
    let one = |n: &u32| {
        let (inside, outside) = (
            format!("203.0.113.21:{}", 2_000 + n),
            format!("{REMOTE}:80"),
        );
        let mut out = |flags| {
            let frame = tcp(&inside, &outside, flags, b"").link(GUEST_A, NET_A);
            router.inject("a", frame.bytes())
        };
        let opened = out("S");
        let back =
            tcp(&outside, &inside, "S.", b"").link(PROVIDER, packet::mac("02:00:00:00:00:aa"));
        router.inject("uplink", back.bytes());
        let mut out = |flags| {
            let frame = tcp(&inside, &outside, flags, b"").link(GUEST_A, NET_A);
            router.inject("a", frame.bytes())
        };
        let done = out(".");
        if n % 500 == 499 {
            router.wait(100);
        }
        (opened, done) == (router.emit("uplink"), router.emit("uplink"))
    };
    connections.filter(one).count()
}

#[test]
fn h03_established_sessions_make_no_room_and_what_needs_none_still_passes() {
    let mut router = two_guests("sessions = 300");
    router.wait(400_000);
    router.take_all();
    assert_eq!(
        connect(&mut router, 0..400),
        400,
        "routed packets need no session"
    );
    let usage = router.usage("a");
    assert_eq!(
        usage.opened,
        (300, 300 + 300),
        "a limit for each family: {usage:?}"
    );
    let counts = router.counts();
    assert_eq!(counts["forwarded_without_session"], 100);
    assert!(!counts.contains_key("sessions_displaced"), "{counts:?}");
    // What needs a translation needs a session, and is refused and told.
    let refused = send(&mut router, "a", "10.0.0.1:9999", "192.0.2.77:53");
    assert_eq!(refused, Verdict::Drop(DropReason::GuestSessions));
    assert_eq!(router.counts()["icmp_errors_sent"], 1);
    assert_eq!(
        router.limits_met(),
        [("a".to_owned(), DropReason::GuestSessions, false)],
        "said once"
    );
    assert_eq!(router.usage("a").refused[0].0, DropReason::GuestSessions);
    assert_eq!(opened_by_b(&mut router), 5);
}

#[test]
fn h03_strangers_that_open_sessions_to_one_guest_leave_the_others_in_peace() {
    let mut router = two_guests("");
    for n in 0..20_000_u32 {
        let from = format!(
            "198.18.{}.{}:{}",
            n % 250,
            n / 250 % 250,
            1_024 + n % 60_000
        );
        receive(&mut router, &from, "203.0.113.21:80");
        router.take_all();
    }
    assert_eq!(router.usage("a").served.0, 0, "it answered none of them");
    assert_eq!(opened_by_b(&mut router), 5);
    let to_b = receive(&mut router, "192.0.2.9:4000", "203.0.113.22:53");
    assert_eq!(to_b, router.emit("b"));
    assert_eq!(
        send(&mut router, "b", "203.0.113.22:53", "192.0.2.9:4000"),
        router.emit("uplink"),
    );
    assert_eq!(router.usage("b").served.0, 1, "answered, it is the guest's");
    // Floods go on, and what was answered stays.
    let before = router.counts()["sessions_created"];
    for n in 0..5_000_u32 {
        let from = format!("198.19.{}.{}:{}", n % 250, n / 250, 1_024 + n);
        receive(&mut router, &from, "203.0.113.21:80");
        router.take_all();
    }
    assert_eq!(router.counts()["sessions_created"], before + 5_000);
    receive(&mut router, "192.0.2.9:4000", "203.0.113.22:53");
    assert_eq!(router.counts()["sessions_created"], before + 5_000);
}

#[test]
fn h03_a_guest_that_answers_strangers_without_end_has_its_share_only() {
    let mut router = two_guests("sessions = 100");
    for n in 0..1_500_u32 {
        let stranger = format!("198.18.{}.{}:{}", n % 250, n / 250, 1_024 + n);
        receive(&mut router, &stranger, "203.0.113.21:53");
        send(&mut router, "a", "203.0.113.21:53", &stranger);
        router.take_all();
    }
    assert_eq!(router.usage("a").served.0, 100);
    assert_eq!(opened_by_b(&mut router), 5);
    let to_b = receive(&mut router, "192.0.2.9:4000", "203.0.113.22:53");
    assert_eq!(to_b, router.emit("b"));
}

#[test]
fn h03_new_sessions_a_second_are_limited() {
    let mut router = two_guests("new_sessions_per_second = 100");
    router.wait(1_000);
    let new = |router: &mut Router, n: u32| {
        let from = format!("10.0.0.1:{}", 3_000 + n);
        send(router, "a", &from, "192.0.2.77:53") == router.emit("uplink")
    };
    let opened = (0..200).filter(|n| new(&mut router, *n)).count();
    assert_eq!(opened, 50, "half a second's worth at once");
    router.wait(1_000);
    let opened = (200..400).filter(|n| new(&mut router, *n)).count();
    assert_eq!(opened, 50);
    assert!(router.dropped(DropReason::GuestSessionRate) > 0);
    assert_eq!(opened_by_b(&mut router), 5);
}

#[test]
fn h04_external_ports_are_limited_by_guest_and_its_sender_is_told() {
    let mut router = two_guests("ports = 200");
    flood(&mut router, 150);
    // With sessions that were answered, nothing makes room.
    for n in 0..400_u16 {
        let (inside, outside) = (format!("10.0.0.1:{}", 20_000 + n), format!("{REMOTE}:80"));
        let frame = tcp(&inside, &outside, "S", b"").link(GUEST_A, NET_A);
        router.inject("a", frame.bytes());
        let Some((_, sent)) = router.last_sent() else {
            continue;
        };
        if sent[12..14] != [8, 0] || sent[23] != 6 {
            continue;
        }
        let port = u16::from_be_bytes([sent[34], sent[35]]);
        let back = tcp(&outside, &format!("203.0.113.10:{port}"), "S.", b"");
        router.inject(
            "uplink",
            back.link(PROVIDER, packet::mac("02:00:00:00:00:aa"))
                .bytes(),
        );
        let frame = tcp(&inside, &outside, ".", b"").link(GUEST_A, NET_A);
        router.inject("a", frame.bytes());
        router.take_all();
    }
    let usage = router.usage("a");
    assert_eq!(usage.ports, (200, 200));
    assert_eq!(router.dropped(DropReason::GuestPorts), 200);
    assert!(
        router.counts()["icmp_errors_sent"] > 0,
        "its sender is told"
    );
    assert_eq!(opened_by_b(&mut router), 5);
    assert_eq!(router.dropped(DropReason::NatExhausted), 0);
}

#[test]
fn h09_a_flood_of_errors_to_one_guest_costs_another_none() {
    let mut router = two_guests("");
    let probe = |guest: &str, n: u16| {
        let (mac, from) = match guest {
            "a" => (GUEST_A, format!("10.0.0.1:{}", 3_000 + n)),
            _ => (GUEST_B, format!("10.0.0.2:{}", 3_000 + n)),
        };
        let expired = udp(&from, &format!("{REMOTE}:33434"), b"x").ttl(1);
        let too_big = udp(&from, &format!("{REMOTE}:33434"), &[0; 1_600]).df();
        [expired, too_big].map(|packet| packet.link(mac, NET_A).bytes())
    };
    let mut told = 0;
    for millisecond in 0..1_000_u16 {
        for _ in 0..10 {
            for frame in probe("a", millisecond) {
                router.inject("a", frame);
            }
        }
        router.take_all();
        if millisecond % 20 == 0 {
            for frame in probe("b", millisecond) {
                router.inject("b", frame);
            }
            told += router.take_packets("b").len();
        }
        router.advance(Duration::from_millis(1));
    }
    assert_eq!(
        told, 100,
        "of 50 traceroute probes and 50 too large packets"
    );
    let counts = router.counts();
    assert!(counts["icmp_errors_limited"] > 19_000, "{counts:?}");
}

#[test]
fn h11_a_scan_from_outside_leaves_room_for_others_first_packets() {
    let mut router = Router::settled(&site("public = [\"172.32.0.0/16\"]"));
    let there = |n: u32| format!("172.32.200.{n}");
    for n in 1..101 {
        router.station("a", None, &there(n), GUEST_A);
    }
    let arrived = |router: &mut Router, to: &str| {
        let to: std::net::Ipv4Addr = to.parse().unwrap();
        let sent = router.take_packets("a");
        sent.iter().any(|bytes| bytes[30..34] == to.octets())
    };
    // A thousand a second for five seconds, to addresses where nobody is.
    for n in 0..5_000_u32 {
        let nobody = format!("172.32.{}.{}:80", n % 200, 1 + n / 200);
        receive(&mut router, &format!("{REMOTE}:{}", 2_000 + n), &nobody);
        if n % 100 == 50 {
            let to = there(1 + n / 100);
            send(&mut router, "b", "10.0.0.2:5000", &format!("{to}:80"));
            assert!(arrived(&mut router, &to), "a guest's, after {n}");
        }
        if n % 100 == 99 {
            let to = there(51 + n / 100 % 49);
            receive(&mut router, "192.0.2.7:5000", &format!("{to}:80"));
            assert!(arrived(&mut router, &to), "a stranger's, after {n}");
        }
        router.wait(1);
    }
    let waiting = router
        .neighbors()
        .iter()
        .filter(|neighbor| neighbor.mac.is_none())
        .count();
    assert!(waiting <= 1_024, "a quarter of 4096: {waiting}");
    // Ten times as many are refused, and guests' still resolve.
    for n in 0..10_000_u32 {
        let nobody = format!("172.32.{}.{}:80", n % 200, 50 + n / 200);
        receive(&mut router, &format!("{REMOTE}:{}", 2_000 + n), &nobody);
    }
    assert!(router.dropped(DropReason::NeighborTableFull) > 5_000);
    router.take_all();
    send(&mut router, "b", "10.0.0.2:5000", "172.32.200.100:80");
    assert!(arrived(&mut router, "172.32.200.100"));
}
