//! Security groups: what guests that are members of them accept, and may open.

use tapgate_engine::config::policy::{Facing, Origin};
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{ping, tcp, udp};
use tapgate_tests::recipe::{GUEST_A, NET_A};
use tapgate_tests::router::Router;

use crate::policy::{PUBLIC, config, offer, passes, syn};

/// The site of the policy's tests, where `c` (in `dmz`, with a public address) and `a` are in groups.
fn site(of_a: &str, of_c: &str, policy: &str) -> String {
    let text = config(policy);
    let member = |text: &str, guest: &str, groups: &str| {
        let line = format!("{guest} = {{ port = \"{guest}\", mac");
        assert!(text.contains(&line));
        text.replace(
            &line,
            &format!("{guest} = {{ groups = [{groups}], port = \"{guest}\", mac"),
        )
    };
    member(&member(&text, "a", of_a), "c", of_c)
}

fn router(of_a: &str, of_c: &str, policy: &str) -> Router {
    let mut router = crate::policy::router("");
    router.wait(400_000);
    router.reload(&site(of_a, of_c, policy));
    router.take_all();
    router
}

const WEB: &str = r#"
sets.admins = ["198.51.100.0/24"]
groups.web = { in = [
  { action = "accept", proto = "tcp", port = [80, 443] },
  { action = "accept", proto = "icmp", icmp_type = "echo-request", from = "lan" },
] }
groups.ssh = { in = [{ action = "accept", source = "admins", proto = "tcp", port = 22 }] }
"#;

