//! Connections announce no larger segments than fit (`clamp_mss`).

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use tapgate_engine::frame::Checksum;
use tapgate_tests::packet::unfinished;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

fn router(clamp: bool) -> Router {
    let mut router = Router::settled(&format!(
        r#"
[ports]
up = {{ memory = true, mtu = 1492 }}
g = {{ memory = true }}
[personalities]
A = {{ port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.7/24", "2001:db8:9::10/64"], gateway = ["198.51.100.1", "2001:db8:9::1"], clamp_mss = {clamp} }}
[networks]
a = {{ ports = ["g"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "02:00:00:00:01:fe" }}
[guests]
g = {{ port = "g", mac = "02:00:00:00:01:01", addresses = ["10.0.1.1"], public = ["2001:db8:1::1"] }}
[tables]
main = [{{ to = "default", dev = "A" }}, {{ to = "::/0", dev = "A" }}]
[nat]
snat = [{{ from = "10.0.1.0/24", dev = "A" }}]
"#
    ));
    router.answer_everything();
    for first in [
        udp((GUEST, ROUTER_IN), ([10, 0, 1, 1], 9), ([192, 0, 2, 1], 9)),
        udp6((GUEST, ROUTER_IN), (HOST, FAR), 64, 8),
    ] {
        router.inject("g", first);
    }
    router.take_all();
    router
}

const GUEST4: ([u8; 4], u16) = ([10, 0, 1, 1], 5_000);
const OUTSIDE4: ([u8; 4], u16) = ([198, 51, 100, 7], 5_000);
const FAR4: ([u8; 4], u16) = ([192, 0, 2, 1], 80);

fn syn4(
    macs: (Mac, Mac),
    from: Ends,
    to: Ends,
    ack: bool,
    options: &[TcpOptionElement],
) -> Vec<u8> {
    let mut builder = PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(from.0, to.0, 64)
        .tcp(from.1, to.1, 7, 65_000)
        .syn()
        .options(options)
        .unwrap();
    if ack {
        builder = builder.ack(8);
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"").unwrap();
    bytes
}

/// What the segment that left announces. Its checksum is right.
fn announced(router: &mut Router) -> Option<u16> {
    let (_, bytes) = router.last_sent().unwrap();
    let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
        panic!("{sliced:?}")
    };
    let right = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header();
            tcp.calc_checksum_ipv4(ip.source(), ip.destination())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header();
            tcp.calc_checksum_ipv6(ip.source(), ip.destination())
        }
        _ => panic!("{sliced:?}"),
    };
    assert_eq!(tcp.checksum(), right.unwrap());
    tcp.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
        _ => None,
    })
}

#[test]
fn a_connection_announces_no_larger_segments_than_fit_in_both_directions() {
    use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted};
    let mut router = router(true);
    let mut said = |port, packet| {
        router.inject(port, packet);
        announced(&mut router)
    };
    let out = (GUEST, ROUTER_IN);
    let back = (GATEWAY, ROUTER_OUT);
    let large = [MaximumSegmentSize(1_460)];
    assert_eq!(
        said("g", syn4(out, GUEST4, FAR4, false, &large)),
        Some(1_452)
    );
    // An answer takes the way of a session's packets.
    assert_eq!(
        said("up", syn4(back, FAR4, OUTSIDE4, true, &large)),
        Some(1_452)
    );
    // At an odd place, behind another option.
    let odd = [
        SelectiveAcknowledgementPermitted,
        Noop,
        MaximumSegmentSize(9_000),
    ];
    assert_eq!(said("g", syn4(out, GUEST4, FAR4, false, &odd)), Some(1_452));
    // What is small stays, and what says nothing says nothing.
    let small = [MaximumSegmentSize(536)];
    assert_eq!(said("g", syn4(out, GUEST4, FAR4, false, &small)), Some(536));
    assert_eq!(said("g", syn4(out, GUEST4, FAR4, false, &[])), None);
    assert_eq!(router.counts()["mss_clamped"], 3);
}

#[test]
fn of_ipv6_the_header_is_larger() {
    let mut router = router(true);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv6(v6(HOST), v6(FAR), 64)
        .tcp(5_000, 80, 7, 65_000)
        .syn()
        .options(&[TcpOptionElement::MaximumSegmentSize(1_440)])
        .unwrap()
        .write(&mut bytes, b"")
        .unwrap();
    router.inject("g", bytes);
    assert_eq!(announced(&mut router), Some(1_432));
}

#[test]
fn an_unfinished_checksum_stays_one() {
    let mut router = router(true);
    let large = [TcpOptionElement::MaximumSegmentSize(1_460)];
    let syn = syn4((GUEST, ROUTER_IN), GUEST4, FAR4, false, &large);
    let frame = unfinished(&syn, None).unwrap();
    assert!(matches!(frame.offload.checksum, Checksum::Partial { .. }));
    router.inject_frame("g", frame);
    // What leaves by a port in memory is finished.
    assert_eq!(announced(&mut router), Some(1_452));
}

#[test]
fn without_it_nothing_is_touched() {
    let mut router = router(false);
    let large = [TcpOptionElement::MaximumSegmentSize(1_460)];
    router.inject("g", syn4((GUEST, ROUTER_IN), GUEST4, FAR4, false, &large));
    assert_eq!(announced(&mut router), Some(1_460));
}
