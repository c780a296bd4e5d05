use super::*;

const A: u16 = 1;
const B: u16 = 2;

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// Addresses whose holder was heard.
fn known(addresses: impl IntoIterator<Item = u8>) -> Virtuals {
    let mut virtuals = Virtuals::default();
    for last in addresses {
        virtuals.doubt(address(last), at(0));
        let heard = virtuals.heard(address(last), (A, A), false, at(0));
        assert_eq!(heard, Said::Nothing);
    }
    virtuals
}

fn at(millis: u64) -> Instant {
    Instant::default() + Duration::from_secs(100) + Duration::from_millis(millis)
}

#[test]
fn who_was_heard_keeps_it_until_somebody_announces_it() {
    let mut virtuals = known([1]);
    let said = virtuals.heard(address(1), (A, B), false, at(1));
    assert_eq!(said, Said::Nothing);
    assert!(virtuals.take_moves(at(1)).is_empty());
    let said = virtuals.heard(address(1), (A, B), true, at(2));
    assert_eq!(said, Said::Taken);
    assert_eq!(
        virtuals.next_deadline(),
        Some(Instant::default()),
        "at once"
    );
    assert_eq!(
        virtuals.take_moves(at(2)),
        BTreeMap::from([(address(1), B)])
    );
    assert_eq!(virtuals.next_deadline(), None);
}

#[test]
fn who_was_not_heard_loses_it_to_who_speaks_of_it() {
    let mut virtuals = Virtuals::default();
    virtuals.doubt(address(1), at(0));
    let said = virtuals.heard(address(1), (A, B), false, at(1));
    assert_eq!(said, Said::Taken);
    // Before it is published, the one that had it comes too late.
    assert_eq!(
        virtuals.heard(address(1), (A, A), false, at(1)),
        Said::Nothing
    );
    assert_eq!(
        virtuals.take_moves(at(1)),
        BTreeMap::from([(address(1), B)])
    );
}

#[test]
fn who_was_not_heard_is_asked_more_and_more_seldom() {
    let mut virtuals = Virtuals::default();
    virtuals.doubt(address(1), at(0));
    let mut asked = Vec::new();
    while asked.len() < 8 {
        let due = virtuals.next_deadline().expect("it was not heard");
        assert_eq!(virtuals.poll(due), Some(address(1)));
        asked.push(due.since(at(0)).as_secs());
    }
    assert_eq!(asked, [0, 1, 2, 4, 8, 18, 28, 38]);
    virtuals.heard(address(1), (A, A), false, at(40_000));
    assert_eq!(virtuals.next_deadline(), None);
}

#[test]
fn a_guest_takes_over_so_often_and_no_more() {
    let mut virtuals = known([1]);
    let mut now = 0;
    let mut taken = 0;
    let mut holders = (A, B);
    // Both announce it, a hundred times a second.
    while now < 60_000 {
        now += 10;
        if virtuals.heard(address(1), holders, true, at(now)) == Said::Taken {
            taken += 1;
            assert_eq!(
                virtuals.heard(address(1), holders, true, at(now)),
                Said::Taken,
                "again"
            );
            now += 60;
            assert_eq!(virtuals.take_moves(at(now)).len(), 1);
            holders = (holders.1, holders.0);
        }
    }
    // Four at once and one in 5 s, for each of the two.
    assert!((24..=34).contains(&taken), "{taken}");
}

#[test]
fn many_addresses_are_taken_over_in_one_turn_and_published_together() {
    let mut virtuals = known(1..=64);
    for last in 1..=64 {
        let said = virtuals.heard(address(last), (A, B), true, at(u64::from(last) / 8));
        assert_eq!(said, Said::Taken);
    }
    assert_eq!(virtuals.take_moves(at(10)).len(), 64);
    // The next ones wait a moment, and are not forgotten.
    assert_eq!(
        virtuals.heard(address(1), (B, A), true, at(11)),
        Said::Taken
    );
    assert!(virtuals.take_moves(at(11)).is_empty());
    let due = virtuals.next_deadline().expect("they are to be published");
    assert_eq!(due, at(10) + PAUSE);
    let moves = virtuals.take_moves(due);
    assert_eq!(moves.len(), 1);
    virtuals.put_back(moves);
    assert_eq!(virtuals.take_moves(due).len(), 1);
}
