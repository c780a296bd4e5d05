//! Rules and routes, by what leaves: every condition of a rule, `goto`, marks of the policy, metrics, several
//! next hops, routers of the other family (F19). Against the kernel they are in `kernel/oracle`.

use std::collections::BTreeMap;

use tapgate_engine::addr::MacAddr;
use tapgate_engine::frame::Verdict;
use tapgate_engine::model::health::Outage;
use tapgate_tests::packet::{Packet, mac, ping, tcp, udp};
use tapgate_tests::recipe::{GUEST_A, NET_A, REMOTE};
use tapgate_tests::router::Router;

const X: &str = "02:00:00:00:00:aa";
const Y: &str = "02:00:00:00:00:bb";

/// A guest behind personalities `x` and `y` of two providers; all leaves by `x` where nothing else is said.
fn config(rules: &str, more: &str) -> String {
    format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24", "2001:db8:9::10/64"], gateway = "203.0.113.1" }}
y = {{ port = "uplink", mac = "{Y}", addresses = ["198.18.0.10/24"], gateway = "198.18.0.1" }}
[networks]
lan = {{ ports = ["a"], addresses = ["10.0.1.254/24"], mac = "{NET_A}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["10.0.1.1"] }}
[nat]
snat = [{{ from = "10.0.1.0/24", dev = "x" }}, {{ from = "10.0.1.0/24", dev = "y" }}]
[routing]
rules = [{rules}]
{more}
"#
    )
}

/// Tables that lead out by either.
const TABLES: &str = "[tables]\nmain = [{ to = \"default\", dev = \"x\" }]\nty = [{ to = \"default\", dev = \"y\" }]";

fn router(text: &str) -> Router {
    let mut router = Router::settled(text);
    router.answer_everything();
    router.explain_everything();
    router
}

/// The MAC that a packet of the guest wears when it leaves, and the one that it goes to.
fn leaves(router: &mut Router, packet: &Packet) -> Option<(MacAddr, MacAddr)> {
    router.take_all();
    let verdict = router.inject("a", packet.clone().link(GUEST_A, NET_A).bytes());
    let sent = router.take("uplink");
    let ip = sent.iter().find(|sent| sent.bytes[12..14] == [8, 0]);
    assert!(
        ip.is_some() || matches!(verdict, Verdict::Drop(_)),
        "{verdict:?}"
    );
    ip.map(|sent| {
        let mac = |at: usize| MacAddr(sent.bytes[at..at + 6].try_into().expect("six bytes"));
        (mac(6), mac(0))
    })
}

fn by(router: &mut Router, packet: &Packet) -> Option<char> {
    let (from, _) = leaves(router, packet)?;
    Some(if from == mac(Y) { 'y' } else { 'x' })
}

fn datagram(from: u16, to: u16) -> Packet {
    udp(&format!("10.0.1.1:{from}"), &format!("{REMOTE}:{to}"), b"x")
}

#[test]
fn f19_every_condition_of_a_rule_holds_for_what_it_says() {
    let syn = |to: u16| tcp("10.0.1.1:4000", &format!("{REMOTE}:{to}"), "S", b"");
    let cases: &[(&str, Packet, Packet)] = &[
        ("dport = 53", datagram(1, 53), datagram(1, 54)),
        ("dport = \"50-60\"", datagram(1, 60), datagram(1, 61)),
        (
            "sport = \"1000-2000\"",
            datagram(1_000, 9),
            datagram(999, 9),
        ),
        ("ipproto = \"tcp\"", syn(80), datagram(1, 80)),
        (
            "ipproto = \"icmp\"",
            ping("10.0.1.1", REMOTE, 7, 1, b""),
            datagram(7, 0),
        ),
        (
            "dscp = 46",
            datagram(1, 9).tos(46 << 2),
            datagram(2, 9).tos(44 << 2),
        ),
        // As in Linux: of IPv4 three of the six bits, ECN is none of them.
        (
            "tos = 0x10",
            datagram(1, 9).tos(0xf3),
            datagram(2, 9).tos(0x08),
        ),
        ("iif = \"lan\"", datagram(1, 9), datagram(0, 0)),
        ("not = true, dport = 53", datagram(1, 54), datagram(1, 53)),
        (
            "not = true, from = \"10.0.1.1\", dport = 53",
            datagram(1, 54),
            datagram(1, 53),
        ),
    ];
    for (condition, meant, other) in cases {
        let rule = format!("{{ priority = 100, {condition}, lookup = \"ty\" }}");
        let mut router = router(&config(&rule, TABLES));
        by(&mut router, &datagram(9, 9));
        assert_eq!(by(&mut router, meant), Some('y'), "{condition}");
        if *condition != "iif = \"lan\"" {
            assert_eq!(by(&mut router, other), Some('x'), "{condition}");
        }
    }
    // What is forwarded is neither the router's own nor bound to a device.
    for condition in ["iif = \"lo\"", "oif = \"y\"", "iif = \"lo\", oif = \"y\""] {
        let rule = format!("{{ priority = 100, {condition}, lookup = \"ty\" }}");
        let mut router = router(&config(&rule, TABLES));
        assert_eq!(by(&mut router, &datagram(1, 9)), Some('x'), "{condition}");
    }
}

#[test]
fn f19_goto_passes_over_rules_and_nop_does_nothing() {
    let rules = r#"
  { priority = 10, dport = 53, goto = 30 },
  { priority = 20, action = "blackhole" },
  { priority = 30, action = "nop" },
  { priority = 40, lookup = "ty" },"#;
    let mut router = router(&config(rules, TABLES));
    assert_eq!(by(&mut router, &datagram(1, 53)), Some('y'));
    assert_eq!(by(&mut router, &datagram(1, 54)), None);
}

#[test]
fn f19_a_mark_of_the_policy_chooses_the_way_and_the_policy_is_asked_again() {
    let rule = "{ priority = 100, fwmark = \"0x10/0xf0\", lookup = \"ty\" }";
    let policy = |also: &str| {
        format!(
            "{TABLES}\n[policy]\nrules = [{also} {{ action = \"accept\", proto = \"udp\", port = 53, mark = 0x1f }}]"
        )
    };
    let mut allowed = router(&config(rule, &policy("")));
    assert_eq!(by(&mut allowed, &datagram(1, 53)), Some('y'));
    assert_eq!(by(&mut allowed, &datagram(1, 54)), Some('x'));
    // What the mark leads to may be forbidden, though what it leads from is not.
    let forbidden = policy("{ action = \"drop\", to = \"y\" },");
    let mut forbidden = router(&config(rule, &forbidden));
    assert_eq!(by(&mut forbidden, &datagram(1, 53)), None);
    assert_eq!(by(&mut forbidden, &datagram(1, 54)), Some('x'));
}

#[test]
fn f19_p04_a_session_keeps_its_way_by_its_type_of_service_and_mark_when_rules_change() {
    let rules = "{ priority = 100, dscp = 46, lookup = \"ty\" }, { priority = 101, fwmark = 7, lookup = \"ty\" }";
    let policy =
        "[policy]\nrules = [{ action = \"accept\", proto = \"udp\", port = 5004, mark = 7 }]";
    let mut router = router(&config(rules, &format!("{TABLES}\n{policy}")));
    let flows = [
        datagram(1, 9).tos(46 << 2),
        datagram(2, 5_004),
        datagram(3, 9),
    ];
    let before = flows.clone().map(|packet| by(&mut router, &packet));
    assert_eq!(before, [Some('y'), Some('y'), Some('x')]);
    let other = format!("{rules}, {{ priority = 200, dport = 7777, action = \"prohibit\" }}");
    router.reload(&config(&other, &format!("{TABLES}\n{policy}")));
    let after = flows.map(|packet| by(&mut router, &packet));
    assert_eq!(after, before);
    assert_eq!(router.sessions().len(), 3);
    assert_eq!(
        router
            .counts()
            .get("sessions_revoked")
            .copied()
            .unwrap_or(0),
        0
    );
}

#[test]
fn f19_a_route_is_used_while_its_next_hop_is_alive_and_no_lower_one_is() {
    let tables = r#"[tables]
main = [
  { to = "default", dev = "y", metric = 20 },
  { to = "default", dev = "x", metric = 10 },
]"#;
    let mut router = router(&config("", tables));
    assert_eq!(by(&mut router, &datagram(1, 9)), Some('x'));
    router.set_outage("x", "203.0.113.1", Some(Outage::Silent));
    assert_eq!(by(&mut router, &datagram(2, 9)), Some('y'));
    router.set_outage("x", "203.0.113.1", None);
    assert_eq!(by(&mut router, &datagram(3, 9)), Some('x'));
    // Of a longer prefix without a living next hop the shorter one takes the place.
    let longer = tables.replace(
        "main = [",
        &format!("main = [{{ to = \"{REMOTE}/32\", dev = \"y\" }},"),
    );
    router.reload(&config("", &longer));
    assert_eq!(by(&mut router, &datagram(4, 9)), Some('y'));
    router.set_outage("y", "198.18.0.1", Some(Outage::Silent));
    assert_eq!(by(&mut router, &datagram(5, 9)), Some('x'));
}

#[test]
fn f19_flows_are_shared_out_among_next_hops_and_stay_with_theirs() {
    let tables = r#"[tables]
main = [{ to = "default", nexthops = [{ dev = "x", weight = 1 }, { dev = "y", weight = 3 }] }]"#;
    let mut router = router(&config("", tables));
    let mut ways = BTreeMap::new();
    for port in 1..=200 {
        let first = by(&mut router, &datagram(port, 9));
        assert_eq!(by(&mut router, &datagram(port, 9)), first, "it stays");
        *ways.entry(first).or_insert(0) += 1;
    }
    let (x, y) = (ways[&Some('x')], ways[&Some('y')]);
    assert!(x + y == 200 && (30..=70).contains(&x), "{ways:?}");
    router.set_outage("y", "198.18.0.1", Some(Outage::Silent));
    assert_eq!(by(&mut router, &datagram(1_000, 9)), Some('x'));
}

#[test]
fn f19_ipv4_goes_by_a_router_of_ipv6() {
    let tables = "[tables]\nmain = [{ to = \"default\", dev = \"x\", via = \"2001:db8:9::99\" }]";
    let mut router = router(&config("", tables));
    // It is asked for by neighbour discovery, and the packet waits.
    let asked = router.inject("a", datagram(1, 9).link(GUEST_A, NET_A).bytes());
    assert_eq!(asked, Verdict::Hold);
    router.wait(2_000);
    let all = router.neighbors();
    let known = all
        .iter()
        .find(|one| one.address.to_string() == "2001:db8:9::99");
    let station = known.and_then(|one| one.mac).expect("it answered");
    assert_eq!(
        leaves(&mut router, &datagram(2, 9)),
        Some((mac(X), station))
    );
}
