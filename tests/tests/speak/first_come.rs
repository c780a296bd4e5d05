//! In a network without guests an address is the port's that it was heard on first, as long as somebody
//! answers for it there: no port speaks for what lives on another (FCFS SAVI, RFC 6620 §3.2.3; H05, H07).

use std::net::IpAddr;

use etherparse::PacketBuilder;
use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_engine::run::NeighborView;
use tapgate_tests::packet::is_at;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

use super::answers::*;

const OWN4: &str = "10.0.1.5";
const OWN6: &str = "2001:db8:1::5";
const LINK6: &str = "fe80::5";
const REMOTE: Ends = ([192, 0, 2, 9], 53);

/// Ports `g` and `h` of one network, and sources checked so.
fn network(source: &str) -> Router {
    let mut router = Router::settled(&format!(
        r#"
[ports]
up = {{ memory = true }}
g = {{ memory = true, source = "{source}" }}
h = {{ memory = true, source = "{source}" }}
[personalities]
A = {{ port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.10/24"], gateway = "198.51.100.1" }}
[networks]
a = {{ ports = ["g", "h"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "02:00:00:00:01:fe", ra = {{}} }}
[tables]
main = [{{ to = "default", dev = "A" }}]
[nat]
snat = [{{ from = "10.0.1.0/24", to = "198.51.100.10" }}]
"#
    ));
    router.explain_everything();
    router
}

/// The same, and a station on `g` has been heard with each of its addresses.
fn settled(source: &str) -> Router {
    let mut router = network(source);
    for (own, gateway) in [
        (OWN4, "10.0.1.254"),
        (OWN6, "2001:db8:1::fe"),
        (LINK6, "fe80::1"),
    ] {
        let asked = router.inject("g", request(GUEST, own, gateway, Ask::Ordinary));
        assert!(
            matches!(asked, Verdict::Emit(_) | Verdict::Consumed),
            "{own}: {asked:?}"
        );
    }
    router.take_all();
    router
}

/// What the station on `h` says with `own` as its address: each is refused for its reason.
fn claims(own: &str, gateway: &str) -> Vec<(Vec<u8>, DropReason)> {
    let asks = request(OTHER, own, gateway, Ask::Ordinary);
    if own == OWN4 {
        let reply = |to| is_at((MacAddr(OTHER), own), (MacAddr(to), gateway)).bytes();
        return vec![
            (asks, DropReason::SpoofedArp),
            (reply(ROUTER_IN), DropReason::SpoofedArp),
            (reply([0xff; 6]), DropReason::SpoofedArp),
            (data(OTHER), DropReason::SpoofedSource),
        ];
    }
    let mut says = request(OTHER, "fe80::6", own, Ask::Unicast(ROUTER_IN));
    (says[54], says[58]) = (136, 0x60);
    fix_icmp6(&mut says);
    let mut solicits = Vec::new();
    PacketBuilder::ethernet2(OTHER, [0x33, 0x33, 0, 0, 0, 2])
        .ipv6(v6(own), v6("ff02::2"), 255)
        .icmpv6_raw(133, 0, [0; 4])
        .write(&mut solicits, &[[1, 1].as_slice(), &OTHER].concat())
        .unwrap();
    let through = udp6((OTHER, ROUTER_IN), (own, "2001:db8:1::77"), 64, 8);
    vec![
        (asks, DropReason::SpoofedSource),
        (says, DropReason::SpoofedAdvertisement),
        (solicits, DropReason::SpoofedSource),
        (through, DropReason::SpoofedSource),
    ]
}

/// A datagram of the station's to the internet.
fn data(mac: Mac) -> Vec<u8> {
    udp((mac, ROUTER_IN), ([10, 0, 1, 5], 5000), REMOTE)
}

/// The port and MAC that packets to `address` go to.
fn lives(router: &Router, address: &str) -> Option<(PortId, MacAddr)> {
    let address: IpAddr = address.parse().unwrap();
    let neighbors = router.neighbors();
    let is_it = |neighbor: &&NeighborView| neighbor.address == address;
    let neighbor = neighbors.iter().find(is_it)?;
    Some((neighbor.port?, neighbor.mac?))
}

#[test]
fn no_port_speaks_for_what_lives_on_another() {
    let mut router = settled("strict");
    let there = Some((router.port("g"), MacAddr(GUEST)));
    for (own, gateway) in [(OWN4, "10.0.1.254"), (OWN6, "2001:db8:1::fe")] {
        for (bytes, reason) in claims(own, gateway) {
            assert_eq!(router.inject("h", bytes), Verdict::Drop(reason), "{own}");
            assert_eq!(lives(&router, own), there);
        }
        is_asked_once(&mut router);
    }
}

#[test]
fn a_link_local_address_may_be_on_several_ports_and_the_table_keeps_the_first() {
    let mut router = settled("strict");
    let there = Some((router.port("g"), MacAddr(GUEST)));
    for (bytes, _) in claims(LINK6, "fe80::1").drain(..3) {
        assert_eq!(router.inject("h", bytes), Verdict::Consumed);
        assert_eq!(lives(&router, LINK6), there);
    }
    let mut sent = router.sent();
    let (to, answer) = sent.remove(0);
    assert_eq!(
        (to.as_str(), &answer[..6]),
        ("h", &OTHER[..]),
        "it is answered"
    );
}

/// The station on `g` is asked whether it is still there.
fn is_asked_once(router: &mut Router) {
    router.wait(10);
    let sent = router.sent();
    let asked: Vec<_> = sent
        .iter()
        .map(|(port, bytes)| (port.as_str(), &bytes[..6]))
        .collect();
    assert_eq!(asked, [("g", &GUEST[..])]);
}

#[test]
fn a_session_stays_with_the_port_that_its_address_lives_on() {
    let mut router = settled("strict");
    router.answer_everything();
    router.inject("g", data(GUEST));
    router.wait(10);
    assert_eq!(router.inject("g", data(GUEST)), router.emit("up"));
    let taken_over = router.inject("h", data(OTHER));
    assert_eq!(taken_over, Verdict::Drop(DropReason::SpoofedSource));
    assert_eq!(router.inject("g", data(GUEST)), router.emit("up"));
}

#[test]
fn a_flood_of_claims_has_it_asked_once_a_second() {
    let mut router = settled("strict");
    let (mut asked, mut refused) = (0, 0);
    for _ in 0..5_000 {
        let (bytes, reason) = claims(OWN4, "10.0.1.254").remove(0);
        refused += usize::from(router.inject("h", bytes) == Verdict::Drop(reason));
        router.wait(1);
        for (port, bytes) in router.sent() {
            assert_eq!((port.as_str(), &bytes[..6]), ("g", &GUEST[..]));
            asked += 1;
            let answer = is_at((MacAddr(GUEST), OWN4), (MacAddr(ROUTER_IN), "10.0.1.254"));
            router.inject("g", answer.bytes());
        }
    }
    assert_eq!(refused, 5_000);
    assert!((4..=5).contains(&asked), "{asked}");
}

#[test]
fn what_has_gone_from_its_port_is_another_ports_after_three_questions() {
    let mut router = settled("strict");
    let claim = || claims(OWN4, "10.0.1.254").remove(0).0;
    router.inject("h", claim());
    router.wait(2_500);
    assert_eq!(
        router.inject("h", claim()),
        Verdict::Drop(DropReason::SpoofedArp)
    );
    router.wait(1_000);
    assert_eq!(
        router.inject("h", claim()),
        router.emit("h"),
        "it is answered"
    );
    assert_eq!(
        lives(&router, OWN4),
        Some((router.port("h"), MacAddr(OTHER)))
    );
    let (bytes, reason) = (
        request(GUEST, OWN4, "10.0.1.254", Ask::Ordinary),
        DropReason::SpoofedArp,
    );
    assert_eq!(router.inject("g", bytes), Verdict::Drop(reason));
}

#[test]
fn a_port_whose_device_comes_anew_has_nothing_of_its_own() {
    let mut router = settled("strict");
    router.attach("g");
    router.take_all();
    let claim = claims(OWN4, "10.0.1.254").remove(0).0;
    assert_eq!(router.inject("h", claim), router.emit("h"));
}

#[test]
fn where_nothing_is_checked_an_address_may_be_anywhere() {
    let mut router = settled("off");
    let claim = claims(OWN4, "10.0.1.254").remove(0).0;
    assert_eq!(router.inject("h", claim), router.emit("h"));
    assert_eq!(
        lives(&router, OWN4),
        Some((router.port("h"), MacAddr(OTHER)))
    );
}
