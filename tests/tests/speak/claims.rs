//! How own and guests' addresses are claimed, defended and announced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use etherparse::{IcmpEchoHeader as EchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_engine::time::Instant;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

use super::answers::*;

#[test]
fn n12_n13_n14_own_addresses_pass_duplicate_detection_first() {
    let mut router = Router::new(&config("g"));
    let up = "up";
    let own = "2001:db8:9::10";
    router.wait(0);
    let probes: Vec<_> = router
        .sent()
        .into_iter()
        .filter(|(_, bytes)| is_probe(bytes))
        .collect();
    let (_, probe) = probes
        .iter()
        .find(|(port, bytes)| port == up && bytes[62..78] == v6(own))
        .expect("a probe for the own address");
    let (group_mac, group) = solicited_node(own);
    assert_eq!(probe[..6], group_mac);
    assert_eq!((&probe[22..38], &probe[38..54]), (&[0; 16][..], &group[..]));
    assert_eq!(
        (probe[21], probe[78], probe.len()),
        (255, 14, 86),
        "a nonce and nothing else"
    );

    let ask = || request(GATEWAY, "2001:db8:9::1", own, Ask::Ordinary);
    assert_eq!(
        router.inject(up, ask()),
        Verdict::Drop(DropReason::AddressTentative)
    );
    // Our own probe comes back by some reflector.
    let mut reflected = probe.clone();
    reflected[6..12].copy_from_slice(&STRANGER);
    router.inject(up, reflected);
    router.wait(1_000);
    router.take_all();
    assert_eq!(
        answer(&mut router, up, ask()),
        Some((ROUTER_OUT, true)),
        "ours after 1 s"
    );

    for rival in ["probe", "advertisement"] {
        let mut router = Router::new(&config("g"));
        router.wait(500);
        let mut bytes = request(STRANGER, own, own, Ask::Probe);
        if rival == "advertisement" {
            bytes = request(STRANGER, own, own, Ask::Ordinary);
            bytes[54] = 136;
            bytes[78] = 2;
            fix_icmp6(&mut bytes);
        }
        assert_eq!(
            router.inject(up, bytes),
            Verdict::Drop(DropReason::NdSenderIsUs),
            "{rival}"
        );
        let notices = router.notices();
        assert!(
            notices.iter().any(|n| n.given_up && n.mac.0 == STRANGER),
            "{notices:?}"
        );
        router.wait(5_000);
        router.take_all();
        let asked = answer(&mut router, up, ask());
        assert_eq!(asked, None, "{rival}: a duplicate is never used");
    }
}

#[test]
fn a04_ipv4_addresses_are_claimed_where_that_is_wanted() {
    let acd = config("g").replace("gateway = [", "acd = true, gateway = [");
    let mut router = Router::new(&acd);
    let up = "up";
    let ask = || request(GATEWAY, "198.51.100.1", "198.51.100.10", Ask::Ordinary);
    let is_arp = |bytes: &[u8]| bytes[12..14] == [0x08, 0x06];
    let mut probes = Vec::new();
    let mut announced = Vec::new();
    for ms in 0..120 {
        router.wait(100);
        for (port, bytes) in router.sent() {
            let about = is_arp(&bytes) && port == up && bytes[38..42] == [198, 51, 100, 10];
            if about && bytes[28..32] == [0; 4] {
                probes.push(ms * 100);
            } else if about && bytes[21] == 1 {
                announced.push(ms * 100);
            }
        }
    }
    assert_eq!(probes.len(), 3, "{probes:?}");
    assert!(probes[0] <= 1_000);
    assert!(
        probes
            .windows(2)
            .all(|w| (900..=2_100).contains(&(w[1] - w[0]))),
        "{probes:?}"
    );
    assert!(
        announced[0] >= probes[2] + 1_900,
        "{probes:?} {announced:?}"
    );
    assert_eq!(announced.len(), 3);
    assert!(
        announced
            .windows(2)
            .all(|w| (1_900..=2_100).contains(&(w[1] - w[0]))),
        "{announced:?}"
    );
    assert_eq!(answer(&mut router, up, ask()), Some((ROUTER_OUT, true)));

    // Somebody has it, or wants it too, at any phase.
    for (wait, ask) in [
        (0, Ask::Ordinary),
        (1_500, Ask::Probe),
        (3_500, Ask::Ordinary),
        (3_500, Ask::Probe),
    ] {
        let mut router = Router::new(&acd);
        router.wait(wait);
        let rival = request(STRANGER, "198.51.100.10", "198.51.100.10", ask);
        router.inject(up, rival);
        router.wait(20_000);
        router.take_all();
        let answered = answer(
            &mut router,
            up,
            request(GATEWAY, "198.51.100.1", "198.51.100.10", ask),
        );
        assert_eq!(answered, None, "{ask:?} after {wait} ms");
    }
}

