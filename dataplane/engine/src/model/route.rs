//! Finding the way: the rules that choose among the tables.

use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};

use ipnet::IpNet;

use super::health::Outage;
use super::hops::{Group, Hop};
use super::interface::Interface;
use super::owners::{Guest, Owned};
use super::routing::MAIN_TABLE;
use super::snapshot::Snapshot;
use super::tables::{Action, Entry, Found, NoWay};
use super::trace::{Silent, Step, Trace};
use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::config::condition::{Origin, Subject};
use crate::config::{RuleEnd, RuleVerdict};
use crate::wire::flow::Flow;
use crate::wire::packet::{TCP, UDP};

/// The way to a destination: by which interface, to which next hop.
#[derive(Debug, Clone, Copy)]
pub struct Way<'s> {
    /// The egress interface.
    pub interface: &'s Interface,
    /// The next hop on it, of either family.
    pub next_hop: IpAddr,
    /// The guest that owns the destination, if one does.
    pub guest: Option<&'s Guest>,
    /// What the route says of packets that take it, if it says anything.
    pub route: Option<&'s Group>,
}

impl<'s> Way<'s> {
    /// The way to a next hop that no route tells.
    pub fn to(interface: &'s Interface, next_hop: IpAddr) -> Self {
        Self {
            interface,
            next_hop,
            guest: None,
            route: None,
        }
    }
}

impl Way<'_> {
    /// The largest packet that takes it, in bytes without Ethernet header: the interface's MTU, or the route's
    /// if that is smaller.
    #[inline]
    pub fn mtu(&self) -> u32 {
        let own = self.route.and_then(|route| route.mtu);
        own.map_or(self.interface.mtu, |mtu| mtu.min(self.interface.mtu))
    }

    /// Whether its route says anything of sizes.
    #[inline]
    pub fn is_sized(&self) -> bool {
        self.route.is_some_and(Group::is_sized)
    }

    /// The source of what the router itself sends to `peer` this way: what the route says, else the
    /// interface's address.
    pub fn source_for<A: Address>(&self, peer: A) -> Option<A> {
        let preferred = self.route.and_then(|route| A::from_ip(route.source?));
        preferred.or_else(|| self.interface.source_for(peer))
    }
}

/// What rules and routes can ask of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Selector<A> {
    /// Its flow.
    pub flow: Flow<A>,
    /// Where it came in; `None`: it is our own.
    pub iif: Option<InterfaceId>,
    /// The interface that it is bound to, if it is our own.
    pub oif: Option<InterfaceId>,
    /// The mark of its flow; 0 is none.
    pub mark: u32,
    /// Its type of service or traffic class.
    pub tos: u8,
    /// The interface that its session leaves by: where several routes or next hops lead to its destination, it
    /// keeps its own while that is in use, although one that is better came back.
    pub keeps: Option<InterfaceId>,
}

impl<A: Address> Selector<A> {
    /// What can be asked of a packet of `flow` that came in by `iif`, with this type of service.
    pub fn of(flow: &Flow<A>, iif: Option<InterfaceId>, tos: u8) -> Self {
        Self {
            flow: *flow,
            iif,
            oif: None,
            mark: 0,
            tos,
            keeps: None,
        }
    }

    /// The same for a session that leaves by this interface.
    pub fn keeping(self, keeps: Option<InterfaceId>) -> Self {
        Self { keeps, ..self }
    }

    /// The same with a mark.
    pub fn marked(self, mark: u32) -> Self {
        Self { mark, ..self }
    }

    /// What can be asked of a packet of our own, with this protocol.
    pub fn ours(source: A, destination: A, protocol: u8) -> Self {
        let flow = Flow {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol,
        };
        Self::of(&flow, None, 0)
    }

    /// Whether it may leave by an interface: what is bound to one leaves by no other.
    fn may_leave_by(&self, interface: &Interface) -> bool {
        self.oif.is_none_or(|oif| oif == interface.id)
    }

    fn subject(&self) -> Subject<InterfaceId> {
        let Flow {
            source_port,
            destination_port,
            protocol,
            ..
        } = self.flow;
        // ICMP's identifier stands in place of a port.
        let has_ports = [TCP, UDP].contains(&protocol);
        Subject {
            source: self.flow.source.into(),
            destination: self.flow.destination.into(),
            iif: self.iif.map_or(Origin::Own, Origin::Interface),
            oif: self.oif,
            mark: self.mark,
            tos: self.tos,
            protocol,
            ports: match has_ports {
                true => (source_port, destination_port),
                false => (0, 0),
            },
        }
    }
}

