//! Forwarding tables, where the longest matching prefix wins.

use std::net::IpAddr;

use ipnet::IpNet;

use super::hops::GroupId;
use crate::base::drops::DropReason;
use crate::base::spans::{NOWHERE, Spans};

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send them on to one of these next hops.
    Forward(GroupId),
    /// Drop silently.
    Blackhole,
    /// Drop, "host unreachable".
    Unreachable,
    /// Drop, "administratively prohibited".
    Prohibit,
    /// Go on with the next rule.
    Throw,
}

/// One of the routes to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The lower the earlier: the first whose next hop is alive is used.
    pub metric: u32,
    /// What it does.
    pub action: Action,
}

/// A prefix and the routes to it.
#[derive(Debug, Clone, Copy)]
pub struct Found<'t> {
    /// The prefix.
    pub to: &'t IpNet,
    /// By ascending metric; at least one.
    pub routes: &'t [Entry],
}

/// So many prefixes are compared with one after the other: to look them up would read more places in memory.
const FEW: usize = 4;

/// One table: the longest matching prefix wins.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
pub struct Fib {
    /// By family and address, the widest first.
    prefixes: Box<[Prefix]>,
    /// By prefix and metric.
    routes: Box<[Entry]>,
    /// Of more than [`FEW`] prefixes, which is the longest.
    index: Option<Box<Index>>,
}

/// The number of the longest prefix for each address.
#[derive(Debug, Clone)]
struct Index {
    v4: Spans<u32>,
    v6: Spans<u128>,
    ipv4_prefixes: u32,
}

/// In one cache line, however many there are.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Prefix {
    to: IpNet,
    /// The next shorter one around it.
    around: u32,
    /// The first of its routes, and the one after its last.
    first: u32,
    end: u32,
}

impl Fib {
    /// A table of these routes; of those to the same prefix with the same metric the last counts.
    pub fn new(mut routes: Vec<(IpNet, Entry)>) -> Self {
        // Stable: what was added later comes later, and is kept.
        routes.sort_by_key(|(to, entry)| (*to, entry.metric));
        routes.reverse();
        routes.dedup_by_key(|(to, entry)| (*to, entry.metric));
        routes.reverse();
        let mut prefixes: Vec<Prefix> = Vec::new();
        for (place, (to, _)) in routes.iter().enumerate() {
            let place = place as u32;
            match prefixes.last_mut().filter(|last| last.to == *to) {
                Some(last) => last.end = place + 1,
                None => prefixes.push(Prefix {
                    to: *to,
                    around: NOWHERE,
                    first: place,
                    end: place + 1,
                }),
            }
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in &prefixes {
            match prefix.to {
                IpNet::V4(to) => v4.push((to.network().to_bits(), to.broadcast().to_bits())),
                IpNet::V6(to) => v6.push((to.network().to_bits(), to.broadcast().to_bits())),
            }
        }
        let (of4, of6) = (Spans::innermost(&v4), Spans::innermost(&v6));
        let ipv4_prefixes = v4.len() as u32;
        let shifted = of6.1.iter().map(|around| match *around {
            NOWHERE => NOWHERE,
            around => ipv4_prefixes + around,
        });
        let around = of4.1.iter().copied().chain(shifted);
        for (prefix, around) in prefixes.iter_mut().zip(around) {
            prefix.around = around;
        }
        let index = Index {
            v4: of4.0,
            v6: of6.0,
            ipv4_prefixes,
        };
        Self {
            index: (prefixes.len() > FEW).then(|| Box::new(index)),
            prefixes: prefixes.into(),
            routes: routes.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    /// The prefixes that cover `destination`, the longest first.
    #[inline]
    pub fn covering(&self, destination: IpAddr) -> Covering<'_> {
        Covering {
            table: self,
            next: match &self.index {
                Some(index) => index.find(destination),
                None => self.longest(destination),
            },
        }
    }

    /// The longest of few prefixes: of those that cover an address the last begins last.
    fn longest(&self, destination: IpAddr) -> u32 {
        let mut from_the_last = self.prefixes.iter().rev();
        let place = from_the_last.position(|prefix| prefix.to.contains(&destination));
        place.map_or(NOWHERE, |place| (self.prefixes.len() - 1 - place) as u32)
    }

    /// How many routes it has.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Bytes it takes.
    pub fn memory(&self) -> usize {
        let lookup = self
            .index
            .as_ref()
            .map(|index| index.v4.memory() + index.v6.memory());
        lookup.unwrap_or(0) + size_of_val(&*self.prefixes) + size_of_val(&*self.routes)
    }
}

impl Index {
    #[inline]
    fn find(&self, destination: IpAddr) -> u32 {
        let number = match destination {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => match self.v6.find(address.to_bits()) {
                Some(NOWHERE) | None => None,
                Some(number) => Some(self.ipv4_prefixes + number),
            },
        };
        number.unwrap_or(NOWHERE)
    }
}

/// The prefixes of a table that cover an address.
#[derive(Debug, Clone)]
pub struct Covering<'t> {
    table: &'t Fib,
    next: u32,
}

impl<'t> Iterator for Covering<'t> {
    type Item = Found<'t>;

