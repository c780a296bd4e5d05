//! What is refused: overlaps, tiny ones, and whatever belongs to a datagram that was.

use tapgate_engine::drops::DropReason;
use tapgate_tests::fragments::{cut, datagram, fragment, piece};

use super::*;

/// The same way for both families, translated.
const BOTH: [(&str, &str, &str); 2] = [
    ("g", "10.0.1.1:4000", "198.51.100.9:7"),
    ("h", "[2001:db8:1::2]:4000", "[2001:db8:f::9]:7"),
];

const OVERLAP: Verdict = Verdict::Drop(DropReason::FragmentOverlap);

#[test]
fn g02_p03_fragments_that_overlap_take_their_datagram_with_them() {
    for (by, from, to) in BOTH {
        let whole = datagram(macs(by), UDP, (at(from), at(to)), &payload(3_000));
        let length = 3_008;
        for (over, more) in [
            ((8, 808), true),
            ((0, 808), true),
            ((0, 792), true),
            ((792, 1_600), true),
            ((800, 1_592), true),
            ((1_000, 1_008), true),
            ((2_400, length), true),
            ((2_392, length), false),
            ((2_400, length - 1), false),
            ((1_600, 2_404), false),
        ] {
            // The first, the second and the last came; the third is missing.
            for waits in [false, true] {
                let mut router = router();
                let mut pieces = vec![(800, 1_600), (2_400, length)];
                pieces.insert(if waits { 2 } else { 0 }, (0, 800));
                if waits {
                    pieces.pop();
                }
                for (from, to) in pieces {
                    router.inject(by, piece(&whole, 5, (from, to), to < length));
                }
                let came = packets(&mut router).len();
                assert_eq!(came, if waits { 0 } else { 3 });
                let is_new = waits && over.1 <= 800;
                let over = piece(&whole, 5, over, more);
                if is_new {
                    continue; // nothing of it was there
                }
                assert_eq!(router.inject(by, over), OVERLAP, "{waits}");
                for missing in [(0, 800), (1_600, 2_400)] {
                    let missing = piece(&whole, 5, missing, true);
                    assert_eq!(router.inject(by, missing), OVERLAP);
                }
                assert!(packets(&mut router).is_empty());
                let counts = router.counts();
                assert_eq!(counts["datagrams_overlapping"], 1);
                assert_eq!(counts["drop fragment-overlap"], if waits { 5 } else { 3 });
                // Another datagram passes.
                let emitted = router.inject(by, piece(&whole, 6, (0, 800), true));
                assert_eq!(emitted, router.emit("up"));
            }
        }
    }
}

#[test]
fn g02_an_echo_to_us_with_an_overlap_is_not_answered() {
    for v6 in [false, true] {
        let mut router = router();
        let request = echo_to_us(v6, 3_000);
        let pieces = cut(&request, 5, 1_000);
        for piece in [&pieces[0], &pieces[1], &pieces[3]] {
            assert_eq!(router.inject("w", piece), Verdict::Hold);
        }
        assert_eq!(
            router.inject("w", piece(&request, 5, (992, 1_008), true)),
            OVERLAP
        );
        assert_eq!(router.inject("w", &pieces[2]), OVERLAP);
        router.wait(70_000);
        assert!(packets(&mut router).is_empty());
        assert_eq!(router.counts()["drop fragment-overlap"], 5);
        // In time the identification is free again.
        for piece in pieces {
            router.inject("w", piece);
        }
        assert!(!packets(&mut router).is_empty());
    }
}

/// The header that ports and flags are in is whole in the first fragment, and no other reaches into it.
#[test]
fn p03_tiny_first_fragments_are_refused_with_all_that_follow() {
    let tiny = Verdict::Drop(DropReason::FragmentTiny);
    for (by, from, to) in BOTH {
        for (protocol, size) in [(TCP, 8), (TCP, 16)] {
            let mut router = router();
            let whole = datagram(macs(by), protocol, (at(from), at(to)), &payload(100));
            let (first, rest) = ((0, size), (size, 120));
            assert_eq!(router.inject(by, piece(&whole, 5, first, true)), tiny);
            assert_eq!(router.inject(by, piece(&whole, 5, rest, false)), tiny);
            // The other way round: what starts within the header never waits.
            assert_eq!(router.inject(by, piece(&whole, 6, rest, false)), tiny);
            assert_eq!(router.inject(by, piece(&whole, 6, first, true)), tiny);
            assert!(packets(&mut router).is_empty());
            assert_eq!(router.sessions().len(), 2, "those of the greeting");
        }
        // With options that go on in the second fragment.
        let mut router = router();
        let mut whole = datagram(macs(by), TCP, (at(from), at(to)), &payload(100));
        let l4 = if by == "g" { 34 } else { 54 };
        whole[l4 + 12] = 0xf0;
        assert_eq!(router.inject(by, piece(&whole, 5, (0, 56), true)), tiny);
        assert_eq!(router.inject(by, piece(&whole, 5, (56, 120), false)), tiny);
        assert!(packets(&mut router).is_empty());
    }
    // An IPv6 header chain that goes on in the second fragment (RFC 7112).
    let mut router = router();
    let whole = datagram(
        macs("h"),
        UDP,
        (at(BOTH[1].1), at(BOTH[1].2)),
        &payload(100),
    );
    let options = [17, 2, 1, 4, 0, 0, 0, 0];
    assert_eq!(
        router.inject("h", fragment(&whole, 60, 5, 0, true, &options)),
        tiny
    );
    let nested = [UDP, 0, 0, 1, 0, 0, 0, 5, 0, 7, 0, 7, 0, 8, 0, 0];
    assert_eq!(
        router.inject("h", fragment(&whole, 44, 6, 0, true, &nested)),
        Verdict::Drop(DropReason::FragmentMalformed)
    );
}

