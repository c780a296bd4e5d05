//! IP packets: both ways, to each other, and past what is routed beside them.

use super::*;

#[test]
fn packets_pass_as_they_are_both_ways() {
    let mut router = router();
    let out = query(REMOTE).link(WEB, GATEWAY).ttl(1).bytes();
    passes(&mut router, "web", "uplink", &out);
    passes(&mut router, "web", "uplink", &out);
    let answer = udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"answer");
    passes(
        &mut router,
        "uplink",
        "web",
        answer.link(GATEWAY, WEB).ttl(1).bytes(),
    );
    let syn = tcp(&format!("{REMOTE}:9"), &format!("{DB4}:443"), "S", b"");
    passes(&mut router, "uplink", "db", syn.link(GATEWAY, DB).bytes());
    let syn = tcp(&format!("{DB4}:443"), &format!("{REMOTE}:9"), "S.", b"");
    passes(&mut router, "db", "uplink", syn.link(DB, GATEWAY).bytes());
    let ack = tcp(&format!("{REMOTE}:9"), &format!("{DB4}:443"), ".", b"");
    passes(&mut router, "uplink", "db", ack.link(GATEWAY, DB).bytes());
    let six = datagram6((WEB, GATEWAY), (WEB6, REMOTE6), 1);
    passes(&mut router, "web", "uplink", six);
    let six = datagram6((GATEWAY, WEB), (REMOTE6, WEB6), 1);
    passes(&mut router, "uplink", "web", six);
    // From the link-local address that is made of its MAC.
    let six = datagram6((WEB, GATEWAY), (WEB_LINK, GATEWAY_LINK), 64);
    passes(&mut router, "web", "uplink", six);
    assert_eq!(router.sessions().len(), 5);
    assert_eq!(router.usage("web").opened.0, 3);
    assert_eq!(router.usage("db").served.0, 1);
    // Errors about them, in both directions.
    let late = error(REMOTE, WEB4, (11, 0), [0; 4], &query(REMOTE).bytes());
    passes(
        &mut router,
        "uplink",
        "web",
        late.link(GATEWAY, WEB).bytes(),
    );
    let unknown = udp(&format!("{WEB4}:5001"), &format!("{REMOTE}:53"), b"").bytes();
    let late = error(REMOTE, WEB4, (11, 0), [0; 4], &unknown).link(GATEWAY, WEB);
    refused(
        &mut router,
        "uplink",
        late.bytes(),
        DropReason::IcmpUnmatched,
    );
}

#[test]
fn a_vlan_is_the_uplinks_alone() {
    let mut router = Router::settled(&config(", vlan = 7", ""));
    router.explain_everything();
    let sent = query(REMOTE).link(WEB, GATEWAY);
    assert_eq!(router.inject("web", sent.bytes()), router.emit("uplink"));
    let tagged = |packet: Packet| packet.vlan(7).bytes();
    let out = tagged(query(REMOTE).link(WEB, GATEWAY));
    assert_eq!(router.sent(), [("uplink".to_owned(), out.clone())]);
    refused(&mut router, "web", out, DropReason::UnknownMac);
    let answer = || udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"").link(GATEWAY, WEB);
    refused(
        &mut router,
        "uplink",
        answer().bytes(),
        DropReason::UnknownMac,
    );
    let other = answer().vlan(8).bytes();
    refused(&mut router, "uplink", other, DropReason::UnknownMac);
    assert_eq!(
        router.inject("uplink", tagged(answer())),
        router.emit("web")
    );
    assert_eq!(router.sent(), [("web".to_owned(), answer().bytes())]);
    // The router itself, beside it, answers without the tag.
    let asked = who_has(OWN4, (WEB, WEB4));
    assert_eq!(router.inject("web", asked.bytes()), router.emit("web"));
    assert_eq!(
        router.sent(),
        [(
            "web".to_owned(),
            is_at((X, OWN4), (WEB, WEB4)).bytes()[..42].to_vec()
        )]
    );
    let ping = ping("10.0.0.1", WEB4, 7, 1, b"").link(VM, LAN);
    assert_eq!(router.inject("vm", ping.bytes()), router.emit("web"));
    assert_eq!(router.sent()[0].1[12..14], [8, 0]);
}

