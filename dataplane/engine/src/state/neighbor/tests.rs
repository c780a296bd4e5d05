use super::*;
use crate::wire::frame::OwnedFrame;

const ON: InterfaceId = InterfaceId(1);
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const MAC: (MacAddr, PortId) = (MacAddr([2, 0, 0, 0, 0, 1]), PortId(3));
const OTHER: (MacAddr, PortId) = (MacAddr([2, 0, 0, 0, 0, 2]), PortId(4));

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn solicits(table: &mut Neighbors, now: u64) -> Vec<Option<(MacAddr, PortId)>> {
    let mut seen = Vec::new();
    while let Some(event) = table.poll(at(now)) {
        match event {
            Event::Solicit { to, .. } => seen.push(to),
            Event::Failed { .. } => panic!("failed at {now}"),
        }
    }
    seen
}

fn frame() -> Held {
    Held {
        frame: OwnedFrame::default(),
        origin: None,
        worker: 0,
    }
}

#[test]
fn a07_one_solicitation_a_second_three_times_then_failure_with_what_waited() {
    let mut table = Neighbors::new(8, 1);
    for _ in 0..257 {
        let Resolution::Pending(id) = table.resolve(ON, HOST, None, at(0)) else {
            panic!()
        };
        table.hold(id, frame());
    }
    assert_eq!(solicits(&mut table, 0), [None]);
    assert_eq!(solicits(&mut table, 999), []);
    assert_eq!(solicits(&mut table, 1000), [None]);
    assert_eq!(solicits(&mut table, 2000), [None]);
    let Some(Event::Failed { held, .. }) = table.poll(at(3000)) else {
        panic!()
    };
    assert_eq!(held.len(), HELD_EACH);
    assert_eq!(table.next_deadline(), None);
    assert_eq!(table.incomplete, 0);
}

#[test]
fn an_answer_releases_what_waited_and_ages_through_delay_and_probe() {
    let mut table = Neighbors::new(8, 1);
    let Resolution::Pending(id) = table.resolve(ON, HOST, None, at(0)) else {
        panic!()
    };
    table.hold(id, frame());
    assert_eq!(solicits(&mut table, 0), [None]);
    assert_eq!(table.confirm(ON, HOST, MAC, at(10)).len(), 1);
    assert_eq!(table.follow(id, at(14_000)), Some(MAC));
    assert_eq!(solicits(&mut table, 14_000), []);
    assert_eq!(table.follow(id, at(60_000)), Some(MAC), "used while stale");
    assert_eq!(solicits(&mut table, 64_999), []);
    for second in [65_000, 66_000, 67_000] {
        assert_eq!(
            solicits(&mut table, second),
            [Some(MAC)],
            "probes the known MAC"
        );
    }
    assert!(matches!(table.poll(at(68_000)), Some(Event::Failed { .. })));
    assert_eq!(table.follow(id, at(68_000)), None);
}

#[test]
fn a02_a_known_neighbour_is_updated_and_an_unknown_one_is_not_made() {
    let mut table = Neighbors::new(8, 1);
    assert!(!table.hear(ON, HOST, MAC).1);
    assert_eq!(table.iter().count(), 0);
    table.learn(ON, HOST, MAC, at(0));
    assert!(table.hear(ON, HOST, OTHER).1);
    let Resolution::Known(_, mac, port) = table.resolve(ON, HOST, None, at(0)) else {
        panic!()
    };
    assert_eq!((mac, port), OTHER);
}

#[test]
fn a_place_given_to_another_no_longer_answers() {
    let mut table = Neighbors::new(1, 1);
    table.learn(ON, HOST, MAC, at(0));
    let slot = NeighborId {
        slot: 0,
        use_count: 0,
    };
    assert_eq!(table.clone().follow(slot, at(1)), Some(MAC));
    table.learn(ON, IpAddr::from([10, 0, 0, 2]), OTHER, at(1));
    assert_eq!(table.follow(slot, at(1)), None);
}

#[test]
fn n24_one_port_that_scans_leaves_room_for_the_others() {
    let mut table = Neighbors::new(64, 1);
    let target = |n: u8| IpAddr::from([10, 0, 1, n]);
    let (scanner, other) = (Some(PortId(1)), Some(PortId(2)));
    let refused = (0..100)
        .filter(|n| table.resolve(ON, target(*n), scanner, at(0)) == Resolution::Full)
        .count();
    assert_eq!(refused, 84, "a quarter of the table");
    assert!(matches!(
        table.resolve(ON, HOST, other, at(0)),
        Resolution::Pending(_)
    ));
    table.confirm(ON, target(0), MAC, at(1));
    assert!(matches!(
        table.resolve(ON, target(101), scanner, at(1)),
        Resolution::Pending(_)
    ));
    for second in 1..5 {
        while table.poll(at(second * 1_000)).is_some() {}
    }
    assert_eq!((table.incomplete, &table.asked_by[..]), (0, &[0, 0, 0][..]));
}

#[test]
fn n24_all_ports_that_scan_take_a_half_of_the_table_and_evict_nobody() {
    let mut table = Neighbors::new(64, 1);
    let known = |n: u8| IpAddr::from([10, 0, 2, n]);
    for n in 0..32 {
        table.learn(ON, known(n), MAC, at(0));
    }
    let asked = |n: u8| (IpAddr::from([10, 0, 1, n]), Some(PortId(u16::from(n % 4))));
    let waiting = (0..100).map(asked).filter(|(target, asker)| {
        let resolution = table.resolve(ON, *target, *asker, at(1));
        matches!(resolution, Resolution::Pending(_))
    });
    assert_eq!(waiting.count(), 32);
    for n in 0..32 {
        let resolution = table.resolve(ON, known(n), None, at(2));
        assert!(matches!(resolution, Resolution::Known(..)), "{n}");
    }
}
