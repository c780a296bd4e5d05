//! What the router says it would send itself is what it does send.

use tapgate_engine::drops::DropReason;
use tapgate_engine::explain::Packet;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{ping, udp, untag};
use tapgate_tests::router::Router;

/// Two personalities, the second of which answers by a table of its own; a blackhole, and two networks.
const CONFIG: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
h = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.10/24"], gateway = "198.51.100.1" }
B = { port = "up", vlan = 20, mac = "02:00:00:00:00:bb", addresses = ["203.0.113.20/24"], gateway = "203.0.113.1" }
[networks]
a = { ports = ["g"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:01:fe" }
b = { ports = ["h"], addresses = ["10.0.2.254/24"], mac = "02:00:00:00:02:fe" }
[guests]
one = { port = "g", mac = "02:00:00:00:01:01", addresses = ["10.0.1.1"] }
[tables]
main = [{ to = "default", dev = "A" }, { to = "192.0.2.128/25", type = "blackhole" }]
B = [{ to = "default", dev = "B" }]
[routing]
rules = [{ priority = 100, lookup = "main", suppress_prefixlength = 0 }, { priority = 101, from = "203.0.113.20", lookup = "B" }]
"#;
const A: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];
const GUEST: [u8; 6] = [2, 0, 0, 0, 1, 1];
const NETWORK: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];

fn own<'p>(port: &'p str, from: &str, to: &str) -> Packet<'p> {
    Packet {
        port,
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        tos: 0,
        protocol: 1,
        source_port: 7,
        destination_port: 0,
    }
}

fn router() -> Router {
    let mut router = Router::settled(CONFIG);
    router.answer_everything();
    router
}

/// The router sent one packet, as it says of `packet`, and takes these decisions.
#[track_caller]
fn assert_sent(router: &mut Router, packet: &Packet<'_>, decisions: &[(&str, &str)]) {
    let (lines, verdict) = router.explain_own(packet).unwrap();
    let (port, bytes) = router.last_sent().expect("nothing was sent");
    assert_eq!(verdict, router.emit(&port), "{lines:#?}");
    let (bytes, _) = untag(&bytes);
    let addresses = [packet.from, packet.to].map(|address| match address {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(_) => unreachable!(),
    });
    assert_eq!(bytes[26..34], addresses.concat());
    let mac = |at: usize| {
        let mac = bytes[at..at + 6].iter().map(|byte| format!("{byte:02x}"));
        mac.collect::<Vec<_>>().join(":")
    };
    let out = &lines.last().unwrap().detail;
    assert!(
        out.ends_with(&format!("from {} to {}", mac(6), mac(0))),
        "{out}"
    );
    for (stage, detail) in decisions {
        let said = lines
            .iter()
            .any(|line| line.stage == *stage && line.detail.contains(detail));
        assert!(said, "no {stage}: {detail} in {lines:#?}");
    }
}

#[test]
fn an_echo_reply_leaves_as_it_is_explained() {
    let mut router = router();
    // By the first personality; by the second, whose table the source selects.
    for (mac, own_address, vlan, decisions) in [
        (
            A,
            "198.51.100.10",
            None,
            [("rule", "32766"), ("route", "via 198.51.100.1 dev A")],
        ),
        (
            B,
            "203.0.113.20",
            Some(20),
            [
                ("rule", "101: from 203.0.113.20/32 lookup B"),
                ("route", "dev B in table B"),
            ],
        ),
    ] {
        let request = ping("192.0.2.9", own_address, 7, 1, b"hello");
        let request = request.link(
            tapgate_tests::packet::mac("02:99:00:00:00:01"),
            tapgate_engine::addr::MacAddr(mac),
        );
        let request = match vlan {
            Some(vlan) => request.vlan(vlan),
            None => request,
        };
        router.inject("up", request.bytes());
        for port in ["", "up"] {
            let packet = own(port, own_address, "192.0.2.9");
            if port.is_empty() {
                let (lines, verdict) = router.explain_own(&packet).unwrap();
                assert_eq!(verdict, router.emit("up"), "{lines:#?}");
            } else {
                assert_sent(&mut router, &packet, &decisions);
            }
        }
    }
}

#[test]
fn an_error_leaves_as_it_is_explained() {
    let mut router = router();
    let late = udp("10.0.1.1:1000", "192.0.2.9:53", b"late").ttl(1);
    let late = late.link(
        tapgate_engine::addr::MacAddr(GUEST),
        tapgate_engine::addr::MacAddr(NETWORK),
    );
    router.inject("g", late.bytes());
    let packet = own("g", "10.0.1.254", "10.0.1.1");
    assert_sent(
        &mut router,
        &packet,
        &[
            ("route", "guest one's, dev a"),
            ("neighbor", "guest one is"),
        ],
    );
}