#[test]
fn a05_a_conflict_is_answered_once_in_ten_seconds() {
    let mut router = Router::settled(&config("g"));
    let up = "up";
    for victim in ["198.51.100.10", WEB4] {
        let mut defences = 0;
        for _ in 0..20 {
            let claim = request(STRANGER, victim, victim, Ask::Ordinary);
            assert_eq!(
                router.inject(up, claim),
                Verdict::Drop(DropReason::ArpSenderIsUs)
            );
            defences += router
                .sent()
                .iter()
                .filter(|(_, bytes)| bytes[21] == 1)
                .count();
            router.wait(250);
            router.take_all();
        }
        assert_eq!(defences, 1, "{victim}: 20 conflicts in 5 s");
        router.wait(6_000);
        router.take_all();
        let claim = request(STRANGER, victim, victim, Ask::Ordinary);
        router.inject(up, claim);
        assert_eq!(
            router.sent().len(),
            1,
            "{victim}: one frame, ten seconds later"
        );
    }
}

#[test]
fn n17_announcements_come_spaced_after_start_and_move_and_then_slowly() {
    let mut router = Router::new(&config("g"));
    let up = "up";
    let count = |sent: Vec<(String, Vec<u8>)>| {
        let v4 = |bytes: &[u8]| bytes[12..14] == [8, 6] && bytes[28..32] == [198, 51, 100, 20];
        let v6 = |bytes: &[u8]| bytes[54] == 136 && bytes[62..78] == v6(WEB6);
        let on_uplink = |(port, _): &&(String, Vec<u8>)| port == up;
        let list: Vec<_> = sent
            .iter()
            .filter(on_uplink)
            .map(|(_, bytes)| bytes)
            .collect();
        let advertised = list.iter().filter(|bytes| bytes.len() == 86 && v6(bytes));
        let flags: Vec<u8> = advertised.map(|bytes| bytes[58]).collect();
        (list.iter().filter(|bytes| v4(bytes)).count(), flags)
    };
    // Caches elsewhere may say something else, so the first override (RFC 4861 §7.2.6).
    let (overrides, reminds) = (vec![0xa0], vec![0x80]);
    router.wait(500);
    assert_eq!(
        count(router.sent()),
        (2, vec![]),
        "request and reply form; nothing to advertise from yet"
    );
    router.wait(1_000);
    assert_eq!(count(router.sent()), (0, overrides.clone()));
    router.wait(1_000);
    assert_eq!(count(router.sent()), (2, vec![]), "two seconds later");
    router.wait(60_000);
    let twice = [&overrides[..], &overrides].concat();
    assert_eq!(count(router.sent()), (2, twice), "three in all");
    router.wait(300_000);
    assert_eq!(
        count(router.sent()),
        (2, reminds),
        "and once in five minutes"
    );
    router.reload(&config("h"));
    router.wait(500);
    assert_eq!(count(router.sent()), (2, overrides), "it moved");
}

#[test]
fn n17_a_device_that_flaps_is_announced_no_faster() {
    let mut router = Router::settled(&config("g"));
    let (up, guest) = ("up", "g");
    router.wait(5_000);
    router.take_all();
    let mut announced = 0;
    for _ in 0..100 {
        router.attach(guest);
        router.wait(50);
        let web = |(port, bytes): &(String, Vec<u8>)| {
            port == up && bytes[12..14] == [8, 6] && bytes[28..32] == [198, 51, 100, 20]
        };
        announced += router.sent().iter().filter(|frame| web(frame)).count();
    }
    assert!(
        (4..=6).contains(&announced),
        "{announced} in 5 s, two forms each other second"
    );
}

/// When each address was announced on the uplink, since this was last asked.
fn announced(router: &mut Router) -> BTreeMap<Vec<u8>, Vec<u64>> {
    let mut times: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    for sent in router.take("up") {
        let bytes = &sent.bytes;
        let address = match bytes[12..14] {
            [8, 6] if bytes[21] == 1 && bytes[28..32] == bytes[38..42] => &bytes[28..32],
            [0x86, 0xdd] if bytes[54] == 136 => &bytes[62..78],
            _ => continue,
        };
        let at = sent.at.since(Instant::default()).as_millis() as u64;
        times.entry(address.to_vec()).or_default().push(at);
    }
    times
}

