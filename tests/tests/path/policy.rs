//! Who may open flows to whom: by rules, by defaults, and where nothing is said (F06, P01, P04, S11).

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Packet, error, ip, mac, ping, pong, tcp, udp};
use tapgate_tests::pair::{udp6, v6};
use tapgate_tests::recipe::{GUEST_A, GUEST_B, GUEST_C, NET_A, NET_B, REMOTE};
use tapgate_tests::router::{Router, mac_of};

const X: &str = "02:00:00:00:00:aa";
pub const PUBLIC: &str = "203.0.113.21";

/// Guests `a` and `b` in network `lan`, `c` in `dmz`, which has a public address too; all may leave by
/// `x`.
pub fn config(policy: &str) -> String {
    format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
b = {{ memory = true }}
c = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24", "2001:db8:9::10/64"], gateway = ["203.0.113.1", "2001:db8:9::1"] }}
[networks]
lan = {{ ports = ["a", "b"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "{NET_A}" }}
dmz = {{ ports = ["c"], addresses = ["10.0.2.254/24", "2001:db8:2::fe/64"], mac = "{NET_B}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["10.0.1.1", "2001:db8:1::1"] }}
b = {{ port = "b", mac = "{GUEST_B}", addresses = ["10.0.1.2", "2001:db8:1::2"] }}
c = {{ port = "c", mac = "{GUEST_C}", addresses = ["10.0.2.1", "2001:db8:2::1"], public = ["{PUBLIC}"] }}
[tables]
main = [{{ to = "default", dev = "x" }}, {{ to = "::/0", dev = "x" }}]
[nat]
snat = [{{ from = "10.0.0.0/16", to = "203.0.113.10" }}]
forward = [{{ address = "203.0.113.10", proto = "tcp", port = 8022, to = "10.0.2.1:22" }}]
[policy]
{policy}
"#
    )
}

pub fn router(policy: &str) -> Router {
    let mut router = Router::settled(&config(policy));
    router.answer_everything();
    // Whoever asks is known by the time it matters.
    for (guest, own) in [("a", "10.0.1.1"), ("c", "10.0.2.1")] {
        let first = udp(&format!("{own}:9"), &format!("{REMOTE}:9"), b"");
        offer(&mut router, guest, first);
    }
    offer(
        &mut router,
        "uplink",
        udp(&format!("{REMOTE}:9"), &format!("{PUBLIC}:9"), b""),
    );
    router.wait(400_000);
    router.take_all();
    router.explain_everything();
    router
}

pub fn link(port: &str) -> (tapgate_engine::addr::MacAddr, tapgate_engine::addr::MacAddr) {
    match port {
        "uplink" => (mac_of("203.0.113.1".parse().unwrap()), mac(X)),
        "a" => (GUEST_A, NET_A),
        "b" => (GUEST_B, NET_A),
        _ => (GUEST_C, NET_B),
    }
}

pub fn offer(router: &mut Router, port: &str, packet: Packet) -> Verdict {
    let (theirs, ours) = link(port);
    router.inject(port, packet.link(theirs, ours).bytes())
}

/// Whether a packet passes; what is told is not looked at.
#[track_caller]
pub fn passes(router: &mut Router, port: &str, packet: Packet) -> bool {
    let verdict = offer(router, port, packet);
    router.take_all();
    match verdict {
        Verdict::Emit(_) | Verdict::Hold => true,
        Verdict::Drop(DropReason::Policy | DropReason::OtherNetwork) => false,
        other => panic!("{other:?}"),
    }
}

pub fn syn(from: &str, to: &str) -> Packet {
    tcp(&format!("{from}:4000"), to, "S", b"")
}

#[test]
fn where_nothing_is_said_networks_are_apart_and_all_else_is_as_on_the_internet() {
    let mut router = router("");
    for (port, from, to, expected) in [
        ("a", "10.0.1.1", "10.0.1.2:80", true),  // of one network
        ("a", "10.0.1.1", "10.0.2.1:80", false), // an inside address of another
        ("c", "10.0.2.1", "10.0.1.1:80", false),
        ("a", "10.0.1.1", "203.0.113.21:80", true), // a public one
        ("a", "10.0.1.1", "203.0.113.10:8022", true), // a forwarded port
        ("a", "10.0.1.1", "198.51.100.9:80", true), // the internet
        ("uplink", "198.51.100.9", "203.0.113.21:80", true),
        ("uplink", "198.51.100.9", "203.0.113.10:8022", true),
    ] {
        assert_eq!(
            passes(&mut router, port, syn(from, to)),
            expected,
            "{from} > {to}"
        );
    }
    // A guest is told (F06), and the counter says why.
    offer(&mut router, "a", syn("10.0.1.1", "10.0.2.1:81"));
    let told = router.take_packets("a");
    assert_eq!((told.len(), &told[0][34..36]), (1, &[3, 13][..]));
    assert_eq!(router.dropped(DropReason::OtherNetwork), 3);
    let far = udp6(
        (GUEST_A.0, NET_A.0),
        ("2001:db8:1::1", "2001:db8:2::1"),
        64,
        8,
    );
    assert_eq!(
        router.inject("a", far),
        Verdict::Drop(DropReason::OtherNetwork)
    );
    let (_, last) = router.last_sent().unwrap();
    assert_eq!(last[38..54], v6("2001:db8:1::1"));
    assert_eq!(last[54..56], [1, 1], "administratively prohibited");
}

#[test]
fn the_first_rule_that_matches_decides_whatever_it_asks_for() {
    let policy = r#"
sets.bad = ["198.51.100.0/24", "2001:db8:bad::/48"]
rules = [
  { action = "drop", source = "bad" },
  { action = "accept", from = "lan", to = "c", proto = "tcp", port = [22, "8000-8099"] },
  { action = "reject", from = "a", to = "c", proto = "tcp", source_port = "4000-4999" },
  { action = "accept", from = "lan", to = "dmz", proto = ["icmp", "gre"], icmp_type = [] },
  { action = "accept", from = "lan", to = "dmz", proto = "tcp", destination = "10.0.2.1" },
  { action = "drop", from = "x", proto = "icmp", icmp_type = "echo-request" },
]"#;
    let mut router = router(policy);
    let at = |port: u16, to: u16| {
        tcp(
            &format!("10.0.1.1:{port}"),
            &format!("10.0.2.1:{to}"),
            "S",
            b"",
        )
    };
    for (port, packet, expected) in [
        ("a", at(4_000, 22), true),
        ("a", at(4_000, 8_050), true),
        ("a", at(4_000, 8_100), false),
        ("a", at(5_000, 8_100), true), // by its destination
        ("b", tcp("10.0.1.2:4000", "10.0.2.1:8100", "S", b""), true), // another guest
        ("a", udp("10.0.1.1:4000", "10.0.2.1:22", b""), false), // another protocol
        ("a", ping("10.0.1.1", "10.0.2.1", 1, 1, b""), true),
        ("a", ip("10.0.1.1", "10.0.2.1", 47, b"tunnel"), true),
        ("uplink", syn("198.51.100.9", "203.0.113.21:80"), false),
        ("uplink", syn("192.0.2.7", "203.0.113.21:80"), true),
        ("uplink", ping("192.0.2.7", PUBLIC, 1, 1, b""), false),
    ] {
        assert_eq!(
            passes(&mut router, port, packet.clone()),
            expected,
            "{packet:?}"
        );
    }
    // Who is dropped hears nothing, who is rejected does.
    offer(&mut router, "uplink", ping("192.0.2.7", PUBLIC, 1, 1, b""));
    assert!(router.is_silent());
    offer(&mut router, "a", at(4_000, 8_100));
    let told = router.take_packets("a");
    assert_eq!(told[0][34..36], [3, 13]);
}

#[test]
fn p03_fragments_of_a_flow_that_is_refused_are_refused() {
    let mut router = router(
        r#"
rules = [{ action = "drop", from = "lan", proto = "udp", port = 53 }]
default = [{ action = "accept" }]"#,
    );
    let first = |port: u16, id| {
        let whole = udp("10.0.1.1:4000", &format!("10.0.2.1:{port}"), &[7; 800]);
        whole.fragment(0, true).id(id)
    };
    let later = |id| {
        ip("10.0.1.1", "10.0.2.1", 17, &[7; 400])
            .fragment(101, false)
            .id(id)
    };
    for (port, id, expected) in [(53, 1, false), (54, 2, true)] {
        assert_eq!(
            passes(&mut router, "a", first(port, id)),
            expected,
            "{port}"
        );
        assert_eq!(passes(&mut router, "a", later(id)), expected, "{port}");
    }
}

#[test]
fn answers_and_errors_follow_their_flow() {
    let mut router = router(
        r#"
rules = [{ action = "accept", from = "lan", to = "dmz" }]
default = [{ action = "drop" }]"#,
    );
    let question = udp("10.0.1.1:4000", "10.0.2.1:53", b"question");
    assert!(passes(&mut router, "a", question.clone()));
    assert!(passes(
        &mut router,
        "c",
        udp("10.0.2.1:53", "10.0.1.1:4000", b"answer")
    ));
    assert!(!passes(
        &mut router,
        "c",
        udp("10.0.2.1:53", "10.0.1.1:4001", b"answer")
    ));
    assert!(passes(
        &mut router,
        "a",
        ping("10.0.1.1", "10.0.2.1", 7, 1, b"")
    ));
    assert!(passes(
        &mut router,
        "c",
        pong("10.0.2.1", "10.0.1.1", 7, 1, b"")
    ));
    assert!(!passes(
        &mut router,
        "c",
        ping("10.0.2.1", "10.0.1.1", 7, 1, b"")
    ));
    let about = question.ttl(63).bytes();
    let said = error("10.0.2.1", "10.0.1.1", (3, 3), [0; 4], &about);
    assert!(
        matches!(offer(&mut router, "c", said), Verdict::Emit(_)),
        "S11, P01"
    );
}

#[test]
fn a_guest_in_a_zone_of_its_own_is_not_in_its_networks() {
    let policy = |to: &str| {
        format!(
            r#"
zones = {{ inside = ["lan", "dmz"], special = ["b"], outside = ["x"] }}
rules = [{{ action = "accept", from = "inside", to = "{to}" }}]
default = [
  {{ action = "reject", from = "inside" }},
  {{ action = "accept", from = "special", to = "outside" }},
  {{ action = "drop" }},
]"#
        )
    };
    let mut to_inside = router(&policy("inside"));
    assert!(passes(&mut to_inside, "a", syn("10.0.1.1", "10.0.2.1:80")));
    assert!(
        !passes(&mut to_inside, "a", syn("10.0.1.1", "10.0.1.2:80")),
        "b is special"
    );
    assert!(!passes(
        &mut to_inside,
        "a",
        syn("10.0.1.1", "198.51.100.9:80")
    ));
    assert!(passes(
        &mut to_inside,
        "b",
        syn("10.0.1.2", "198.51.100.9:80")
    ));
    assert!(!passes(&mut to_inside, "b", syn("10.0.1.2", "10.0.2.1:80")));
    let mut to_special = router(&policy("special"));
    assert!(passes(&mut to_special, "a", syn("10.0.1.1", "10.0.1.2:80")));
    assert!(!passes(
        &mut to_special,
        "a",
        syn("10.0.1.1", "10.0.2.1:80")
    ));
}

#[test]
fn a_reload_ends_the_flows_that_are_no_longer_allowed_and_no_others() {
    let open = r#"rules = [{ action = "accept", from = "lan", to = "dmz" }]"#;
    let less =
        r#"rules = [{ action = "accept", from = "lan", to = "dmz", proto = "tcp", port = 22 }]"#;
    let mut router = router(open);
    let (ssh, web) = (
        syn("10.0.1.1", "10.0.2.1:22"),
        syn("10.0.1.1", "10.0.2.1:80"),
    );
    for first in [&ssh, &web] {
        assert!(passes(&mut router, "a", first.clone()));
    }
    let answer = |port: u16| tcp(&format!("10.0.2.1:{port}"), "10.0.1.1:4000", "S.", b"");
    assert!(passes(&mut router, "c", answer(22)) && passes(&mut router, "c", answer(80)));
    router.reload(&config(less));
    router.take_all();
    assert!(passes(&mut router, "c", answer(22)));
    assert!(!passes(&mut router, "c", answer(80)));
    assert_eq!(router.sessions().len(), 1);
}

#[test]
fn explain_says_which_rule_and_which_were_passed_over() {
    let mut router = router(
        r#"
rules = [
  { action = "accept", from = "lan", to = "dmz", proto = "udp" },
  { action = "accept", from = "dmz", to = "lan" },
  { action = "drop", from = "lan", to = "dmz", source = "10.0.1.2" },
  { action = "reject", from = "lan", to = "dmz", proto = "tcp" },
]"#,
    );
    let (theirs, ours) = link("a");
    let frame = syn("10.0.1.1", "10.0.2.1:80").link(theirs, ours).bytes();
    let (lines, _) = router.explain("a", &frame);
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("{}: {}", line.stage, line.detail))
        .collect();
    let said = "policy: policy.rules[3] rejects it; passed over: policy.rules[0] (another \
                protocol, port or type), policy.rules[2] (another source)";
    assert!(lines.iter().any(|line| line == said), "{lines:#?}");
}
