//! By which way answers leave: those to what came to a personality by it, whatever the rules say of others
//! (T21). For rules they are bound to it (`oif`).

use tapgate_engine::addr::MacAddr;
use tapgate_tests::packet::{Packet, mac, ping, tcp};
use tapgate_tests::recipe::{GUEST_A, NET_A, REMOTE};
use tapgate_tests::router::{Router, Sent, mac_of};

const X: &str = "02:00:00:00:00:aa";
const Y: &str = "02:00:00:00:00:bb";
const OWN: &str = "198.18.0.10";

/// Personalities `x` and `y` on one NIC, and a guest whose port 80 is reached at `y`'s address.
fn router(rules: &str, tables: &str) -> Router {
    let mut router = Router::settled(&format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24"], gateway = "203.0.113.1" }}
y = {{ port = "uplink", mac = "{Y}", addresses = ["{OWN}/24"], gateway = "198.18.0.1" }}
[networks]
lan = {{ ports = ["a"], addresses = ["10.0.1.254/24"], mac = "{NET_A}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["10.0.1.1"] }}
[nat]
forward = [{{ proto = "tcp", address = "{OWN}", port = 80, to = "10.0.1.1:80" }}]
[routing]
rules = [{rules}]
[tables]
{tables}
"#
    ));
    router.answer_everything();
    router.explain_everything();
    router
}

/// Where the answer to what comes to `y` goes: the MAC that it wears, the one that it goes to, its source, and
/// the first bytes of what it carries.
fn answered(router: &mut Router, asked: Packet) -> Option<(MacAddr, MacAddr, Vec<u8>, Vec<u8>)> {
    router.take_all();
    let gateway = mac_of("198.18.0.1".parse().expect("an address"));
    router.inject("uplink", asked.link(gateway, mac(Y)).bytes());
    router.wait(2_000);
    let all = router.take_all();
    let ip = |sent: &&Sent| sent.bytes[12..14] == [8, 0];
    let ip: Vec<&Sent> = all.values().flatten().filter(ip).collect();
    assert!(ip.len() <= 1, "{ip:?}");
    let sent = ip.first()?;
    let mac = |at: usize| MacAddr(sent.bytes[at..at + 6].try_into().expect("six bytes"));
    Some((
        mac(6),
        mac(0),
        sent.bytes[26..30].to_vec(),
        sent.bytes[34..36].to_vec(),
    ))
}

fn asked() -> Packet {
    ping(REMOTE, OWN, 7, 1, b"who")
}

fn by_y(gateway: &str, said: [u8; 2]) -> Option<(MacAddr, MacAddr, Vec<u8>, Vec<u8>)> {
    let gateway = mac_of(gateway.parse().expect("an address"));
    Some((mac(Y), gateway, vec![198, 18, 0, 10], said.to_vec()))
}

#[test]
fn t21_what_comes_to_a_personality_is_answered_by_it_wherever_the_rules_lead() {
    let elsewhere = [
        r#"main = [{ to = "default", dev = "x" }]"#,
        "main = []",
        r#"main = [{ to = "default", dev = "lan", via = "10.0.1.1" }]"#,
        r#"main = [{ to = "default", type = "throw" }]"#,
    ];
    for tables in elsewhere {
        let mut router = router("", tables);
        let pong = answered(&mut router, asked());
        assert_eq!(pong, by_y("198.18.0.1", [0, 0]), "{tables}");
        // As is who sent what goes no further, or his path's MTU would stay unknown (F09).
        let syn = tcp(&format!("{REMOTE}:4000"), &format!("{OWN}:80"), "S", b"").ttl(1);
        let told = answered(&mut router, syn);
        assert_eq!(told, by_y("198.18.0.1", [11, 0]), "{tables}");
    }
}

/// What is refused is refused to the router itself, as in Linux: nobody has it write to addresses that lead
/// nowhere by pretending to have them.
#[test]
fn f06_answers_go_nowhere_that_is_refused() {
    let refusals = ["unreachable", "prohibit", "blackhole"];
    for refusal in refusals {
        let route = format!(r#"main = [{{ to = "{REMOTE}/32", type = "{refusal}" }}]"#);
        let rule = format!(r#"{{ priority = 9, to = "{REMOTE}", action = "{refusal}" }}"#);
        for (rules, tables) in [("", &route), (&rule, &"main = []".to_owned())] {
            let mut router = router(rules, tables);
            assert_eq!(answered(&mut router, asked()), None, "{rules} {tables}");
        }
    }
}

/// A ping's answer has the type of service that it answers, and is looked up with that, as in Linux.
#[test]
fn f13_rules_know_answers_by_their_type_of_service() {
    let tables = r#"main = [{ to = "default", dev = "y" }]
ty = [{ to = "default", dev = "y", via = "198.18.0.77" }]"#;
    let mut router = router(r#"{ priority = 9, dscp = 46, lookup = "ty" }"#, tables);
    let marked = answered(&mut router, asked().tos(46 << 2));
    assert_eq!(marked, by_y("198.18.0.77", [0, 0]));
    assert_eq!(answered(&mut router, asked()), by_y("198.18.0.1", [0, 0]));
}

#[test]
fn rules_know_answers_of_a_personality_by_oif() {
    let tables = r#"main = [{ to = "default", dev = "x" }]
ty = [{ to = "default", dev = "y", via = "198.18.0.77" }]"#;
    let rule = |rest: &str| format!("{{ priority = 9, {rest} }}");
    for (rest, answer) in [
        (r#"oif = "y", lookup = "ty""#, by_y("198.18.0.77", [0, 0])),
        (r#"oif = "x", lookup = "ty""#, by_y("198.18.0.1", [0, 0])),
        (r#"oif = "y", action = "prohibit""#, None),
        (r#"oif = "y", action = "blackhole""#, None),
        (
            r#"oif = "x", action = "prohibit""#,
            by_y("198.18.0.1", [0, 0]),
        ),
        (
            r#"oif = "y", not = true, action = "prohibit""#,
            by_y("198.18.0.1", [0, 0]),
        ),
    ] {
        let mut router = router(&rule(rest), tables);
        assert_eq!(answered(&mut router, asked()), answer, "{rest}");
    }
}
