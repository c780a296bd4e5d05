//! Guests with addresses of their own: routing to them, port forwarding, an address shared with the
//! host.

use etherparse::PacketBuilder;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

const OWN: [u8; 4] = [198, 51, 100, 7];
const REMOTE: [u8; 4] = [192, 0, 2, 9];
const INSIDE: [u8; 4] = [10, 0, 1, 1];

fn tcp(macs: ([u8; 6], [u8; 6]), from: Ends, to: Ends, syn: bool, ack: bool) -> Vec<u8> {
    let mut builder = PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(from.0, to.0, 64)
        .tcp(from.1, to.1, 1, 1_000);
    if syn {
        builder = builder.syn();
    }
    if ack {
        builder = builder.ack(2);
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

/// Source and destination, with ports, of an IPv4 frame; its checksums are right.
fn ends(bytes: &[u8]) -> (Ends, Ends) {
    let sliced = etherparse::SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("{sliced:?}")
    };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (from, to) = ((header.source, port(34)), (header.destination, port(36)));
    match sliced.transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => {
            let right = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
            assert_eq!(right.unwrap(), tcp.checksum());
        }
        etherparse::TransportSlice::Udp(udp) => {
            let right = udp
                .to_header()
                .calc_checksum_ipv4(&header, udp.payload())
                .unwrap();
            assert_eq!(right, udp.checksum());
        }
        other => panic!("{other:?}"),
    }
    (from, to)
}

/// The frame that left by `port`, of those that are IPv4.
fn left(router: &mut Router, port: &str) -> Vec<u8> {
    let sent = router.sent();
    let ip = |(to, bytes): &(String, Vec<u8>)| to == port && bytes[12..14] == [8, 0];
    let found = sent.iter().find(|frame| ip(frame));
    found.unwrap_or_else(|| panic!("{sent:02x?}")).1.clone()
}

fn shared() -> Router {
    let mut router = Router::settled(SHARED);
    let (up, guest) = ("up", "g");
    // The first packet asks for the gateway's MAC, with the shared address; the answer comes to
    // the shared MAC.
    router.inject(
        guest,
        udp((GUEST, ROUTER_IN), ([203, 0, 113, 8], 1), (REMOTE, 9)),
    );
    arp_reply(
        &mut router,
        up,
        (GATEWAY, "198.51.100.1"),
        (ROUTER_OUT, "198.51.100.7"),
    );
    router.take_all();
    router
}

#[test]
fn what_is_the_hosts_is_left_to_it() {
    let mut router = shared();
    let up = "up";
    let link = (GATEWAY, ROUTER_OUT);
    for bytes in [
        tcp(link, (REMOTE, 5_000), (OWN, 22), true, false),
        udp(link, (REMOTE, 53), (OWN, 40_000)),
        udp(link, (REMOTE, 53), ([198, 51, 100, 99], 40_000)),
        // Within the range, but nobody's flow: the kernel is kept from answering elsewhere.
        tcp(link, (REMOTE, 5_000), (OWN, 61_000), true, false),
    ] {
        assert_eq!(
            router.inject(up, bytes),
            Verdict::Drop(DropReason::LeftToHost)
        );
    }
    let mut ping = Vec::new();
    PacketBuilder::ethernet2(link.0, link.1)
        .ipv4(REMOTE, OWN, 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut ping, &[])
        .unwrap();
    assert_eq!(
        router.inject(up, ping),
        Verdict::Drop(DropReason::LeftToHost)
    );
    let arp = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &GATEWAY,
        &[198, 51, 100, 1],
        &[0; 6],
        &OWN,
    );
    let mut who_has = Vec::new();
    PacketBuilder::ethernet2(GATEWAY, [0xff; 6])
        .arp(arp.unwrap())
        .write(&mut who_has)
        .unwrap();
    assert_eq!(
        router.inject(up, who_has),
        Verdict::Drop(DropReason::LeftToHost)
    );
    assert!(router.is_silent());
    // Neither claimed nor announced: the kernel did that.
    let mut fresh = Router::new(SHARED);
    fresh.wait(20_000);
    let host = |(_, bytes): &(String, Vec<u8>)| {
        bytes[12..14] == [8, 6] && bytes[38..42] == OWN
            || bytes.len() > 78 && bytes[54] != 143 && bytes[62..78] == v6("2001:db8:9::7")
    };
    assert!(!fresh.sent().iter().any(host));
}

