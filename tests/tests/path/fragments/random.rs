//! Random datagrams, cut at random and sent in a random order with some fragments twice: they arrive
//! byte for byte, or not at all.

use proptest::prelude::*;
use tapgate_tests::flow::{ECHO, Flow, UDP};
use tapgate_tests::fragments::{datagram, join, piece};

use super::*;

/// A datagram, the places at which it is cut (in units of 8 bytes), the order of its pieces, those that
/// come twice, one that does not come, and how much later one begins than it should.
#[derive(Debug, Clone)]
struct Case {
    protocol: u8,
    by: usize,
    length: usize,
    cuts: Vec<usize>,
    order: Vec<usize>,
    twice: Vec<usize>,
    lost: Option<usize>,
    overlap: Option<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let protocol = prop_oneof![Just(UDP), Just(TCP), Just(ECHO)];
    let cuts = proptest::collection::btree_set(1..180_usize, 1..12);
    (protocol, 0..3_usize, 16..1_440_usize, cuts).prop_flat_map(|(protocol, by, length, cuts)| {
        let cuts: Vec<usize> = cuts
            .into_iter()
            .filter(|cut| cut * 8 < length + 8)
            .collect();
        let pieces = cuts.len() + 1;
        let order = Just((0..pieces).collect::<Vec<_>>()).prop_shuffle();
        let twice = proptest::collection::vec(0..pieces, 0..4);
        let one = proptest::option::weighted(0.2, 0..pieces);
        (order, twice, one.clone(), one).prop_map(move |(order, twice, lost, overlap)| Case {
            protocol,
            by,
            length,
            cuts: cuts.clone(),
            order,
            twice,
            lost,
            overlap,
        })
    })
}

const FROM: [(&str, &str, &str); 3] = [
    ("g", "10.0.1.1:4000", "198.51.100.9:7"),
    ("h", "[2001:db8:1::2]:4000", "[2001:db8:f::9]:7"),
    ("w", "203.0.113.33:4000", "198.51.100.9:7"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn t08_g02_random_fragments_arrive_byte_for_byte_or_not_at_all(cases in proptest::collection::vec(case(), 1..6)) {
        let mut router = router();
        for (id, case) in cases.iter().enumerate() {
            one(&mut router, id as u32, case)?;
            router.take_all();
        }
    }
}

fn one(router: &mut Router, id: u32, case: &Case) -> Result<(), TestCaseError> {
    let (by, from, to) = FROM[case.by];
    let to = if case.protocol == ECHO {
        to.replace(":7", ":0")
    } else {
        to.to_owned()
    };
    let ends = (at(from), at(&to));
    let carried = payload(case.length);
    let whole = datagram(macs(by), case.protocol, ends, &carried);
    let header = if ends.0.is_ipv4() { 34 } else { 54 };
    let length = whole.len() - header;
    let edges: Vec<usize> = std::iter::once(0)
        .chain(case.cuts.iter().map(|cut| cut * 8))
        .chain([length])
        .collect();
    if edges.len() == 2 || edges[edges.len() - 2] >= length {
        return Ok(());
    }
    let make = |number: usize| {
        let (from, to) = (edges[number], edges[number + 1]);
        piece(&whole, id, (from, to), to < length)
    };
    let mut pieces = Vec::new();
    for number in &case.order {
        if case.lost == Some(*number) {
            continue;
        }
        pieces.push(make(*number));
        if case.twice.contains(number) {
            pieces.push(make(*number));
        }
    }
    let wrong = case
        .overlap
        .filter(|number| edges[number + 1] - edges[*number] > 8);
    if let Some(number) = wrong {
        // What it says is another's place.
        let mut bytes = piece(
            &whole,
            id,
            (edges[number] + 8, edges[number + 1]),
            edges[number + 1] < length,
        );
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let place = pieces.len() / 2;
        pieces.insert(place, bytes);
    }
    for piece in pieces {
        router.inject(by, piece);
    }
    let out = packets(router);
    prop_assert!(out.iter().all(|(port, _)| port == "up"));
    let fragments: Vec<Vec<u8>> = out.into_iter().map(|(_, bytes)| bytes).collect();
    let arrived = join(fragments);
    let tiny = case.protocol == TCP && edges[1] < 20;
    // What would overwrite TCP's header is refused by itself.
    let wrong = wrong.filter(|number| case.protocol != TCP || edges[*number] + 8 >= 20);
    let complete = case.lost.is_none() && wrong.is_none() && !tiny;
    prop_assert_eq!(arrived.len(), usize::from(complete), "{:?}", case);
    for left in &arrived {
        prop_assert_eq!(&left[left.len() - case.length..], &carried[..]);
        prop_assert_eq!(tapgate_tests::wire::transport_checksum(left), Some(true));
        let flow = Flow::of(left).expect("a flow");
        prop_assert_eq!(flow.destination, ends.1);
    }
    Ok(())
}
