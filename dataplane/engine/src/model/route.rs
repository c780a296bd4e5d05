//! Finding the way: the rules that choose among the tables.

use std::net::IpAddr;

use ipnet::IpNet;

use super::interface::Interface;
use super::owners::Guest;
use super::routing::MAIN_TABLE;
use super::snapshot::Snapshot;
use super::tables::{Action, NoWay};
use super::trace::{Step, Trace};
use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::config::condition::Subject;
use crate::config::{RuleAction, RuleVerdict};
use crate::wire::flow::Flow;

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

/// What rules can ask of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Selector<A> {
    /// Its source.
    pub source: A,
    /// Its destination.
    pub destination: A,
    /// Where it came in; `None`: it is our own.
    pub iif: Option<InterfaceId>,
}

impl<A: Address> Selector<A> {
    /// What rules can ask of a packet of `flow` that came in by `iif`.
    pub fn of(flow: &Flow<A>, iif: Option<InterfaceId>) -> Self {
        Self {
            source: flow.source,
            destination: flow.destination,
            iif,
        }
    }

    /// What rules can ask of a packet of our own.
    pub fn ours(source: A, destination: A) -> Self {
        Self {
            source,
            destination,
            iif: None,
        }
    }
}

/// Finds the way for a packet: rules by ascending priority, the longest prefix in the table a rule
/// names, the next rule when there is none (F19).
///
/// # Errors
/// There is none, and why.
pub fn route<'s, A: Address>(
    snapshot: &'s Snapshot,
    packet: Selector<A>,
    trace: &mut impl Trace,
) -> Result<Way<'s, A>, NoWay> {
    let subject = Subject {
        source: packet.source.into(),
        destination: packet.destination.into(),
        iif: packet.iif,
    };
    for rule in snapshot.rules() {
        if !rule.condition.holds(&subject) {
            continue;
        }
        let (table, suppress) = match &rule.verdict {
            RuleVerdict::Lookup {
                table,
                suppress_prefixlength,
            } => (*table, *suppress_prefixlength),
            RuleVerdict::End(action) => {
                trace.step(|| Step::RuleEnds {
                    priority: rule.priority,
                    action: *action,
                });
                return Err(match action {
                    RuleAction::Blackhole => NoWay::Blackhole,
                    RuleAction::Unreachable => NoWay::RuleUnreachable,
                    RuleAction::Prohibit => NoWay::Prohibited,
                });
            }
        };
        trace.step(|| Step::Rule {
            priority: rule.priority,
            condition: rule.condition,
            table,
        });
        if let Some(found) = look_up(snapshot, &packet, (table, suppress), trace) {
            return found;
        }
    }
    let to = packet.destination.into();
    trace.step(|| Step::NoRule { to });
    Err(NoWay::NoRoute)
}

/// What one table says; `None`: nothing, on to the next rule.
#[inline(always)]
fn look_up<'s, A: Address>(
    snapshot: &'s Snapshot,
    packet: &Selector<A>,
    (table, suppress): (usize, Option<u8>),
    trace: &mut impl Trace,
) -> Option<Result<Way<'s, A>, NoWay>> {
    let to: IpAddr = packet.destination.into();
    // As in Linux, only routes that lead somewhere are suppressed.
    let too_short = |length| suppress.is_some_and(|longest| length <= longest);
    let suppressed = |(prefix, action): &(IpNet, &Action)| {
        matches!(action, Action::Forward { .. }) && too_short(prefix.prefix_len())
    };
    let found = snapshot.table(table).lookup(to);
    let found = found.filter(|route| !suppressed(route));
    // What guests own is in `main`, as if each had a route there.
    let longest = found.map_or(0, |(prefix, _)| prefix.prefix_len());
    if table == MAIN_TABLE
        && let Some((owned, length)) = snapshot.owners().find(to)
        && length >= longest
        && !too_short(length)
        && let guest = snapshot.owners().guest(owned.guest)
        && let Some(interface) = leading_to(snapshot, guest, packet.source.into())
    {
        trace.step(|| Step::RouteToGuest {
            to,
            guest: guest.id,
        });
        let next_hop = snapshot.owners().next_hop(guest, to);
        return Some(Ok(Way {
            interface,
            next_hop: A::from_ip(next_hop).unwrap_or(packet.destination),
            guest: Some(guest),
        }));
    }
    let Some((prefix, action)) = found else {
        trace.step(|| Step::NoRoute { to, table });
        return None;
    };
    let end = match action {
        Action::Forward { interfaces, via } => {
            let interface = carrier(snapshot, interfaces, packet.source.into())?;
            let next_hop = via.and_then(A::from_ip).unwrap_or(packet.destination);
            if snapshot.health().is_down(interface.id, next_hop.into()) {
                trace.step(|| Step::NextHopDown {
                    interface: interface.id,
                    next_hop: next_hop.into(),
                });
                return None;
            }
            trace.step(|| Step::Route {
                prefix,
                via: *via,
                interface: interface.id,
                table,
            });
            return Some(Ok(Way {
                interface,
                next_hop,
                guest: None,
            }));
        }
        Action::Throw => {
            trace.step(|| Step::Throw { prefix, table });
            return None;
        }
        Action::Blackhole => NoWay::Blackhole,
        Action::Unreachable => NoWay::RouteUnreachable,
        Action::Prohibit => NoWay::Prohibited,
    };
    trace.step(|| Step::RouteEnds { end, prefix, table });
    Some(Err(end))
}

/// The interface by which packets from `source` reach a guest: its network's, or a personality beside
/// it that may send them.
fn leading_to<'s>(snapshot: &'s Snapshot, guest: &Guest, source: IpAddr) -> Option<&'s Interface> {
    let Some(segment) = guest.bridge else {
        return snapshot.interface(guest.network);
    };
    let may_send = |personality: &&Interface| {
        personality.may_send(source, snapshot.owners())
            || snapshot.translations().translates(source, personality.id)
    };
    snapshot
        .on_port(segment.uplink, segment.vlan)
        .find(may_send)
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
            let translations = snapshot.translations();
            interface.owns(source) || translations.translates(source, interface.id)
        };
        if let Some(interface) = candidates().find(fits) {
            return Some(interface);
        }
    }
    candidates().next()
}