#[test]
fn what_the_router_does_not_send_is_said() {
    let mut router = router();
    // The provider's MAC is known from here on.
    let request = ping("192.0.2.9", "198.51.100.10", 7, 1, b"hello");
    let sender = tapgate_tests::packet::mac("02:99:00:00:00:01");
    let request = request.link(sender, tapgate_engine::addr::MacAddr(A));
    router.inject("up", request.bytes());
    let drop = |packet: &Packet<'_>| {
        let (lines, verdict) = router.explain_own(packet).unwrap();
        assert_eq!(lines.last().unwrap().stage, "drop");
        verdict
    };
    // A guest is answered only where it is: with a forged source it would have us write to others.
    assert_eq!(
        drop(&own("g", "10.0.1.254", "10.0.2.9")),
        Verdict::Drop(DropReason::WrongInterface)
    );
    assert_eq!(
        drop(&own("", "198.51.100.10", "192.0.2.200")),
        Verdict::Drop(DropReason::Blackhole)
    );
    // Nobody speaks from an inside address to the provider.
    assert_eq!(
        drop(&own("", "10.0.1.254", "192.0.2.9")),
        Verdict::Drop(DropReason::EgressGuard)
    );
    let foreign = router
        .explain_own(&own("", "10.0.1.1", "192.0.2.9"))
        .unwrap_err();
    assert!(
        foreign.contains("does not speak from 10.0.1.1"),
        "{foreign}"
    );
    assert!(
        foreign.contains("198.51.100.10, 203.0.113.20, 10.0.1.254"),
        "{foreign}"
    );
    let nowhere = router
        .explain_own(&own("x", "10.0.1.254", "192.0.2.9"))
        .unwrap_err();
    assert!(nowhere.contains("no port \"x\""), "{nowhere}");
    // Nothing of it has happened.
    assert_eq!(router.sessions().len(), 0);
}

#[test]
fn where_no_source_is_given_it_is_the_one_that_the_route_says() {
    let config = CONFIG.replace(
        r#"{ to = "default", dev = "A" }"#,
        r#"{ to = "default", dev = "A", src = "198.51.100.11" }, { to = "192.0.2.0/26", dev = "B" }"#,
    );
    let config = config.replace(
        r#"["198.51.100.10/24"]"#,
        r#"["198.51.100.10/24", "198.51.100.11/24"]"#,
    );
    let mut router = Router::settled(&config);
    router.answer_everything();
    for (to, source) in [
        ("8.8.8.8", "198.51.100.11"),
        ("198.51.100.77", "198.51.100.10"),
        ("192.0.2.9", "203.0.113.20"),
        ("10.0.2.9", "10.0.2.254"),
    ] {
        let (lines, verdict) = router.explain_own(&own("", "0.0.0.0", to)).unwrap();
        let said = lines.iter().find(|line| line.stage == "source");
        assert_eq!(said.map(|line| line.detail.as_str()), Some(source), "{to}");
        assert!(!matches!(verdict, Verdict::Drop(_)), "{to}: {verdict:?}");
    }
    // As an answer it is from where it was asked.
    let asked = own("g", "0.0.0.0", "10.0.1.1");
    assert!(router.explain_own(&asked).is_ok());
    for (to, why) in [
        ("10.0.1.254", "the router's own"),
        ("224.0.0.251", "a group's"),
        ("255.255.255.255", "a group's"),
        ("2001:db8::9", "different families"),
    ] {
        let fault = router.explain_own(&own("", "0.0.0.0", to)).unwrap_err();
        assert!(fault.contains(why), "{to}: {fault}");
    }
}

#[test]
fn rules_for_a_type_of_service_can_be_asked_about() {
    let rules = r#"rules = [{ priority = 50, dscp = 46, action = "prohibit" }, "#;
    let router = Router::settled(&CONFIG.replace("rules = [", rules));
    let asked = |tos| Packet {
        tos,
        ..own("", "198.51.100.10", "8.8.8.8")
    };
    let (lines, verdict) = router.explain_own(&asked(46 << 2 | 1)).unwrap();
    assert_eq!(verdict, Verdict::Drop(DropReason::Prohibited));
    assert_eq!(lines[0].detail, "50: from all dscp 46 prohibit");
    let (_, verdict) = router.explain_own(&asked(45 << 2)).unwrap();
    assert_eq!(verdict, Verdict::Hold);
}
