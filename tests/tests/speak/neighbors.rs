//! What the router believes about its neighbours, and how long.

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;

#[test]
fn n02_n10_an_advertisement_without_override_keeps_the_mac() {
    let mut router = resolved();
    advertise(&mut router, SECOND, 0x40);
    assert_eq!(leads_to(&mut router), Some(FIRST), "O=0: kept, now stale");
    advertise(&mut router, SECOND, 0x20);
    assert_eq!(leads_to(&mut router), Some(SECOND), "O=1: replaced");
    let up = "up";
    let target = "2001:db8:9::77";
    let group = (FIRST, [0x33, 0x33, 0, 0, 0, 1]);
    let wrong = nd(group, (target, "ff02::1"), (136, 0x60), target, Some(2));
    assert_eq!(
        router.inject(up, wrong),
        Verdict::Drop(DropReason::NdMalformed),
        "S=1 to all"
    );
    let mut far = nd(
        (FIRST, ROUTER_OUT),
        (target, "2001:db8:9::10"),
        (136, 0x60),
        target,
        Some(2),
    );
    far[21] = 254;
    assert_eq!(
        router.inject(up, far),
        Verdict::Drop(DropReason::NdMalformed),
        "passed a router"
    );
    assert_eq!(leads_to(&mut router), Some(SECOND));
}

#[test]
fn n08_a_solicitation_with_a_new_mac_is_believed() {
    let mut router = resolved();
    let up = "up";
    let from = (SECOND, ROUTER_OUT);
    let asks = nd(
        from,
        ("2001:db8:9::77", "2001:db8:9::10"),
        (135, 0),
        "2001:db8:9::10",
        Some(1),
    );
    assert_eq!(router.inject(up, asks), Verdict::Consumed);
    assert_eq!(leads_to(&mut router), Some(SECOND));
    router.wait(5_100);
    let probes: Vec<_> = router
        .sent()
        .into_iter()
        .filter(|(_, bytes)| bytes[54] == 135)
        .collect();
    assert_eq!(probes[0].1[..6], SECOND, "stale: used, then probed");
}

#[test]
fn n11_a_host_that_goes_deaf_is_probed_three_times_and_forgotten() {
    let mut router = resolved();
    router.wait(46_000);
    assert_eq!(leads_to(&mut router), Some(FIRST), "stale by now, and used");
    let start = router.now;
    let mut probes = Vec::new();
    for _ in 0..100 {
        router.wait(100);
        for (port, bytes) in router.sent() {
            if port == "up" && bytes[54] == 135 {
                assert_eq!(bytes[..6], FIRST, "to it alone");
                probes.push(router.now.since(start).as_millis());
            }
        }
    }
    assert_eq!(probes.len(), 3, "{probes:?}");
    assert!((4_900..=5_200).contains(&probes[0]), "{probes:?}");
    assert!(
        probes
            .windows(2)
            .all(|pair| (900..=1_100).contains(&(pair[1] - pair[0])))
    );
    assert_eq!(leads_to(&mut router), None, "asked for anew");
}

#[test]
fn n18_an_optimistic_host_is_served() {
    let mut router = resolved();
    let up = "up";
    // RFC 4429 §3.3: solicitations without a link-layer option, advertisements without override.
    let asks = nd(
        (SECOND, ROUTER_OUT),
        ("2001:db8:9::88", "2001:db8:9::10"),
        (135, 0),
        "2001:db8:9::10",
        None,
    );
    assert_eq!(
        router.inject(up, asks),
        Verdict::Consumed,
        "answered to its frame's source"
    );
    let (_, answer) = &router.sent()[0];
    assert_eq!(answer[..6], SECOND);
    assert_eq!(leads_to(&mut router), Some(FIRST));
}

#[test]
fn n19_a_redirect_changes_nothing() {
    let mut router = resolved();
    let up = "up";
    let mut redirect = nd(
        (SECOND, ROUTER_OUT),
        ("fe80::9", HOST),
        (137, 0),
        "2001:db8:9::66",
        None,
    );
    redirect.truncate(redirect.len());
    let verdict = router.inject(up, redirect);
    assert!(
        matches!(
            verdict,
            Verdict::Drop(DropReason::NdIgnored | DropReason::NdMalformed)
        ),
        "{verdict:?}"
    );
    assert_eq!(leads_to(&mut router), Some(FIRST));
}
