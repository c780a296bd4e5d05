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

    /// The next hop that a flow takes: of those that are admitted, and what `admit` makes of it. The flow's own
    /// comes first, then those that take its place while that one is not.
    ///
    /// Weighted rendezvous (Schindelhauer and Schomaker 2005): a next hop that is added takes its share from
    /// each of the others, and no flow moves between these.
    #[inline]
    pub fn find<'g, A: Address, T>(
        &'g self,
        flow: &Flow<A>,
        mut admit: impl FnMut(&'g Hop) -> Option<T>,
    ) -> Option<T> {
        match &self.hops[..] {
            [only] => admit(only),
            several => find_of(several, key(flow), admit),
        }
    }
}

/// The same of several.
fn find_of<'g, T>(
    hops: &'g [Hop],
    flow: u64,
    mut admit: impl FnMut(&'g Hop) -> Option<T>,
) -> Option<T> {
    let mut lots = [f64::NEG_INFINITY; MOST];
    for (lot, hop) in lots.iter_mut().zip(hops) {
        *lot = hop.lot(flow);
    }
    for _ in hops {
        let left = lots.iter().zip(hops).enumerate();
        let best = left.max_by(|(_, a), (_, b)| a.0.total_cmp(b.0));
        let (place, (_, hop)) = best?;
        if let Some(found) = admit(hop) {
            return Some(found);
        }
        lots[place] = f64::NEG_INFINITY;
    }
    None
}

impl Hop {
    /// What a flow draws of it, above 0: the next hop of the largest lot is the flow's own.
    fn lot(&self, flow: u64) -> f64 {
        let drawn = FixedState::with_seed(SEED).hash_one((flow, self.identity));
        let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(self.weight) / unit.ln()
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
        let first = group.find(&flow(port), |hop| Some(hop.interfaces[0].index()));
        first.expect("one")
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
                let mut all: Vec<usize> = Vec::new();
                let none = group.find(&flow(port), |hop| {
                    all.push(hop.interfaces[0].index());
                    None::<()>
                });
                assert_eq!(none, None);
                all.sort_unstable();
                assert_eq!(all, Vec::from_iter(0..weights.len()));
            }
        }
    }
}
