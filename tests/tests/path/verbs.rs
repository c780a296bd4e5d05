//! What rules do beside letting pass: they count flows and sessions, and mark them.

use tapgate_engine::config::policy::Origin;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{tcp, udp};
use tapgate_tests::pair::udp6;
use tapgate_tests::recipe::{GUEST_A, NET_A};
use tapgate_tests::router::{Router, mac_of};

use crate::policy::{PUBLIC, config, offer, passes, router, syn};

/// How many of the flows that a guest opens to `c` from these source ports pass.
fn opened(router: &mut Router, guest: &str, ports: std::ops::Range<u16>) -> usize {
    let from = if guest == "a" { "10.0.1.1" } else { "10.0.1.2" };
    let open = |port: &u16| {
        let first = udp(&format!("{from}:{port}"), "10.0.2.1:53", b"");
        let verdict = offer(router, guest, first);
        router.take_all();
        matches!(verdict, Verdict::Emit(_))
    };
    ports.filter(open).count()
}

/// A stranger opens a flow to `c`'s public address.
fn knocks(router: &mut Router, from: &str) -> bool {
    let verdict = offer(router, "uplink", udp(from, &format!("{PUBLIC}:53"), b""));
    assert!(
        router.is_silent() || matches!(verdict, Verdict::Emit(_)),
        "strangers are told nothing"
    );
    router.take_all();
    matches!(verdict, Verdict::Emit(_))
}

#[test]
fn a_rule_lets_so_many_flows_a_second_through_of_each_guest() {
    let policy = |rate: u32, before: &str| {
        format!(
            r#"rules = [{before}
  {{ action = "accept", from = "lan", to = "dmz", proto = "udp", rate = {rate} }},
  {{ action = "accept", from = "x", rate = 4 }},
  {{ action = "accept" }},
]"#
        )
    };
    let mut router = router(&policy(20, ""));
    assert_eq!(opened(&mut router, "a", 4_000..4_030), 10, "half at once");
    assert_eq!(router.dropped(DropReason::PolicyRate), 20);
    assert_eq!(router.usage("a").refused, [(DropReason::PolicyRate, 20)]);
    assert_eq!(
        opened(&mut router, "b", 4_000..4_030),
        10,
        "another guest's flows are its own"
    );
    assert_eq!(
        opened(&mut router, "a", 4_000..4_010),
        10,
        "what runs goes on"
    );
    assert!(
        passes(&mut router, "a", syn("10.0.1.1", "10.0.2.1:80")),
        "another rule's"
    );
    // A rule that is kept goes on counting, wherever it stands and whatever its rate is now.
    let other = r#"{ action = "drop", proto = "gre" },"#;
    router.reload(&config(&policy(40, other)));
    router.take_all();
    assert_eq!(
        opened(&mut router, "a", 5_000..5_030),
        10,
        "20 may be used up, 10 were"
    );
    assert_eq!(
        opened(&mut router, "a", 4_000..4_010),
        10,
        "no flow ends for a rate"
    );
    router.wait(1_000);
    assert_eq!(opened(&mut router, "a", 6_000..6_030), 20);
    // Who is beyond it is told, if it is a guest.
    offer(&mut router, "a", udp("10.0.1.1:7000", "10.0.2.1:53", b""));
    assert_eq!(router.take_packets("a")[0][34..36], [3, 13]);
    // Strangers have one rate together.
    let knocked = (1..20)
        .filter(|n| knocks(&mut router, &format!("192.0.2.{n}:7")))
        .count();
    assert_eq!(knocked, 2);
}

