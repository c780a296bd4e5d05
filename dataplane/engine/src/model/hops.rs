//! Next hops of routes: one, or several among which flows are shared out.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;

use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::config;
use crate::wire::flow::Flow;

/// Next hops of a group, at most.
pub const MOST: usize = 64; // as validated
/// By which flows are shared out: always alike, so that a flow keeps its way when tapgate starts anew.
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
    /// What flows know it by: the names of its interfaces and its address, and which it is of several alike.
    identity: u64,
}

impl Group {
    /// What a route of a configuration leads to; `name` of each interface, and `number`.
    pub(super) fn new(
        route: &config::Forward,
        name: impl Fn(usize) -> String,
        number: impl Fn(usize) -> InterfaceId,
    ) -> Self {
        let mut hops: Vec<Hop> = Vec::with_capacity(route.hops.len());
        for hop in &route.hops {
            let names: Vec<String> = hop.interfaces.iter().map(|index| name(*index)).collect();
            let interfaces: Vec<_> = hop.interfaces.iter().map(|index| number(*index)).collect();
            let alike = |other: &&Hop| other.interfaces == interfaces && other.via == hop.via;
            let place = hops.iter().filter(alike).count();
            hops.push(Hop {
                via: hop.via,
                weight: hop.weight,
                identity: FixedState::with_seed(SEED).hash_one((names, hop.via, place)),
                interfaces,
            });
        }
        Self {
            hops,
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
            hops: &self.hops,
            flow: match self.hops.len() {
                1 => 0,
                _ => key(flow),
            },
            seen: 0,
        }
    }
}

/// The next hops of a group, in the order in which a flow takes them.
#[derive(Debug, Clone)]
pub struct InTurn<'g> {
    hops: &'g [Hop],
    /// What the flow is known by.
    flow: u64,
    /// A bit for each next hop that was one of them.
    seen: u64,
}

impl<'g> Iterator for InTurn<'g> {
    type Item = &'g Hop;

    #[inline]
    fn next(&mut self) -> Option<&'g Hop> {
        let place = match self.hops {
            [_] => (self.seen == 0).then_some(0),
            _ => self.best(),
        }?;
        self.seen |= 1 << place;
        self.hops.get(place)
    }
}

impl InTurn<'_> {
    /// Weighted rendezvous (Schindelhauer and Schomaker 2005): a next hop that is added takes its share from
    /// each of the others, and no flow moves between these.
    fn best(&self) -> Option<usize> {
        let left = (0..).zip(self.hops);
        let left = left.filter(|(place, _)| self.seen >> place & 1 == 0);
        let drawn = left.map(|(place, hop)| (place, self.draw(hop)));
        let best = drawn.max_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(place, _)| place)
    }

    /// A flow's lot of a next hop: the largest of all is its own's.
    fn draw(&self, hop: &Hop) -> f64 {
        let drawn = FixedState::with_seed(SEED).hash_one((self.flow, hop.identity));
        let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(hop.weight) / unit.ln()
    }
}

/// What a flow is known by.
fn key<A: Address>(flow: &Flow<A>) -> u64 {
    let ends = (flow.source.octets(), flow.destination.octets());
    let ports = (flow.source_port, flow.destination_port, flow.protocol);
    FixedState::with_seed(SEED).hash_one((ends.0.as_ref(), ends.1.as_ref(), ports))
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

    /// Whatever they are called: of 10,000 flows, a share of a quarter is as exact as chance is (five times
    /// the deviation of 43).
    #[test]
    fn flows_are_shared_out_by_weight() {
        for (number, names) in [["first", "second"], ["A", "B"], ["uplink", "wan"]]
            .into_iter()
            .chain([["eth0", "eth1"]; 20])
            .enumerate()
        {
            let via = |last: u8| Some(IpAddr::from([198, 51, number as u8, last]));
            let hop = |(place, weight): (usize, u16)| NextHop {
                interfaces: vec![place],
                via: via(254 - place as u8),
                weight,
            };
            let forward = Forward {
                hops: [1, 3].into_iter().enumerate().map(hop).collect(),
                ..Forward::to(hop((0, 1)))
            };
            let group = Group::new(
                &forward,
                |index| names[index].to_owned(),
                |index| InterfaceId(index as u16),
            );
            let second = (0..10_000).filter(|port| first(&group, *port) == 1).count();
            let most = (7_500_usize - 217)..(7_500 + 217);
            assert!(most.contains(&second), "{names:?} {number}: {second}");
        }
    }

    #[test]
    fn two_that_are_alike_have_the_share_of_both() {
        let hop = |place| NextHop {
            interfaces: vec![place],
            via: None,
            weight: 1,
        };
        let forward = Forward {
            hops: [hop(0), hop(0), hop(1)].into(),
            ..Forward::to(hop(0))
        };
        let group = Group::new(
            &forward,
            |index| format!("uplink-{index}"),
            |index| InterfaceId(index as u16),
        );
        let both = (0..9_000).filter(|port| first(&group, *port) == 0).count();
        assert!((5_780..6_220).contains(&both), "{both}");
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
