use super::*;

const GUEST: Payer = Payer::By(0);
const OTHER: Payer = Payer::By(1);
const SOON: Duration = Duration::from_secs(15);

fn key(identification: u32) -> Key {
    Key {
        port: PortId(1),
        interface: InterfaceId(2),
        source: IpAddr::from([10, 0, 0, 1]),
        destination: IpAddr::from([10, 0, 0, 2]),
        protocol: 17,
        identification,
    }
}

fn piece(start: u16, end: u16, more: bool) -> Piece {
    Piece {
        identification: 1,
        start,
        end,
        more,
    }
}

fn frame(length: usize) -> OwnedFrame {
    OwnedFrame {
        bytes: vec![0; length],
        ..OwnedFrame::default()
    }
}

/// A datagram of which these pieces came.
fn with(pieces: &[Piece]) -> Datagram {
    let mut fragments = Fragments::new(7);
    let number = fragments.open(key(1), GUEST, SOON, Instant(0)).unwrap();
    for piece in pieces {
        fragments.note(number, piece);
    }
    fragments.close(number).unwrap()
}

#[test]
fn g02_what_contradicts_another_piece_overlaps() {
    let seen = with(&[piece(16, 32, true), piece(48, 60, false)]);
    for (start, end, more, fit) in [
        (0, 16, true, Fit::New),
        (32, 48, true, Fit::New),
        (16, 32, true, Fit::Duplicate),
        (48, 60, false, Fit::Duplicate),
        (48, 60, true, Fit::Overlap), // it was the last
        (16, 32, false, Fit::Overlap),
        (8, 24, true, Fit::Overlap),
        (24, 40, true, Fit::Overlap),
        (24, 32, true, Fit::Overlap),
        (16, 24, true, Fit::Overlap),
        (0, 64, true, Fit::Overlap),
        (56, 64, true, Fit::Overlap),
        (64, 72, true, Fit::Overlap), // beyond the end
        (64, 72, false, Fit::Overlap),
        (32, 40, false, Fit::Overlap), // a second end
    ] {
        let piece = piece(start, end, more);
        assert_eq!(seen.fit(&piece), fit, "{piece:?}");
    }
    // An end before what came already.
    let seen = with(&[piece(16, 32, true)]);
    assert_eq!(seen.fit(&piece(0, 24, false)), Fit::Overlap);
    assert_eq!(seen.fit(&piece(0, 8, false)), Fit::Overlap);
    assert_eq!(seen.fit(&piece(16, 32, false)), Fit::Overlap);
    assert_eq!(seen.fit(&piece(32, 33, false)), Fit::New);
}

#[test]
fn a_datagram_is_whole_when_nothing_is_missing() {
    let parts = [piece(0, 8, true), piece(8, 24, true), piece(24, 25, false)];
    assert!(with(&parts).is_whole());
    for missing in 0..3 {
        let mut some = parts.to_vec();
        some.remove(missing);
        assert!(!with(&some).is_whole(), "without {missing}");
    }
}

#[test]
fn a_datagram_has_so_many_pieces_and_no_more() {
    let pieces: Vec<Piece> = (0..MOST_PIECES as u16)
        .map(|n| piece(n * 16, n * 16 + 8, true))
        .collect();
    let seen = with(&pieces);
    assert_eq!(seen.fit(&piece(8, 16, true)), Fit::TooMany);
    assert_eq!(seen.fit(&pieces[5]), Fit::Duplicate);
}

#[test]
fn g04_h10_one_payer_has_a_share_and_its_oldest_make_room() {
    let mut fragments = Fragments::new(7);
    let theirs = fragments.open(key(0), OTHER, SOON, Instant(0)).unwrap();
    for n in 1..=100_000 {
        let number = fragments.open(key(n), GUEST, SOON, Instant(0)).unwrap();
        fragments.hold(number, &piece(8, 16, true), frame(1_500));
    }
    assert!(fragments.memory() <= ROOM / 2 + BESIDE_DATAGRAM);
    assert_eq!(fragments.find(&key(0)), Some(theirs));
    assert!(fragments.find(&key(1)).is_none() && fragments.find(&key(100_000)).is_some());
    let (datagrams, frames) = fragments.take_displaced();
    assert_eq!(
        (datagrams, datagrams),
        (frames, 100_001 - fragments.len() as u64)
    );
    // There is room for the largest datagram of another.
    let held = (0..44).map(|n| {
        let part = piece(n * 1_480, (n + 1) * 1_480, true);
        fragments.hold(theirs, &part, frame(1_500))
    });
    assert!(held.into_iter().all(|whole| whole == Some(false)));
    // Nothing is left when all are gone.
    while fragments.expire(Instant(15_000)).is_some() {}
    assert_eq!((fragments.memory(), fragments.len()), (0, 0));
    assert!(fragments.numbers.is_empty() && fragments.by_payer.is_empty());
}

#[test]
fn what_waits_for_the_first_is_forgotten_when_it_is_released() {
    let mut fragments = Fragments::new(7);
    let number = fragments.open(key(1), GUEST, SOON, Instant(0)).unwrap();
    let late = piece(8, 12, false);
    assert_eq!(fragments.hold(number, &late, frame(50)), Some(false));
    let fate = Fate::Follows {
        protocol: 17,
        ports: (1, 2),
    };
    let released = fragments.settle(number, fate);
    assert_eq!(released, [(8, frame(50))]);
    assert_eq!(fragments.memory(), BESIDE_DATAGRAM);
    assert!(!fragments.note(number, &piece(0, 8, true)));
    assert_eq!(fragments.get(number).unwrap().fit(&late), Fit::New);
    assert!(fragments.note(number, &late));
}

#[test]
fn g04_identifications_are_not_in_a_row() {
    let mut fragments = Fragments::new(7);
    let drawn: BTreeSet<u32> = (0..1_000).map(|_| fragments.identification()).collect();
    assert_eq!(drawn.len(), 1_000);
    let mut again = Fragments::new(8);
    assert!(!drawn.contains(&again.identification()));
}
