//! No choice of addresses and ports makes looking them up dearer (H02). What is counted is work, not
//! time: buckets looked into and values compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::neighbor::Neighbors;
use super::payer::Payer;
use super::ports::{ExternalPorts, Share, Wanted};
use super::session::{SessionDetail, SessionMemory, SessionRecord, SessionTable};
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::ip::Address;
use crate::base::random::Random;
use crate::base::time::Instant;
use crate::config::{PortRange, Timeouts};
use crate::wire::flow::Flow;
use crate::wire::packet::UDP;

const FLOWS: u64 = 20_000;
/// Of these, each gives another secret.
const SEEDS: std::ops::Range<u64> = 100..108;
/// Multiplied by this, numbers in order lie far apart.
const ODD: u64 = 0x9e37_79b1;

type Chosen<T> = [(&'static str, fn(u64) -> T)];

fn flow<A>(source: A, destination: A, source_port: u64, destination_port: u64) -> Flow<A> {
    Flow {
        source,
        destination,
        source_port: source_port as u16,
        destination_port: destination_port as u16,
        protocol: UDP,
    }
}

fn guest4() -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 5)
}

fn v4(n: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(n as u32)
}

fn v6(upper: u64, lower: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower))
}

/// A /64 in which all destinations met while hashes multiplied by a constant that everybody knows.
const WEAK: u64 = 0xc0ac_29b7_c97c_50dd;
/// Ports that did the same to IPv4.
const WEAK_PORTS: (u64, u64) = (0x29b7, 0xc97c);
const ORDINARY: u64 = 0x2001_0db8_0012_3401;

const FLOWS4: &Chosen<Flow<Ipv4Addr>> = &[
    ("weak ports", |n| {
        flow(guest4(), v4(n << 14 | 1), WEAK_PORTS.0, WEAK_PORTS.1)
    }),
    ("weak ports, other way round", |n| {
        flow(v4(n << 14 | 1), guest4(), WEAK_PORTS.0, WEAK_PORTS.1)
    }),
    ("one address after the other", |n| {
        flow(guest4(), v4(0xc633_0000 + n), 4_000, 53)
    }),
    ("the same lower bits", |n| {
        flow(guest4(), v4(n << 17 | 9), 4_000, 53)
    }),
    ("one source port after the other", |n| {
        flow(guest4(), v4(0xc633_6409), n, 53)
    }),
    ("one destination port after the other", |n| {
        flow(guest4(), v4(0xc633_6409), 4_000, n)
    }),
    ("a square of ports", |n| {
        flow(guest4(), v4(0xc633_6409), n % 256, n / 256)
    }),
    ("ports that follow the address", |n| {
        flow(guest4(), v4(n << 16 | n), n, !n)
    }),
];

const FLOWS6: &Chosen<Flow<Ipv6Addr>> = &[
    ("weak /64", |n| {
        flow(v6(ORDINARY, 5), v6(WEAK, n * ODD), 4_000, 53)
    }),
    ("weak /64, other way round", |n| {
        flow(v6(WEAK, n << 20), v6(ORDINARY, 5), 4_000, 53)
    }),
    ("one /64, one after the other", |n| {
        flow(v6(ORDINARY, 5), v6(ORDINARY + 1, n), 4_000, 53)
    }),
    ("one /64, the same lower bits", |n| {
        flow(v6(ORDINARY, 5), v6(ORDINARY, n << 40 | 9), 4_000, 53)
    }),
    ("one network after the other", |n| {
        flow(v6(ORDINARY, 5), v6(ORDINARY + n, 1), 4_000, 53)
    }),
    ("the same halves", |n| {
        flow(v6(ORDINARY, n), v6(ORDINARY, n), 4_000, 53)
    }),
    ("one source port after the other", |n| {
        flow(v6(ORDINARY, 5), v6(ORDINARY, 1), n, 53)
    }),
];

/// Nobody chose these.
fn random4(seed: u64) -> Vec<Flow<Ipv4Addr>> {
    let mut random = Random::new(seed);
    let mut draw = || random.draw();
    let flow = |_| flow(guest4(), v4(draw()), draw(), draw());
    (0..FLOWS).map(flow).collect()
}

fn random6(seed: u64) -> Vec<Flow<Ipv6Addr>> {
    let mut random = Random::new(seed);
    let mut draw = || random.draw();
    let word = |draw: &mut dyn FnMut() -> u64| draw() << 32 ^ draw();
    let flow = |_| {
        let destination = v6(word(&mut draw), word(&mut draw));
        flow(v6(ORDINARY, 5), destination, draw(), draw())
    };
    (0..FLOWS).map(flow).collect()
}

