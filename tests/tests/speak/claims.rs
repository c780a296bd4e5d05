//! How own and guests' addresses are claimed, defended and announced.

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
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
        (2, overrides.clone()),
        "request and reply form; one advertisement"
    );
    router.wait(1_000);
    assert_eq!(count(router.sent()), (2, overrides.clone()));
    router.wait(60_000);
    assert_eq!(count(router.sent()), (2, overrides.clone()), "three in all");
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
        (8..=12).contains(&announced),
        "{announced} in 5 s, two forms each second"
    );
}
