//! ARP, neighbour discovery, and what is told to groups.

use super::*;

#[test]
fn arp_passes_for_own_addresses_only_and_to_one_place() {
    let mut router = router();
    let ask = |target: &str| who_has(target, (WEB, WEB4)).bytes();
    passes(&mut router, "web", "uplink", ask(GATEWAY4));
    passes(&mut router, "web", "uplink", ask(WEB4));
    passes(&mut router, "web", "db", ask(DB4));
    let probe = |target| who_has(target, (WEB, "0.0.0.0")).bytes();
    passes(&mut router, "web", "uplink", probe(WEB4));
    for target in [DB4, OWN4, GATEWAY4] {
        refused(&mut router, "web", probe(target), DropReason::SpoofedArp);
    }
    for claimed in [DB4, OWN4, VM4, GATEWAY4, "203.0.113.99"] {
        let claim = is_at((WEB, claimed), (GATEWAY, GATEWAY4)).bytes();
        refused(&mut router, "web", claim, DropReason::SpoofedArp);
        let claim = who_has(claimed, (WEB, claimed)).bytes();
        refused(&mut router, "web", claim, DropReason::SpoofedArp);
    }
    // A sender's MAC that is not the frame's.
    let mut lie = is_at((WEB, WEB4), (GATEWAY, GATEWAY4)).bytes();
    lie[22..28].copy_from_slice(&GATEWAY.0);
    refused(&mut router, "web", lie, DropReason::ArpSenderMismatch);
    passes(
        &mut router,
        "web",
        "uplink",
        is_at((WEB, WEB4), (GATEWAY, GATEWAY4)).bytes(),
    );
    // The provider asks, by broadcast and by unicast, and the guest answers itself.
    let asked = |target: &str| who_has(target, (GATEWAY, GATEWAY4));
    passes(&mut router, "uplink", "web", asked(WEB4).bytes());
    passes(
        &mut router,
        "uplink",
        "db",
        Arp {
            to: DB,
            ..asked(DB4)
        }
        .bytes(),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        who_has(WEB4, (GATEWAY, "0.0.0.0")).bytes(),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        is_at((GATEWAY, GATEWAY4), (WEB, WEB4)).bytes(),
    );
    let wrong = Arp {
        to: DB,
        ..asked(WEB4)
    }
    .bytes();
    refused(&mut router, "uplink", wrong, DropReason::WrongPersonality);
    refused(
        &mut router,
        "uplink",
        asked("203.0.113.99").bytes(),
        DropReason::ArpNotForUs,
    );
    // Nobody out there is one of them.
    for claimed in [WEB4, DB4] {
        let claim = is_at((STRANGER, claimed), (WEB, WEB4)).bytes();
        refused(&mut router, "uplink", claim, DropReason::InsideSource);
        let claim = who_has(claimed, (STRANGER, claimed)).bytes();
        refused(&mut router, "uplink", claim, DropReason::InsideSource);
    }
    let own = who_has(GATEWAY4, (WEB, WEB4)).bytes();
    refused(&mut router, "uplink", own, DropReason::OwnFrame);
    // What the gateway announces all hear.
    let announced = who_has(GATEWAY4, (GATEWAY, GATEWAY4)).bytes();
    assert_eq!(router.inject("uplink", &announced), Verdict::Replaced);
    assert_eq!(
        router.sent(),
        [
            ("web".to_owned(), announced.clone()),
            ("db".to_owned(), announced)
        ]
    );
}

