//! Forwarding tables, where the longest matching prefix wins, and which next hops are out of use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::base::addr::InterfaceId;
use crate::base::drops::DropReason;

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
    v4: PrefixMap<Ipv4Net, Action>,
    v6: PrefixMap<Ipv6Net, Action>,
}

impl Fib {
    /// Adds a route; one to the same prefix is replaced.
    pub fn insert(&mut self, to: IpNet, action: Action) {
        match to {
            IpNet::V4(to) => drop(self.v4.insert(to, action)),
            IpNet::V6(to) => drop(self.v6.insert(to, action)),
        }
    }

    /// The route with the longest prefix that covers `destination`.
    pub fn lookup(&self, destination: IpAddr) -> Option<(IpNet, &Action)> {
        match destination {
            IpAddr::V4(address) => {
                let (prefix, action) = self.v4.get_lpm(&Ipv4Net::from(address))?;
                Some((IpNet::V4(prefix), action))
            }
            IpAddr::V6(address) => {
                let (prefix, action) = self.v6.get_lpm(&Ipv6Net::from(address))?;
                Some((IpNet::V6(prefix), action))
            }
        }
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