#[test]
fn what_is_beyond_a_limit_does_not_pass_without_a_session_either() {
    let mut router = router(r#"rules = [{ action = "accept", from = "c", rate = 2 }]"#);
    let open = |router: &mut Router, port: u16| {
        let first = udp(&format!("{PUBLIC}:{port}"), "198.51.100.9:53", b"");
        matches!(offer(router, "c", first), Verdict::Emit(_))
    };
    let passed = (4_000..4_010)
        .filter(|port| open(&mut router, *port))
        .count();
    assert_eq!(passed, 1, "a routed packet would need no session");
}

const THREE: &str = r#"rules = [{ action = "accept", from = "lan", to = "dmz", connections = 3 }, { action = "accept", from = "x", connections = 2 }]"#;

#[test]
fn a_rule_lets_so_many_sessions_through_at_a_time_of_each_opener() {
    let mut router = router(THREE);
    assert_eq!(opened(&mut router, "a", 4_000..4_005), 3);
    assert_eq!(opened(&mut router, "b", 4_000..4_005), 3);
    assert_eq!(router.dropped(DropReason::PolicyConnections), 4);
    for (from, expected) in [
        ("192.0.2.1:1", true),
        ("192.0.2.1:2", true),
        ("192.0.2.1:3", false),
        ("192.0.2.2:1", true),
    ] {
        assert_eq!(knocks(&mut router, from), expected, "{from}");
    }
    // What ends makes room: here because it is idle.
    router.wait(250_000);
    assert_eq!(
        opened(&mut router, "a", 4_000..4_001),
        1,
        "this one is not idle"
    );
    router.wait(100_000);
    router.take_all();
    assert_eq!(router.sessions().len(), 1);
    assert_eq!(opened(&mut router, "a", 5_000..5_005), 2);
    assert_eq!(opened(&mut router, "b", 5_000..5_005), 3);
}

#[test]
fn a_reload_keeps_what_is_counted_and_ends_no_session_for_it() {
    let mut router = router(THREE);
    assert_eq!(opened(&mut router, "a", 4_000..4_005), 3);
    // Less than there are: they stay, and none is added.
    router.reload(&config(
        &THREE.replace("connections = 3", "connections = 1"),
    ));
    router.take_all();
    assert_eq!(
        opened(&mut router, "a", 5_000..5_001),
        0,
        "before they are judged anew"
    );
    assert_eq!(opened(&mut router, "a", 4_000..4_003), 3);
    assert_eq!(opened(&mut router, "a", 5_000..5_001), 0, "and after");
    // Another rule lets them pass now: they count for that one.
    let other = r#"rules = [{ action = "accept", source = "10.0.0.0/8", connections = 4 }]"#;
    router.reload(&config(other));
    router.take_all();
    assert_eq!(opened(&mut router, "a", 4_000..4_003), 3);
    assert_eq!(opened(&mut router, "a", 6_000..6_005), 1);
    // Without a limit nothing is counted, and a new one counts what runs.
    router.reload(&config(r#"rules = [{ action = "accept" }]"#));
    router.take_all();
    assert_eq!(opened(&mut router, "a", 4_000..4_003), 3);
    router.reload(&config(
        r#"rules = [{ action = "accept", connections = 4 }]"#,
    ));
    router.take_all();
    assert_eq!(opened(&mut router, "a", 4_000..4_003), 3);
    assert_eq!(opened(&mut router, "a", 7_000..7_005), 1);
}

#[test]
fn sessions_that_are_displaced_are_given_back() {
    // Room for two sessions: the older ones make room.
    let small = config(THREE).replace("[guests]", "[router.limits]\nsessions = 2\n[guests]");
    let mut router = router(THREE);
    router.reload(&small);
    router.take_all();
    assert_eq!(opened(&mut router, "a", 4_000..4_010), 10);
    assert_eq!(router.usage("a").opened.0, 2);
    router.reload(&config(THREE));
    router.take_all();
    assert_eq!(opened(&mut router, "a", 5_000..5_010), 1, "two are counted");
}

#[test]
fn a_64_is_one_opener() {
    let mut router = router(r#"rules = [{ action = "accept", from = "x", connections = 2 }]"#);
    let policy = r#"rules = [{ action = "accept", from = "x", connections = 2 }]"#;
    let public = config(policy).replace("\"203.0.113.21\"", "\"203.0.113.21\", \"2001:db8:9::21\"");
    router.reload(&public);
    router.wait(10_000);
    router.take_all();
    let gateway = mac_of("203.0.113.1".parse().unwrap());
    let mut open = |from: &str| {
        let ours = tapgate_tests::packet::mac("02:00:00:00:00:aa");
        let first = udp6((gateway.0, ours.0), (from, "2001:db8:9::21"), 64, 8);
        router.inject("uplink", first)
    };
    for from in ["2001:db8:7::1", "2001:db8:7::2"] {
        assert!(!matches!(open(from), Verdict::Drop(_)), "{from}");
    }
    for (from, passes) in [("2001:db8:7:0:ffff::3", false), ("2001:db8:7:1::1", true)] {
        let refused = open(from) == Verdict::Drop(DropReason::PolicyConnections);
        assert_eq!(refused, !passes, "{from}");
    }
}

#[test]
fn sessions_bear_the_mark_and_the_rule_that_let_them_in() {
    let policy = |mark: u32, before: &str| {
        format!(
            r#"rules = [{before}{{ action = "accept", from = "lan", to = "dmz", mark = {mark} }}]"#
        )
    };
    let mut router = router(&policy(7, ""));
    let first = tcp("10.0.1.1:4000", "10.0.2.1:80", "S", b"");
    assert!(passes(&mut router, "a", first.clone()));
    assert!(passes(&mut router, "a", syn("10.0.1.1", "198.51.100.9:80")));
    let shown = |router: &Router| {
        let mut shown: Vec<_> = router
            .sessions()
            .iter()
            .map(|session| (session.rule, session.mark))
            .collect();
        shown.sort_by_key(|(_, mark)| *mark);
        shown
    };
    let by = |rule: usize| Some(Origin::Rule(rule));
    assert_eq!(shown(&router), [(None, 0), (by(0), 7)]);
    router.reload(&config(&policy(
        9,
        r#"{ action = "drop", proto = "gre" }, "#,
    )));
    router.take_all();
    assert_eq!(shown(&router), [(None, 0), (None, 7)], "not judged yet");
    assert!(passes(&mut router, "a", first));
    assert_eq!(shown(&router), [(None, 0), (by(1), 9)]);
    // So says explain.
    let frame = syn("10.0.1.1", "10.0.2.1:81").link(GUEST_A, NET_A).bytes();
    let (lines, _) = router.explain("a", &frame);
    assert!(
        lines.iter().any(|line| line
            .detail
            .starts_with("policy.rules[1] lets it pass, with mark 9")),
        "{lines:#?}"
    );
}
