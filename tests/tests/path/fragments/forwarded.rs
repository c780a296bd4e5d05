//! What is sent on: translated as a whole packet is, in whatever order its fragments come.

use tapgate_tests::flow::{ECHO, UDP};
use tapgate_tests::fragments::{cut, datagram, join};
use tapgate_tests::router::Router;

use super::*;

/// A flow: its protocol, the port it comes in by, its ends, and the port it leaves by.
type Way = (u8, &'static str, (&'static str, &'static str), &'static str);

/// Ways out and in, of both families, translated and not.
const WAYS: [Way; 14] = [
    (UDP, "g", ("10.0.1.1:4000", "198.51.100.9:7"), "up"),
    (TCP, "g", ("10.0.1.1:4000", "198.51.100.9:7"), "up"),
    (ECHO, "g", ("10.0.1.1:4000", "198.51.100.9:0"), "up"),
    (
        UDP,
        "h",
        ("[2001:db8:1::2]:4000", "[2001:db8:f::9]:7"),
        "up",
    ),
    (
        TCP,
        "h",
        ("[2001:db8:1::2]:4000", "[2001:db8:f::9]:7"),
        "up",
    ),
    (
        ECHO,
        "h",
        ("[2001:db8:1::2]:4000", "[2001:db8:f::9]:0"),
        "up",
    ),
    (UDP, "w", ("203.0.113.33:4000", "198.51.100.9:7"), "up"),
    (
        TCP,
        "w",
        ("[2001:db8:a::33]:4000", "[2001:db8:f::9]:7"),
        "up",
    ),
    (UDP, "up", ("198.51.100.9:7", "203.0.113.10:53"), "g"),
    (TCP, "up", ("198.51.100.9:7", "203.0.113.10:80"), "g"),
    (UDP, "up", ("[2001:db8:f::9]:7", "[2001:db8:a::1]:53"), "h"),
    (TCP, "up", ("[2001:db8:f::9]:7", "[2001:db8:a::1]:80"), "h"),
    (UDP, "up", ("[2001:db8:f::9]:7", "[2001:db8:a::33]:53"), "w"),
    (ECHO, "g", ("10.0.1.1:4000", "10.0.1.2:0"), "h"),
];

/// All orders of four.
fn orders() -> Vec<[usize; 4]> {
    let mut orders = Vec::new();
    for n in 0..256 {
        let order = [n / 64, n / 16 % 4, n / 4 % 4, n % 4];
        if (0..4).all(|number| order.contains(&number)) {
            orders.push(order);
        }
    }
    assert_eq!(orders.len(), 24);
    orders
}

/// Sends a datagram of a way in these pieces; returns what came out, put together.
fn sent(router: &mut Router, by: &str, pieces: &[Vec<u8>], to: &str) -> Vec<u8> {
    for piece in pieces {
        router.inject(by, piece);
    }
    let out = packets(router);
    assert!(out.iter().all(|(port, _)| port == to), "{out:?}");
    assert_eq!(out.len(), pieces.len());
    let mut whole = join(out.into_iter().map(|(_, bytes)| bytes));
    assert_eq!(whole.len(), 1);
    whole.remove(0)
}

/// The answer to a datagram as it left, and to the port that it left by.
fn answer(left: &[u8], protocol: u8, to: &str) -> Vec<u8> {
    let flow = tapgate_tests::flow::Flow::of(left).unwrap().reversed();
    let ends = (flow.source, flow.destination);
    datagram(macs(to), protocol, ends, &payload(2_500))
}

/// In every order of four fragments, there and back: as the same datagram in one frame.
#[test]
fn t08_p03_fragments_in_any_order_are_translated_as_a_whole_packet_is() {
    for (protocol, by, (from, to), out) in WAYS {
        let mut router = router();
        let ends = (at(from), at(to));
        // The session is there already for the first order, and began with a fragment.
        let whole = datagram(macs(by), protocol, ends, &payload(3_000));
        for (number, order) in orders().into_iter().enumerate() {
            let id = 100 + number as u32;
            let pieces = cut(&whole, id, 800);
            assert_eq!(pieces.len(), 4);
            let pieces: Vec<_> = order.iter().map(|n| pieces[*n].clone()).collect();
            let left = sent(&mut router, by, &pieces, out);
            assert_eq!(tapgate_tests::wire::transport_checksum(&left), Some(true));
            let carried = &left[left.len() - 3_000..];
            assert_eq!(carried, payload(3_000), "{protocol} {from} {order:?}");
            let session = router.sessions();
            let session = session
                .iter()
                .find(|session| session.source == (ends.0.ip(), ends.0.port()));
            let session = session.expect("a session");
            let (source, port) = session.translated.unwrap_or(session.source);
            let flow = tapgate_tests::flow::Flow::of(&left).unwrap();
            assert_eq!((flow.source.ip(), flow.source.port()), (source, port));

            let back = cut(&answer(&left, protocol, out), 7_000 + id, 640);
            assert_eq!(back.len(), 4);
            let back: Vec<_> = order.iter().map(|n| back[*n].clone()).collect();
            let heard = sent(&mut router, out, &back, by);
            assert_eq!(tapgate_tests::wire::transport_checksum(&heard), Some(true));
            let flow = tapgate_tests::flow::Flow::of(&heard).unwrap();
            assert_eq!((flow.source, flow.destination), (ends.1, ends.0));
        }
        let counts = router.counts();
        assert_eq!(counts["datagrams_complete"], 48, "{protocol} {from}");
        assert!(!counts.contains_key("datagrams_under_way"), "{counts:?}");
        assert!(!counts.contains_key("fragment_memory_bytes"), "{counts:?}");
    }
}

