//! Forwarding tables, where the longest matching prefix wins, and which next hops are out of use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::hops::GroupId;
use crate::base::addr::InterfaceId;
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

/// One table: the longest matching prefix wins.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    v4: Spans<u32>,
    v6: Spans<u128>,
    /// By family and address, the widest first.
    prefixes: Vec<Prefix>,
    ipv4_prefixes: u32,
    /// By prefix and metric.
    routes: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Prefix {
    to: IpNet,
    /// The next shorter one around it.
    around: u32,
    /// The first of its routes.
    first: u32,
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
            if prefixes.last().is_none_or(|last| last.to != *to) {
                prefixes.push(Prefix {
                    to: *to,
                    around: NOWHERE,
                    first: place as u32,
                });
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
        Self {
            v4: of4.0,
            v6: of6.0,
            prefixes,
            ipv4_prefixes,
            routes: routes.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    /// The prefixes that cover `destination`, the longest first.
    #[inline]
    pub fn covering(&self, destination: IpAddr) -> Covering<'_> {
        let number = match destination {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => match self.v6.find(address.to_bits()) {
                Some(NOWHERE) | None => None,
                Some(number) => Some(self.ipv4_prefixes + number),
            },
        };
        Covering {
            table: self,
            next: number.unwrap_or(NOWHERE),
        }
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
        let lookup = self.v4.memory() + self.v6.memory();
        lookup + size_of_val(&*self.prefixes) + size_of_val(&*self.routes)
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
        let after = prefixes.get(place + 1).map(|next| next.first as usize);
        let routes = &self.table.routes;
        Some(Found {
            to: &prefix.to,
            routes: &routes[prefix.first as usize..after.unwrap_or(routes.len())],
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

/// Next hops that are out of use. Routes by them are passed over, as if they were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    down: BTreeSet<(InterfaceId, IpAddr)>,
    links: BTreeSet<InterfaceId>,
}

impl Health {
    /// These next hops are out of use, and whatever is on these interfaces.
    pub fn new(
        down: impl IntoIterator<Item = (InterfaceId, IpAddr)>,
        links: BTreeSet<InterfaceId>,
    ) -> Self {
        Self {
            down: down.into_iter().collect(),
            links,
        }
    }

    /// Takes a next hop out of use, or back into it.
    pub fn set_down(&mut self, interface: InterfaceId, next_hop: IpAddr, down: bool) {
        match down {
            true => self.down.insert((interface, next_hop)),
            false => self.down.remove(&(interface, next_hop)),
        };
    }

    /// Nothing is out of use.
    #[inline]
    pub fn is_good(&self) -> bool {
        self.down.is_empty() && self.links.is_empty()
    }

    /// Whether a next hop is out of use.
    #[inline]
    pub fn is_down(&self, interface: InterfaceId, next_hop: IpAddr) -> bool {
        !self.is_good()
            && (self.links.contains(&interface) || self.down.contains(&(interface, next_hop)))
    }
}
