//! Solicitations: who is answered, and what is asked.

use std::net::Ipv6Addr;

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

#[test]
fn n03_a_solicitation_for_an_own_address_is_answered_with_all_flags() {
    let mut router = Router::settled(CONFIG6);
    let guest = "g";
    let group = [0x33, 0x33, 0xff, 0, 0, 0xfe];
    let bytes = nd(
        (GUEST, group),
        (HOST, "ff02::1:ff00:fe"),
        (135, 0),
        GATE,
        Some(1),
    );
    assert_eq!(router.inject(guest, bytes), Verdict::Consumed);
    let sent = router.sent();
    let (port, answer) = sent
        .iter()
        .find(|(_, bytes)| bytes[12..14] == [0x86, 0xdd])
        .expect("an advertisement");
    assert_eq!(
        (&port[..], &answer[..12]),
        (guest, &[GUEST, ROUTER_IN].concat()[..])
    );
    assert_eq!(
        icmp6(answer),
        (v6(GATE).into(), v6(HOST).into(), 136, 0, 72)
    );
    assert_eq!(answer[58], 0xe0, "router, solicited, override");
    assert_eq!(answer[62..78], v6(GATE));
    assert_eq!(answer[78..], [&[2, 1][..], &ROUTER_IN].concat());
}

#[test]
fn n04_a_duplicate_address_probe_for_an_own_address_is_answered_to_all_nodes() {
    let mut router = acquainted();
    let guest = "g";
    let group = [0x33, 0x33, 0xff, 0, 0, 0xfe];
    let bytes = nd(
        (GUEST, group),
        ("::", "ff02::1:ff00:fe"),
        (135, 0),
        GATE,
        None,
    );
    assert_eq!(router.inject(guest, bytes), Verdict::Consumed);
    let (_, answer) = router.last_sent().expect("an advertisement");
    assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        icmp6(&answer),
        (v6(GATE).into(), v6("ff02::1").into(), 136, 0, 72)
    );
    assert_eq!(answer[58], 0xa0, "router, override, not solicited");
}

#[test]
fn n01_solicitations_that_fail_a_check_are_silent() {
    let mut router = acquainted();
    let guest = "g";
    let good = || nd((GUEST, ROUTER_IN), (HOST, GATE), (135, 0), GATE, Some(1));
    let spoil = |at: usize, value: u8| {
        let mut bytes = good();
        bytes[at] = value;
        bytes
    };
    let probe = |destination, option| {
        nd(
            (GUEST, ROUTER_IN),
            ("::", destination),
            (135, 0),
            GATE,
            option,
        )
    };
    let mutants = [
        ("hop limit 254", spoil(21, 254)),
        ("checksum", spoil(56, 0x12)),
        ("code", spoil(55, 1)),
        ("option of length zero", spoil(79, 0)),
        (
            "multicast target",
            nd(
                (GUEST, ROUTER_IN),
                (HOST, GATE),
                (135, 0),
                "ff02::1",
                Some(1),
            ),
        ),
        ("probe with an option", probe("ff02::1:ff00:fe", Some(1))),
        ("probe not to its group", probe(GATE, None)),
    ];
    for (what, bytes) in mutants {
        let verdict = router.inject(guest, bytes);
        assert_eq!(verdict, Verdict::Drop(DropReason::NdMalformed), "{what}");
        assert!(router.is_silent(), "{what}");
    }
    assert_eq!(router.inject(guest, good()), Verdict::Consumed);
}

#[test]
fn n07_a_solicitation_for_what_is_not_ours_is_silent() {
    let mut router = acquainted();
    let guest = "g";
    for target in ["2001:db8:1::fd", "2001:db8:9::10", "2001:db8:1::1"] {
        let bytes = nd(
            (GUEST, ROUTER_IN),
            (HOST, target),
            (135, 0),
            target,
            Some(1),
        );
        assert_eq!(
            router.inject(guest, bytes),
            Verdict::Drop(DropReason::NdNotForUs),
            "{target}"
        );
        assert!(router.is_silent());
    }
}

#[test]
fn n09_an_unknown_next_hop_is_solicited_and_the_packet_leaves_when_it_answers() {
    let mut router = Router::settled(&owned().replace("mac = \"02:00:00:00:01:01\", ", ""));
    let (up, guest) = ("up", "g");
    ask(
        &mut router,
        up,
        (GATEWAY, ROUTER_OUT),
        "2001:db8:9::1",
        "2001:db8:9::10",
    );
    let inward = udp6((GATEWAY, ROUTER_OUT), (FAR, HOST), 9, 10);
    assert_eq!(router.inject(up, inward), Verdict::Hold);
    let (port, asked) = router.last_sent().expect("a solicitation");
    assert_eq!(port, guest);
    assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
    let (source, destination, kind, ..) = icmp6(&asked);
    assert_eq!((source, kind), (v6("fe80::1").into(), 135));
    assert_eq!(destination, "ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap());
    let answer = nd(
        (GUEST, ROUTER_IN),
        (HOST, "fe80::1"),
        (136, 0x60),
        HOST,
        Some(2),
    );
    assert_eq!(router.inject(guest, answer), Verdict::Consumed);
    let (port, bytes) = router.last_sent().expect("the packet that waited");
    assert_eq!((&port[..], &bytes[..6], bytes[21]), (guest, &GUEST[..], 8));
}

#[test]
fn g03_neighbour_discovery_in_fragments_is_not_heeded() {
    let mut router = acquainted();
    let target = "2001:db8:1::fe";
    let all_routers = [0x33, 0x33, 0, 0, 0, 2];
    for (macs, ips, kind, option) in [
        ((GUEST, ROUTER_IN), (HOST, target), 135, 1),
        ((GUEST, ROUTER_IN), (HOST, target), 136, 2),
        ((GUEST, all_routers), ("fe80::5", "ff02::2"), 133, 1),
    ] {
        let whole = nd(macs, ips, (kind, 0), target, Some(option));
        let fragment = |bits: u8| {
            let mut bytes = whole[..54].to_vec();
            bytes.extend([58, 0, 0, bits, 0, 0, 0, 7]);
            bytes.extend(&whole[54..]);
            let length = (bytes.len() - 54) as u16;
            bytes[18..20].copy_from_slice(&length.to_be_bytes());
            bytes[20] = 44;
            bytes
        };
        // One of its own, and the first of several.
        for bits in [0, 1] {
            let verdict = router.inject("g", fragment(bits));
            assert!(matches!(verdict, Verdict::Drop(_)), "{kind}: {verdict:?}");
            assert!(router.is_silent(), "{kind}");
        }
        let dropped = router.dropped(DropReason::NdMalformed);
        assert_eq!(
            router.inject("g", fragment(0)),
            Verdict::Drop(DropReason::NdMalformed)
        );
        assert_eq!(router.dropped(DropReason::NdMalformed), dropped + 1);
    }
    // The same in one piece.
    let whole = nd(
        (GUEST, ROUTER_IN),
        (HOST, target),
        (135, 0),
        target,
        Some(1),
    );
    assert_eq!(router.inject("g", whole), Verdict::Consumed);
    assert_eq!(router.sent().len(), 1);
}
