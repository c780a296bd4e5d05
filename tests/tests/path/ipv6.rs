//! IPv6 is forwarded as IPv4 is: hop limits, sizes, echo, what must stay on its link.

use etherparse::{Icmpv6Type, PacketBuilder};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;

#[test]
fn s01_the_hop_limit_is_decremented_and_its_end_is_told() {
    let mut router = acquainted_with(&owned());
    let (up, guest) = ("up", "g");
    let inward = udp6((GATEWAY, ROUTER_OUT), (FAR, HOST), 2, 10);
    assert_eq!(router.inject(up, inward), router.emit(guest));
    let (_, bytes) = router.last_sent().unwrap();
    assert_eq!(bytes[21], 1);
    let inward = udp6((GATEWAY, ROUTER_OUT), (FAR, HOST), 1, 10);
    assert_eq!(
        router.inject(up, inward),
        Verdict::Drop(DropReason::TtlExceeded)
    );
    let (port, error) = router.last_sent().expect("an error");
    assert_eq!(port, up);
    let (source, destination, kind, code, _) = icmp6(&error);
    assert_eq!(
        (source, destination),
        (v6("2001:db8:9::10").into(), v6(FAR).into())
    );
    assert_eq!((kind, code), (3, 0));
}

#[test]
fn s02_s03_too_big_is_told_with_the_mtu_in_at_most_1280_bytes() {
    let mut router = acquainted_with(&owned());
    let (up, guest) = ("up", "g");
    let fits = udp6((GATEWAY, ROUTER_OUT), (FAR, HOST), 9, 1500 - 48);
    assert_eq!(router.inject(up, fits), router.emit(guest));
    router.take_all();
    let over = udp6((GATEWAY, ROUTER_OUT), (FAR, HOST), 9, 1501 - 48);
    assert_eq!(
        router.inject(up, over),
        Verdict::Drop(DropReason::FragmentationNeeded)
    );
    let (_, error) = router.last_sent().expect("an error");
    let (.., kind, code, length) = icmp6(&error);
    assert_eq!((kind, code, length), (2, 0, 1280));
    assert_eq!(error[58..62], 1500_u32.to_be_bytes());
}

#[test]
fn s07_echo_is_answered_from_the_address_asked() {
    let mut router = acquainted();
    let guest = "g";
    for asked in [GATE, "2001:db8:9::10"] {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GUEST, ROUTER_IN)
            .ipv6(v6(HOST), v6(asked), 1)
            .icmpv6(Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader {
                id: 9,
                seq: 3,
            }))
            .write(&mut bytes, b"ping")
            .unwrap();
        assert_eq!(router.inject(guest, bytes), router.emit(guest));
        let (_, reply) = router.last_sent().unwrap();
        assert_eq!(
            icmp6(&reply),
            (v6(asked).into(), v6(HOST).into(), 129, 0, 52)
        );
        assert_eq!(reply[58..66], [&[0, 9, 0, 3][..], b"ping"].concat());
    }
}

#[test]
fn echo_between_link_local_addresses_stays_on_its_link() {
    let mut router = acquainted();
    let guest = "g";
    ask(&mut router, guest, (GUEST, ROUTER_IN), "fe80::5", "fe80::1");
    router.take_all();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv6(v6("fe80::5"), v6("fe80::1"), 64)
        .icmpv6(Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader {
            id: 1,
            seq: 1,
        }))
        .write(&mut bytes, &[])
        .unwrap();
    assert_eq!(router.inject(guest, bytes), router.emit(guest));
    let (_, reply) = router.last_sent().unwrap();
    assert_eq!(
        icmp6(&reply),
        (v6("fe80::1").into(), v6("fe80::5").into(), 129, 0, 48)
    );
}

#[test]
fn s09_link_local_and_multicast_are_not_forwarded() {
    let mut router = acquainted();
    let guest = "g";
    for (from, to, reason) in [
        ("fe80::5", FAR, DropReason::Martian),
        ("::", FAR, DropReason::Martian),
        ("::1", FAR, DropReason::Martian),
        ("fe80::1", "fe80::1", DropReason::Martian),
        ("fe80::1", "2001:db8:1::fe", DropReason::Martian),
        (HOST, "fe80::9", DropReason::Martian),
        (HOST, "::1", DropReason::Martian),
        (HOST, "ff0e::1", DropReason::Broadcast),
    ] {
        let bytes = udp6((GUEST, ROUTER_IN), (from, to), 64, 10);
        assert_eq!(
            router.inject(guest, bytes),
            Verdict::Drop(reason),
            "{from} > {to}"
        );
        // Of its scope alone the sender is told (S04), once its MAC is known.
        let told = router.sent();
        assert!(
            told.iter()
                .all(|(_, bytes)| from == "fe80::5" && bytes[54] == 135)
        );
    }
}

#[test]
fn x01_a_guest_that_nothing_translates_does_not_leave_the_uplink() {
    let mut router = acquainted();
    let guest = "g";
    let bytes = udp6((GUEST, ROUTER_IN), (HOST, FAR), 64, 10);
    assert_eq!(
        router.inject(guest, bytes),
        Verdict::Drop(DropReason::EgressGuard)
    );
    assert!(router.is_silent());
}