/// Finds the way for a packet: rules by ascending priority, the longest prefix in the table a rule
/// names, the next rule when there is none (F19). Next hops that are out of use are passed over, unless
/// there is no other way: what is sent there may find that they are back.
///
/// # Errors
/// There is none, and why.
#[inline]
pub fn route<'s, A: Address>(
    snapshot: &'s Snapshot,
    packet: Selector<A>,
    trace: &mut impl Trace,
) -> Result<Way<'s>, NoWay> {
    let found = route_by((snapshot, None), packet, trace);
    match found {
        Err(NoWay::NoRoute) if !snapshot.health().is_good() => last_resort(snapshot, packet, trace),
        found => found,
    }
}

/// The way by what is out of use, the nearest to use that there is.
#[cold]
fn last_resort<'s, A: Address>(
    snapshot: &'s Snapshot,
    packet: Selector<A>,
    trace: &mut impl Trace,
) -> Result<Way<'s>, NoWay> {
    for outage in snapshot.health().outages() {
        trace.step(|| Step::LastResort { outage });
        match route_by((snapshot, Some(outage)), packet, trace) {
            Err(NoWay::NoRoute) => {}
            found => return found,
        }
    }
    Err(NoWay::NoRoute)
}

/// A snapshot, and what a next hop may be out of use for and be taken all the same.
type By<'s> = (&'s Snapshot, Option<Outage>);

/// The way by next hops that are in use, or not for a reason that is borne.
fn route_by<'s, A: Address>(
    by: By<'s>,
    packet: Selector<A>,
    trace: &mut impl Trace,
) -> Result<Way<'s>, NoWay> {
    let subject = packet.subject();
    let mut rules = by.0.rules().asked_of(&subject);
    while let Some(rule) = rules.next() {
        let priority = rule.priority;
        match rule.verdict {
            RuleVerdict::Lookup {
                table,
                suppress_prefixlength,
            } => {
                trace.step(|| Step::Rule {
                    priority,
                    condition: rule.condition,
                    table,
                });
                let place = (table, suppress_prefixlength);
                let way = look_up(by, &packet, place, trace);
                if let Some(found) = way {
                    return found;
                }
            }
            RuleVerdict::Goto(target) => {
                trace.step(|| Step::RuleGoesOn {
                    priority,
                    condition: rule.condition,
                    target: Some(target),
                });
                rules.go_to(target);
            }
            RuleVerdict::Nop => trace.step(|| Step::RuleGoesOn {
                priority,
                condition: rule.condition,
                target: None,
            }),
            RuleVerdict::End(end) => {
                trace.step(|| Step::RuleEnds {
                    priority,
                    condition: rule.condition,
                    action: end,
                });
                return Err(match end {
                    RuleEnd::Blackhole => NoWay::Blackhole,
                    RuleEnd::Unreachable => NoWay::RuleUnreachable,
                    RuleEnd::Prohibit => NoWay::Prohibited,
                });
            }
        }
    }
    let to = subject.destination;
    trace.step(|| Step::NoRule { to });
    Err(NoWay::NoRoute)
}

/// What one table says; `None`: nothing, on to the next rule.
#[inline(always)]
fn look_up<'s, A: Address>(
    by: By<'s>,
    packet: &Selector<A>,
    (table, suppress): (usize, Option<u8>),
    trace: &mut impl Trace,
) -> Option<Result<Way<'s>, NoWay>> {
    let (snapshot, _) = by;
    let to: IpAddr = packet.flow.destination.into();
    // What guests own is in `main`, as if each had a route there.
    let mut owned = match table {
        MAIN_TABLE => snapshot.owners().find(to),
        _ => None,
    };
    // As in Linux, only what leads somewhere is suppressed.
    let suppressed = |length| suppress.is_some_and(|longest| length <= longest);
    for found in snapshot.table(table).covering(to) {
        let length = found.to.prefix_len();
        if let Some((owned, length)) = owned.take_if(|(_, own)| *own >= length)
            && let Break(said) = to_guest(snapshot, packet, (owned, suppressed(length)), trace)
        {
            return said;
        }
        if let Some(interface) = packet.keeps
            && suppress.is_none_or(|longest| length > longest)
            && let Some(kept) = kept(by, packet, &found, (interface, table), trace)
        {
            return Some(Ok(kept));
        }
        for entry in found.routes {
            let place = (found.to, table, suppressed(length));
            if let Break(said) = take(by, packet, place, entry, trace) {
                return said;
            }
        }
    }
    if let Some((owned, length)) = owned
        && let Break(said) = to_guest(snapshot, packet, (owned, suppressed(length)), trace)
    {
        return said;
    }
    trace.step(|| Step::NoRoute { to, table });
    None
}

/// What ends the look-up in a table: a way or that there is none, or nothing, which leads on to the next
/// rule.
type Said<'s> = ControlFlow<Option<Result<Way<'s>, NoWay>>>;

