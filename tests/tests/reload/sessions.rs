//! Reloads and idle times: which sessions live on (P04).

use std::time::Duration;

use tapgate_tests::packet::{pong, tcp, udp};
use tapgate_tests::recipe::*;

use super::{OUT, converse, inbound, outbound, router};

/// P04: sessions that the new configuration allows live on, under the translation they had.
#[test]
fn p04_a_reload_keeps_what_is_still_allowed() {
    let mut router = router(MULTI_MAC);
    converse(&mut router);
    let held = "snat = [\n  { from = \"10.0.1.0/24\", to = \"203.0.113.10\"";
    assert!(MULTI_MAC.contains(held));
    for change in [
        // Nothing at all, a guest more, another limit, other timeouts.
        MULTI_MAC.to_owned(),
        format!(
            "{MULTI_MAC}\n[ports.more]\nmemory = true\n[networks.more]\nports = [\"more\"]\naddresses = [\"10.0.9.254/24\"]\n"
        ),
        MULTI_MAC.replace(
            "sessions = 4096",
            "sessions = 4096\nicmp_errors_per_second = 5",
        ),
        MULTI_MAC.replace(
            "sessions = 4096",
            "sessions = 4096\ntimeouts = { udp = 600 }",
        ),
        // A port range that holds the ports in use.
        MULTI_MAC.replace(
            "to = \"203.0.113.10\" }",
            "to = \"203.0.113.10\", ports = \"4000-4999\" }",
        ),
        // A rule of another priority, and the interfaces' names in another order.
        MULTI_MAC.replace("priority = 60000", "priority = 59999"),
    ] {
        router.reload(&change);
        assert!(inbound(&mut router), "{change}");
        assert!(outbound(&mut router), "{change}");
        assert_eq!(router.sessions().len(), 3);
    }
}

/// The next hop of a route changes: the flow follows it.
#[test]
fn p04_a_reload_moves_flows_to_a_new_next_hop() {
    let mut router = router(MULTI_MAC);
    converse(&mut router);
    let other = "02:00:00:00:00:fd".parse().unwrap();
    router.station("uplink", None, "192.0.2.2", other);
    router.reload(&MULTI_MAC.replace("gateway = \"192.0.2.1\"", "gateway = \"192.0.2.2\""));
    assert!(outbound(&mut router));
    router.inject(
        "guest-a",
        udp(OUT.0, OUT.1, b"").link(GUEST_A, NET_A).bytes(),
    );
    assert_eq!(router.take_packets("uplink")[0][..6], other.0);
}

/// P04: sessions that the new configuration forbids end, both ways.
#[test]
fn p04_a_reload_ends_what_is_not_allowed_any_more() {
    let changes = [
        // Another address, no translation, another range, no route, another personality.
        MULTI_MAC.replace(
            "from = \"10.0.1.0/24\", to = \"203.0.113.10\" }",
            "from = \"10.0.1.0/24\", to = \"203.0.113.30\" }",
        ),
        MULTI_MAC.replace("{ from = \"10.0.1.0/24\", to = \"203.0.113.10\" },", ""),
        MULTI_MAC.replace(
            "to = \"203.0.113.10\" }",
            "to = \"203.0.113.10\", ports = \"5000-5999\" }",
        ),
        MULTI_MAC.replace("{ to = \"default\", dev = \"A\" },", ""),
        MULTI_MAC.replace(
            "{ to = \"default\", dev = \"A\" },",
            "{ to = \"default\", dev = \"C\" },",
        ),
    ];
    for change in changes {
        assert_ne!(change, MULTI_MAC);
        for first in [inbound, outbound] {
            let mut router = router(MULTI_MAC);
            converse(&mut router);
            router.reload(&change);
            let passed = first(&mut router);
            assert!(!passed, "{change}");
            assert!(!inbound(&mut router), "{change}");
        }
    }
}

/// A reload back and forth while a flow is silent does not end it.
#[test]
fn p04_a_silent_flow_is_judged_when_it_speaks() {
    let mut router = router(MULTI_MAC);
    converse(&mut router);
    router.reload(&MULTI_MAC.replace(
        "to = \"203.0.113.10\" }",
        "to = \"203.0.113.10\", ports = \"5000-5999\" }",
    ));
    router.reload(MULTI_MAC);
    assert!(inbound(&mut router) && outbound(&mut router));
}

/// P04: idle sessions end after their time, not before, and a used one lives on.
#[test]
fn p04_idle_times() {
    for (seconds, alive) in [(299, true), (301, false)] {
        let mut router = router(MULTI_MAC);
        converse(&mut router);
        router.advance(Duration::from_secs(seconds));
        router.take_all();
        assert_eq!(inbound(&mut router), alive, "UDP after {seconds} s");
    }
    for (seconds, alive) in [(59, true), (61, false)] {
        let mut router = router(MULTI_MAC);
        converse(&mut router);
        router.advance(Duration::from_secs(seconds));
        router.take_all();
        let reply = pong(REMOTE, "203.0.113.10", 4_242, 1, b"ping").link(PROVIDER, A);
        router.inject("uplink", reply.bytes());
        assert_eq!(
            router.take_packets("guest-a").len(),
            usize::from(alive),
            "echo after {seconds} s"
        );
    }
    let segment = |flags| tcp("198.51.100.9:80", "203.0.113.10:4000", flags, b"").link(PROVIDER, A);
    // Established; closing after a reset.
    for (flags, seconds, alive) in [
        (".", 7_439, true),
        (".", 7_441, false),
        ("R", 239, true),
        ("R", 241, false),
    ] {
        let mut router = router(MULTI_MAC);
        converse(&mut router);
        router.inject("uplink", segment(flags).bytes());
        router.advance(Duration::from_secs(seconds));
        router.take_all();
        router.inject("uplink", segment(".").bytes());
        let arrived = router.take_packets("guest-a").len();
        assert_eq!(arrived, usize::from(alive), "{flags} and {seconds} s");
    }
}
