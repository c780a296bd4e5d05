//! What hostile guests say to the router's face: that its addresses are theirs, and questions
//! without end.

use etherparse::PacketBuilder;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::is_at;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

use super::answers::{Ask, OTHER, request};

const GATEWAY4: &str = "10.0.1.254";
const GATEWAY6: [&str; 2] = ["fe80::1", GATE];

/// A network with two guests' ports, its addresses of both families, and all services.
fn config(source: &str, guests: &str) -> String {
    format!(
        r#"
[ports]
up = {{ memory = true }}
g = {{ memory = true, source = "{source}" }}
h = {{ memory = true }}
[personalities]
A = {{ port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.10/24", "2001:db8:9::10/64"], gateway = ["198.51.100.1", "2001:db8:9::1"] }}
[networks]
a = {{ ports = ["g", "h"], addresses = ["10.0.1.254/24", "{GATE}/64"], mac = "02:00:00:00:01:fe", ra = {{}}, dhcp6 = {{}} }}
{guests}
[tables]
main = [{{ to = "default", dev = "A" }}, {{ to = "::/0", dev = "A" }}]
"#
    )
}

fn configs() -> [String; 3] {
    let guests = r#"[guests]
v = { port = "g", mac = "02:00:00:00:01:01", addresses = ["10.0.1.5", "2001:db8:1::1"] }
w = { port = "h", mac = "02:00:00:00:01:02", addresses = ["10.0.1.6", "2001:db8:1::2"] }"#;
    [
        config("strict", guests),
        config("strict", ""),
        config("off", ""),
    ]
}

/// Every way in which a guest can say that it has, or wants, an address of the gateway.
fn objections() -> Vec<Vec<u8>> {
    let all = ("ff02::1", [0x33, 0x33, 0, 0, 0, 1]);
    let mut list = Vec::new();
    for target in GATEWAY6 {
        for (flags, source) in [(0x20, target), (0xa0, target), (0x20, "fe80::5")] {
            let ends = (source, all.0);
            list.push(nd((GUEST, all.1), ends, (136, flags), target, Some(2)));
        }
        list.push(request(GUEST, target, target, Ask::Probe));
        list.push(request(GUEST, target, "2001:db8:1::77", Ask::Ordinary));
    }
    list.push(router_solicitation(GUEST, "fe80::1"));
    for ask in [Ask::Ordinary, Ask::Probe] {
        list.push(request(GUEST, GATEWAY4, GATEWAY4, ask));
    }
    let reply = |to| is_at((MacAddr(GUEST), GATEWAY4), (MacAddr(to), GATEWAY4)).bytes();
    list.extend([reply(ROUTER_IN), reply([0xff; 6])]);
    list
}

/// Whether a guest asks for an address without having one.
fn is_probe(objection: &[u8]) -> bool {
    match objection[12..14] {
        [8, 6] => objection[28..32] == [0; 4],
        _ => objection[22..38] == [0; 16],
    }
}

/// All that guests need of their gateway is there, on the objector's port and on the other.
fn is_at_work(router: &mut Router, when: &str) {
    for (port, mac, own4, own6) in [
        ("g", GUEST, "10.0.1.5", "2001:db8:1::1"),
        ("h", OTHER, "10.0.1.6", "2001:db8:1::2"),
    ] {
        // Its answers to that port were many.
        router.wait(1_000);
        router.take_all();
        for target in GATEWAY6 {
            router.inject(port, request(mac, own6, target, Ask::Ordinary));
            let sent = router.sent();
            let answer = sent
                .iter()
                .find(|(to, bytes)| to == port && bytes[54] == 136 && bytes[62..78] == v6(target));
            let (_, answer) = answer.unwrap_or_else(|| panic!("{when}, {port}: {target}"));
            assert_eq!(answer[80..86], ROUTER_IN, "{when}, {port}: {target}");
        }
        let verdict = router.inject(port, request(mac, own4, GATEWAY4, Ask::Ordinary));
        assert_eq!(verdict, router.emit(port), "{when}, {port}");
        assert_eq!(router.sent()[0].1[22..28], ROUTER_IN);
        assert_eq!(
            router.inject(port, information_request(mac)),
            Verdict::Consumed,
            "{when}, {port}"
        );
        assert_eq!(router.sent().len(), 1, "{when}, {port}: a DHCPv6 reply");
        let ask = router_solicitation(mac, "fe80::5");
        assert_eq!(router.inject(port, ask), Verdict::Consumed);
        router.wait(600);
        let advertised = |(to, bytes): &(String, Vec<u8>)| {
            to == port && bytes[54] == 134 && bytes[22..38] == v6("fe80::1")
        };
        assert!(router.sent().iter().any(advertised), "{when}, {port}: RA");
    }
}

fn router_solicitation(mac: Mac, source: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0, 0, 0, 2])
        .ipv6(v6(source), v6("ff02::2"), 255)
        .icmpv6_raw(133, 0, [0; 4])
        .write(&mut frame, &[&[1, 1][..], &mac].concat())
        .unwrap();
    frame
}

/// A DHCPv6 information request (RFC 8415 §18.2.6).
fn information_request(mac: Mac) -> Vec<u8> {
    let message = [&[11, 0, 0, 1, 0, 1, 0, 10, 0, 3, 0, 1][..], &mac].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0, 1, 0, 2])
        .ipv6(v6("fe80::5"), v6("ff02::1:2"), 1)
        .udp(546, 547)
        .write(&mut frame, &message)
        .unwrap();
    frame
}

