//! The parts of a snapshot: kept where nothing they are made of changes, replaced alone where they
//! can be; and what a change of them makes the router forget, claim and say.

use tapgate_engine::model::health::Outage;
use tapgate_engine::snapshot::{Findings, Snapshot};
use tapgate_tests::packet::{Packet, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::{Router, config};

/// Two gateways on one personality, a second personality, and a third way for another table.
const CONFIG: &str = r#"
[ports]
up = { memory = true }
g0 = { memory = true }
g1 = { memory = true }
g2 = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24", "2001:db8:a::1/64"], gateway = "203.0.113.1", acd = true }
B = { port = "up", mac = "02:00:00:00:00:bb", addresses = ["198.51.100.10/24"], gateway = "198.51.100.1" }
[networks]
a = { ports = ["g0", "g1"], addresses = ["10.0.1.254/24", "2001:db8:1::254/64"], mac = "02:00:00:00:00:01" }
[guests]
one = { port = "g0", addresses = ["10.0.1.1"] }
[tables]
first = [{ to = "default", via = "203.0.113.1", dev = "A" }]
second = [{ to = "default", via = "203.0.113.2", dev = "A" }]
third = [{ to = "default", dev = "B" }]
[routing]
rules = [
  { priority = 40000, lookup = "first" },
  { priority = 40001, lookup = "second" },
  { priority = 40002, lookup = "third" },
]
[nat]
snat = [{ from = "10.0.1.0/24", to = "203.0.113.10" }, { from = "10.0.1.0/24", to = "198.51.100.10" }]
"#;

fn with(from: &str, to: &str) -> String {
    let changed = CONFIG.replace(from, to);
    assert_ne!(changed, CONFIG, "{from}");
    changed
}

#[test]
fn parts_that_do_not_change_are_shared() {
    let before = Snapshot::build(&config(CONFIG), None);
    // Owners, interfaces, tables and rules, translations.
    for (text, shared) in [
        (CONFIG.to_owned(), [true; 4]),
        (
            with(
                "[tables]",
                "two = { port = \"g1\", addresses = [\"10.0.1.2\"] }\n[tables]",
            ),
            [false, false, true, true],
        ),
        (
            with("priority = 40001", "priority = 40003"),
            [true, true, false, true],
        ),
        (
            with("10.0.1.0/24\", to = \"198", "10.0.1.0/25\", to = \"198"),
            [true, true, true, false],
        ),
        (
            with(
                "[nat]",
                "[nat]\nforward = [{ address = \"203.0.113.10\", proto = \"udp\", port = 9, to = \"10.0.1.1:9\" }]",
            ),
            [true, true, true, false],
        ),
        // A table tells interfaces their next hops.
        (
            with("via = \"203.0.113.2\"", "via = \"203.0.113.3\""),
            [true, false, false, true],
        ),
        (
            with("[\"g0\", \"g1\"]", "[\"g1\", \"g0\"]"),
            [true, false, true, true],
        ),
        (
            with("[ports]", "[router]\nicmp_errors_per_second = 7\n[ports]"),
            [true; 4],
        ),
    ] {
        let after = Snapshot::build(&config(&text), Some(&before));
        assert_eq!(after.shares(&before), shared, "{text}");
        assert_eq!(after.generation(), before.generation() + 1);
    }
    let mut health = before.health().clone();
    let a = before.interface_id("A").unwrap();
    health.set(a, "203.0.113.1".parse().unwrap(), Some(Outage::Silent));
    let findings = Findings {
        health: Some(health.clone()),
        ..Findings::default()
    };
    let after = before.with_findings(&findings);
    assert_eq!(after.shares(&before), [true; 4]);
    let next = Snapshot::build(&config(CONFIG), Some(&after));
    assert_eq!(next.health(), &health, "an apply does not forget it");
}

fn out(port: u16) -> Packet {
    udp(&format!("10.0.1.1:{port}"), "192.0.2.9:53", b"").link(GUEST_A, NET_A)
}

fn router() -> Router {
    let mut router = Router::settled(CONFIG);
    router.answer_everything();
    for (last, address) in [(1, "203.0.113.1"), (2, "203.0.113.2"), (3, "198.51.100.1")] {
        router.station("up", None, address, gateway(last));
    }
    router
}

fn gateway(last: u8) -> tapgate_engine::addr::MacAddr {
    tapgate_engine::addr::MacAddr([2, 0, 0, 0, 9, last])
}

/// By which gateway the packet leaves, and as whom.
fn left(router: &mut Router, port: u16) -> Option<(u8, [u8; 4])> {
    router.take_all();
    router.inject("g0", out(port).bytes());
    let packets = router.take_packets("up");
    let bytes = packets.first()?;
    assert_eq!(packets.len(), 1);
    Some((bytes[5], bytes[26..30].try_into().unwrap()))
}

#[test]
fn a_next_hop_out_of_use_is_passed_over_by_first_packets_and_sessions_and_back() {
    const AS_A: [u8; 4] = [203, 0, 113, 10];
    const AS_B: [u8; 4] = [198, 51, 100, 10];
    let mut router = router();
    assert_eq!(left(&mut router, 4_000), Some((1, AS_A)));
    router.set_outage("A", "203.0.113.1", Some(Outage::Silent));
    assert_eq!(
        left(&mut router, 4_000),
        Some((2, AS_A)),
        "the session moves"
    );
    assert_eq!(left(&mut router, 4_001), Some((2, AS_A)));
    assert_eq!(router.counts().get("sessions_revoked"), None);
    router.set_outage("A", "203.0.113.2", Some(Outage::Silent));
    assert_eq!(left(&mut router, 4_001), Some((3, AS_B)), "another begins");
    assert_eq!(router.counts()["sessions_revoked"], 1);
    // An answer to what went out by A finds no session that stands any more.
    let answer = udp("192.0.2.9:53", "203.0.113.10:4000", b"").link(gateway(2), A);
    router.inject("up", answer.bytes());
    assert!(router.take_packets("g0").is_empty());
    assert_eq!(router.counts()["sessions_revoked"], 2);
    router.set_outage("B", "198.51.100.1", Some(Outage::Silent));
    assert_eq!(
        left(&mut router, 4_002),
        Some((1, AS_A)),
        "there is no way: the first is tried all the same"
    );
    for (next_hop, interface) in [
        ("203.0.113.1", "A"),
        ("203.0.113.2", "A"),
        ("198.51.100.1", "B"),
    ] {
        router.set_outage(interface, next_hop, None);
    }
    for port in 4_000..4_003 {
        assert_eq!(left(&mut router, port), Some((1, AS_A)));
    }
}

/// Who is known: address and port.
fn known(router: &Router) -> Vec<(std::net::IpAddr, Option<tapgate_engine::addr::PortId>)> {
    let neighbors = router.neighbors();
    let mut known: Vec<_> = neighbors.iter().map(|n| (n.address, n.port)).collect();
    known.sort();
    known
}

/// Guests of a behind g0 and g1, and the gateway, are known.
fn acquainted() -> Router {
    let mut router = router();
    for (port, host) in [("g0", "10.0.1.1"), ("g1", "10.0.1.2")] {
        let frame = udp(&format!("{host}:4000"), "192.0.2.9:53", b"").link(GUEST_A, NET_A);
        router.inject(port, frame.bytes());
    }
    router.station("g1", None, "10.0.1.2", GUEST_B);
    for port in [4_000, 4_001] {
        let answer = udp("192.0.2.9:53", &format!("203.0.113.10:{port}"), b"").link(gateway(1), A);
        router.inject("up", answer.bytes());
    }
    let to_the_other = udp("10.0.1.1:4000", "10.0.1.2:53", b"").link(GUEST_A, NET_A);
    router.inject("g0", to_the_other.bytes());
    router.take_all();
    assert!(known(&router).len() >= 3, "{:?}", router.neighbors());
    router
}

#[test]
fn h13_a_port_more_forgets_nobody_and_claims_nothing() {
    let mut router = acquainted();
    let (neighbors, counts) = (known(&router), router.counts());
    router.reload(&with("[\"g0\", \"g1\"]", "[\"g0\", \"g1\", \"g2\"]"));
    assert_eq!(known(&router), neighbors);
    router.wait(5_000);
    let after = router.counts();
    for counter in ["arp_probes_sent", "duplicate_probes_sent"] {
        assert_eq!(after.get(counter), counts.get(counter), "{counter}");
    }
    assert!(counts["arp_probes_sent"] > 0 && counts["duplicate_probes_sent"] > 0);
    assert!(left(&mut router, 4_000).is_some());
}

#[test]
fn h13_a_port_less_forgets_only_who_was_behind_it() {
    let mut router = acquainted();
    let (neighbors, gone) = (known(&router), router.port("g1"));
    router.reload(&with("[\"g0\", \"g1\"]", "[\"g0\", \"g2\"]"));
    let rest: Vec<_> = neighbors
        .iter()
        .copied()
        .filter(|(_, port)| *port != Some(gone))
        .collect();
    assert!(rest.len() < neighbors.len());
    assert_eq!(known(&router), rest);
}

#[test]
fn an_apply_that_changes_nothing_says_nothing() {
    let mut router = acquainted();
    // Past the last repetition of announcements, and before neighbours are asked again.
    router.wait(20_000);
    router.take_all();
    let (neighbors, counts) = (known(&router), router.counts());
    router.reload(CONFIG);
    assert!(router.is_silent());
    assert_eq!(known(&router), neighbors);
    assert_eq!(router.counts(), counts);
    router.wait(5_000);
    assert!(router.is_silent(), "{:?}", router.take_all());
}