#[test]
fn a_shared_address_is_worn_with_reserved_ports_only_and_never_a_forwarded_one() {
    let mut router = shared();
    let (up, guest) = ("up", "g");
    let mut used = Vec::new();
    for port in [4_000, 4_001, 4_002, 61_001] {
        let verdict = router.inject(guest, udp((GUEST, ROUTER_IN), (INSIDE, port), (REMOTE, 53)));
        if verdict == Verdict::Drop(DropReason::NatExhausted) {
            continue;
        }
        let bytes = left(&mut router, up);
        assert_eq!(bytes[6..12], ROUTER_OUT);
        let (from, to) = ends(&bytes);
        assert_eq!((from.0, to), (OWN, (REMOTE, 53)));
        used.push(from.1);
        let back = udp((GATEWAY, ROUTER_OUT), (REMOTE, 53), from);
        assert_eq!(router.inject(up, back), router.emit(guest));
        assert_eq!(
            ends(&left(&mut router, guest)),
            ((REMOTE, 53), (INSIDE, port))
        );
    }
    used.sort_unstable();
    assert_eq!(used, [61_000, 61_002, 61_003], "61001 is forwarded");
}

#[test]
fn t21_a_forwarded_port_keeps_the_remotes_address_and_answers_come_back_as_asked() {
    let mut router = shared();
    let (up, guest) = ("up", "g");
    let link = (GATEWAY, ROUTER_OUT);
    let syn = tcp(link, (REMOTE, 5_000), (OWN, 2_222), true, false);
    assert_eq!(router.inject(up, syn.clone()), router.emit(guest));
    let bytes = left(&mut router, guest);
    assert_eq!((&bytes[..6], &bytes[6..12]), (&GUEST[..], &ROUTER_IN[..]));
    assert_eq!(ends(&bytes), ((REMOTE, 5_000), (INSIDE, 22)));
    let answer = tcp(
        (GUEST, ROUTER_IN),
        (INSIDE, 22),
        (REMOTE, 5_000),
        true,
        true,
    );
    assert_eq!(router.inject(guest, answer), router.emit(up));
    let bytes = left(&mut router, up);
    assert_eq!(
        (&bytes[..6], &bytes[6..12]),
        (&GATEWAY[..], &ROUTER_OUT[..])
    );
    assert_eq!(ends(&bytes), ((OWN, 2_222), (REMOTE, 5_000)));

    // It stands under a new configuration that forwards it still, and ends with one that does not.
    router.reload(&SHARED.replace("10.0.1.1:53", "10.0.1.1:54"));
    let more = tcp(link, (REMOTE, 5_000), (OWN, 2_222), false, true);
    assert_eq!(router.inject(up, more.clone()), router.emit(guest));
    assert_eq!(ends(&left(&mut router, guest)).1, (INSIDE, 22));
    router.reload(&SHARED.replace("10.0.1.1:22", "10.0.1.1:23"));
    assert_eq!(router.inject(up, more), router.emit(guest));
    assert_eq!(
        ends(&left(&mut router, guest)).1,
        (INSIDE, 23),
        "a new session"
    );
    router.reload(&SHARED.replace("port = 2222", "port = 2223"));
    assert_eq!(
        router.inject(up, syn),
        Verdict::Drop(DropReason::LeftToHost)
    );
}

#[test]
fn every_address_of_a_routed_prefix_is_usable() {
    let mut router = shared();
    let (up, guest) = ("up", "g");
    for last in 8..16 {
        let own = ([203, 0, 113, last], 7);
        let out = udp((GUEST, ROUTER_IN), own, (REMOTE, 9));
        assert_eq!(router.inject(guest, out), router.emit(up), ".{last} out");
        assert_eq!(
            ends(&left(&mut router, up)),
            (own, (REMOTE, 9)),
            "untranslated"
        );
        let unasked = udp((GATEWAY, ROUTER_OUT), (REMOTE, 99), own);
        assert_eq!(router.inject(up, unasked), router.emit(guest), ".{last} in");
        let bytes = left(&mut router, guest);
        assert_eq!(
            bytes[..6],
            GUEST,
            "the guest's MAC is known and not asked for"
        );
    }
    for last in [7, 16] {
        let not_own = udp((GUEST, ROUTER_IN), ([203, 0, 113, last], 7), (REMOTE, 9));
        assert_eq!(
            router.inject(guest, not_own),
            Verdict::Drop(DropReason::SpoofedSource)
        );
        let not_its = udp((GATEWAY, ROUTER_OUT), (REMOTE, 9), ([203, 0, 113, last], 7));
        assert_eq!(
            router.inject(up, not_its),
            Verdict::Drop(DropReason::LeftToHost)
        );
    }
}

#[test]
fn s08_what_nobody_owns_on_the_guests_own_link_is_not_sent_back() {
    let mut router = shared();
    let guest = "g";
    let to_nobody = udp((GUEST, ROUTER_IN), (INSIDE, 1), ([10, 0, 1, 77], 2));
    assert_eq!(
        router.inject(guest, to_nobody),
        Verdict::Drop(DropReason::SamePort)
    );
    let bytes = left(&mut router, guest);
    assert_eq!((bytes[34], bytes[35]), (3, 1), "host unreachable");
}
