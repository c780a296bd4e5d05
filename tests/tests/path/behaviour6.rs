//! How an entry of `nat.snat` maps and filters where inside addresses are IPv6 ones (T01, T03, T05): the
//! same as of IPv4, which `behaviour` is about.

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use std::net::Ipv6Addr;

use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::v6;
use tapgate_tests::router::Router;

type Mac = [u8; 6];
/// An address and a port.
type End<'e> = (&'e str, u16);

const X: Mac = [2, 0, 0, 0, 0, 0xaa];
const LAN: Mac = [2, 0, 0, 0, 1, 0xfe];
const GUEST: Mac = [2, 0, 0, 0, 2, 1];
const GATEWAY: Mac = [2, 0, 0, 0, 3, 1];

const OUTSIDE: &str = "2001:db8:9::10";
const A: &str = "fd00:1::1";
const B: &str = "fd00:1::2";
/// Who is spoken to, and somebody else.
const PEER: &str = "2001:db8:ffff::1";
const STRANGER: &str = "2001:db8:ffff::77";

/// Guests `a` and `b` behind one external address.
fn router(behaviour: &str) -> Router {
    let mut router = Router::settled(&format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
b = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["{OUTSIDE}/64"], gateway = "2001:db8:9::1" }}
[networks]
n = {{ ports = ["a", "b"], addresses = ["fd00:1::fe/64"], mac = "02:00:00:00:01:fe" }}
[guests]
a = {{ port = "a", addresses = ["{A}"] }}
b = {{ port = "b", addresses = ["{B}"] }}
[tables]
main = [{{ to = "::/0", dev = "x" }}]
[nat]
snat = [{{ from = "fd00:1::/64", to = "{OUTSIDE}"{behaviour} }}]
"#
    ));
    router.answer_everything();
    // The gateway and the guests become known.
    for (guest, own, to) in [("a", A, (PEER, 9)), ("b", B, (STRANGER, 9))] {
        let port = leaves(&mut router, guest, (own, 9), to).expect("it leaves");
        router.inject("uplink", datagram((GATEWAY, X), to, (OUTSIDE, port)));
    }
    router.take_all();
    router.explain_everything();
    router
}

fn datagram(macs: (Mac, Mac), from: End, to: End) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(v6(from.0), v6(to.0), 64)
        .udp(from.1, to.1)
        .write(&mut bytes, b"x")
        .expect("to memory");
    bytes
}

/// Source and destination, with their ports, of the datagram that came out of a port.
fn came_out(router: &mut Router, port: &str) -> Option<[(Ipv6Addr, u16); 2]> {
    let ends = |bytes: &[u8]| {
        let packet = PacketHeaders::from_ethernet_slice(bytes).expect("a frame");
        match (packet.net, packet.transport) {
            (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Udp(udp))) => Some([
                (ip.source.into(), udp.source_port),
                (ip.destination.into(), udp.destination_port),
            ]),
            _ => None,
        }
    };
    router.take(port).iter().find_map(|sent| ends(&sent.bytes))
}

fn end((address, port): End) -> (Ipv6Addr, u16) {
    (v6(address).into(), port)
}

/// A guest sends a datagram; the external port that it leaves by, if it does.
fn leaves(router: &mut Router, guest: &str, from: End, to: End) -> Option<u16> {
    router.take_all();
    router.inject(guest, datagram((GUEST, LAN), from, to));
    let [source, destination] = came_out(router, "uplink")?;
    assert_eq!((source.0, destination), (end((OUTSIDE, 0)).0, end(to)));
    Some(source.1)
}

/// Whether a datagram from outside reaches `inside`, which is a guest's.
fn reaches(router: &mut Router, from: End, port: u16, (guest, inside): (&str, End)) -> bool {
    router.take_all();
    let verdict = router.inject("uplink", datagram((GATEWAY, X), from, (OUTSIDE, port)));
    let came = came_out(router, guest);
    assert_eq!(came.is_some(), verdict == router.emit(guest), "{verdict:?}");
    assert!(came.is_none_or(|came| came == [end(from), end(inside)]));
    came.is_some()
}

#[test]
fn t05_who_may_answer_is_as_configured() {
    const OPEN: &str = ", filtering = \"endpoint-independent\"";
    const BY_ADDRESS: &str = ", filtering = \"address-dependent\"";
    for (behaviour, port_of_peer, stranger) in [
        ("", false, false),
        (BY_ADDRESS, true, false),
        (OPEN, true, true),
    ] {
        let mut router = router(behaviour);
        let a = ("a", (A, 4_000));
        // T01: the mapping is the inside port's, wherever it goes.
        for to in [(PEER, 53), ("2001:db8:ffff::2", 80)] {
            assert_eq!(leaves(&mut router, "a", (A, 4_000), to), Some(4_000));
        }
        assert!(reaches(&mut router, (PEER, 53), 4_000, a));
        let other_port = reaches(&mut router, (PEER, 54), 4_000, a);
        assert_eq!(other_port, port_of_peer, "{behaviour}");
        let other = reaches(&mut router, (STRANGER, 53), 4_000, a);
        assert_eq!(other, stranger, "{behaviour}");
        assert!(!reaches(&mut router, (PEER, 53), 4_002, a), "nobody's port");
        // T03: the same inside port of another guest gets another port.
        let port = leaves(&mut router, "b", (B, 4_000), (PEER, 53)).expect("it leaves");
        assert!(port != 4_000 && port.is_multiple_of(2), "{port}");
        assert!(reaches(&mut router, (PEER, 53), port, ("b", (B, 4_000))));
    }
}

#[test]
fn t01_t03_a_shared_port_is_told_apart_by_its_destination() {
    let mut router = router(", mapping = \"endpoint-dependent\", ports = \"4000-4000\"");
    let b = ("b", (B, 5_000));
    assert_eq!(
        leaves(&mut router, "a", (A, 4_000), (PEER, 53)),
        Some(4_000)
    );
    assert_eq!(
        leaves(&mut router, "b", (B, 5_000), (STRANGER, 53)),
        Some(4_000)
    );
    assert!(reaches(&mut router, (PEER, 53), 4_000, ("a", (A, 4_000))));
    assert!(reaches(&mut router, (STRANGER, 53), 4_000, b));
    // The only port is taken towards where both want to go: no two flows have the same answers.
    assert_eq!(leaves(&mut router, "b", (B, 5_000), (PEER, 53)), None);
    assert!(!reaches(&mut router, (PEER, 54), 4_000, b));
    let verdict = router.inject("b", datagram((GUEST, LAN), (B, 5_001), (PEER, 53)));
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
}
