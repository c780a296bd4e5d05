//! Next hops of routes: one, or several among which flows are shared out.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::config;
use crate::wire::flow::Flow;

/// Parts that flows fall into. Each goes to one next hop, so that a share is exact to a 512th.
const PARTS: usize = 512;
/// Next hops of a group, at most.
pub const MOST: usize = 64; // as validated
/// Where parts are drawn: always alike, so that a flow keeps its way when tapgate starts anew.
const SEED: u64 = 0x7461_7067_6174_6531;

/// The number of a [`Group`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupId(pub u32);

/// The next hops of a route, the source that it prefers and the sizes that it allows. Routes that say the
/// same share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// At least one, at most [`MOST`].
    pub hops: Vec<Hop>,
    /// Of several, the one that each part of all flows goes to.
    parts: Vec<u8>,
    /// The source of what the router sends by it without one of its own.
    pub source: Option<IpAddr>,
    /// The largest packet that takes it, in bytes without Ethernet header.
    pub mtu: Option<u32>,
    /// The largest TCP segment, in bytes, that SYNs which leave by it announce.
    pub advmss: Option<u16>,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The interface to leave by; several: all have the prefix connected.
    pub interfaces: Vec<InterfaceId>,
    /// The next hop, of either family; the destination itself when absent.
    pub via: Option<IpAddr>,
    /// How many flows it gets, beside the others' weights.
    pub weight: u16,
}

impl Group {
    /// What a route of a configuration leads to; `name` of each interface, and `number`.
    pub(super) fn new(
        route: &config::Forward,
        name: impl Fn(usize) -> String,
        number: impl Fn(usize) -> InterfaceId,
    ) -> Self {
        let hops = route.hops.iter();
        let identity = |hop: &config::NextHop| {
            let names: Vec<String> = hop.interfaces.iter().map(|index| name(*index)).collect();
            FixedState::with_seed(SEED).hash_one((names, hop.via))
        };
        let drawn: Vec<(u64, u16)> = hops
            .clone()
            .map(|hop| (identity(hop), hop.weight))
            .collect();
        Self {
            parts: if drawn.len() > 1 {
                parts(&drawn)
            } else {
                Vec::new()
            },
            hops: hops
                .map(|hop| Hop {
                    interfaces: hop.interfaces.iter().map(|index| number(*index)).collect(),
                    via: hop.via,
                    weight: hop.weight,
                })
                .collect(),
            source: route.src,
            mtu: route.mtu,
            advmss: route.advmss,
        }
    }

    /// Whether it says anything of sizes.
    pub fn is_sized(&self) -> bool {
        self.mtu.is_some() || self.advmss.is_some()
    }

    /// Its next hops in the order in which a flow takes them: the one that is its own, then those that take
    /// its place while that one is out of use.
    #[inline]
    pub fn in_turn<A: Address>(&self, flow: &Flow<A>) -> InTurn<'_> {
        InTurn {
            group: self,
            start: match self.parts.is_empty() {
                true => 0,
                false => self.part_of(flow),
            },
            steps: 0,
            seen: 0,
        }
    }

    fn part_of<A: Address>(&self, flow: &Flow<A>) -> usize {
        let ends = (flow.source.octets(), flow.destination.octets());
        let ports = (flow.source_port, flow.destination_port, flow.protocol);
        let hash = FixedState::with_seed(SEED).hash_one((ends.0.as_ref(), ends.1.as_ref(), ports));
        hash as usize % PARTS
    }
}

/// The next hops of a group, in the order in which a flow takes them.
#[derive(Debug, Clone)]
pub struct InTurn<'g> {
    group: &'g Group,
    /// The flow's part.
    start: usize,
    steps: usize,
    /// A bit for each next hop that was one of them.
    seen: u64,
}

impl<'g> Iterator for InTurn<'g> {
    type Item = &'g Hop;

    #[inline]
    fn next(&mut self) -> Option<&'g Hop> {
        let Group { hops, parts, .. } = self.group;
        // Who has no part comes last.
        while self.steps < parts.len() + hops.len() {
            let place = match parts.get(self.steps) {
                Some(_) => usize::from(parts[(self.start + self.steps) % parts.len()]),
                None => self.steps - parts.len(),
            };
            self.steps += 1;
            if self.seen >> place & 1 == 0 {
                self.seen |= 1 << place;
                return hops.get(place);
            }
        }
        None
    }
}

/// Gives each part to one of the next hops, by weighted rendezvous (Schindelhauer and Schomaker 2005): one
/// that is added takes its share from each of the others, and no part moves between these.
fn parts(hops: &[(u64, u16)]) -> Vec<u8> {
    let score = |part: usize, (identity, weight): (u64, u16)| {
        let drawn = FixedState::with_seed(SEED).hash_one((identity, part));
        let unit = (drawn >> 11) as f64 + 0.5;
        -f64::from(weight) / (unit / (1_u64 << 53) as f64).ln()
    };
    let best = |part: usize| {
        let scores = hops.iter().map(|hop| score(part, *hop)).enumerate();
        let best = scores.max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0, |(place, _)| place as u8)
    };
    (0..PARTS).map(best).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::{Forward, NextHop};

    fn group(weights: &[u16]) -> Group {
        let hop = |(place, weight): (usize, &u16)| NextHop {
            interfaces: vec![place],
            via: None,
            weight: *weight,
        };
        let forward = Forward {
            hops: weights.iter().enumerate().map(hop).collect(),
            ..Forward::to(hop((0, &1)))
        };
        Group::new(
            &forward,
            |index| format!("uplink-{index}"),
            |index| InterfaceId(index as u16),
        )
    }

    fn flow(port: u16) -> Flow<Ipv4Addr> {
        Flow {
            source: [10, 0, 0, 1].into(),
            destination: [198, 51, 100, 1].into(),
            source_port: port,
            destination_port: 443,
            protocol: 6,
        }
    }

    fn first(group: &Group, port: u16) -> usize {
        let hop = group.in_turn(&flow(port)).next().expect("one");
        hop.interfaces[0].index()
    }

    #[test]
    fn flows_are_shared_out_by_weight() {
        let group = group(&[1, 3]);
        let second = (0..10_000).filter(|port| first(&group, *port) == 1).count();
        assert!((7_000..8_000).contains(&second), "{second} of 10,000");
    }

    #[test]
    fn one_more_next_hop_takes_from_the_others_only_what_it_gets() {
        let (two, three) = (group(&[1, 1]), group(&[1, 1, 1]));
        let moved = (0..10_000).filter(|port| first(&two, *port) != first(&three, *port));
        let moved: Vec<u16> = moved.collect();
        assert!(moved.iter().all(|port| first(&three, *port) == 2));
        assert!((2_800..3_900).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn every_next_hop_is_tried_once() {
        for weights in [&[1][..], &[1, 1], &[256, 1, 1], &[7; 64]] {
            let group = group(weights);
            for port in 0..200 {
                let turn = group.in_turn(&flow(port));
                let mut all: Vec<usize> = turn.map(|hop| hop.interfaces[0].index()).collect();
                all.sort_unstable();
                assert_eq!(all, Vec::from_iter(0..weights.len()));
            }
        }
    }
}