#[test]
fn nd_passes_for_own_addresses_only_and_to_one_place() {
    let mut router = router();
    for sender in [WEB6, WEB_LINK] {
        passes(
            &mut router,
            "web",
            "uplink",
            ns((WEB, sender), GATEWAY_LINK),
        );
        passes(&mut router, "web", "db", ns((WEB, sender), DB6));
        passes(&mut router, "web", "db", ns((WEB, sender), DB_LINK));
        passes(
            &mut router,
            "web",
            "uplink",
            na((WEB, sender), (GATEWAY, GATEWAY_LINK), sender),
        );
        passes(
            &mut router,
            "web",
            "uplink",
            na((WEB, sender), (GATEWAY, GATEWAY_LINK), WEB6),
        );
        passes(
            &mut router,
            "web",
            "db",
            na((WEB, sender), (DB, DB6), sender),
        );
    }
    // Probes for its own addresses, not for others'.
    for target in [WEB6, WEB_LINK] {
        passes(&mut router, "web", "uplink", ns((WEB, "::"), target));
    }
    for target in [DB6, DB_LINK, OWN6, GATEWAY_LINK, "fe80::1"] {
        let probe = ns((WEB, "::"), target);
        refused(&mut router, "web", probe, DropReason::SpoofedAdvertisement);
        let claim = na((WEB, WEB6), (GATEWAY, GATEWAY_LINK), target);
        refused(&mut router, "web", claim, DropReason::SpoofedAdvertisement);
        let claim = na((WEB, WEB6), (ALL, "ff02::1"), target);
        // Solicited, and yet to all: only unsolicited ones are.
        let reason = router.inject("web", claim);
        assert_eq!(reason, Verdict::Drop(DropReason::SpoofedAdvertisement));
        let question = ns((WEB, target), GATEWAY_LINK);
        refused(&mut router, "web", question, DropReason::SpoofedSource);
    }
    // Another's MAC in the option.
    let mut lie = ns((GATEWAY, WEB6), DB6);
    lie[6..12].copy_from_slice(&WEB.0);
    refused(&mut router, "web", lie, DropReason::SpoofedMac);
    let mut lie = na((GATEWAY, WEB6), (DB, DB6), WEB6);
    lie[6..12].copy_from_slice(&WEB.0);
    refused(&mut router, "web", lie, DropReason::SpoofedMac);
    // Only routers advertise and redirect.
    let ra = |from, to| icmp6(from, to, 134, &[0; 8], 255);
    for kind in [134, 137] {
        let frame = icmp6((WEB, ALL), (WEB_LINK, "ff02::1"), kind, &[0; 32], 255);
        refused(&mut router, "web", frame, DropReason::RogueServer);
    }
    let rs = |from: MacAddr, option: MacAddr| {
        let option = [&[1, 1][..], &option.0].concat();
        let routers = MacAddr([0x33, 0x33, 0, 0, 0, 2]);
        icmp6((from, routers), (WEB_LINK, "ff02::2"), 133, &option, 255)
    };
    passes(&mut router, "web", "uplink", rs(WEB, WEB));
    refused(&mut router, "web", rs(WEB, GATEWAY), DropReason::SpoofedMac);
    let far = icmp6((WEB, ALL), (WEB_LINK, "ff02::2"), 133, &[], 254);
    refused(&mut router, "web", far, DropReason::NdMalformed);
    // From the uplink.
    let gateway = (GATEWAY, GATEWAY_LINK);
    passes(&mut router, "uplink", "web", ns(gateway, WEB6));
    passes(&mut router, "uplink", "db", ns(gateway, DB_LINK));
    passes(&mut router, "uplink", "web", ns((STRANGER, "::"), WEB6));
    passes(
        &mut router,
        "uplink",
        "web",
        na(gateway, (WEB, WEB6), GATEWAY_LINK),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        ra((GATEWAY, WEB), (GATEWAY_LINK, WEB_LINK)),
    );
    refused(
        &mut router,
        "uplink",
        ns(gateway, "2001:db8:9::99"),
        DropReason::NdNotForUs,
    );
    for target in [WEB6, DB_LINK] {
        let claim = na((STRANGER, "fe80::66"), (WEB, WEB6), target);
        refused(&mut router, "uplink", claim, DropReason::InsideSource);
    }
    let redirect = icmp6((GATEWAY, WEB), (GATEWAY_LINK, WEB6), 137, &[0; 32], 255);
    refused(&mut router, "uplink", redirect, DropReason::NdIgnored);
    let advertised = ra((GATEWAY, ALL), (GATEWAY_LINK, "ff02::1"));
    assert_eq!(router.inject("uplink", &advertised), Verdict::Replaced);
    assert_eq!(
        router.sent(),
        [
            ("web".to_owned(), advertised.clone()),
            ("db".to_owned(), advertised)
        ]
    );
}

