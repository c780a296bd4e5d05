//! What is for the router itself: put together, answered, and given up in time.

use tapgate_engine::drops::DropReason;
use tapgate_tests::fragments::{cut, fragment, join};

use super::*;

/// The payload of the one echo reply among packets that left by `w`.
fn reply(out: Vec<(String, Vec<u8>)>, v6: bool) -> Vec<u8> {
    assert!(
        out.iter()
            .all(|(port, bytes)| port == "w" && bytes.len() <= 1_514)
    );
    let mut whole = join(out.into_iter().map(|(_, bytes)| bytes));
    assert_eq!(whole.len(), 1);
    let whole = whole.remove(0);
    assert_eq!(tapgate_tests::wire::transport_checksum(&whole), Some(true));
    let l4 = if v6 { 54 } else { 34 };
    assert_eq!(whole[l4], if v6 { 129 } else { 0 });
    whole[l4 + 8..].to_vec()
}

#[test]
fn g01_an_echo_of_3000_bytes_is_answered_in_any_order_and_with_duplicates() {
    for v6 in [false, true] {
        let mut router = router();
        let request = echo_to_us(v6, 3_000);
        let pieces = cut(&request, 5, 1_000);
        for order in [
            [0, 1, 2, 3].as_slice(),
            &[3, 2, 1, 0],
            &[1, 3, 0, 2],
            &[2, 0, 3, 1],
            &[0, 0, 3, 1, 1, 3, 0, 2],
            &[3, 3, 1, 1, 0, 0, 2],
        ] {
            let mut seen = Vec::new();
            for number in order {
                let verdict = router.inject("w", &pieces[*number]);
                let expected = match seen.contains(number) {
                    true => Verdict::Drop(DropReason::FragmentDuplicate),
                    false if seen.len() == 3 => Verdict::Replaced,
                    false => Verdict::Hold,
                };
                assert_eq!(verdict, expected, "{order:?}");
                if !seen.contains(number) {
                    seen.push(*number);
                }
            }
            assert_eq!(reply(packets(&mut router), v6), payload(3_000));
        }
        let counts = router.counts();
        assert_eq!(counts["datagrams_reassembled"], 6);
        assert!(!counts.contains_key("datagrams_under_way"), "{counts:?}");
        assert!(!counts.contains_key("fragment_memory_bytes"), "{counts:?}");
    }
}

/// The largest there can be, and one that needs no fragments on its way back.
#[test]
fn g01_f13_an_echo_of_any_length_is_answered() {
    for (v6, length) in [(false, 65_507), (true, 65_527), (false, 100), (true, 1_400)] {
        let mut router = router();
        let size = if length < 2_000 { 48 } else { 1_440 };
        for piece in cut(&echo_to_us(v6, length), 5, size) {
            router.inject("w", piece);
        }
        assert_eq!(reply(packets(&mut router), v6), payload(length), "{length}");
    }
}

/// An atomic fragment is a packet by itself, whatever else has its identification (RFC 6946).
#[test]
fn g03_an_atomic_fragment_is_handled_alone() {
    let mut router = router();
    let request = echo_to_us(true, 100);
    let pieces = cut(&request, 5, 64);
    router.inject("w", &pieces[0]);
    let atomic = fragment(&request, 58, 5, 0, false, &request[54..]);
    assert_eq!(router.inject("w", atomic), router.emit("w"));
    assert_eq!(packets(&mut router).len(), 1);
    assert_eq!(router.inject("w", &pieces[1]), Verdict::Replaced);
    assert_eq!(reply(packets(&mut router), true), payload(100));
}

#[test]
fn g01_after_60_seconds_the_sender_is_told_if_the_first_fragment_came() {
    for v6 in [false, true] {
        let mut router = router();
        let pieces = cut(&echo_to_us(v6, 3_000), 5, 1_000);
        for piece in [&pieces[2], &pieces[0]] {
            assert_eq!(router.inject("w", piece), Verdict::Hold);
        }
        router.wait(59_900);
        assert!(packets(&mut router).is_empty());
        router.wait(200);
        let told = packets(&mut router);
        assert_eq!(told.len(), 1);
        let (l4, kind) = if v6 { (54, [3, 1]) } else { (34, [11, 1]) };
        assert_eq!(told[0].1[l4..l4 + 2], kind);
        // It quotes the first fragment as it came.
        assert_eq!(told[0].1[l4 + 8..][..60], pieces[0][14..74]);
        assert_eq!(router.dropped(DropReason::FragmentTimeout), 2);
        assert_eq!(router.counts()["datagrams_timed_out"], 1);
        assert!(!router.counts().contains_key("fragment_memory_bytes"));
        // Too late.
        assert_eq!(router.inject("w", &pieces[1]), Verdict::Hold);

        // Without the first: silence.
        let pieces = cut(&echo_to_us(v6, 3_000), 6, 1_000);
        for piece in &pieces[1..] {
            assert_eq!(router.inject("w", piece), Verdict::Hold);
        }
        router.wait(61_000);
        assert!(packets(&mut router).is_empty());
        assert_eq!(router.counts()["datagrams_timed_out"], 3);
    }
}