/// What waits for its next hop is not lost, nor taken for a duplicate when it comes in anew.
#[test]
fn t08_fragments_that_come_before_their_next_hop_is_known_leave_afterwards() {
    for (from, to) in [
        ("10.0.1.1:4000", "203.0.113.77:7"),
        ("[2001:db8:a::11]:4000", "[2001:db8:a::77]:7"),
    ] {
        for reversed in [false, true] {
            let mut router = Router::settled(TEXT);
            let whole = datagram(macs("g"), UDP, (at(from), at(to)), &payload(2_000));
            let mut pieces = cut(&whole, 9, 640);
            if reversed {
                pieces.reverse();
            }
            for piece in pieces {
                assert_eq!(router.inject("g", piece), Verdict::Hold, "{from}");
            }
            assert!(packets(&mut router).is_empty());
            router.answer_everything();
            router.wait(1_000);
            let out = packets(&mut router);
            assert_eq!(out.len(), 4, "{from} {reversed}");
            let whole = join(out.into_iter().map(|(_, bytes)| bytes));
            assert_eq!(whole.len(), 1);
            assert_eq!(router.sessions().len(), 1);
        }
    }
}

/// Nor is one that comes after the first, when the next hop has to be asked for again.
#[test]
fn t08_fragments_that_follow_wait_for_their_next_hop_as_well() {
    let mut router = router();
    let ends = (at("10.0.1.1:4000"), at("198.51.100.9:7"));
    let pieces = cut(&datagram(macs("g"), UDP, ends, &payload(2_000)), 9, 640);
    router.inject("g", &pieces[0]);
    router.inject("g", &pieces[2]);
    // The uplink's device comes anew: who was heard there is forgotten.
    router.attach("up");
    assert_eq!(router.inject("g", &pieces[1]), Verdict::Hold);
    assert_eq!(router.inject("g", &pieces[3]), router.emit("up"));
    let out = packets(&mut router);
    assert_eq!(out.len(), 4);
    assert_eq!(join(out.into_iter().map(|(_, bytes)| bytes)).len(), 1);
    assert!(!router.counts().contains_key("datagrams_under_way"));
}

/// UDP over IPv4 may go without a checksum, in fragments as in one frame.
#[test]
fn t19_t08_no_checksum_stays_none() {
    let mut router = router();
    let ends = (at("10.0.1.1:4000"), at("198.51.100.9:7"));
    let mut whole = datagram(macs("g"), UDP, ends, &payload(2_000));
    whole[40..42].fill(0);
    let left = sent(&mut router, "g", &cut(&whole, 3, 1_000), "up");
    assert_eq!(left[40..42], [0, 0]);
}

/// A fragment larger than the next link takes is cut again; over IPv6 its sender is told.
#[test]
fn f08_s02_fragments_are_cut_like_any_packet() {
    let narrow = TEXT.replace("w = { memory = true }", "w = { memory = true, mtu = 1280 }");
    let mut router = Router::settled(&narrow);
    router.answer_everything();
    let ends = (at("203.0.113.9:7"), at("203.0.113.33:7"));
    let whole = datagram(macs("up"), UDP, ends, &payload(2_900));
    for piece in cut(&whole, 3, 1_480).into_iter().rev() {
        router.inject("up", piece);
    }
    let out = packets(&mut router);
    assert_eq!(out.len(), 4);
    assert!(
        out.iter()
            .all(|(port, bytes)| port == "w" && bytes.len() <= 1_294)
    );
    let left = join(out.into_iter().map(|(_, bytes)| bytes));
    assert_eq!(left[0][left[0].len() - 2_900..], payload(2_900));

    let ends = (at("[2001:db8:a::9]:7"), at("[2001:db8:a::33]:7"));
    let whole = datagram(macs("up"), UDP, ends, &payload(2_900));
    let mut pieces = cut(&whole, 3, 1_448).into_iter();
    assert!(dropped(router.inject("up", pieces.next().unwrap())));
    let told = packets(&mut router);
    assert_eq!((told.len(), &told[0].1[54..56]), (1, &[2, 0][..]));
    assert!(pieces.all(|piece| dropped(router.inject("up", piece))));
    assert!(packets(&mut router).is_empty());
}
