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
    assert_eq!(table.iter().count(), 0);
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
    assert!(!table.hear(ON, HOST, MAC, at(0)).1);
    assert_eq!(table.iter().count(), 0);
    table.learn(ON, HOST, MAC, at(0));
    assert!(table.hear(ON, HOST, OTHER, at(0)).1);
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
    table.learn(ON, IpAddr::from([10, 0, 0, 2]), (OTHER.0, MAC.1), at(1));
    assert_eq!(table.follow(slot, at(1)), None);
}

fn target(net: u8, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    IpAddr::from([10, net, high, low])
}

fn is_pending(resolution: Resolution) -> bool {
    matches!(resolution, Resolution::Pending(_))
}

#[test]
fn n24_one_port_that_scans_takes_a_quarter_and_goes_on_at_its_own_expense() {
    let mut table = Neighbors::new(64, 1);
    let (scanner, other) = (Some(PortId(1)), Some(PortId(2)));
    let asked = |table: &mut Neighbors, from: u16, now| {
        let one = |n: &u16| is_pending(table.resolve(ON, target(1, *n), scanner, at(now)));
        (from..from + 100).filter(one).count()
    };
    assert_eq!(
        asked(&mut table, 0, 0),
        16,
        "each is asked for a second at least"
    );
    assert!(is_pending(table.resolve(ON, HOST, other, at(0))));
    assert_eq!(asked(&mut table, 100, 1_000), 16, "then the next");
    assert!(!table.knows(ON, target(1, 0)) && table.knows(ON, target(1, 115)));
    assert!(table.knows(ON, HOST), "anothers' are not touched");
    table.confirm(ON, target(1, 115), MAC, at(1_001));
    assert_eq!(table.share(PortId(1)).0, 15);
    assert_eq!(table.share(MAC.1).0, 1, "who answers counts where it is");
    for second in 1..6 {
        while table.poll(at(second * 1_000)).is_some() {}
    }
    assert_eq!((table.share(PortId(1)).0, table.iter().count()), (0, 1));
}

#[test]
fn n24_ports_that_scan_together_evict_nobody_else() {
    let mut table = Neighbors::new(64, 1);
    for n in 0..32 {
        table.learn(ON, target(2, n), MAC, at(0));
    }
    for n in 0..1_000 {
        let asker = Some(PortId(10 + n % 4));
        table.resolve(ON, target(1, n), asker, at(1));
    }
    for n in 0..32 {
        let resolution = table.resolve(ON, target(2, n), None, at(2));
        assert!(matches!(resolution, Resolution::Known(..)), "{n}");
    }
    assert!(is_pending(table.resolve(ON, HOST, Some(PortId(20)), at(2))));
}

#[test]
fn h07_a_port_that_claims_many_addresses_displaces_its_own() {
    let mut table = Neighbors::new(4_096, 1);
    for n in 0..500 {
        table.learn(ON, target(2, n), OTHER, at(0));
    }
    for n in 0..20_000 {
        table.learn(ON, target(1, n), MAC, at(1));
    }
    assert_eq!(table.share(OTHER.1).0, 500);
    assert_eq!(table.share(MAC.1), (1_798, 1_798));
    assert!((0..500).all(|n| table.knows(ON, target(2, n))));
    assert!(table.knows(ON, target(1, 19_999)), "the newest is known");
}

#[test]
fn h07_neighbours_in_use_stay_and_what_is_configured_takes_no_place() {
    let mut table = Neighbors::new(8, 1);
    for n in 0..100 {
        let pinned = table.pin(ON, target(3, n), MAC, at(0));
        assert!(pinned.is_some(), "{n}");
    }
    assert_eq!(table.share(MAC.1).0, 0);
    table.learn(ON, HOST, MAC, at(0));
    table.confirm(ON, HOST, MAC, at(0));
    for n in 0..100 {
        table.learn(ON, target(1, n), MAC, at(1));
    }
    assert!(table.knows(ON, HOST), "it was confirmed lately");
    assert!((0..100).all(|n| table.knows(ON, target(3, n))));
}

#[test]
fn h10_frames_of_one_port_that_wait_leave_room_for_anothers() {
    let mut table = Neighbors::new(4_096, 1);
    let super_frame = |origin| Held {
        frame: OwnedFrame {
            bytes: vec![0; 60_000],
            ..OwnedFrame::default()
        },
        origin: Some(origin),
        worker: 0,
    };
    let mut lost = 0;
    for n in 0..200 {
        let Resolution::Pending(id) = table.resolve(ON, target(1, n), Some(PortId(1)), at(0))
        else {
            panic!("{n}")
        };
        lost += table.hold(id, super_frame(PortId(1)));
    }
    assert_eq!(lost, 200 - 70, "of 8 MiB a half");
    let Resolution::Pending(id) = table.resolve(ON, HOST, Some(PortId(2)), at(0)) else {
        panic!()
    };
    for _ in 0..100 {
        table.hold(id, frame());
    }
    assert_eq!(table.hold(id, super_frame(PortId(2))), 0);
    let held = table.confirm(ON, HOST, OTHER, at(1));
    assert_eq!(
        held.len(),
        HELD_EACH + 1,
        "each port has a queue of its own"
    );
}
