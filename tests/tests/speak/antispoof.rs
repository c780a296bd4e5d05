//! What a guest may claim and send.

use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::is_at;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

use super::answers::*;

#[test]
fn f20_a_guest_speaks_only_for_itself() {
    let mut router = Router::settled(&config("g"));
    let guest = "g";
    let spoofed = |router: &mut Router, bytes: Vec<u8>, reason| {
        assert_eq!(router.inject(guest, bytes), Verdict::Drop(reason));
        assert!(router.is_silent(), "{reason:?}");
    };
    let arp = request(GUEST, "10.0.1.6", "10.0.1.254", Ask::Ordinary);
    spoofed(&mut router, arp, DropReason::SpoofedArp);
    let reply = |mac, own| is_at((MacAddr(mac), own), (MacAddr(ROUTER_IN), "10.0.1.254"));
    let claim = reply(GUEST, "10.0.1.6").bytes();
    spoofed(&mut router, claim, DropReason::SpoofedArp);
    let ns = request(GUEST, "2001:db8:9::21", "fe80::1", Ask::Ordinary);
    spoofed(&mut router, ns, DropReason::SpoofedSource);
    let mut na = request(GUEST, WEB6, "2001:db8:9::21", Ask::Unicast(ROUTER_IN));
    na[54] = 136;
    fix_icmp6(&mut na);
    spoofed(&mut router, na, DropReason::SpoofedAdvertisement);
    let mut ra = request(GUEST, "fe80::5", "ff02::1", Ask::Unicast(ROUTER_IN));
    ra[54] = 134;
    fix_icmp6(&mut ra);
    spoofed(&mut router, ra, DropReason::RogueServer);
    for (mac, from, ports, reason) in [
        (GUEST, [10, 0, 1, 6], (1, 2), DropReason::SpoofedSource),
        (GUEST, [198, 51, 100, 40], (1, 2), DropReason::SpoofedSource),
        (STRANGER, [10, 0, 1, 5], (1, 2), DropReason::SpoofedMac),
        (GUEST, [10, 0, 1, 5], (67, 68), DropReason::RogueServer),
    ] {
        let bytes = udp((mac, ROUTER_IN), (from, ports.0), ([192, 0, 2, 9], ports.1));
        spoofed(&mut router, bytes, reason);
    }
    // Its own addresses, prefixes among them, are fine: the packet waits for the gateway's MAC.
    for from in [[198, 51, 100, 20], [198, 51, 100, 32], [198, 51, 100, 39]] {
        let bytes = udp((GUEST, ROUTER_IN), (from, 1), ([192, 0, 2, 9], 2));
        assert_eq!(router.inject(guest, bytes), Verdict::Hold);
    }
    let counted: Vec<_> = router.violations();
    assert_eq!(counted.iter().map(|(_, _, frames)| frames).sum::<u64>(), 9);
    assert!(
        counted.iter().all(|(port, ..)| *port == router.port(guest)),
        "{counted:?}"
    );
    // Nor for another guest's public address.
    router.take_all();
    let claim = reply(OTHER, WEB4).bytes();
    assert_eq!(
        router.inject("h", claim),
        Verdict::Drop(DropReason::SpoofedArp)
    );
    assert!(router.is_silent());
}

#[test]
fn f20_a_session_is_not_another_guests_to_use() {
    let mut router = Router::settled(&config("g"));
    let (guest, other, up) = ("g", "h", "up");
    arp_reply(
        &mut router,
        up,
        (GATEWAY, "198.51.100.1"),
        (ROUTER_OUT, "198.51.100.10"),
    );
    let flow = |from| {
        udp(
            (from, ROUTER_IN),
            ([198, 51, 100, 20], 1),
            ([192, 0, 2, 9], 2),
        )
    };
    router.inject(guest, flow(GUEST));
    arp_reply(
        &mut router,
        up,
        (GATEWAY, "198.51.100.1"),
        (ROUTER_OUT, "198.51.100.10"),
    );
    assert_eq!(router.inject(guest, flow(GUEST)), router.emit(up));
    assert_eq!(
        router.inject(other, flow(OTHER)),
        Verdict::Drop(DropReason::SpoofedSource)
    );
    assert_eq!(router.inject(guest, flow(GUEST)), router.emit(up));
}

#[test]
fn f20_loose_and_off() {
    for (check, forged, unrouted) in [
        (
            "loose",
            Verdict::Hold,
            Verdict::Drop(DropReason::SpoofedSource),
        ),
        ("off", Verdict::Hold, Verdict::Drop(DropReason::EgressGuard)),
    ] {
        let config = config("g")
            .replace(
                "g = { memory",
                &format!("g = {{ source = \"{check}\", memory"),
            )
            .replace(
                r#"{ to = "default", dev = "A" }"#,
                r#"{ to = "192.0.2.0/24", dev = "A" }"#,
            );
        let mut router = Router::settled(&config);
        let guest = "g";
        // db's address, which is routed; an address that is not.
        let bytes = udp(
            (GUEST, ROUTER_IN),
            ([10, 0, 1, 6], 1),
            ([198, 51, 100, 9], 2),
        );
        let snat = router.inject(guest, bytes);
        assert!(
            snat == forged || snat == Verdict::Drop(DropReason::EgressGuard),
            "{snat:?}"
        );
        let bytes = udp(
            (GUEST, ROUTER_IN),
            ([203, 0, 113, 7], 1),
            ([198, 51, 100, 9], 2),
        );
        assert_eq!(router.inject(guest, bytes), unrouted, "{check}");
    }
}