#[test]
fn a_guest_sends_from_its_own_mac_and_addresses_only() {
    let mut router = router();
    let mut from = |port: &str, (mac, to): (MacAddr, MacAddr), ip: &str, reason| {
        let packet = udp(&format!("{ip}:1"), &format!("{REMOTE}:2"), b"");
        refused(&mut router, port, packet.link(mac, to).bytes(), reason);
    };
    for mac in [DB, GATEWAY, X, STRANGER] {
        from("web", (mac, GATEWAY), WEB4, DropReason::SpoofedMac);
    }
    // Another's pair, at another's port.
    from("web", (DB, GATEWAY), DB4, DropReason::SpoofedMac);
    for ip in [DB4, OWN4, VM4, GATEWAY4, "203.0.113.99", "10.0.0.1", REMOTE] {
        from("web", (WEB, GATEWAY), ip, DropReason::SpoofedSource);
    }
    from(
        "web",
        (MacAddr([1, 0, 0, 0, 0, 1]), GATEWAY),
        WEB4,
        DropReason::GroupSource,
    );
    from("web", (WEB, GATEWAY), "0.0.0.0", DropReason::Martian);
    for ip in [
        DB6,
        OWN6,
        REMOTE6,
        "2001:db8:9::99",
        DB_LINK,
        GATEWAY_LINK,
        "fe80::1",
    ] {
        let frame = datagram6((WEB, GATEWAY), (ip, REMOTE6), 64);
        refused(&mut router, "web", frame, DropReason::SpoofedSource);
    }
    let own = datagram6((WEB, GATEWAY), ("::", REMOTE6), 64);
    refused(&mut router, "web", own, DropReason::Martian);
    let caught: u64 = router.violations().iter().map(|(.., frames)| frames).sum();
    assert_eq!(caught, 5 + 7 + 7);
    // The session of one is not another's.
    passes(
        &mut router,
        "web",
        "uplink",
        query(REMOTE).link(WEB, GATEWAY).bytes(),
    );
    let forged = query(REMOTE).link(DB, GATEWAY).bytes();
    refused(&mut router, "db", forged, DropReason::SpoofedSource);
}

#[test]
fn what_is_neither_ip_nor_arp_does_not_pass() {
    let mut router = router();
    for ethertype in [
        [0x88, 0xcc],
        [0x88, 0x63],
        [0x81, 0x00],
        [0x88, 0xa8],
        [0x00, 0x26],
    ] {
        for (port, from, to) in [
            ("web", WEB, ALL),
            ("web", WEB, GATEWAY),
            ("uplink", GATEWAY, WEB),
        ] {
            let mut frame = query(REMOTE).link(from, to).bytes();
            frame.splice(12..12, [ethertype[0], ethertype[1], 0, 7]);
            // A single tag is taken off by ports: what comes in is in a VLAN.
            let reason = match ethertype {
                [0x81, 0x00] => DropReason::UnknownMac,
                _ => DropReason::UnknownEthertype,
            };
            refused(&mut router, port, frame, reason);
        }
    }
}

#[test]
fn from_the_uplink_only_what_is_a_guests_own_passes() {
    let mut router = router();
    let to = |ip: &str, mac: MacAddr, from: &str| {
        let packet = udp(&format!("{from}:1"), &format!("{ip}:2"), b"");
        packet.link(GATEWAY, mac).bytes()
    };
    for ip in [DB4, OWN4, VM4, "203.0.113.99", "10.0.0.1"] {
        let frame = to(ip, WEB, REMOTE);
        refused(&mut router, "uplink", frame, DropReason::WrongPersonality);
    }
    // A source that is ours is nobody's out there, also in a session's packet.
    let between = udp(&format!("{DB4}:1"), &format!("{WEB4}:2"), b"");
    passes(&mut router, "db", "web", between.link(DB, WEB).bytes());
    for from in [DB4, WEB4, OWN4, VM4, "10.0.0.1"] {
        refused(
            &mut router,
            "uplink",
            to(WEB4, WEB, from),
            DropReason::InsideSource,
        );
        refused(
            &mut router,
            "uplink",
            to(WEB4, WEB, from),
            DropReason::InsideSource,
        );
    }
    refused(
        &mut router,
        "uplink",
        to(WEB4, STRANGER, REMOTE),
        DropReason::UnknownMac,
    );
    let own = query(REMOTE).link(WEB, GATEWAY).bytes();
    refused(&mut router, "uplink", own, DropReason::OwnFrame);
    let six = datagram6((GATEWAY, WEB), (DB6, WEB6), 64);
    refused(&mut router, "uplink", six, DropReason::InsideSource);
    let six = datagram6((GATEWAY, WEB), (DB_LINK, WEB_LINK), 64);
    refused(&mut router, "uplink", six, DropReason::InsideSource);
}

