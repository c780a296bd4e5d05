//! Guests that scan, flood or send too fast are braked, without a loss for what they do beside, or for
//! others (H03); and rules that log say what they did.

use tapgate_engine::config::policy::{Action, Origin};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Packet, error, ping, tcp, udp};
use tapgate_tests::router::Router;

use crate::policy::{PUBLIC, config, offer, syn};

/// The site of the policy's tests with these limits for all guests.
fn limited(limits: &str) -> Router {
    let mut router = crate::policy::router("");
    router.wait(400_000);
    let limits = format!("[router.limits]\n{limits}\n[guests]");
    router.reload(&config("").replace("[guests]", &limits));
    router.take_all();
    router.limits_met();
    router
}

fn sent(router: &mut Router, port: &str, packet: Packet) -> bool {
    let verdict = offer(router, port, packet);
    router.take_all();
    matches!(verdict, Verdict::Emit(_))
}

#[test]
fn h03_a_scan_of_many_addresses_is_braked_and_nothing_else() {
    let mut router = limited("new_destinations_per_second = 100");
    let probe = |n: u32| {
        udp(
            "10.0.1.1:4000",
            &format!("198.51.{}.{}:53", n / 250, n % 250),
            b"",
        )
    };
    // What runs before the scan goes on during it, and so does what turns to a few addresses.
    assert!(sent(&mut router, "a", syn("10.0.1.1", "192.0.2.7:443")));
    router.wait(1_100);
    let passed = (0..1_000)
        .filter(|n| sent(&mut router, "a", probe(*n)))
        .count();
    // Some addresses look like one that was counted.
    assert!((100..220).contains(&passed), "{passed}");
    let dropped = router.dropped(DropReason::GuestDestinations);
    assert_eq!(passed as u64 + dropped, 1_000);
    let data = tcp("10.0.1.1:4000", "192.0.2.7:443", ".", b"data");
    assert!(sent(&mut router, "a", data), "its session goes on");
    assert!(sent(&mut router, "a", probe(3)), "and what was counted");
    assert!(
        sent(&mut router, "b", udp("10.0.1.2:4000", "198.51.3.3:53", b"")),
        "another's"
    );
    assert_eq!(
        router.usage("a").refused,
        [(DropReason::GuestDestinations, dropped)]
    );
    // It is said once, and that it is over.
    let met = |over| ("a".to_owned(), DropReason::GuestDestinations, over);
    assert_eq!(router.limits_met(), [met(false)]);
    router.wait(9_000);
    assert_eq!(router.limits_met(), []);
    router.wait(2_000);
    assert_eq!(router.limits_met(), [met(true)]);
    // The next second has as many again. What would need no session is braked as well.
    let probe = |n: u32| {
        udp(
            &format!("{PUBLIC}:4000"),
            &format!("198.51.{}.9:53", n % 250),
            b"",
        )
    };
    let passed = (0..200)
        .filter(|n| sent(&mut router, "c", probe(*n)))
        .count();
    assert!((100..125).contains(&passed), "{passed}");
}

#[test]
fn h03_a_scan_of_a_link_asks_for_no_more_addresses_than_it_may() {
    let mut router = limited("new_destinations_per_second = 10");
    for n in 20..250 {
        let probe = ping("10.0.1.1", &format!("203.0.113.{n}"), 1, 1, b"");
        offer(&mut router, "a", probe);
    }
    let asked = router.counts()["arp_requests_sent"];
    assert!(
        router.dropped(DropReason::GuestDestinations) > 200,
        "{asked}"
    );
}

#[test]
fn h03_connections_that_do_not_come_about_are_braked() {
    let mut router = limited("unanswered_syns = 100");
    let connect = |router: &mut Router, ports: std::ops::Range<u16>| {
        let opens = |port: &u16| {
            let first = tcp(&format!("{PUBLIC}:{port}"), "192.0.2.7:80", "S", b"");
            sent(router, "c", first)
        };
        ports.filter(opens).count()
    };
    let answer = |router: &mut Router, port: u16, flags: &str| {
        let (client, server) = (format!("{PUBLIC}:{port}"), "192.0.2.7:80");
        sent(router, "uplink", tcp(server, &client, flags, b""));
        sent(router, "c", tcp(&client, server, ".", b""))
    };
    // An honest guest: what is answered, or refused, does not count.
    for port in 1_000..1_300 {
        assert_eq!(connect(&mut router, port..port + 1), 1, "{port}");
        answer(&mut router, port, if port % 2 == 0 { "S." } else { "R." });
    }
    assert_eq!(connect(&mut router, 2_000..3_000), 100);
    assert_eq!(router.dropped(DropReason::GuestUnansweredSyns), 900);
    assert!(
        answer(&mut router, 1_000, "."),
        "what is established goes on"
    );
    let question = udp(&format!("{PUBLIC}:9"), "192.0.2.7:53", b"");
    assert!(sent(&mut router, "c", question), "and what is no TCP");
    assert!(
        sent(&mut router, "a", syn("10.0.1.1", "192.0.2.7:80")),
        "and others"
    );
    // A tenth comes back each second, and what is answered at once.
    router.wait(1_000);
    assert_eq!(connect(&mut router, 3_000..4_000), 10);
    answer(&mut router, 2_000, "S.");
    assert_eq!(connect(&mut router, 4_000..5_000), 1);
    // Who resets what it opens was not answered.
    router.wait(10_000);
    for port in 5_000..5_300 {
        connect(&mut router, port..port + 1);
        let reset = tcp(&format!("{PUBLIC}:{port}"), "192.0.2.7:80", "R", b"");
        sent(&mut router, "c", reset);
    }
    assert_eq!(connect(&mut router, 6_000..6_010), 0);
}