    #[inline]
    fn next(&mut self) -> Option<Found<'t>> {
        let prefixes = &self.table.prefixes;
        let place = self.next as usize;
        let prefix = prefixes.get(place)?;
        self.next = prefix.around;
        Some(Found {
            to: &prefix.to,
            routes: &self.table.routes[prefix.first as usize..prefix.end as usize],
        })
    }
}

/// Why there is no way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// No rule led to a route.
    NoRoute,
    /// A rule said unreachable.
    RuleUnreachable,
    /// A route said unreachable.
    RouteUnreachable,
    /// A rule or route said prohibit.
    Prohibited,
    /// A rule or route said blackhole.
    Blackhole,
}

impl NoWay {
    /// The drop counter it belongs to.
    pub const fn reason(self) -> DropReason {
        match self {
            Self::NoRoute => DropReason::NoRoute,
            Self::RuleUnreachable | Self::RouteUnreachable => DropReason::Unreachable,
            Self::Prohibited => DropReason::Prohibited,
            Self::Blackhole => DropReason::Blackhole,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (0_u32..8, 0_u8..=32).prop_map(|(net, length)| {
            IpNet::new_assert(
                std::net::Ipv4Addr::from_bits(0x0a00_0000 | net << 6).into(),
                length,
            )
        });
        let v6 = (0_u128..8, 0_u8..=128).prop_map(|(net, length)| {
            IpNet::new_assert(
                std::net::Ipv6Addr::from_bits(0xfd << 120 | net << 60).into(),
                length,
            )
        });
        prop_oneof![v4, v6].prop_map(|net| net.trunc())
    }

    proptest! {
        /// However many there are: few are compared with, many looked up.
        #[test]
        fn all_prefixes_that_cover_an_address_are_found_the_longest_first(
            routes in proptest::collection::vec((prefix(), 0_u32..3), 0..12),
            others in proptest::collection::vec(prefix(), 1..8),
        ) {
            let entry = |(to, metric): &(IpNet, u32)| (*to, Entry { metric: *metric, action: Action::Throw });
            let table = Fib::new(routes.iter().map(entry).collect());
            let mut all: Vec<IpNet> = routes.iter().map(|(to, _)| *to).collect();
            all.sort_by_key(|to| (std::cmp::Reverse(to.prefix_len()), *to));
            all.dedup();
            for address in all.iter().chain(&others).map(IpNet::network) {
                let found: Vec<_> = table.covering(address).map(|found| *found.to).collect();
                let mut expected = all.clone();
                expected.retain(|to| to.contains(&address));
                expected.dedup();
                prop_assert_eq!(&found, &expected);
                for found in table.covering(address) {
                    let mut metrics: Vec<u32> =
                        routes.iter().filter(|(to, _)| to == found.to).map(|(_, metric)| *metric).collect();
                    metrics.sort_unstable();
                    metrics.dedup();
                    let told: Vec<u32> = found.routes.iter().map(|entry| entry.metric).collect();
                    prop_assert_eq!(told, metrics);
                }
            }
        }
    }
}