#[test]
fn guests_reach_each_other_by_whichever_mac() {
    let mut router = router();
    let to_db = || udp(&format!("{WEB4}:1"), &format!("{DB4}:2"), b"");
    passes(&mut router, "web", "db", to_db().link(WEB, DB).bytes());
    // A guest whose address is a /32 asks its gateway for everything.
    let sent = to_db().link(WEB, GATEWAY).bytes();
    assert_eq!(router.inject("web", sent), router.emit("db"));
    assert_eq!(
        router.sent(),
        [("db".to_owned(), to_db().link(WEB, DB).bytes())]
    );
    let back = udp(&format!("{DB4}:2"), &format!("{WEB4}:1"), b"");
    passes(&mut router, "db", "web", back.link(DB, WEB).bytes());
    assert_eq!(router.sessions().len(), 1);
    passes(
        &mut router,
        "web",
        "db",
        datagram6((WEB, DB), (WEB_LINK, DB_LINK), 64),
    );
    // But no guest is another's router.
    let through = query(REMOTE).link(WEB, DB).bytes();
    refused(&mut router, "web", through, DropReason::WrongPersonality);
}

#[test]
fn the_router_and_guests_behind_it_are_reached_beside_the_uplink() {
    let mut router = router();
    // The router itself.
    let asked = who_has(OWN4, (WEB, WEB4)).bytes();
    assert_eq!(router.inject("web", asked), router.emit("web"));
    let answer = is_at((X, OWN4), (WEB, WEB4)).bytes()[..42].to_vec();
    assert_eq!(router.sent(), [("web".to_owned(), answer)]);
    let asked = who_has(VM4, (WEB, WEB4)).bytes();
    assert_eq!(router.inject("web", asked), router.emit("web"));
    assert_eq!(
        router.sent(),
        [(
            "web".to_owned(),
            is_at((X, VM4), (WEB, WEB4)).bytes()[..42].to_vec()
        )]
    );
    assert_eq!(
        router.inject("web", ns((WEB, WEB6), OWN6)),
        Verdict::Consumed
    );
    let sent = router.sent();
    assert_eq!(
        (sent.len(), sent[0].0.as_str(), sent[0].1[54]),
        (1, "web", 136)
    );
    for to in [X, GATEWAY] {
        let sent = ping(WEB4, OWN4, 7, 1, b"hello").link(WEB, to).bytes();
        assert_eq!(router.inject("web", sent), router.emit("web"));
        let expected = pong(OWN4, WEB4, 7, 1, b"hello").link(X, WEB).bytes();
        assert_eq!(router.sent(), [("web".to_owned(), expected)]);
    }
    // A guest that leaves by the personality, and what it is answered.
    let (vm, x) = (format!("10.0.0.1:{}", 7_000), format!("{OWN4}:7000"));
    let web = format!("{WEB4}:53");
    let sent = udp(&vm, &web, b"query").link(VM, LAN).bytes();
    assert_eq!(router.inject("vm", sent), router.emit("web"));
    let expected = udp(&x, &web, b"query").link(X, WEB).ttl(63).bytes();
    assert_eq!(router.sent(), [("web".to_owned(), expected)]);
    for to in [X, GATEWAY] {
        let answer = udp(&web, &x, b"answer").link(WEB, to).bytes();
        assert_eq!(router.inject("web", answer), router.emit("vm"));
        let expected = udp(&web, &vm, b"answer").link(LAN, VM).ttl(63).bytes();
        assert_eq!(router.sent(), [("vm".to_owned(), expected)]);
    }
    // By a forwarded port, and at an address that it has outside.
    for (outside, inside) in [
        (format!("{OWN4}:8022"), "10.0.0.1:22"),
        (format!("{VM4}:22"), "203.0.113.31:22"),
    ] {
        let from = format!("{WEB4}:9000");
        let syn = tcp(&from, &outside, "S", b"").link(WEB, GATEWAY).bytes();
        assert_eq!(router.inject("web", syn), router.emit("vm"));
        let expected = tcp(&from, inside, "S", b"").link(LAN, VM).ttl(63).bytes();
        assert_eq!(router.sent(), [("vm".to_owned(), expected)]);
        let answer = tcp(inside, &from, "S.", b"").link(VM, LAN).bytes();
        assert_eq!(router.inject("vm", answer), router.emit("web"));
        let expected = tcp(&outside, &from, "S.", b"").link(X, WEB).ttl(63).bytes();
        assert_eq!(router.sent(), [("web".to_owned(), expected)]);
        // Strangers who say they are the guest do not get into its session.
        let forged = tcp(&from, &outside, ".", b"evil").link(STRANGER, X).bytes();
        refused(&mut router, "uplink", forged, DropReason::InsideSource);
    }
    // Inside stays inside.
    let inside = udp(&format!("{WEB4}:1"), "10.0.0.1:2", b"")
        .link(WEB, X)
        .bytes();
    refused(&mut router, "web", inside, DropReason::InsideDestination);
    // Nobody leaves by the router who is bridged beside it.
    let through = query(REMOTE).link(WEB, X).bytes();
    refused(&mut router, "web", through, DropReason::EgressGuard);
}

