//! How an entry of `nat.snat` maps and filters (T01, T03 to T07, T14, T16, T18; RFC 4787 §4, §5).

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_engine::session::SessionMemory;
use tapgate_tests::memory::Memory;
use tapgate_tests::packet::{Packet, error, mac, ping, pong, tcp, udp};
use tapgate_tests::recipe::{GUEST_A, GUEST_B, NET_A, PROVIDER};
use tapgate_tests::router::{Router, config};

const OUTSIDE: &str = "203.0.113.10";
/// Who is spoken to, and somebody else.
const PEER: &str = "198.51.100.9";
const STRANGER: &str = "198.51.100.77";

const OPEN: &str = "filtering = \"endpoint-independent\"";
const BY_ADDRESS: &str = "filtering = \"address-dependent\"";
const STRICT: &str = "";
const DEPENDENT: &str = "mapping = \"endpoint-dependent\"";

/// Guests `a` (10.0.0.1) and `b` (10.0.0.2) behind one external address; `behaviour` is the entry's.
fn site(sessions: u32, behaviour: &str, more: &str) -> String {
    let comma = if behaviour.is_empty() { "" } else { ", " };
    format!(
        "
        [router]
        sessions = {sessions}
        icmp_errors_per_second = 1000
        [ports]
        uplink = {{ memory = true }}
        a = {{ memory = true }}
        b = {{ memory = true }}
        [personalities.x]
        port = \"uplink\"
        mac = \"02:00:00:00:00:aa\"
        addresses = [\"{OUTSIDE}/24\", \"203.0.113.11/24\"]
        gateway = \"203.0.113.1\"
        [networks.n]
        ports = [\"a\", \"b\"]
        addresses = [\"10.0.0.254/24\"]
        mac = \"{NET_A}\"
        [guests]
        a = {{ port = \"a\", mac = \"{GUEST_A}\", addresses = [\"10.0.0.1\"] }}
        b = {{ port = \"b\", mac = \"{GUEST_B}\", addresses = [\"10.0.0.2\"] }}
        [tables]
        main = [{{ to = \"default\", dev = \"x\" }}]
        [nat]
        snat = [{{ from = \"10.0.0.0/24\", to = \"{OUTSIDE}\"{comma}{behaviour} }}]
        {more}
        "
    )
}

fn router(behaviour: &str) -> Router {
    router_of(&site(2_000, behaviour, ""))
}

fn router_of(text: &str) -> Router {
    let mut router = Router::settled(text);
    router.answer_everything();
    // The gateway is known.
    out(&mut router, "b", "10.0.0.2:9", "192.0.2.200:9");
    router.take_all();
    router
}

fn from(router: &mut Router, guest: &str, frame: Packet) -> Verdict {
    let mac = if guest == "a" { GUEST_A } else { GUEST_B };
    router.inject(guest, frame.link(mac, NET_A).bytes())
}

fn outside(router: &mut Router, frame: Packet) -> Verdict {
    let frame = frame.link(PROVIDER, mac("02:00:00:00:00:aa"));
    router.inject("uplink", frame.bytes())
}

/// A guest sends a datagram; its external port.
fn out(router: &mut Router, guest: &str, sender: &str, to: &str) -> Option<u16> {
    router.take_all();
    from(router, guest, udp(sender, to, b"x"));
    sent_from(router)
}

/// The source port of what left by the uplink.
fn sent_from(router: &mut Router) -> Option<u16> {
    let packets = router.take_packets("uplink");
    packets
        .first()
        .map(|bytes| u16::from_be_bytes([bytes[34], bytes[35]]))
}

/// Source and destination of what came to a guest.
fn received(router: &mut Router, guest: &str) -> Option<(String, String)> {
    let packets = router.take_packets(guest);
    let bytes = packets.first()?;
    let end = |address: usize, port: usize| {
        let at: [u8; 4] = bytes[address..address + 4].try_into().expect("four bytes");
        let port = u16::from_be_bytes([bytes[port], bytes[port + 1]]);
        format!("{}:{port}", std::net::Ipv4Addr::from(at))
    };
    Some((end(26, 34), end(30, 36)))
}

/// Whether a datagram from outside reaches guest `a`, at its port 4000.
fn reaches(router: &mut Router, sender: &str, port: u16) -> bool {
    router.take_all();
    let verdict = outside(router, udp(sender, &format!("{OUTSIDE}:{port}"), b"x"));
    let seen = received(router, "a");
    assert_eq!(seen.is_some(), verdict == router.emit("a"), "{verdict:?}");
    let is_right = |(from, to)| from == sender && to == "10.0.0.1:4000";
    seen.is_some_and(is_right)
}

#[test]
fn t05_who_may_answer_is_as_configured() {
    for (behaviour, port_of_peer, stranger) in [
        (STRICT, false, false),
        (BY_ADDRESS, true, false),
        (OPEN, true, true),
    ] {
        let mut router = router(behaviour);
        router.explain_everything();
        let port = out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
        assert_eq!(port, Some(4_000));
        assert!(reaches(&mut router, &format!("{PEER}:53"), 4_000));
        let other = reaches(&mut router, &format!("{PEER}:54"), 4_000);
        assert_eq!(other, port_of_peer, "{behaviour}");
        let other = reaches(&mut router, &format!("{STRANGER}:53"), 4_000);
        assert_eq!(other, stranger, "{behaviour}");
        // What nobody uses reaches nobody, and an address that its guest has not spoken to, neither.
        assert!(!reaches(&mut router, &format!("{PEER}:54"), 4_002));
        out(&mut router, "b", "10.0.0.2:5000", &format!("{STRANGER}:53"));
        let other = reaches(&mut router, &format!("{STRANGER}:54"), 4_000);
        assert_eq!(other, stranger, "{behaviour}: its own, not another guest's");
    }
}

#[test]
fn t05_answers_to_a_stranger_come_from_the_mapping() {
    let mut router = router(OPEN);
    out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
    assert!(reaches(&mut router, &format!("{STRANGER}:99"), 4_000));
    let port = out(&mut router, "a", "10.0.0.1:4000", &format!("{STRANGER}:99"));
    assert_eq!(port, Some(4_000));
    // And TCP as UDP.
    router.take_all();
    from(
        &mut router,
        "a",
        tcp("10.0.0.1:4000", &format!("{PEER}:80"), "S", b""),
    );
    let syn = tcp(
        &format!("{STRANGER}:99"),
        &format!("{OUTSIDE}:4000"),
        "S",
        b"",
    );
    assert_eq!(outside(&mut router, syn), router.emit("a"));
    router.take_all();
    let answer = tcp("10.0.0.1:4000", &format!("{STRANGER}:99"), "S.", b"");
    assert_eq!(from(&mut router, "a", answer), router.emit("uplink"));
    assert_eq!(sent_from(&mut router), Some(4_000));
}

#[test]
fn t05_an_echo_request_is_answered_by_the_router_whatever_guests_use() {
    let mut router = router(OPEN);
    from(&mut router, "a", ping("10.0.0.1", PEER, 4_000, 1, b""));
    router.take_all();
    let request = ping(STRANGER, OUTSIDE, 4_000, 1, b"");
    outside(&mut router, request);
    assert!(router.take("a").is_empty());
    assert_eq!(router.take("uplink").len(), 1, "the router's answer");
}

#[test]
fn t07_t14_errors_about_what_a_mapping_let_in_go_both_ways() {
    let mut router = router(OPEN);
    out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
    assert!(reaches(&mut router, &format!("{STRANGER}:99"), 4_000));
    router.take_all();
    // The guest: nobody listens there.
    let about = udp(&format!("{STRANGER}:99"), "10.0.0.1:4000", b"x");
    let unreachable = error("10.0.0.1", STRANGER, (3, 3), [0; 4], &about.bytes());
    assert_eq!(from(&mut router, "a", unreachable), router.emit("uplink"));
    let told = router.take_packets("uplink").remove(0);
    assert_eq!(told[26..30], [203, 0, 113, 10]);
    assert_eq!(
        told[58..62],
        [203, 0, 113, 10],
        "quoted: to the mapping's address"
    );
    assert_eq!(told[64..66], 4_000_u16.to_be_bytes(), "and port");
    // A router on the stranger's way, about an answer.
    out(&mut router, "a", "10.0.0.1:4000", &format!("{STRANGER}:99"));
    let about = udp(&format!("{OUTSIDE}:4000"), &format!("{STRANGER}:99"), b"x");
    let unreachable = error("192.0.2.77", OUTSIDE, (3, 1), [0; 4], &about.bytes());
    assert_eq!(outside(&mut router, unreachable), router.emit("a"));
    let told = router.take_packets("a").remove(0);
    assert_eq!(told[54..58], [10, 0, 0, 1]);
    assert!(
        reaches(&mut router, &format!("{STRANGER}:99"), 4_000),
        "T07"
    );
}

/// RFC 4787 REQ-6: what comes in keeps no mapping alive, unless the guest answers.
#[test]
fn t04_strangers_do_not_keep_a_mapping() {
    for answers in [false, true] {
        let mut router = router(OPEN);
        out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
        let mut last = false;
        for second in 0..700 {
            router.advance(Duration::from_secs(1));
            // From one port all the time, and each time from another.
            last = reaches(&mut router, &format!("{STRANGER}:99"), 4_000);
            reaches(
                &mut router,
                &format!("{STRANGER}:{}", 1_000 + second),
                4_000,
            );
            if answers && last {
                out(&mut router, "a", "10.0.0.1:4000", &format!("{STRANGER}:99"));
            }
            if second < 295 {
                assert!(last, "after {second} s");
            }
        }
        assert_eq!(last, answers);
        // The port is free for another guest, or still the first's.
        let port = out(&mut router, "b", "10.0.0.2:4000", &format!("{PEER}:53"));
        assert_eq!(port == Some(4_000), !answers, "{port:?}");
    }
}

#[test]
fn h03_strangers_at_a_mapping_take_nothing_from_guests() {
    let mut router = router(OPEN);
    out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
    out(&mut router, "b", "10.0.0.2:4001", &format!("{PEER}:53"));
    for n in 0..5_000 {
        let sender = format!("198.18.{}.{}:7", n / 250, n % 250);
        assert!(reaches(&mut router, &sender, 4_000), "{n}");
    }
    assert!(router.sessions().len() <= 1_010, "half of all at most");
    assert_eq!(router.usage("a").opened.0, 1);
    assert_eq!(router.usage("a").served.0, 0);
    for n in 0..100 {
        let to = format!("{PEER}:{}", 1_000 + n);
        assert!(out(&mut router, "a", "10.0.0.1:4002", &to).is_some(), "{n}");
        assert!(out(&mut router, "b", "10.0.0.2:4003", &to).is_some(), "{n}");
    }
    assert!(reaches(&mut router, &format!("{PEER}:53"), 4_000));
}

/// RFC 4787 REQ-9: the peer sees the external address, and is asked whether it lets that in.
#[test]
fn t06_hairpin_obeys_the_same_filter() {
    for (behaviour, spoken, lets_in) in [
        (STRICT, false, false),
        (STRICT, true, false),
        (BY_ADDRESS, false, false),
        (BY_ADDRESS, true, true),
        (OPEN, false, true),
    ] {
        let server = format!(
            "forward = [{{ address = \"{OUTSIDE}\", proto = \"udp\", port = 80, to = \"10.0.0.2:80\" }}]"
        );
        let mut router = router_of(&site(2_000, behaviour, &server));
        router.explain_everything();
        out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
        if spoken {
            out(&mut router, "a", "10.0.0.1:4000", &format!("{OUTSIDE}:80"));
            assert!(received(&mut router, "b").is_some());
        }
        router.take_all();
        from(
            &mut router,
            "b",
            udp("10.0.0.2:5000", &format!("{OUTSIDE}:4000"), b"x"),
        );
        let seen = received(&mut router, "a");
        let expected = (format!("{OUTSIDE}:5000"), "10.0.0.1:4000".to_owned());
        assert_eq!(seen, lets_in.then_some(expected), "{behaviour} {spoken}");
        if lets_in {
            from(
                &mut router,
                "a",
                udp("10.0.0.1:4000", &format!("{OUTSIDE}:5000"), b"x"),
            );
            let seen = received(&mut router, "b");
            let expected = (format!("{OUTSIDE}:4000"), "10.0.0.2:5000".to_owned());
            assert_eq!(seen, Some(expected), "the answer");
        }
    }
}

#[test]
fn t05_a_reload_ends_what_is_no_longer_let_in() {
    for (behaviour, lets_in) in [(STRICT, false), (BY_ADDRESS, false), (OPEN, true)] {
        let mut router = router(OPEN);
        out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
        assert!(reaches(&mut router, &format!("{STRANGER}:99"), 4_000));
        router.reload(&site(2_000, behaviour, ""));
        let again = reaches(&mut router, &format!("{STRANGER}:99"), 4_000);
        assert_eq!(again, lets_in, "{behaviour}");
        assert!(
            reaches(&mut router, &format!("{PEER}:53"), 4_000),
            "an answer"
        );
    }
    // Whom the guest answered it has spoken to.
    let mut router = router(OPEN);
    out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
    assert!(reaches(&mut router, &format!("{STRANGER}:99"), 4_000));
    out(&mut router, "a", "10.0.0.1:4000", &format!("{STRANGER}:99"));
    router.reload(&site(2_000, BY_ADDRESS, ""));
    assert!(reaches(&mut router, &format!("{STRANGER}:99"), 4_000));
    assert!(reaches(&mut router, &format!("{STRANGER}:98"), 4_000));
    // A filter that was not asked for before is there for mappings from before.
    let mut router = router_of(&site(2_000, STRICT, ""));
    out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
    router.reload(&site(2_000, BY_ADDRESS, ""));
    assert!(reaches(&mut router, &format!("{PEER}:54"), 4_000));
}

/// The policy is asked as about anything else from outside, with the destination inside.
#[test]
fn t05_the_policy_decides_about_what_a_mapping_lets_in() {
    let policy = |port: u16| {
        format!(
            "[policy]
            rules = [{{ action = \"drop\", source = [\"{STRANGER}\"], destination = [\"10.0.0.1\"], proto = \"udp\", port = {port} }}]"
        )
    };
    for (port, lets_in) in [(4_000, false), (4_001, true)] {
        let mut router = router_of(&site(2_000, OPEN, &policy(port)));
        out(&mut router, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
        let seen = reaches(&mut router, &format!("{STRANGER}:99"), 4_000);
        assert_eq!(seen, lets_in, "{port}");
    }
}

#[test]
fn t05_a_session_by_a_mapping_outlives_the_process() {
    let config = config(&site(64, OPEN, ""));
    let mut memory = Memory::free(64);
    memory.start(&config, |before| {
        before.advance(Duration::from_secs(10));
        before.answer_everything();
        out(before, "b", "10.0.0.2:9", "192.0.2.200:9");
        out(before, "a", "10.0.0.1:4000", &format!("{PEER}:53"));
        assert!(reaches(before, &format!("{STRANGER}:99"), 4_000));
    });
    memory.start(&config, |after| {
        after.answer_everything();
        assert_eq!(after.sessions().len(), 3);
        after.advance(Duration::from_secs(10));
        out(after, "b", "10.0.0.2:9", "192.0.2.200:9");
        assert!(reaches(after, &format!("{STRANGER}:99"), 4_000));
        assert!(reaches(after, &format!("{STRANGER}:98"), 4_000));
        let port = out(after, "b", "10.0.0.2:4000", &format!("{PEER}:53"));
        assert!(port.is_some_and(|port| port != 4_000), "{port:?}");
    });
}

/// More than 64k flows by one address (decision 3): no two of them have the same answers.
#[test]
fn t01_an_endpoint_dependent_address_carries_more_flows_than_it_has_ports() {
    let config = config(&site(262_144, DEPENDENT, ""));
    let mut router = Router::over(&config, SessionMemory::owned(262_144));
    router.wait(10_000);
    router.answer_everything();
    let mut seen = HashSet::new();
    for n in 0..100_000_u32 {
        let (guest, host) = [("a", 1), ("b", 2)][n as usize % 2];
        let sender = format!("10.0.0.{host}:{}", 1_024 + n / 2 % 1_000);
        let remote = format!("198.18.{}.1:80", n / 2_000);
        let port = out(&mut router, guest, &sender, &remote).expect("a port");
        assert!(seen.insert((port, remote)), "{n}: twice {port}");
        if n % 5_000 == 4_999 {
            router.wait(500);
        }
    }
    assert_eq!(router.counts().get("sessions"), Some(&100_000));
}

#[test]
fn t01_t03_a_shared_port_is_told_apart_by_its_destination() {
    let mut router = router(DEPENDENT);
    router.explain_everything();
    let a = out(&mut router, "a", "10.0.0.1:4001", &format!("{PEER}:53"));
    let b = out(&mut router, "b", "10.0.0.2:4001", &format!("{STRANGER}:53"));
    assert_eq!((a, b), (Some(4_001), Some(4_001)));
    for (sender, guest) in [(PEER, "a"), (STRANGER, "b")] {
        router.take_all();
        let answer = udp(&format!("{sender}:53"), &format!("{OUTSIDE}:4001"), b"x");
        assert_eq!(outside(&mut router, answer), router.emit(guest));
        let other = udp(&format!("{sender}:54"), &format!("{OUTSIDE}:4001"), b"x");
        assert!(matches!(outside(&mut router, other), Verdict::Drop(_)));
    }
    // Towards the same host it is another, of the same class and parity (RFC 4787 REQ-3, REQ-4).
    for (port, least) in [(4_001, 1_024), (53, 1), (4_000, 1_024)] {
        out(
            &mut router,
            "a",
            &format!("10.0.0.1:{port}"),
            &format!("{PEER}:99"),
        );
        let sender = format!("10.0.0.2:{port}");
        let other = out(&mut router, "b", &sender, &format!("{PEER}:99")).expect("a port");
        assert!(
            other != port && other % 2 == port % 2 && other >= least,
            "{other}"
        );
        assert!(port >= 1_024 || other < 1_024, "{other}");
    }
    // An echo request has an identifier where others have a port.
    for (guest, host) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        router.take_all();
        from(&mut router, guest, ping(host, PEER, 7, 1, b""));
        let request = router.take_packets("uplink").remove(0);
        let id = u16::from_be_bytes([request[38], request[39]]);
        let answer = pong(PEER, OUTSIDE, id, 1, b"");
        assert_eq!(outside(&mut router, answer), router.emit(guest), "{id}");
    }
}

/// What one guest takes towards one destination leaves as much to the others (H04), and towards another
/// destination it has as much again.
#[test]
fn h04_t16_a_guest_cannot_keep_others_from_a_destination() {
    let behaviour = format!("{DEPENDENT}, ports = \"3000-3999\"");
    let mut router = router_of(&site(20_000, &behaviour, ""));
    let take_all = |router: &mut Router, guest: &str, host: u8, to: &str| {
        let mut ports = HashSet::new();
        for n in 0..1_500 {
            let port = out(router, guest, &format!("10.0.0.{host}:{}", 2_000 + n), to);
            ports.extend(port);
            router.wait(5);
        }
        assert!(ports.iter().all(|port| (3_000..4_000).contains(port)));
        ports.len()
    };
    let (here, there) = (format!("{PEER}:80"), format!("{PEER}:81"));
    assert_eq!(take_all(&mut router, "a", 1, &here), 500);
    assert_eq!(take_all(&mut router, "b", 2, &here), 250);
    assert_eq!(router.dropped(DropReason::GuestPorts), 1_000 + 1_250);
    assert_eq!(take_all(&mut router, "a", 1, &there), 500);
    // The sender is told (decision 1): host unreachable.
    router.take_all();
    from(&mut router, "a", udp("10.0.0.1:9000", &here, b"x"));
    let told = router.take_packets("a").remove(0);
    assert_eq!(told[34..36], [3, 1]);
    // Sessions that end give their part back.
    router.advance(Duration::from_secs(310));
    assert_eq!(take_all(&mut router, "b", 2, &here), 500);
}

#[test]
fn t16_few_ports_are_all_found() {
    let behaviour = format!("{DEPENDENT}, ports = \"3000-3003\"");
    let site = site(200, &behaviour, "[router.limits]\nports = 4");
    let mut router = router_of(&site);
    let to = format!("{PEER}:80");
    let mut ports: Vec<_> = (0..4)
        .filter_map(|n| out(&mut router, "a", &format!("10.0.0.1:{}", 4_000 + n), &to))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [3_000, 3_001, 3_002, 3_003]);
    assert_eq!(out(&mut router, "b", "10.0.0.2:4000", &to), None);
    assert_eq!(router.dropped(DropReason::NatExhausted), 1);
    assert!(out(&mut router, "b", "10.0.0.2:4000", &format!("{PEER}:81")).is_some());
}

#[test]
fn t01_shared_ports_outlive_the_process_and_reloads() {
    let [dependent, independent] = [DEPENDENT, STRICT].map(|behaviour| site(64, behaviour, ""));
    let (peer, other) = (format!("{PEER}:53"), format!("{STRANGER}:53"));
    let mut memory = Memory::free(64);
    let both = |router: &mut Router| {
        router.answer_everything();
        out(router, "b", "10.0.0.2:9", "192.0.2.200:9");
        let a = out(router, "a", "10.0.0.1:4001", &peer);
        (a, out(router, "b", "10.0.0.2:4001", &other))
    };
    let shared = (Some(4_001), Some(4_001));
    memory.start(&config(&dependent), |before| {
        before.advance(Duration::from_secs(10));
        assert_eq!(both(before), shared);
    });
    memory.start(&config(&dependent), |after| {
        assert_eq!(after.sessions().len(), 3);
        assert_eq!(both(after), shared);
        // A port that was shared is none for a mapping of its own.
        after.reload(&independent);
        let (a, b) = both(after);
        assert!(a != b && a.is_some() && b.is_some(), "{a:?} {b:?}");
        // What has a port of its own goes on with it.
        after.reload(&dependent);
        assert_eq!(both(after), (a, b));
    });
}

const BLOCK: &str = "block = 512";

fn blocks_of(router: &mut Router, guest: &str, host: u8, senders: &[u16]) -> Vec<u16> {
    let send = |sender: &u16| {
        let port = out(
            router,
            guest,
            &format!("10.0.0.{host}:{sender}"),
            &format!("{PEER}:80"),
        );
        router.wait(1);
        port
    };
    senders.iter().filter_map(send).collect()
}

fn block_site() -> String {
    let to = format!("to = \"{OUTSIDE}\"");
    let both = format!("to = [\"{OUTSIDE}\", \"203.0.113.11\", \"203.0.113.12\"]");
    site(8_000, BLOCK, "").replace(&to, &both).replace(
        "\"203.0.113.11/24\"]",
        "\"203.0.113.11/24\", \"203.0.113.12/24\"]",
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// RFC 7422 §2: the configuration alone tells who had a port.
    #[test]
    fn t18_every_port_is_of_the_block_that_the_configuration_says(
        senders in proptest::collection::vec(1..u16::MAX, 1..60),
        echoes in proptest::collection::vec(any::<u16>(), 1..20),
    ) {
        let text = block_site();
        let config = config(&text);
        let blocks = config.snat()[0].blocks().expect("blocks");
        let mut router = router_of(&text);
        for (guest, host) in [("a", 1), ("b", 2)] {
            let inside = [10, 0, 0, host].into();
            let (external, own) = blocks.of(inside).expect("a block");
            prop_assert_eq!(external.to_string(), OUTSIDE);
            for port in blocks_of(&mut router, guest, host, &senders) {
                prop_assert!(own.contains(port) && port >= 1_024, "{} of {}", port, host);
                prop_assert_eq!(blocks.holder(external, port), Some(inside));
            }
            for id in &echoes {
                router.take_all();
                from(&mut router, guest, ping(&inside.to_string(), PEER, *id, 1, b""));
                let sent = router.take_packets("uplink").remove(0);
                let id = u16::from_be_bytes([sent[38], sent[39]]);
                prop_assert!(own.contains(id), "{}", id);
            }
        }
    }
}

/// RFC 6056 §3.3, RFC 7422 §4: ports of a block are chosen at random.
#[test]
fn t18_ports_of_a_block_are_spread_evenly() {
    let mut router = router_of(&block_site());
    let senders: Vec<u16> = (20_000..20_064).collect();
    let (mut bins, mut all) = ([0_u32; 64], 0);
    for _ in 0..60 {
        for port in blocks_of(&mut router, "a", 1, &senders) {
            bins[usize::from((port - 1_536) / 8)] += 1;
            all += 1;
        }
        router.advance(Duration::from_secs(700));
        router.answer_everything();
        out(&mut router, "b", "10.0.0.2:9", "192.0.2.200:9");
    }
    assert_eq!(all, 60 * 64);
    let expected = f64::from(all) / 64.0;
    let off = |seen: &u32| (f64::from(*seen) - expected).powi(2) / expected;
    let chi: f64 = bins.iter().map(off).sum();
    // 63 degrees of freedom: beyond this once in a million.
    assert!(chi < 125.0, "{chi}: {bins:?}");
}

#[test]
fn t18_a_guest_has_its_block_and_no_more() {
    let mut router = router_of(&block_site());
    router.explain_everything();
    let senders: Vec<u16> = (20_000..20_600).collect();
    let ports = blocks_of(&mut router, "a", 1, &senders);
    let different: HashSet<_> = ports.iter().collect();
    assert_eq!((ports.len(), different.len()), (512, 512));
    assert_eq!(router.dropped(DropReason::GuestPorts), 88);
    assert_eq!(blocks_of(&mut router, "b", 2, &senders[..100]).len(), 100);
}