#[test]
fn g02_what_cannot_be_a_fragment_is_refused() {
    for (by, from, to) in BOTH {
        let mut router = router();
        let whole = datagram(macs(by), UDP, (at(from), at(to)), &payload(3_000));
        let limit = if by == "g" { 65_515 } else { 65_535 };
        let beyond = fragment(&whole, UDP, 5, 65_512, false, &payload(limit - 65_512 + 1));
        let just = fragment(&whole, UDP, 5, 65_512, false, &payload(limit - 65_512));
        let odd = fragment(&whole, UDP, 6, 800, true, &payload(801));
        let empty = fragment(&whole, UDP, 6, 800, false, &[]);
        for bad in [beyond, odd, empty] {
            assert_eq!(
                router.inject(by, bad),
                Verdict::Drop(DropReason::FragmentMalformed)
            );
        }
        assert_eq!(router.inject(by, just), Verdict::Hold);
    }
}

/// Fragments go where their first went: nowhere, if it was refused.
#[test]
fn p03_fragments_of_what_was_refused_are_refused() {
    let rules = "rules = [{ priority = 5, to = \"198.51.100.66\", action = \"prohibit\" }]";
    let text = TEXT.replace("[nat]", &format!("[routing]\n{rules}\n[nat]"));
    let mut router = Router::settled(&text);
    router.answer_everything();
    let reason = DropReason::Prohibited;
    for (id, reversed) in [(5, false), (6, true)] {
        let ends = (at("10.0.1.1:4000"), at("198.51.100.66:7"));
        let mut pieces = cut(&datagram(macs("g"), UDP, ends, &payload(3_000)), id, 800);
        let before = router.dropped(reason);
        if reversed {
            pieces.reverse();
        }
        for piece in &pieces {
            router.inject("g", piece);
        }
        assert_eq!(router.dropped(reason), before + 4);
        let told = packets(&mut router);
        assert_eq!(told.len(), 1, "of the first alone");
        assert_eq!(told[0].1[34..36], [3, 13]);
    }
    // What cannot be translated, and a TTL that is used up.
    let mut whole = datagram(
        macs("g"),
        UDP,
        (at("10.0.1.1:4000"), at("198.51.100.9:7")),
        &payload(3_000),
    );
    let icmp = |start: u16, more| fragment(&whole, 1, 9, start, more, &payload(800));
    for (piece, verdict) in [
        (icmp(800, true), Verdict::Hold),
        (icmp(0, true), Verdict::Drop(DropReason::NatUnsupported)),
        (icmp(1_600, true), Verdict::Drop(DropReason::NatUnsupported)),
    ] {
        assert_eq!(router.inject("g", piece), verdict);
    }
    assert_eq!(router.dropped(DropReason::NatUnsupported), 3);
    whole[22] = 1;
    for piece in cut(&whole, 10, 800) {
        assert_eq!(
            router.inject("g", piece),
            Verdict::Drop(DropReason::TtlExceeded)
        );
    }
    assert_eq!(packets(&mut router).len(), 1);
}

/// Who forges a source keeps nothing, and has no part in the datagrams of whose it is.
#[test]
fn g02_p03_a_guest_cannot_spoil_anothers_datagram() {
    let mut router = router();
    let ends = (at("10.0.1.1:4000"), at("198.51.100.9:7"));
    let forged = datagram(macs("h"), UDP, ends, &payload(3_000));
    let spoofed = Verdict::Drop(DropReason::SpoofedSource);
    for piece in cut(&forged, 5, 800).into_iter().rev() {
        assert_eq!(router.inject("h", piece), spoofed);
    }
    assert!(!router.counts().contains_key("datagrams_under_way"));
    // From outside neither.
    let outside = datagram(macs("up"), UDP, ends, &payload(3_000));
    for piece in cut(&outside, 5, 800) {
        assert!(dropped(router.inject("up", piece)));
    }
    let own = datagram(macs("g"), UDP, ends, &payload(3_000));
    for piece in cut(&own, 5, 800).into_iter().rev() {
        router.inject("g", piece);
    }
    assert_eq!(packets(&mut router).len(), 4);
}

/// ICMP errors are small; one in fragments cannot be checked by its checksum.
#[test]
fn p01_p03_an_icmp_error_in_fragments_is_refused() {
    let mut router = router();
    let ends = (at("198.51.100.9:1"), at("203.0.113.33:1"));
    let like = datagram(macs("up"), UDP, ends, b"");
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &payload(792)].concat();
    let refused = Verdict::Drop(DropReason::FragmentUntranslatable);
    let rest = fragment(&like, 1, 5, 800, false, &payload(100));
    assert_eq!(
        router.inject("up", fragment(&like, 1, 5, 0, true, &error)),
        refused
    );
    assert_eq!(router.inject("up", rest), refused);
}