/// The way to the guest that owns the destination, if somebody carries the packet there.
fn to_guest<'s, A: Address>(
    snapshot: &'s Snapshot,
    packet: &Selector<A>,
    (owned, suppressed): (Owned, bool),
    trace: &mut impl Trace,
) -> Said<'s> {
    let to: IpAddr = packet.flow.destination.into();
    let guest = snapshot.owners().guest(owned.guest);
    let leading = leading_to(snapshot, guest, packet.flow.source.into());
    let Some(interface) = leading.filter(|interface| packet.may_leave_by(interface)) else {
        return Continue(());
    };
    if suppressed {
        return Break(None);
    }
    trace.step(|| Step::RouteToGuest {
        to,
        guest: guest.id,
    });
    Break(Some(Ok(Way {
        interface,
        next_hop: snapshot.owners().next_hop(guest, to),
        guest: Some(guest),
        route: None,
    })))
}

/// The way by an interface that a session has already, if one of the routes to a prefix, or one of their next
/// hops, is by it and in use.
#[cold]
fn kept<'s, A: Address>(
    by: By<'s>,
    packet: &Selector<A>,
    found: &Found<'s>,
    (interface, table): (InterfaceId, usize),
    trace: &mut impl Trace,
) -> Option<Way<'s>> {
    let forwarding = found.routes.iter().map_while(|entry| match entry.action {
        Action::Forward(group) => Some((entry.metric, by.0.group(group))),
        _ => None,
    });
    for (metric, group) in forwarding {
        let own = group.find(&packet.flow, |hop| {
            alive(by, packet, hop, &mut Silent).filter(|(leads_by, _)| leads_by.id == interface)
        });
        let Some((interface, via)) = own else {
            continue;
        };
        trace.step(|| Step::Route {
            prefix: *found.to,
            metric,
            via,
            interface: interface.id,
            table,
        });
        return Some(Way {
            interface,
            next_hop: via.unwrap_or(packet.flow.destination.into()),
            guest: None,
            route: Some(group),
        });
    }
    None
}

/// What a route says of a packet that its prefix covers.
#[inline]
fn take<'s, A: Address>(
    by: By<'s>,
    packet: &Selector<A>,
    (prefix, table, suppressed): (&IpNet, usize, bool),
    entry: &Entry,
    trace: &mut impl Trace,
) -> Said<'s> {
    let end = match entry.action {
        Action::Forward(group) => {
            let group = by.0.group(group);
            let found = group.find(&packet.flow, |hop| alive(by, packet, hop, trace));
            let Some((interface, via)) = found else {
                return Continue(());
            };
            if suppressed {
                return Break(None);
            }
            trace.step(|| Step::Route {
                prefix: *prefix,
                metric: entry.metric,
                via,
                interface: interface.id,
                table,
            });
            return Break(Some(Ok(Way {
                interface,
                next_hop: via.unwrap_or(packet.flow.destination.into()),
                guest: None,
                route: Some(group),
            })));
        }
        Action::Throw => {
            trace.step(|| Step::Throw {
                prefix: *prefix,
                table,
            });
            return Break(None);
        }
        Action::Blackhole => NoWay::Blackhole,
        Action::Unreachable => NoWay::RouteUnreachable,
        Action::Prohibit => NoWay::Prohibited,
    };
    trace.step(|| Step::RouteEnds {
        end,
        prefix: *prefix,
        table,
    });
    Break(Some(Err(end)))
}

/// The interface and address of a next hop, if it is in use and the packet may leave by it.
#[inline]
fn alive<'s, A: Address>(
    (snapshot, borne): By<'s>,
    packet: &Selector<A>,
    hop: &Hop,
    trace: &mut impl Trace,
) -> Option<(&'s Interface, Option<IpAddr>)> {
    let interface = carrier(snapshot, &hop.interfaces, packet)?;
    let next_hop = hop.via.unwrap_or(packet.flow.destination.into());
    let outage = snapshot.health().outage(interface.id, next_hop);
    if let Some(outage) = outage.filter(|outage| Some(*outage) > borne) {
        trace.step(|| Step::NextHopDown {
            interface: interface.id,
            next_hop,
            outage,
        });
        return None;
    }
    Some((interface, hop.via))
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

/// Which of `interfaces` carries a packet. Where several personalities share a connected prefix it is the one
/// that owns the source or translates it to an address of its own, else the first.
fn carrier<'s, A: Address>(
    snapshot: &'s Snapshot,
    interfaces: &[InterfaceId],
    packet: &Selector<A>,
) -> Option<&'s Interface> {
    let all = interfaces.iter().filter_map(|id| snapshot.interface(*id));
    let mut candidates = all.filter(|interface| packet.may_leave_by(interface));
    if interfaces.len() > 1 {
        let source = packet.flow.source.into();
        let fits = |interface: &&Interface| {
            let translations = snapshot.translations();
            interface.owns(source) || translations.translates(source, interface.id)
        };
        if let Some(interface) = candidates.clone().find(fits) {
            return Some(interface);
        }
    }
    candidates.next()
}
