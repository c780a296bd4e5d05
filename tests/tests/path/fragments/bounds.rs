//! What waits and what is under way is bounded, in all and for each guest.

use tapgate_engine::drops::DropReason;
use tapgate_tests::fragments::{cut, datagram, piece};

use super::*;

/// Another guest's datagram passes in either order of its fragments.
fn passes(router: &mut Router, id: u32, by: &str, ends: (&str, &str)) -> bool {
    let whole = datagram(macs(by), UDP, (at(ends.0), at(ends.1)), &payload(3_000));
    router.take_all();
    let mut pieces = cut(&whole, id, 1_000);
    if id.is_multiple_of(2) {
        pieces.reverse();
    }
    for piece in pieces {
        router.inject(by, piece);
    }
    packets(router).len() == 4
}

/// A hundred thousand incomplete datagrams of one guest, of which the first or another fragment came.
#[test]
fn g04_h10_a_flood_of_fragments_is_bounded_and_costs_no_other_guest() {
    for first in [true, false] {
        let mut router = Router::settled(TEXT);
        router.answer_everything();
        let hello = (at("10.0.1.1:4000"), at("198.51.100.9:7"));
        router.inject("g", datagram(macs("g"), UDP, hello, b"hello"));
        let ends = ["198.51.100.9:7", "198.51.101.9:7"].map(|to| (hello.0, at(to)));
        let whole = ends.map(|ends| datagram(macs("g"), UDP, ends, &payload(1_500)));
        let part = if first { (0, 800) } else { (800, 1_508) };
        let mut most = 0;
        for n in 0..100_000_u32 {
            // More than there are identifications.
            let whole = &whole[n as usize / 65_536];
            router.inject("g", piece(whole, n, part, first));
            router.take_all();
            if n % 5_000 == 4_999 {
                most = most.max(router.counts()["fragment_memory_bytes"]);
                let out = ("10.0.1.2:4000", "198.51.100.9:7");
                assert!(passes(&mut router, n, "h", out));
                let back = ("[2001:db8:f::9]:7", "[2001:db8:a::33]:7");
                assert!(passes(&mut router, n + 1, "up", back));
                // What is not in fragments is not concerned at all.
                let plain = datagram(macs("g"), UDP, hello, b"plain");
                assert_eq!(router.inject("g", plain), router.emit("up"));
            }
        }
        assert!(most <= 4 << 20, "half of all: {most}");
        assert!(router.counts()["datagrams_displaced"] > 90_000);
        let limit = ("g".to_owned(), DropReason::FragmentNoRoom, false);
        assert_eq!(router.limits_met(), [limit]);
        router.wait(16_000);
        assert!(!router.counts().contains_key("fragment_memory_bytes"));
    }
}

/// Strangers' fragments displace strangers' alone: not what a guest expects.
#[test]
fn g04_h11_strangers_displace_nothing_that_a_guest_expects() {
    let mut router = Router::settled(TEXT);
    router.answer_everything();
    let question = (at("10.0.1.1:4000"), at("198.51.100.9:7"));
    router.inject("g", datagram(macs("g"), UDP, question, b"question"));
    let (_, left) = packets(&mut router).remove(0);
    let flow = tapgate_tests::flow::Flow::of(&left).unwrap().reversed();
    let answer = (flow.source, flow.destination);
    let answer = cut(
        &datagram(macs("up"), UDP, answer, &payload(3_000)),
        77,
        1_000,
    );
    assert_eq!(router.inject("up", &answer[0]), router.emit("g"));
    for n in 0..20_000_u32 {
        let ends = (at("198.51.100.66:9"), at("203.0.113.10:4000"));
        let whole = datagram(macs("up"), UDP, ends, &payload(1_500));
        router.inject("up", piece(&whole, n, (800, 1_508), false));
    }
    for late in &answer[1..] {
        assert_eq!(router.inject("up", late), router.emit("g"));
    }
}

/// A datagram in more fragments than any honest sender makes.
#[test]
fn g04_a_datagram_has_128_fragments_at_most() {
    let mut router = router();
    let ends = (at("10.0.1.1:4000"), at("198.51.100.9:7"));
    let whole = datagram(macs("g"), UDP, ends, &payload(4_000));
    let verdicts: Vec<Verdict> = (1..=130)
        .map(|n| router.inject("g", piece(&whole, 5, (n * 16, n * 16 + 8), true)))
        .collect();
    assert!(
        verdicts[..128]
            .iter()
            .all(|verdict| *verdict == Verdict::Hold)
    );
    let refused = Verdict::Drop(DropReason::FragmentNoRoom);
    assert_eq!(verdicts[128..], [refused, refused]);
}