#[test]
fn super_frames_pass_and_what_is_too_large_does_not() {
    let mut router = router();
    let syn = |flags, payload: &[u8]| {
        tcp(&format!("{WEB4}:1"), &format!("{REMOTE}:2"), flags, payload).link(WEB, GATEWAY)
    };
    passes(&mut router, "web", "uplink", syn("S", b"").bytes());
    let large = syn(".", &[7; 5_000]).bytes();
    refused(&mut router, "web", &large, DropReason::TooLarge);
    let whole = tapgate_tests::packet::unfinished(&large, Some(1_448)).unwrap();
    assert_eq!(
        router.inject_frame("web", whole.clone()),
        router.emit("uplink")
    );
    let lengths: Vec<_> = router
        .sent()
        .iter()
        .map(|(_, bytes)| bytes.len() - 54)
        .collect();
    assert_eq!(lengths, [1_448, 1_448, 1_448, 656]);
    let whole = tapgate_tests::packet::unfinished(&large, Some(1_500)).unwrap();
    assert_eq!(
        router.inject_frame("web", whole),
        Verdict::Drop(DropReason::TooLarge)
    );
}

#[test]
fn fragments_follow_their_first() {
    let mut router = router();
    let whole = udp(&format!("{WEB4}:1"), &format!("{REMOTE}:2"), &[7; 2_000]).link(WEB, GATEWAY);
    let packet = whole.packet();
    let piece = |from: usize, to: usize| {
        let body = &packet[20 + from..20 + to];
        let more = 20 + to < packet.len();
        tapgate_tests::packet::ip(WEB4, REMOTE, 17, body)
            .id(9)
            .fragment(from as u16 / 8, more)
            .link(WEB, GATEWAY)
            .bytes()
    };
    assert_eq!(router.inject("web", piece(1_000, 2_008)), Verdict::Hold);
    let first = piece(0, 1_000);
    router.inject("web", &first);
    router.wait(1);
    assert_eq!(
        router.sent(),
        [
            ("uplink".to_owned(), first),
            ("uplink".to_owned(), piece(1_000, 2_008))
        ]
    );
    // A router's advertisement in fragments is none.
    let mut ra = icmp6((WEB, DB), (WEB_LINK, DB_LINK), 134, &[0; 8], 255);
    ra[20] = 44;
    ra.splice(54..54, [58, 0, 0, 0, 0, 0, 0, 1]);
    ra[19] += 8;
    assert!(matches!(router.inject("web", ra), Verdict::Drop(_)));
    assert!(router.is_silent());
}
