//! Forwarding tables, where the longest matching prefix wins, and which next hops are out of use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::base::addr::InterfaceId;
use crate::base::drops::DropReason;
use crate::base::spans::Spans;

/// What a route does with packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send them on by one of these interfaces (several: all have the prefix connected).
    Forward {
        /// The interfaces.
        interfaces: Vec<InterfaceId>,
        /// The next hop; the destination itself when absent.
        via: Option<IpAddr>,
    },
    /// Drop silently.
    Blackhole,
    /// Drop, "host unreachable".
    Unreachable,
    /// Drop, "administratively prohibited".
    Prohibit,
    /// Go on with the next rule.
    Throw,
}

/// One table: the longest matching prefix wins.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    v4: Spans<u32>,
    v6: Spans<u128>,
    /// By prefix: those of IPv4, then those of IPv6.
    routes: Vec<(IpNet, Action)>,
    ipv4_routes: usize,
}

impl Fib {
    /// A table of these routes; of those to the same prefix the last counts.
    pub fn new(mut routes: Vec<(IpNet, Action)>) -> Self {
        // Stable: what was added later comes later, and is kept.
        routes.sort_by_key(|(to, _)| *to);
        routes.reverse();
        routes.dedup_by_key(|(to, _)| *to);
        routes.reverse();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (to, _) in &routes {
            match to {
                IpNet::V4(to) => v4.push((to.network().to_bits(), to.broadcast().to_bits())),
                IpNet::V6(to) => v6.push((to.network().to_bits(), to.broadcast().to_bits())),
            }
        }
        Self {
            v4: Spans::innermost(&v4).0,
            v6: Spans::innermost(&v6).0,
            ipv4_routes: v4.len(),
            routes,
        }
    }

    /// The route with the longest prefix that covers `destination`.
    #[inline]
    pub fn lookup(&self, destination: IpAddr) -> Option<(IpNet, &Action)> {
        let (number, before) = match destination {
            IpAddr::V4(address) => (self.v4.find(address.to_bits())?, 0),
            IpAddr::V6(address) => (self.v6.find(address.to_bits())?, self.ipv4_routes),
        };
        let (to, action) = self.routes.get(before + number as usize)?;
        Some((*to, action))
    }

    /// Bytes it takes, but for what actions name.
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory() + size_of_val(&*self.routes)
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
}

impl Health {
    /// Takes a next hop out of use, or back into it.
    pub fn set_down(&mut self, interface: InterfaceId, next_hop: IpAddr, down: bool) {
        match down {
            true => self.down.insert((interface, next_hop)),
            false => self.down.remove(&(interface, next_hop)),
        };
    }

    /// Whether a next hop is out of use.
    #[inline]
    pub fn is_down(&self, interface: InterfaceId, next_hop: IpAddr) -> bool {
        !self.down.is_empty() && self.down.contains(&(interface, next_hop))
    }
}