#[test]
fn a_member_is_opened_by_its_groups_alone() {
    let mut router = router("", r#""web", "ssh""#, WEB);
    let public = |port: u16| format!("{PUBLIC}:{port}");
    for (port, packet, expected) in [
        ("uplink", syn("192.0.2.7", &public(80)), true),
        ("uplink", syn("192.0.2.7", &public(81)), false),
        ("uplink", syn("192.0.2.7", &public(22)), false),
        ("uplink", syn("198.51.100.9", &public(22)), true), // the other group says so
        ("uplink", syn("198.51.100.9", "203.0.113.10:8022"), true), // forwarded to port 22
        ("uplink", syn("192.0.2.7", "203.0.113.10:8022"), false),
        ("a", ping("10.0.1.1", PUBLIC, 1, 1, b""), true),
        ("uplink", ping("192.0.2.7", PUBLIC, 1, 1, b""), false),
        ("a", syn("10.0.1.1", "10.0.2.1:443"), true), // it accepts, whatever network it is from
        ("a", udp("10.0.1.1:4000", "10.0.2.1:443", b""), false),
        ("a", syn("10.0.1.1", "10.0.1.2:22"), true), // who is in none is as before
    ] {
        assert_eq!(
            passes(&mut router, port, packet.clone()),
            expected,
            "{packet:?}"
        );
    }
    // It opens what it likes, and answers come.
    let question = udp(&public(4_000), "192.0.2.9:53", b"question");
    assert!(passes(&mut router, "c", question));
    let answer = udp("192.0.2.9:53", &public(4_000), b"answer");
    assert!(passes(&mut router, "uplink", answer));
    let other = udp("192.0.2.9:53", &public(4_001), b"answer");
    assert!(!passes(&mut router, "uplink", other));
}

#[test]
fn rules_go_first_and_defaults_do_not_open_a_member() {
    let policy = format!(
        r#"{WEB}
rules = [{{ action = "drop", source = "192.0.2.66" }}, {{ action = "accept", proto = "udp", port = 9000 }}]
default = [{{ action = "accept" }}]"#
    );
    let mut router = router("", r#""web""#, &policy);
    let public = |port: u16| format!("{PUBLIC}:{port}");
    for (packet, expected) in [
        (syn("192.0.2.66", &public(80)), false),
        (syn("192.0.2.7", &public(80)), true),
        (udp("192.0.2.7:1", &public(9_000), b""), true),
        (udp("192.0.2.7:1", &public(9_001), b""), false),
    ] {
        assert_eq!(
            passes(&mut router, "uplink", packet.clone()),
            expected,
            "{packet:?}"
        );
    }
    assert!(
        passes(&mut router, "c", syn("10.0.2.1", "10.0.1.1:80")),
        "by default"
    );
}

#[test]
fn out_restricts_and_opens_nobody_else() {
    let policy = r#"
groups.quiet = { in = [], out = [
  { action = "accept", to = "x", proto = "udp", port = 53 },
  { action = "accept", to = "db", proto = "tcp", port = 5432 },
  { action = "accept", to = "dmz", proto = "tcp", port = 80 },
] }
groups.db = { in = [{ action = "accept", from = "quiet", proto = "tcp" }] }"#;
    let mut open = router(r#""quiet""#, "", policy);
    for (packet, expected) in [
        (udp("10.0.1.1:4000", "198.51.100.9:53", b""), true),
        (udp("10.0.1.1:4000", "198.51.100.9:54", b""), false),
        (syn("10.0.1.1", "10.0.1.2:80"), false),
        // Let out, but `c` is in another network, and nothing lets it in there.
        (syn("10.0.1.1", "10.0.2.1:80"), false),
    ] {
        assert_eq!(
            passes(&mut open, "a", packet.clone()),
            expected,
            "{packet:?}"
        );
    }
    // Both ends' groups are asked; members of a group may be named.
    let mut both = router(r#""quiet""#, r#""db""#, policy);
    assert!(passes(&mut both, "a", syn("10.0.1.1", "10.0.2.1:5432")));
    assert!(
        !passes(&mut both, "a", syn("10.0.1.1", "10.0.2.1:5433")),
        "not let out"
    );
    assert!(
        !passes(&mut both, "b", syn("10.0.1.2", "10.0.2.1:5432")),
        "not let in"
    );
    let shown = both.sessions();
    assert!(
        shown
            .iter()
            .any(|session| session.rule == Some(Origin::Group(0, Facing::In, 0)))
    );
}

#[test]
fn a_reload_that_makes_a_guest_a_member_ends_what_its_groups_do_not_accept() {
    let mut router = router("", "", WEB);
    let (web, other) = (
        syn("192.0.2.7", &format!("{PUBLIC}:80")),
        syn("192.0.2.7", &format!("{PUBLIC}:81")),
    );
    for first in [&web, &other] {
        assert!(passes(&mut router, "uplink", first.clone()));
    }
    router.reload(&site("", r#""web""#, WEB));
    router.take_all();
    let answer = |port: u16| tcp(&format!("{PUBLIC}:{port}"), "192.0.2.7:4000", "S.", b"");
    assert!(matches!(
        offer(&mut router, "c", answer(80)),
        Verdict::Emit(_)
    ));
    assert!(!passes(&mut router, "uplink", other));
    assert_eq!(router.counts()["sessions_revoked"], 1);
}

#[test]
fn explain_names_the_group_or_that_none_lets_it_pass() {
    let policy = r#"groups.web = { in = [
  { action = "accept", proto = "udp" }, { action = "accept", proto = "tcp", port = 80 },
], out = [] }"#;
    let mut router = router("", r#""web""#, policy);
    let mut said = |port: u16| {
        let frame = syn("10.0.1.1", &format!("10.0.2.1:{port}")).link(GUEST_A, NET_A);
        let (lines, _) = router.explain("a", &frame.bytes());
        let line = lines.into_iter().find(|line| line.stage == "policy");
        line.map(|line| line.detail).unwrap_or_default()
    };
    let over = "passed over: policy.groups.web.in[0] (another protocol, port or type)";
    assert_eq!(
        said(80),
        format!("policy.groups.web.in[1] lets it pass; {over}")
    );
    assert!(
        said(81).starts_with(&format!("its groups do not let it in; {over}")),
        "{}",
        said(81)
    );
    assert!(
        !passes(&mut router, "c", syn("10.0.2.1", "198.51.100.9:80")),
        "`out` says nothing"
    );
}
