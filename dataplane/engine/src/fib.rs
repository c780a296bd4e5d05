//! Forwarding tables (longest prefix match) and the rules that choose among them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::addr::InterfaceId;
use crate::config::{RuleAction, RuleVerdict};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Address;
use crate::owners::Guest;
use crate::snapshot::{Interface, Snapshot};

/// The place of `main` among the tables of a snapshot.
const MAIN_TABLE: usize = 0;

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

/// The way to a destination: by which interface, to which next hop.
#[derive(Debug, Clone, Copy)]
pub struct Way<'s, A> {
    /// The egress interface.
    pub interface: &'s Interface,
    /// The next hop on it.
    pub next_hop: A,
    /// The guest that owns the destination, if one does.
    pub guest: Option<&'s Guest>,
}

/// Finds the way from `source` to `destination` for a packet that came in by `iif` (`None`: our
/// own): rules by ascending priority, the longest prefix in the table a rule names, the next rule
/// when there is none (F19).
pub fn route<'s, A: Address>(
    snapshot: &'s Snapshot,
    source: A,
    destination: A,
    iif: Option<InterfaceId>,
    trace: &mut impl Trace,
) -> Result<Way<'s, A>, NoWay> {
    let (from, to): (IpAddr, IpAddr) = (source.into(), destination.into());
    for rule in &snapshot.rules {
        let matches = rule.from.is_none_or(|prefix| prefix.contains(&from))
            && rule.to.is_none_or(|prefix| prefix.contains(&to))
            && (rule.iif.is_none() || rule.iif == iif);
        if !matches {
            continue;
        }
        let (table, suppress) = match &rule.verdict {
            RuleVerdict::Lookup {
                table,
                suppress_prefixlength,
            } => (*table, *suppress_prefixlength),
            RuleVerdict::End(action) => {
                trace.step("rule", || {
                    format!("{}: {action:?}", rule.priority).to_lowercase()
                });
                return Err(match action {
                    RuleAction::Blackhole => NoWay::Blackhole,
                    RuleAction::Unreachable => NoWay::RuleUnreachable,
                    RuleAction::Prohibit => NoWay::Prohibited,
                });
            }
        };
        let (name, fib) = &snapshot.tables[table];
        // As in Linux, only routes that lead somewhere are suppressed.
        let too_short = |length| suppress.is_some_and(|longest| length <= longest);
        let suppressed = |(prefix, action): &(IpNet, &Action)| {
            matches!(action, Action::Forward { .. }) && too_short(prefix.prefix_len())
        };
        let found = fib.lookup(to).filter(|route| !suppressed(route));
        trace.step("rule", || {
            let from = rule.from.map_or("all".into(), |prefix| prefix.to_string());
            format!("{}: from {from} lookup {name}", rule.priority)
        });
        // What guests own is in `main`, as if each had a route there.
        let longest = found.map_or(0, |(prefix, _)| prefix.prefix_len());
        if table == MAIN_TABLE
            && let Some((owned, length)) = snapshot.owners().find(to)
            && length >= longest
            && !too_short(length)
            && let guest = snapshot.owners().guest(owned.guest)
            && let Some(interface) = snapshot.interface(guest.network)
        {
            trace.step("route", || {
                format!("{to} is guest {}'s, dev {}", guest.name, interface.name)
            });
            let next_hop = snapshot.owners().next_hop(guest, to);
            return Ok(Way {
                interface,
                next_hop: A::from_ip(next_hop).unwrap_or(destination),
                guest: Some(guest),
            });
        }
        let Some((prefix, action)) = found else {
            trace.step("table", || {
                format!("{name}: no route to {to}; on to the next rule")
            });
            continue;
        };
        let end = match action {
            Action::Forward { interfaces, via } => {
                let Some(interface) = carrier(snapshot, interfaces, from) else {
                    continue;
                };
                let next_hop = via.and_then(A::from_ip).unwrap_or(destination);
                trace.step("route", || match via {
                    Some(via) => {
                        format!("{prefix} via {via} dev {} in table {name}", interface.name)
                    }
                    None => format!("{prefix} dev {} in table {name}", interface.name),
                });
                return Ok(Way {
                    interface,
                    next_hop,
                    guest: None,
                });
            }
            Action::Throw => {
                trace.step("route", || {
                    format!("throw {prefix} in table {name}; on to the next rule")
                });
                continue;
            }
            Action::Blackhole => NoWay::Blackhole,
            Action::Unreachable => NoWay::RouteUnreachable,
            Action::Prohibit => NoWay::Prohibited,
        };
        trace.step("route", || {
            format!("{end:?} {prefix} in table {name}").to_lowercase()
        });
        return Err(end);
    }
    trace.step("rule", || format!("no rule leads to a route to {to}"));
    Err(NoWay::NoRoute)
}

/// Which of `interfaces` carries packets from `source`. Where several personalities share a
/// connected prefix it is the one that owns the source or translates it to an address of its own,
/// else the first.
fn carrier<'s>(
    snapshot: &'s Snapshot,
    interfaces: &[InterfaceId],
    source: IpAddr,
) -> Option<&'s Interface> {
    let candidates = || interfaces.iter().filter_map(|id| snapshot.interface(*id));
    if interfaces.len() > 1 {
        let fits = |interface: &&Interface| {
            interface.owns(source) || snapshot.snat_for(source, interface.id).is_some()
        };
        if let Some(interface) = candidates().find(fits) {
            return Some(interface);
        }
    }
    candidates().next()
}