#[test]
fn h06_no_guest_takes_the_gateways_address_away() {
    for text in configs() {
        let mut router = Router::new(&text);
        let objections = objections();
        let mut expected = 0;
        for (when, wait) in [
            ("at the start", 0),
            ("while it would be tentative", 400),
            ("later", 30_000),
            ("after apply", 0),
            ("long after apply", 61_000),
        ] {
            if when == "after apply" {
                // Another address for the gateway: everything of it is looked at anew.
                router.reload(&text.replace("10.0.1.254/24\",", "10.0.1.254/23\","));
            }
            router.wait(wait);
            for objection in &objections {
                let verdict = router.inject("g", objection);
                // A probe is answered, as anybody's is.
                let refused = verdict == Verdict::Drop(DropReason::GatewayClaimed);
                assert_eq!(refused, !is_probe(objection), "{when}: {objection:02x?}");
                expected += 1;
            }
            is_at_work(&mut router, when);
        }
        let notices = router.notices();
        assert!(notices.iter().all(|notice| !notice.given_up));
        let counted = (router.port("g"), DropReason::GatewayClaimed, expected);
        assert_eq!(router.violations(), [counted], "named by port");
    }
}

#[test]
fn h06_an_objection_is_answered_where_it_was_made_and_seldom() {
    for text in configs() {
        let mut router = Router::settled(&text);
        let mut sent = 0;
        for _ in 0..50 {
            for objection in objections() {
                router.inject("g", &objection);
                let out = router.sent();
                assert!(out.iter().all(|(port, _)| port == "g"));
                sent += if is_probe(&objection) { 0 } else { out.len() };
            }
        }
        assert_eq!(sent, 3, "one defence for each address in ten seconds");
    }
}

/// A query in a network with many ports: the version-2 one is 28 bytes long.
fn query(mac: Mac, length: usize, delay: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let [high, low] = delay.to_be_bytes();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(v6("fe80::5"), v6("ff02::1"), 1)
        .icmpv6_raw(130, 0, [high, low, 0, 0])
        .write(&mut frame, &vec![0; length - 8])
        .unwrap();
    frame
}

#[test]
fn h08_a_guests_query_is_answered_on_its_port_once_a_second() {
    let ports: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let listed: Vec<String> = ports
        .iter()
        .map(|port| format!("{port} = {{ memory = true }}"))
        .collect();
    let text = format!(
        "[ports]\n{}\n[networks]\na = {{ ports = {ports:?}, addresses = [\"{GATE}/64\", \"2001:db8:2::9/64\"] }}\n",
        listed.join("\n")
    );
    for (length, kind) in [(28, 143), (24, 131)] {
        let mut router = Router::settled(&text);
        let mut reports = Vec::new();
        for ms in 0..6_000 {
            // The longest delay a query can ask for is no way to be left alone either.
            for delay in [0xffff, 1_000] {
                let verdict = router.inject("p7", query(GUEST, length, delay));
                assert!(matches!(
                    verdict,
                    Verdict::Consumed | Verdict::Drop(DropReason::AnswerLimited)
                ));
            }
            router.wait(1);
            for (port, bytes) in router.sent() {
                assert_eq!((&port[..], bytes[62]), ("p7", kind), "{bytes:02x?}");
                reports.push((ms, bytes));
            }
        }
        let each: Vec<i32> = reports.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert!(each.iter().all(|gap| *gap >= 1_000), "{each:?}");
        let groups = ["ff02::1:ff00:1", "ff02::1:ff00:9", "ff02::1:ff00:fe"];
        for group in groups {
            let told = |(_, bytes): &(i32, Vec<u8>)| bytes.windows(16).any(|at| at == v6(group));
            assert!(reports.iter().any(told), "{length}: {group}");
        }
        assert!(router.dropped(DropReason::AnswerLimited) > 11_000);
        // What one guest says of the version in use is not so for the others.
        router.wait(2_000);
        router.take_all();
        router.inject("p8", query(OTHER, 28, 1_000));
        router.wait(1_000);
        let sent = router.sent();
        assert_eq!((sent.len(), &sent[0].0[..], sent[0].1[62]), (1, "p8", 143));
    }
}

#[test]
fn a06_h05_who_asks_on_the_uplink_from_inside_is_not_answered() {
    let [with_guests, without, _] = configs();
    let inside4 = ["10.0.1.5", "10.0.1.77", GATEWAY4];
    let inside6 = ["2001:db8:1::1", "2001:db8:1::77", GATE];
    for text in [with_guests, without] {
        let mut router = Router::settled(&text);
        let asked = [("198.51.100.10", inside4), ("2001:db8:9::10", inside6)];
        let pairs = asked
            .iter()
            .flat_map(|(own, from)| from.map(|from| (*own, from)));
        for (own, from) in pairs {
            for ask in [Ask::Ordinary, Ask::Unicast(ROUTER_OUT)] {
                let verdict = router.inject("up", request(GATEWAY, from, own, ask));
                assert_eq!(verdict, Verdict::Drop(DropReason::InsideSource), "{from}");
                assert!(router.is_silent());
            }
        }
        // Providers' gateways ask from other subnets.
        let foreign = request(GATEWAY, "192.0.2.99", "198.51.100.10", Ask::Ordinary);
        assert_eq!(router.inject("up", foreign), router.emit("up"));
    }
}