/// Nobody is told of what was not for us, nor of what was refused.
#[test]
fn g01_what_is_sent_on_times_out_in_silence() {
    for (from, to) in [
        ("10.0.1.1:4000", "198.51.100.9:7"),
        ("[2001:db8:a::11]:4000", "[2001:db8:f::9]:7"),
    ] {
        let mut router = router();
        let whole =
            tapgate_tests::fragments::datagram(macs("g"), UDP, (at(from), at(to)), &payload(3_000));
        let pieces = cut(&whole, 5, 1_000);
        router.inject("g", &pieces[1]);
        router.wait(14_900);
        assert_eq!(router.dropped(DropReason::FragmentTimeout), 0);
        router.wait(200);
        assert_eq!(router.dropped(DropReason::FragmentTimeout), 1);
        // And the first, in whose way others would have followed.
        assert_eq!(router.inject("g", &pieces[0]), router.emit("up"));
        router.take_all();
        router.wait(20_000);
        assert!(packets(&mut router).is_empty());
        assert_eq!(router.counts()["datagrams_timed_out"], 2);
        assert_eq!(router.dropped(DropReason::FragmentTimeout), 1);
        assert!(!router.counts().contains_key("datagrams_under_way"));
    }
}

/// Time-outs have the budget of errors of their kind.
#[test]
fn g01_f12_time_outs_are_limited_like_other_errors() {
    let text = TEXT.replace(
        "icmp_errors_per_second = 1000",
        "icmp_errors_per_second = 10",
    );
    let mut router = Router::settled(&text);
    router.answer_everything();
    for id in 0..50 {
        let first = &cut(&echo_to_us(false, 3_000), id, 1_000)[0];
        assert_eq!(router.inject("w", first), Verdict::Hold);
    }
    router.wait(61_000);
    let told = packets(&mut router).len();
    assert!((1..=5).contains(&told), "{told}");
    assert_eq!(router.counts()["icmp_errors_limited"], 50 - told as u64);
}

/// F11: not about what was sent from nobody in particular.
#[test]
fn g01_f11_who_must_not_be_told_is_not() {
    let mut router = router();
    let ends = (at("240.0.0.9:77"), at("203.0.113.10:0"));
    let whole = tapgate_tests::fragments::datagram(macs("up"), ECHO, ends, &payload(3_000));
    router.inject("up", &cut(&whole, 5, 1_000)[0]);
    router.wait(61_000);
    assert!(packets(&mut router).is_empty());
}

/// The answer waits for its next hop in fragments.
#[test]
fn g01_an_answer_whose_next_hop_is_unknown_waits() {
    for (from, to) in [
        ("203.0.113.78:77", "203.0.113.10:0"),
        ("[2001:db8:a::78]:77", "[2001:db8:a::1]:0"),
    ] {
        let mut router = Router::settled(TEXT);
        let ends = (at(from), at(to));
        let whole = tapgate_tests::fragments::datagram(macs("up"), ECHO, ends, &payload(3_000));
        for piece in cut(&whole, 5, 1_000) {
            assert_eq!(router.inject("up", piece), Verdict::Hold);
        }
        router.answer_everything();
        router.wait(1_000);
        let out = packets(&mut router);
        assert!(out.len() > 2 && out.iter().all(|(port, _)| port == "up"));
        assert_eq!(join(out.into_iter().map(|(_, bytes)| bytes)).len(), 1);
    }
}

/// Only an echo is worth putting together: anything else is refused by its first fragment.
#[test]
fn g01_what_nobody_listens_to_is_refused_at_once() {
    let mut router = router();
    let ends = (at("10.0.1.1:4000"), at("10.0.1.254:9"));
    let whole = tapgate_tests::fragments::datagram(macs("g"), UDP, ends, &payload(3_000));
    let pieces = cut(&whole, 5, 1_000);
    let refused = Verdict::Drop(DropReason::PortUnreachable);
    assert_eq!(router.inject("g", &pieces[1]), Verdict::Hold);
    assert_eq!(router.inject("g", &pieces[0]), refused);
    assert_eq!(router.inject("g", &pieces[2]), refused);
    let told = packets(&mut router);
    assert_eq!((told.len(), &told[0].1[34..36]), (1, &[3, 3][..]));
    assert_eq!(router.dropped(DropReason::PortUnreachable), 3);
}
