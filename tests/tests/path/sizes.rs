//! Sizes that a route allows: its `mtu`, beside that of the interface, and its `advmss`.

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Packet, mac, ping, tcp, udp};
use tapgate_tests::pair;
use tapgate_tests::recipe::{GUEST_A, NET_A, REMOTE};
use tapgate_tests::router::{Router, mac_of};

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const X: &str = "02:00:00:00:00:aa";
/// A host that the ordinary route leads to.
const WIDE: &str = "192.0.2.99";

/// All that is for `REMOTE` goes by a route that says `sizes`; the rest by an ordinary one, by the same router.
fn router(sizes: &str, personality: &str) -> Router {
    let mut router = Router::settled(&text(sizes, personality));
    router.answer_everything();
    router.explain_everything();
    router
}

fn text(sizes: &str, personality: &str) -> String {
    format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24", "2001:db8:9::10/64"], gateway = ["203.0.113.1", "2001:db8:9::1"]{personality} }}
[networks]
lan = {{ ports = ["a"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "{NET_A}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["10.0.1.1"], public = ["2001:db8:1::1"] }}
[nat]
snat = [{{ from = "10.0.1.0/24", dev = "x" }}]
[tables]
main = [
  {{ to = "default", dev = "x" }}, {{ to = "::/0", dev = "x" }},
  {{ to = "{REMOTE}/32", dev = "x"{sizes} }}, {{ to = "2001:db8:f::/48", dev = "x"{sizes} }},
]
"#
    )
}

/// The packets of this ethertype that left by a port, without their Ethernet header.
fn taken(router: &mut Router, port: &str, ethertype: [u8; 2]) -> Vec<Vec<u8>> {
    let all = router.take(port).into_iter().map(|sent| sent.bytes);
    let ip = all.filter(|bytes| bytes[12..14] == ethertype);
    ip.map(|bytes| bytes[14..].to_vec()).collect()
}

/// What leaves by the uplink when the guest sends this.
fn sent(router: &mut Router, packet: &Packet) -> Vec<Vec<u8>> {
    router.take_all();
    router.inject("a", packet.clone().link(GUEST_A, NET_A).bytes());
    taken(router, "uplink", IPV4)
}

/// A datagram of so many bytes with its header.
fn datagram(to: &str, length: usize) -> Packet {
    udp("10.0.1.1:5000", &format!("{to}:9"), &vec![7; length - 28])
}

/// What the router told the guest: an error's type, code and the MTU in it.
fn told(router: &mut Router, packet: &Packet) -> Option<(u8, u8, u16)> {
    router.take_all();
    router.inject("a", packet.clone().link(GUEST_A, NET_A).bytes());
    let all = taken(router, "a", IPV4);
    let error = all.iter().find(|ip| ip[9] == 1)?;
    Some((
        error[20],
        error[21],
        u16::from_be_bytes([error[26], error[27]]),
    ))
}

#[test]
fn f07_a_route_has_an_mtu_of_its_own_for_first_packets_and_for_those_of_sessions() {
    let mut router = router(", mtu = 1400", "");
    let too_large = datagram(REMOTE, 1_401).df();
    assert_eq!(
        told(&mut router, &too_large),
        Some((3, 4, 1_400)),
        "a first packet"
    );
    assert_eq!(sent(&mut router, &datagram(REMOTE, 1_400).df()).len(), 1);
    assert_eq!(router.sessions().len(), 1);
    router.wait(1_000);
    assert_eq!(
        told(&mut router, &too_large),
        Some((3, 4, 1_400)),
        "of a session"
    );
    assert_eq!(sent(&mut router, &datagram(REMOTE, 1_400).df()).len(), 1);
    assert_eq!(router.dropped(DropReason::FragmentationNeeded), 2);
    // By the same uplink, another route has all of it.
    assert_eq!(sent(&mut router, &datagram(WIDE, 1_500).df()).len(), 1);
    assert_eq!(sent(&mut router, &datagram(WIDE, 1_500).df()).len(), 1);
    assert_eq!(
        told(&mut router, &datagram(WIDE, 1_501).df()),
        Some((3, 4, 1_500))
    );
}

#[test]
fn f08_what_may_be_cut_is_cut_to_the_routes_mtu() {
    let mut router = router(", mtu = 1400", "");
    for what in ["a first packet", "of a session"] {
        let pieces = sent(&mut router, &datagram(REMOTE, 1_500));
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1_396, 124], "{what}");
    }
    assert_eq!(sent(&mut router, &datagram(WIDE, 1_500)).len(), 1);
    // A ping of the router itself is answered by the same route.
    let asked = ping(REMOTE, "203.0.113.10", 7, 1, &[1; 1_450]);
    let gateway = mac_of("203.0.113.1".parse().expect("an address"));
    router.take_all();
    router.inject("uplink", asked.link(gateway, mac(X)).bytes());
    let all = taken(&mut router, "uplink", IPV4);
    let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1_396, 102]);
}