#[test]
fn groups_pass_for_dhcp_and_mld_only() {
    let mut router = router();
    let dhcp = |ports: (u16, u16), ips: (&str, &str), client: MacAddr| {
        let mut body = [0; 240];
        body[28..34].copy_from_slice(&client.0);
        udp(
            &format!("{}:{}", ips.0, ports.0),
            &format!("{}:{}", ips.1, ports.1),
            &body,
        )
    };
    let all = MacAddr::BROADCAST;
    let ask = |client| dhcp((68, 67), ("0.0.0.0", "255.255.255.255"), client).link(WEB, all);
    passes(&mut router, "web", "uplink", ask(WEB).bytes());
    refused(&mut router, "web", ask(DB).bytes(), DropReason::SpoofedMac);
    let renew = |client| dhcp((68, 67), (WEB4, GATEWAY4), client).link(WEB, GATEWAY);
    passes(&mut router, "web", "uplink", renew(WEB).bytes());
    refused(
        &mut router,
        "web",
        renew(DB).bytes(),
        DropReason::SpoofedMac,
    );
    for to in [all, DB] {
        let offer = dhcp((67, 68), (WEB4, "255.255.255.255"), DB).link(WEB, to);
        refused(&mut router, "web", offer.bytes(), DropReason::RogueServer);
    }
    let offer = |client| dhcp((67, 68), (GATEWAY4, "255.255.255.255"), client).link(GATEWAY, all);
    passes(&mut router, "uplink", "web", offer(WEB).bytes());
    passes(&mut router, "uplink", "db", offer(DB).bytes());
    refused(
        &mut router,
        "uplink",
        offer(STRANGER).bytes(),
        DropReason::Broadcast,
    );
    let offer = dhcp((67, 68), (GATEWAY4, WEB4), WEB).link(GATEWAY, WEB);
    passes(&mut router, "uplink", "web", offer.bytes());
    // DHCPv6.
    let ask = |ports: (u16, u16), to: (MacAddr, &str)| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(WEB.0, to.0.0)
            .ipv6(v6(WEB_LINK), v6(to.1), 1)
            .udp(ports.0, ports.1)
            .write(&mut bytes, &[1, 0, 0, 1])
            .unwrap();
        bytes
    };
    let servers = (MacAddr([0x33, 0x33, 0, 1, 0, 2]), "ff02::1:2");
    passes(&mut router, "web", "uplink", ask((546, 547), servers));
    refused(
        &mut router,
        "web",
        ask((547, 546), (DB, DB_LINK)),
        DropReason::RogueServer,
    );
    // Groups are reported and asked for; the router answers for itself as well.
    let listens = |from, kind| {
        let reports = MacAddr([0x33, 0x33, 0, 0, 0, 0x16]);
        icmp6((WEB, reports), (from, "ff02::16"), kind, &[4, 0, 0, 0], 1)
    };
    for from in [WEB_LINK, "::"] {
        passes(&mut router, "web", "uplink", listens(from, 143));
    }
    refused(
        &mut router,
        "web",
        listens(DB_LINK, 143),
        DropReason::SpoofedSource,
    );
    refused(
        &mut router,
        "web",
        listens(WEB_LINK, 130),
        DropReason::RogueServer,
    );
    let asks = icmp6((GATEWAY, ALL), (GATEWAY_LINK, "ff02::1"), 130, &[0; 20], 1);
    assert_eq!(router.inject("uplink", &asks), Verdict::Replaced);
    assert_eq!(
        router.sent(),
        [("web".to_owned(), asks.clone()), ("db".to_owned(), asks)]
    );
    // Everything else that is for many.
    for (mac, ip) in [
        (all, "255.255.255.255"),
        (all, DB4),
        (MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), "224.0.0.251"),
    ] {
        let out = udp(&format!("{WEB4}:5353"), &format!("{ip}:5353"), b"").link(WEB, mac);
        refused(&mut router, "web", out.bytes(), DropReason::Broadcast);
        let inward = udp(&format!("{REMOTE}:5353"), &format!("{ip}:5353"), b"").link(GATEWAY, mac);
        refused(&mut router, "uplink", inward.bytes(), DropReason::Broadcast);
    }
}

#[test]
fn what_is_told_to_all_is_limited() {
    let mut router = router();
    let announced = who_has(GATEWAY4, (STRANGER, GATEWAY4)).bytes();
    let mut copies = 0;
    for _ in 0..2_000 {
        router.inject("uplink", &announced);
        copies += router.sent().len();
    }
    assert_eq!(copies, 500, "half a second's 1,000 copies, to two guests");
    assert_eq!(router.dropped(DropReason::ArpUnsolicited), 2_000 - 250);
}