#[test]
fn n17_several_causes_at_once_are_one_burst() {
    // Start, the links come up one after the other, claims are won, a guest moves there and back.
    let mut router = Router::new(&config("g"));
    for (port, wait) in [("up", 50), ("g", 20), ("up", 300), ("h", 10)] {
        router.wait(wait);
        router.attach(port);
    }
    router.reload(&config("h"));
    router.wait(700);
    router.reload(&config("g"));
    router.wait(30_000);
    let times = announced(&mut router);
    // Two own ones of each family with the link-local one, the guests', and two prefixes of small size.
    assert!(times.len() > 10, "{times:?}");
    for (address, times) in &times {
        assert_eq!(times.len(), 3, "{address:02x?}: {times:?}");
        let gaps = times.windows(2).map(|two| two[1] - two[0]);
        assert!(gaps.min() >= Some(2_000), "{address:02x?}: {times:?}");
    }
    // Whenever the next cause comes, no two are closer than a second, of IPv4 than two.
    for wait in [100, 700, 1_500, 2_100, 3_300, 4_100, 4_900, 5_700] {
        router.attach("up");
        router.wait(wait);
        router.attach("g");
        router.attach("up");
        router.wait(30_000);
        for (address, times) in announced(&mut router) {
            let least = if address.len() == 4 { 2_000 } else { 1_000 };
            let gaps = times.windows(2).map(|two| two[1] - two[0]);
            assert!(
                gaps.min() >= Some(least),
                "{address:02x?} {wait}: {times:?}"
            );
            assert!((2..=6).contains(&times.len()), "{address:02x?}: {times:?}");
        }
    }
}

#[test]
fn n12_a_tentative_address_is_nobodys_source() {
    let up = "up";
    let link_local = "fe80::ff:fe00:aa";
    let ask = || request(GATEWAY, "2001:db8:9::1", WEB6, Ask::Ordinary);
    let sources = |router: &mut Router| {
        let sent = router.sent().into_iter();
        let v6 = sent.filter(|(port, bytes)| port == up && bytes[12..14] == [0x86, 0xdd]);
        v6.map(|(_, bytes)| bytes[22..38].to_vec())
            .collect::<Vec<_>>()
    };
    let mut router = Router::new(&config("g").replace("gateway = [", "acd = true, gateway = ["));
    for _ in 0..9 {
        router.wait(100);
        assert_eq!(
            router.inject(up, ask()),
            Verdict::Drop(DropReason::AddressTentative)
        );
        for own in ["198.51.100.10", "2001:db8:9::10", link_local] {
            assert_eq!(
                router.inject(up, echo(own)),
                Verdict::Drop(DropReason::AddressTentative),
                "{own}"
            );
        }
        for source in sources(&mut router) {
            assert_eq!(source, [0; 16], "a probe or a report of before");
        }
    }
    router.wait(200);
    let announced = sources(&mut router);
    assert!(
        announced.contains(&v6(link_local).to_vec()),
        "{announced:02x?}"
    );
    assert_eq!(answer(&mut router, up, ask()), Some((ROUTER_OUT, false)));

    // Somebody has the link-local address: another own one takes its place.
    let mut router = Router::new(&config("g"));
    router.wait(500);
    router.inject(up, request(STRANGER, link_local, link_local, Ask::Probe));
    router.wait(700);
    let sources = sources(&mut router);
    assert!(sources.contains(&v6("2001:db8:9::10").to_vec()));
    assert!(!sources.contains(&v6(link_local).to_vec()));
    assert_eq!(answer(&mut router, up, ask()), Some((ROUTER_OUT, false)));
}

/// An echo request to an address of the personality's.
fn echo(own: &str) -> Vec<u8> {
    let header = EchoHeader { id: 1, seq: 1 };
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ethernet2(GATEWAY, ROUTER_OUT);
    let written = match own.parse().unwrap() {
        IpAddr::V4(own) => builder
            .ipv4([198, 51, 100, 1], own.octets(), 64)
            .icmpv4(Icmpv4Type::EchoRequest(header))
            .write(&mut bytes, &[]),
        IpAddr::V6(own) => builder
            .ipv6(v6("fe80::9"), own.octets(), 64)
            .icmpv6(Icmpv6Type::EchoRequest(header))
            .write(&mut bytes, &[]),
    };
    written.unwrap();
    bytes
}