/// Guest `a` has this bandwidth, and `c` a session with it.
fn shaped(bandwidth: &str) -> Router {
    let mut router = crate::policy::router("");
    router.wait(400_000);
    let open = r#"rules = [{ action = "accept", from = "lan" }]"#;
    let text = config(open).replace(
        "a = { port",
        &format!("a = {{ bandwidth = {{ {bandwidth} }}, port"),
    );
    assert!(text.contains(bandwidth));
    router.reload(&text);
    router.take_all();
    router
}

/// How many bytes of IP pass in two seconds, of a packet of 1,000 bytes each millisecond.
fn passed(router: &mut Router, port: &str, packet: &Packet) -> u64 {
    let mut bytes = 0;
    for _ in 0..2_000 {
        bytes += u64::from(sent(router, port, packet.clone())) * 1_000;
        router.wait(1);
    }
    bytes
}

#[test]
fn a_guests_bandwidth_is_what_it_may_send_and_be_sent() {
    let payload = [0; 972];
    let mut router = shaped(r#"out = "800kbit/s", in = "1600kbit/s""#);
    let to = udp("10.0.1.1:4000", "192.0.2.7:7", &payload);
    let bytes = passed(&mut router, "a", &to);
    assert!(
        (200_000..=266_000).contains(&bytes),
        "100 kB/s and 64 KiB at once: {bytes}"
    );
    let dropped = router.dropped(DropReason::GuestBandwidth);
    assert_eq!(bytes + dropped * 1_000, 2_000_000);
    assert_eq!(
        router.usage("a").refused,
        [(DropReason::GuestBandwidth, dropped)]
    );
    assert_eq!(router.limits_met(), [], "nothing to look into");
    // Between guests as well, both as first packets and as a session's.
    let to = udp("10.0.1.2:4000", "10.0.1.1:7", &payload);
    let bytes = passed(&mut router, "b", &to);
    assert!((400_000..=466_000).contains(&bytes), "200 kB/s: {bytes}");
    // Errors about its sessions are packets too.
    let about = to.ttl(63).bytes();
    let said = error("10.0.1.1", "10.0.1.2", (3, 3), [0; 4], &about);
    let out = udp("10.0.1.1:4000", "192.0.2.7:7", &payload);
    while sent(&mut router, "a", out.clone()) {}
    let refused = (0..100)
        .filter(|_| !sent(&mut router, "a", said.clone()))
        .count();
    assert!(refused > 0);
    // Others have no limit.
    let free = udp("10.0.2.1:4000", "192.0.2.7:7", &payload);
    assert_eq!(passed(&mut router, "c", &free), 2_000_000);
}

#[test]
fn rules_that_log_say_what_they_did() {
    let mut router = crate::policy::router(
        r#"
rules = [
  { action = "accept", from = "lan", to = "dmz", proto = "tcp", port = 22, log = true },
  { action = "reject", from = "lan", to = "dmz", proto = "tcp", log = true },
  { action = "accept", from = "lan" },
]
default = [{ action = "drop", log = true }]"#,
    );
    router.entries();
    let ssh = syn("10.0.1.1", "10.0.2.1:22");
    for (port, packet) in [
        ("a", ssh.clone()),
        ("a", ssh), // of the session
        ("b", syn("10.0.1.2", "10.0.2.1:23")),
        ("a", syn("10.0.1.1", "192.0.2.7:80")),
        ("uplink", syn("192.0.2.7", "203.0.113.10:8022")),
    ] {
        offer(&mut router, port, packet);
    }
    router.take_all();
    let said = |router: &mut Router| -> Vec<_> {
        let entries = router.entries().into_iter();
        entries
            .map(|entry| (entry.rule, entry.action, entry.destination.1))
            .collect()
    };
    assert_eq!(
        said(&mut router),
        [
            (Origin::Rule(0), Action::Accept, 22),
            (Origin::Rule(1), Action::Reject, 23),
            (Origin::Default(0), Action::Drop, 8_022),
        ]
    );
    // A flood is cut off, and how much is said later.
    for n in 0..1_000_u16 {
        offer(
            &mut router,
            "b",
            tcp(&format!("10.0.1.2:{}", 2_000 + n), "10.0.2.1:23", "S", b""),
        );
    }
    router.take_all();
    assert!(said(&mut router).len() <= 5);
    router.wait(1_000);
    offer(&mut router, "b", syn("10.0.1.2", "10.0.2.1:24"));
    let left_out = router.entries()[0].left_out;
    assert!((990..1_000).contains(&left_out), "{left_out}");
    offer(&mut router, "a", syn("10.0.1.1", "10.0.2.1:25"));
    let entry = router.entries()[0];
    assert_eq!(
        (entry.source.1, entry.left_out),
        (4_000, 0),
        "another guest's are its own"
    );
    assert_eq!(entry.guest, Some(0));
}