#[test]
fn s02_a_route_of_ipv6_has_an_mtu_of_its_own() {
    let mut router = router(", mtu = 1400", "");
    let (own, far) = ("2001:db8:1::1", "2001:db8:f::1");
    let mut send = |length: usize| {
        router.take_all();
        let ends = (own, far);
        let macs = (GUEST_A.0, NET_A.0);
        let verdict = router.inject("a", pair::udp6(macs, ends, 64, length - 48));
        (verdict, taken(&mut router, "a", IPV6))
    };
    // The first waits for the gateway's MAC, which it has asked for.
    send(1_400);
    for what in ["of a session", "again"] {
        let (verdict, _) = send(1_400);
        assert!(matches!(verdict, Verdict::Emit(_)), "{what}: {verdict:?}");
        let (verdict, told) = send(1_401);
        let reason = DropReason::FragmentationNeeded;
        assert_eq!(verdict, Verdict::Drop(reason), "{what}");
        let error = told.iter().find(|ip| ip[6] == 58).expect("an error");
        assert_eq!(
            (error[40], &error[44..48]),
            (2, &1_400_u32.to_be_bytes()[..])
        );
    }
}

#[test]
fn a_session_learns_of_its_routes_mtu_by_a_reload() {
    let mut router = router("", "");
    assert_eq!(sent(&mut router, &datagram(REMOTE, 1_500).df()).len(), 1);
    router.reload(&text(", mtu = 1400", ""));
    let too_large = datagram(REMOTE, 1_500).df();
    assert_eq!(told(&mut router, &too_large), Some((3, 4, 1_400)));
    router.reload(&text("", ""));
    assert_eq!(sent(&mut router, &too_large).len(), 1);
    assert_eq!(router.sessions().len(), 1, "it is one session all the time");
    // More than the interface has is no more than that.
    router.reload(&text(", mtu = 9000", ""));
    assert_eq!(
        told(&mut router, &datagram(REMOTE, 1_501).df()),
        Some((3, 4, 1_500))
    );
}

/// What a SYN of the guest's announces when it leaves, and the answer to it when it arrives.
fn announced(router: &mut Router, to: &str) -> (u16, u16) {
    let out = tcp("10.0.1.1:4000", &format!("{to}:80"), "S", b"").announcing(1_460);
    let left = sent(router, &out);
    let [left] = &left[..] else {
        panic!("{left:?}")
    };
    let port = u16::from_be_bytes([left[20], left[21]]);
    let from = format!("{to}:80");
    let answer = tcp(&from, &format!("203.0.113.10:{port}"), "S.", b"").announcing(1_460);
    let gateway = mac_of("203.0.113.1".parse().expect("an address"));
    router.take_all();
    router.inject("uplink", answer.link(gateway, mac(X)).bytes());
    let came = taken(router, "a", IPV4);
    let [came] = &came[..] else {
        panic!("{came:?}")
    };
    let size = |ip: &[u8]| u16::from_be_bytes([ip[42], ip[43]]);
    (size(left), size(came))
}

#[test]
fn connections_announce_what_fits_their_route_both_ways() {
    let mut router = router(", mtu = 1400", ", clamp_mss = true");
    assert_eq!(announced(&mut router, REMOTE), (1_360, 1_360));
    assert_eq!(announced(&mut router, WIDE), (1_460, 1_460));
}

#[test]
fn a_route_says_which_segments_are_announced_by_it() {
    let mut router = router(", advmss = 1300", "");
    assert_eq!(announced(&mut router, REMOTE), (1_300, 1_460));
    assert_eq!(announced(&mut router, WIDE), (1_460, 1_460));
}
