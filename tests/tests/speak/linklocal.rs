//! Link-local addresses belong to a link (RFC 4007 §6): every link may have the same, and a network
//! speaks from its own.

use etherparse::PacketBuilder;
use tapgate_engine::config::{Config, File};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

use super::answers::{Ask, OTHER, request};

const OWN: &str = "fe80::5";
const OTHER_IN: Mac = [2, 0, 0, 0, 2, 0xfe];

/// Two networks with one link-local address, which is the provider's router's as well.
const TWICE: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
h = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["2001:db8:9::10/64", "fe80::a/64"], gateway = "fe80::5" }
[networks]
a = { ports = ["g"], addresses = ["fe80::5/64", "2001:db8:1::fe/64"], mac = "02:00:00:00:01:fe", ra = {}, dhcp6 = {} }
b = { ports = ["h"], addresses = ["10.0.2.254/24", "fe80::5/64"], mac = "02:00:00:00:02:fe", ra = {} }
[tables]
main = [{ to = "::/0", dev = "A" }]
"#;

#[test]
fn a_link_local_address_may_be_on_every_link_once() {
    let faults = |text: &str| {
        let file: File = toml::from_str(text).unwrap();
        match Config::try_from(file) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
        }
    };
    assert_eq!(faults(TWICE), [""; 0]);
    let second = "B = { port = \"up\", mac = \"02:00:00:00:00:bb\", addresses = [\"2001:db8:9::11/64\", \"fe80::a/64\"] }\n[networks]";
    let same_link = faults(&TWICE.replace("[networks]", second));
    assert!(
        same_link.join("\n").contains("fe80::a is configured twice"),
        "{same_link:?}"
    );
    let other_vlan = second.replace("port = \"up\"", "port = \"up\", vlan = 7");
    assert_eq!(faults(&TWICE.replace("[networks]", &other_vlan)), [""; 0]);
    let own_gateway = faults(&TWICE.replace("gateway = \"fe80::5\"", "gateway = \"fe80::a\""));
    assert!(
        own_gateway.join("\n").contains("own address"),
        "{own_gateway:?}"
    );
}

#[test]
fn n20_m01_n09_a_network_speaks_from_its_own_link_local_address() {
    let mut router = Router::new(TWICE);
    router.wait(20_000);
    let sent = router.sent();
    for port in ["g", "h"] {
        let icmp = sent
            .iter()
            .filter(|(to, bytes)| to == port && bytes[12..14] == [0x86, 0xdd]);
        let mut kinds = Vec::new();
        for (_, bytes) in icmp {
            let at = if bytes[20] == 0 { 62 } else { 54 };
            kinds.push(bytes[at]);
            // Its other addresses announce themselves.
            if bytes[at] != 136 {
                assert_eq!(bytes[22..38], v6(OWN), "{port}: {bytes:02x?}");
            }
        }
        assert!(kinds.contains(&134) && kinds.contains(&143), "{kinds:?}");
    }
    // Asking for a guest.
    let guest = format!("[guests]\nx = {{ port = \"g\", public = [\"{HOST}\"] }}\n[tables]");
    router.reload(&TWICE.replace("[tables]", &guest));
    router.wait(20_000);
    router.take_all();
    let packet = udp6((GATEWAY, ROUTER_OUT), (FAR, HOST), 64, 10);
    assert_eq!(router.inject("up", packet), Verdict::Hold);
    let sent = router.sent();
    assert_eq!((sent.len(), &sent[0].0[..], sent[0].1[54]), (1, "g", 135));
    assert_eq!(sent[0].1[22..38], v6(OWN));
}

#[test]
fn a_link_local_address_is_answered_for_on_its_own_link() {
    let mut router = Router::settled(TWICE);
    for (port, guest, mac) in [("g", GUEST, ROUTER_IN), ("h", OTHER, OTHER_IN)] {
        router.inject(port, request(guest, "fe80::77", OWN, Ask::Ordinary));
        let sent = router.sent();
        assert_eq!((sent.len(), &sent[0].0[..], sent[0].1[54]), (1, port, 136));
        assert_eq!(sent[0].1[80..86], mac);
        let mut echo = Vec::new();
        PacketBuilder::ethernet2(guest, mac)
            .ipv6(v6("fe80::77"), v6(OWN), 64)
            .icmpv6_echo_request(1, 1)
            .write(&mut echo, b"ping")
            .unwrap();
        assert_eq!(router.inject(port, echo), router.emit(port));
        let (_, reply) = router.last_sent().unwrap();
        let (from, to, kind, ..) = icmp6(&reply);
        assert_eq!(
            (from, to, kind),
            (v6(OWN).into(), v6("fe80::77").into(), 129)
        );
        // fe80::1 is the gateway's only where no other is written.
        let other = request(guest, "fe80::77", "fe80::1", Ask::Ordinary);
        assert_eq!(
            router.inject(port, other),
            Verdict::Drop(DropReason::NdNotForUs)
        );
        router.take_all();
    }
    // On the uplink it is the provider's: nobody's claim of it is a conflict.
    let there = request(GATEWAY, OWN, "fe80::a", Ask::Ordinary);
    assert_eq!(router.inject("up", there), Verdict::Consumed);
    let sent = router.sent();
    assert_eq!(sent[0].1[22..38], v6("fe80::a"));
    // The default route is by it.
    let out = udp6((GUEST, ROUTER_IN), (HOST, FAR), 64, 10);
    assert_eq!(
        router.inject("g", out),
        Verdict::Drop(DropReason::EgressGuard)
    );
}