/// The work of finding every one of `flows`, and its answers, in a table that is full of them.
fn sessions<A: Address>(flows: &[Flow<A>], seed: u64) -> usize {
    let memory = SessionMemory::owned(flows.len());
    let mut table = SessionTable::new(memory, seed, &Timeouts::default());
    for flow in flows {
        let record = SessionRecord::new(*flow, *flow, false, 1);
        let number = table.insert(record, SessionDetail::default(), Payer::Nobody);
        assert!(number.is_some());
    }
    let both = |flow: &Flow<A>| table.cost(flow) + table.cost(&flow.reversed());
    flows.iter().map(both).sum()
}

/// The work of finding the mapping of every one of these insiders.
fn mappings<A: Address>(insiders: &[(A, u16)], seed: u64) -> usize {
    let mut ports = ExternalPorts::new(seed, Share::ALL);
    let external = A::UNSPECIFIED;
    for inside in insiders {
        let port = ports.acquire(&Wanted {
            external,
            protocol: UDP,
            inside: *inside,
            range: PortRange::default(),
            payer: Payer::Nobody,
            limit: Some(u32::MAX - 1),
            alone: false,
        });
        assert!(port.is_ok());
    }
    let cost = |inside: &(A, u16)| ports.cost(external, UDP, *inside);
    insiders.iter().map(cost).sum()
}

fn assert_no_dearer(what: &str, chosen: usize, random: usize) {
    assert!(
        2 * chosen <= 3 * random,
        "{what}: {chosen}, and random ones {random}"
    );
}

#[test]
fn h02_chosen_sessions_cost_what_random_ones_do() {
    for seed in SEEDS {
        let random = sessions(&random4(seed), seed);
        for (what, chosen) in FLOWS4 {
            let flows: Vec<_> = (0..FLOWS).map(chosen).collect();
            assert_no_dearer(what, sessions(&flows, seed), random);
        }
        let random = sessions(&random6(seed), seed);
        for (what, chosen) in FLOWS6 {
            let flows: Vec<_> = (0..FLOWS).map(chosen).collect();
            assert_no_dearer(what, sessions(&flows, seed), random);
        }
    }
}

#[test]
fn h02_chosen_mappings_cost_what_random_ones_do() {
    let insiders = |flows: Vec<Flow<Ipv4Addr>>| -> Vec<_> {
        let inside = |flow: &Flow<Ipv4Addr>| (flow.destination, flow.source_port);
        flows.iter().map(inside).collect()
    };
    let insiders6 = |flows: Vec<Flow<Ipv6Addr>>| -> Vec<_> {
        let inside = |flow: &Flow<Ipv6Addr>| (flow.destination, flow.source_port);
        flows.iter().map(inside).collect()
    };
    for seed in SEEDS {
        let random = mappings(&insiders(random4(seed)), seed);
        for (what, chosen) in FLOWS4 {
            let flows = (0..FLOWS).map(chosen).collect();
            // Where the inside address and port stay the same, there is but one mapping.
            assert_no_dearer(what, mappings(&insiders(flows), seed), random);
        }
        let random = mappings(&insiders6(random6(seed)), seed);
        for (what, chosen) in FLOWS6 {
            let flows = (0..FLOWS).map(chosen).collect();
            assert_no_dearer(what, mappings(&insiders6(flows), seed), random);
        }
    }
}

#[test]
fn h02_chosen_neighbours_cost_what_random_ones_do() {
    let neighbours = |addresses: &mut dyn Iterator<Item = IpAddr>, seed: u64| {
        let mut neighbors = Neighbors::new(FLOWS as usize, seed);
        for address in addresses {
            let station = (MacAddr([2, 0, 0, 0, 0, 1]), PortId(1));
            neighbors.learn(InterfaceId(1), address, station, Instant::default());
        }
        neighbors.cost()
    };
    for seed in SEEDS {
        let all = random6(seed);
        let random = neighbours(&mut all.iter().map(|flow| flow.destination.into()), seed);
        for (what, chosen) in FLOWS6.iter().filter(|(what, _)| !what.contains("port")) {
            let of = |n| chosen(n).destination.max(chosen(n).source).into();
            assert_no_dearer(what, neighbours(&mut (0..FLOWS).map(of), seed), random);
        }
        for (what, chosen) in FLOWS4.iter().filter(|(what, _)| !what.contains("port")) {
            let of = |n| chosen(n).destination.into();
            assert_no_dearer(what, neighbours(&mut (0..FLOWS).map(of), seed), random);
        }
    }
}
