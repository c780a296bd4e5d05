use super::*;
use std::net::Ipv4Addr;

const X: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn inside(host: u8, port: u16) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(10, 0, 0, host), port)
}

/// Everybody who wants one counts for himself.
fn ports(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

fn want(protocol: u8, inside: (Ipv4Addr, u16), range: PortRange) -> Wanted<Ipv4Addr> {
    Wanted {
        external: X,
        protocol,
        inside,
        range,
        payer: Payer::By(inside.1),
        limit: None,
        alone: false,
    }
}

#[test]
fn t01_one_insider_keeps_one_port_until_its_last_session_ends() {
    let mut nat = ExternalPorts::new(7, Share::ALL);
    let range = PortRange::default();
    assert_eq!(nat.acquire(&want(17, inside(1, 5000), range)), Ok(5000));
    assert_eq!(nat.acquire(&want(17, inside(1, 5000), range)), Ok(5000));
    nat.release(X, 17, 5000);
    assert_ne!(
        nat.acquire(&want(17, inside(2, 5000), range)),
        Ok(5000),
        "still held"
    );
    nat.release(X, 17, 5000);
    nat.tick(Instant::from_millis(240_000));
    assert_eq!(
        nat.acquire(&want(17, inside(3, 5000), range)),
        Ok(5000),
        "free again"
    );
    assert_eq!(
        nat.acquire(&want(6, inside(2, 5000), range)),
        Ok(5000),
        "another protocol"
    );
}

#[test]
fn what_first_packets_of_a_batch_will_get_is_foreseen() {
    let mut nat = ExternalPorts::new(8, Share::ALL);
    let range = PortRange::default();
    let flow = |(source, source_port)| Flow {
        source,
        source_port,
        destination: Ipv4Addr::new(198, 51, 100, 1),
        destination_port: 443,
        protocol: 17,
    };
    let batch = |port| (1..=2).flat_map(move |host| (port..port + 8).map(move |n| inside(host, n)));
    assert_eq!(nat.foresee(batch(5_000).map(flow)).count(), 0, "strangers");
    for insider in batch(5_000) {
        nat.acquire(&want(17, insider, range)).unwrap();
    }
    // Every second one finds its port taken.
    for insider in batch(6_000).filter(|insider| insider.0.octets()[3] == 1) {
        nat.acquire(&want(17, insider, range)).unwrap();
    }
    let new = || batch(6_000).filter(|insider| insider.0.octets()[3] == 2);
    let foreseen = nat.foresee(new().map(flow));
    let foreseen: Vec<u16> = foreseen.map(|(_, it)| it.external.1).collect();
    let given = new().map(|insider| nat.acquire(&want(17, insider, range)).unwrap());
    assert_eq!(foreseen, Vec::from_iter(given));
}

#[test]
fn t03_class_and_parity_are_kept_and_no_port_is_given_twice() {
    let mut nat = ExternalPorts::new(9, Share::ALL);
    let range = PortRange {
        first: 512,
        last: 2047,
    };
    let mut seen = std::collections::HashSet::new();
    for host in 0..200 {
        let port = nat.acquire(&want(17, inside(host, 53), range)).unwrap();
        assert!(port < 1024 && port % 2 == 1, "{port}");
        assert!(seen.insert(port));
    }
    for host in 0..200 {
        let port = nat.acquire(&want(17, inside(host, 4000), range)).unwrap();
        assert!(port >= 1024 && port % 2 == 0, "{port}");
        assert!(seen.insert(port));
    }
}

#[test]
fn t03_without_a_range_each_class_keeps_to_itself() {
    let mut nat = ExternalPorts::new(23, Share::ALL);
    let range = PortRange::default();
    assert_eq!(nat.acquire(&want(17, inside(1, 1_023), range)), Ok(1_023));
    assert_eq!(nat.acquire(&want(17, inside(1, 1_024), range)), Ok(1_024));
    for host in 2..200 {
        let low = nat.acquire(&want(17, inside(host, 1_023), range)).unwrap();
        assert!((1..1_024).contains(&low) && low % 2 == 1, "{low}");
        let high = nat.acquire(&want(17, inside(host, 1_024), range)).unwrap();
        assert!(high >= 1_024 && high % 2 == 0, "{high}");
    }
}

#[test]
fn t16_a_full_range_gives_nothing_and_uses_every_port_before() {
    let mut nat = ExternalPorts::new(11, Share::ALL);
    let range = PortRange {
        first: 1000,
        last: 1129,
    };
    for n in 0..130 {
        let port = nat
            .acquire(&want(17, inside(1, 2000 + n), range))
            .expect("a port is left");
        assert!(range.contains(port));
    }
    assert_eq!(
        nat.acquire(&want(17, inside(1, 9000), range)),
        Err(NoPort::Exhausted)
    );
    nat.release(X, 17, 1077);
    assert_eq!(nat.acquire(&want(17, inside(1, 9000), range)), Ok(1077));
    assert_eq!(nat.held(), 130);
}

#[test]
fn a_port_outside_a_narrowed_range_is_not_given_again() {
    let mut nat = ExternalPorts::new(15, Share::ALL);
    let narrow = PortRange {
        first: 3_000,
        last: 3_007,
    };
    assert_eq!(
        nat.acquire(&want(17, inside(1, 3_008), PortRange::default())),
        Ok(3_008)
    );
    let port = nat.acquire(&want(17, inside(1, 3_008), narrow)).unwrap();
    assert!(narrow.contains(port));
    assert_eq!(nat.acquire(&want(17, inside(1, 3_008), narrow)), Ok(port));
    nat.release(X, 17, 3_008);
    assert_eq!(nat.held(), 1);
}

#[test]
fn a_reserved_port_is_given_to_nobody() {
    let mut nat = ExternalPorts::new(17, Share::ALL);
    let range = PortRange {
        first: 2_000,
        last: 2_003,
    };
    assert_eq!(nat.acquire(&want(6, inside(1, 2_001), range)), Ok(2_001));
    nat.reserve(vec![(X, 6, ports(2_000, 2_001))]);
    let others: Vec<_> = (0..3)
        .map(|n| nat.acquire(&want(6, inside(2, 2_000 + n), range)))
        .collect();
    assert_eq!(
        others,
        [Ok(2_002), Ok(2_003), Err(NoPort::Exhausted)],
        "2000 and 2001 are not to be had"
    );
    nat.release(X, 6, 2_001);
    assert_eq!(
        nat.acquire(&want(6, inside(3, 2_001), range)),
        Err(NoPort::Exhausted)
    );
    nat.reserve(Vec::new());
    nat.tick(Instant::from_millis(240_000));
    assert_eq!(nat.acquire(&want(6, inside(3, 2_001), range)), Ok(2_001));
    assert_eq!(nat.held(), 3);
    let mut fresh = ExternalPorts::new(17, Share::ALL);
    fresh.reserve(vec![(X, 17, ports(2_001, 2_001))]);
    assert_ne!(fresh.acquire(&want(17, inside(1, 2_001), range)), Ok(2_001));
}

#[test]
fn workers_share_the_ports_and_keep_class_and_parity() {
    let shares: Vec<Share> = (0..4).map(|n| Share::of(n, 4).unwrap()).collect();
    let range = PortRange {
        first: 1_000,
        last: 1_063,
    };
    let mut given = std::collections::BTreeMap::new();
    for (worker, share) in (0..).zip(&shares) {
        let mut ports = ExternalPorts::new(3, *share);
        for n in 0..16 {
            let port = ports
                .acquire(&want(17, inside(1, 5_000 + n), range))
                .unwrap();
            assert_eq!(Share::worker_of(port, 4), worker);
            assert_eq!(given.insert(port, worker), None);
        }
        assert_eq!(
            ports.acquire(&want(17, inside(1, 9_000), range)),
            Err(NoPort::Exhausted)
        );
    }
    assert_eq!(given.len(), 64, "all of them, each by one worker");
    assert_eq!(Share::of(0, 3), None);
    assert_eq!(Share::of(4, 4), None);
}

#[test]
fn looking_at_a_port_says_what_taking_it_gives() {
    let mut ports = ExternalPorts::new(21, Share::ALL);
    for n in 0..200 {
        let (inside, range) = (inside(n % 7, 4_000 + u16::from(n)), PortRange::default());
        let seen = ports.peek(&want(6, inside, range));
        assert_eq!(ports.acquire(&want(6, inside, range)), seen);
        assert_eq!(ports.peek(&want(6, inside, range)), seen);
    }
}

#[test]
fn a_restored_mapping_is_the_same_one() {
    let mut nat = ExternalPorts::new(13, Share::ALL);
    assert!(nat.restore(X, 6, inside(1, 80), 4000, Payer::Nobody));
    assert!(nat.restore(X, 6, inside(1, 80), 4000, Payer::Nobody));
    assert!(!nat.restore(X, 6, inside(2, 80), 4000, Payer::Nobody));
    // A second one from before or after the range was narrowed.
    assert!(nat.restore(X, 6, inside(1, 80), 4001, Payer::Nobody));
    for port in [4000, 4001] {
        let only = PortRange {
            first: port,
            last: port,
        };
        assert_eq!(nat.acquire(&want(6, inside(1, 80), only)), Ok(port));
    }
}

#[test]
fn h04_one_payer_leaves_as_many_ports_as_it_has() {
    let mut nat = ExternalPorts::new(19, Share::ALL);
    let range = PortRange {
        first: 2_000,
        last: 2_999,
    };
    let by = |payer, port, limit| Wanted {
        payer: Payer::By(payer),
        limit,
        ..want(17, inside(payer as u8, port), range)
    };
    let mut greedy = 0;
    while nat.acquire(&by(1, 5_000 + greedy, None)).is_ok() {
        greedy += 1;
    }
    assert_eq!(greedy, 500);
    let refused = by(1, 9_000, None);
    assert_eq!(nat.peek(&refused), Err(NoPort::Limited));
    assert_eq!(
        nat.acquire(&by(2, 7_000, Some(1))),
        Ok(nat.peek(&by(2, 7_000, None)).unwrap())
    );
    assert_eq!(nat.acquire(&by(2, 7_001, Some(1))), Err(NoPort::Limited));
    assert!(nat.acquire(&by(3, 7_000, None)).is_ok());
    assert_eq!(nat.most_held(Payer::By(1)), Some((500, 499)));
    // Whoever it counts against can change.
    let port = nat.acquire(&by(1, 5_000, None)).unwrap();
    nat.charge((X, 17), port, Payer::By(4));
    assert_eq!(nat.most_held(Payer::By(4)).unwrap().0, 1);
    assert_eq!(nat.most_held(Payer::By(1)).unwrap().0, 499);
}

/// Takes all ports of a small range, one guest each, and frees them at `freed`, in seconds.
fn freed_at(nat: &mut ExternalPorts<Ipv4Addr>, range: PortRange, freed: &[(u16, u64)]) {
    for (port, _) in freed {
        assert_eq!(nat.acquire(&want(17, inside(1, *port), range)), Ok(*port));
    }
    for (port, seconds) in freed {
        nat.tick(Instant::from_millis(seconds * 1_000));
        nat.release(X, 17, *port);
    }
}

#[test]
fn t17_a_freed_port_rests_before_somebody_else_gets_it() {
    let range = PortRange {
        first: 1_000,
        last: 1_003,
    };
    for (seconds, rested) in [(1, false), (120, false), (239, false), (240, true)] {
        let mut nat = ExternalPorts::new(5, Share::ALL);
        freed_at(&mut nat, range, &[(1_000, 1)]);
        nat.tick(Instant::from_millis(seconds * 1_000));
        let wanted = want(17, inside(2, 1_000), range);
        assert_eq!(nat.peek(&wanted) == Ok(1_000), rested, "{seconds} s");
        assert_eq!(nat.acquire(&wanted) == Ok(1_000), rested, "{seconds} s");
    }
}

#[test]
fn t17_who_had_a_port_gets_it_again_at_once() {
    let mut nat = ExternalPorts::new(5, Share::ALL);
    let range = PortRange::default();
    freed_at(&mut nat, range, &[(5_000, 1)]);
    assert_eq!(nat.acquire(&want(17, inside(1, 5_000), range)), Ok(5_000));
}

/// A tiny pool is churned: what rested longest goes first, and nobody is refused for ports that rest.
#[test]
fn t17_a_tiny_pool_gives_what_rested_longest() {
    let mut nat = ExternalPorts::new(5, Share::ALL);
    let range = PortRange {
        first: 1_000,
        last: 1_003,
    };
    freed_at(
        &mut nat,
        range,
        &[(1_000, 130), (1_001, 130), (1_002, 250), (1_003, 250)],
    );
    let mut taken: Vec<u16> = (0..4)
        .map(|n| nat.acquire(&want(17, inside(2, 7_000 + n), range)).unwrap())
        .collect();
    taken[..2].sort_unstable();
    taken[2..].sort_unstable();
    assert_eq!(taken, [1_000, 1_001, 1_002, 1_003]);
    let full = nat.acquire(&want(17, inside(2, 8_000), range));
    assert_eq!(full, Err(NoPort::Exhausted));
}

/// What a packet makes when it is the first with an external address is small: it waits for it.
#[test]
fn tables_of_external_ports_are_made_little_by_little() {
    let mut nat = ExternalPorts::new(5, Share::ALL);
    let wanted = |n: u32| Wanted {
        payer: Payer::By(1),
        limit: Some(u32::MAX - 1),
        ..want(
            17,
            inside((n >> 15) as u8, n as u16 | 1 << 15),
            PortRange::default(),
        )
    };
    let mut most = 0;
    for n in 0..64_000 {
        let before = nat.memory();
        nat.acquire(&wanted(n)).unwrap();
        most = most.max(nat.memory() - before);
    }
    assert!(most < 80 << 10, "{most} bytes at once");
    let each = nat.memory() as f64 / 65_536.0;
    assert!(each < 26.0, "{each} bytes a port");
    for n in 0..64_000 {
        let port = nat.peek(&wanted(n)).unwrap();
        assert_eq!(nat.holder((X, port), 17), Some(wanted(n).inside));
        nat.release(X, 17, port);
    }
    assert_eq!(nat.held(), 0);
}
