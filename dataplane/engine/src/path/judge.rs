//! The one decision: whether a packet may go, where, and as what.
//!
//! [`judge`] is a pure function of the packet's flow and the snapshot. The first packet of a flow,
//! the judging anew of a session after a reload, the repair of a path and `explain` all ask it, so
//! what is forbidden to one is forbidden to all.

use std::net::IpAddr;

use super::admit;
use super::policy::permit;
use super::query::{Bounds, Query, Refusal};
use crate::base::addr::{InterfaceId, PortId};
use crate::base::drops::DropReason;
use crate::base::ip::is_of_a_link;
use crate::config::Limits;
use crate::model::bridge::Bridge;
use crate::model::interface::Interface;
use crate::model::nat::{Outward, Snat};
use crate::model::owners::Guest;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace, Violation};
use crate::state::payer::Payer;
use crate::state::ports::Wanted;
use crate::wire::error::IcmpError;
use crate::wire::flow::Flow;
use crate::wire::packet::{Family, Transport};

/// What becomes of the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Course<'s, A> {
    /// It is for the router itself.
    Local,
    /// It is an ICMP error: the session that it quotes a packet of decides further.
    Error,
    /// It is sent on.
    Forward(Plan<'s, A>),
}

/// How a packet is sent on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'s, A> {
    /// The flow as it leaves; the source is still its own where it shares an external address.
    pub(crate) to: Flow<A>,
    /// The translation of a source that shares an external address with others, and that address.
    pub(crate) snat: Option<(&'s Snat, A)>,
    /// Where it goes.
    pub(crate) way: Way<'s, A>,
    /// Whom it counts against.
    pub(crate) payer: Payer,
    /// What that one may use.
    pub(crate) limits: &'s Limits,
    /// The guest that it is for, if a stranger opens it.
    pub(crate) served: Option<&'s Guest>,
}

impl<A> Plan<'_, A> {
    /// The external port that it needs, if it shares an external address.
    pub(crate) fn wanted(&self) -> Option<Wanted<A>>
    where
        A: Family,
    {
        let (snat, external) = self.snat?;
        Some(Wanted {
            external,
            protocol: self.to.protocol,
            inside: (self.to.source, self.to.source_port),
            range: snat.ports,
            payer: self.payer,
            limit: self.limits.ports,
        })
    }

    /// The number of the guest that it is from, or else to.
    pub(crate) fn guest(&self) -> Option<u16> {
        match self.payer {
            Payer::By(guest) => Some(guest),
            _ => self.way.guest.map(|guest| guest.number),
        }
    }
}

/// Decides about a packet.
///
/// # Errors
/// It may not go, and why.
#[inline]
pub(crate) fn judge<'s, A: Family>(
    query: &Query<'s, A>,
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Course<'s, A>, Refusal> {
    let (flow, interface) = (&query.flow, query.interface);
    if let Some(segment) = interface.bridge {
        return across(query, segment, snapshot, trace);
    }
    let holder = receive(query, snapshot, trace)?;
    if query.transport == Transport::IcmpError {
        return Ok(Course::Error);
    }
    if let Some(inward) = snapshot.translations().inward(flow, interface) {
        let to = inward.flow;
        trace.step(|| match inward.one_to_one {
            true => Step::OneToOne {
                from: flow.destination.into(),
                to: to.destination.into(),
            },
            false => Step::Redirect {
                from: (flow.destination.into(), flow.destination_port),
                to: (to.destination.into(), to.destination_port),
            },
        });
        // What turns at an address outside wears the address that it would have there.
        let hairpin = (!interface.personality).then_some(inward.personality);
        return plan(query, (to, hairpin), snapshot, trace).map(Course::Forward);
    }
    match holder {
        Some(holder) => {
            trace.step(|| Step::Local {
                destination: flow.destination.into(),
                interface: holder.id,
            });
            Ok(Course::Local)
        }
        None => plan(query, (*flow, None), snapshot, trace).map(Course::Forward),
    }
}

/// Whether a packet may come in at all. Returns the interface whose own address it is for, if it is
/// for one.
#[inline(always)]
fn receive<'s, A: Family>(
    query: &Query<'s, A>,
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Option<&'s Interface>, Refusal> {
    let (flow, interface) = (&query.flow, query.interface);
    let (source, destination) = (flow.source, flow.destination);
    if snapshot.is_group(destination) {
        return Err(DropReason::Broadcast.into());
    }
    let own = || interface.owns(destination.into()).then_some(interface);
    let holder = snapshot.holder(destination.into()).or_else(own);
    if interface.shared.is_some() && is_the_hosts(query, holder, snapshot) {
        return Err(DropReason::LeftToHost.into());
    }
    let is_ours = || snapshot.holder(source.into()).is_some() || interface.owns(source.into());
    let own_by_guest = || !interface.personality && is_ours();
    let forged = snapshot.is_group(source) || own_by_guest();
    let allowed = match holder {
        Some(_) => source.is_one_host(),
        None => source.may_be_source() && destination.may_be_destination(),
    };
    if forged || !allowed {
        return Err(martian(source, destination, interface));
    }
    if let Some(ingress) = query.ingress {
        let place = (ingress, interface);
        admit::address(snapshot, place, source, DropReason::SpoofedSource, trace)?;
        admit::service(snapshot, ingress, flow, trace)?;
    }
    if interface.personality {
        from_uplink(query, holder, snapshot)?;
    }
    Ok(holder)
}

/// Why an impossible packet is refused. Only one that may not leave its source's link is told of:
/// such a source is somebody's (RFC 4443 §3.1, S04).
#[cold]
fn martian<A: Family>(source: A, destination: A, interface: &Interface) -> Refusal {
    let somebodys = is_of_a_link(source.into()) && !interface.owns(source.into());
    let beyond = somebodys && destination.may_be_destination();
    Refusal {
        reason: DropReason::Martian,
        told: beyond.then_some(IcmpError::BeyondScope),
    }
}

/// What comes in by a personality is from outside, and for an address that this personality has or
/// answers for. Nobody there has an address of ours or of a guest; addresses inside are reached by
/// sessions and redirected ports alone (H05).
fn from_uplink<A: Family>(
    query: &Query<'_, A>,
    holder: Option<&Interface>,
    snapshot: &Snapshot,
) -> Result<(), DropReason> {
    let personality = query.interface;
    let (source, destination) = (query.flow.source.into(), query.flow.destination.into());
    if is_forged(personality, query.ingress, source, snapshot) {
        return Err(DropReason::InsideSource);
    }
    let answered = match holder {
        Some(holder) => holder.id == personality.id,
        None => snapshot.owners().is_public(destination, personality.id),
    };
    if answered {
        Ok(())
    } else if holder.is_some_and(|holder| holder.personality) || snapshot.is_public(destination) {
        Err(DropReason::WrongPersonality)
    } else if snapshot.is_ours(destination) {
        Err(DropReason::InsideDestination)
    } else {
        Ok(())
    }
}

/// Whether a source is ours, and so nobody's by whom it can come to `personality`: only a guest that is
/// bridged beside it has its address there, behind its own port.
pub(crate) fn is_forged(
    personality: &Interface,
    ingress: Option<PortId>,
    source: IpAddr,
    snapshot: &Snapshot,
) -> bool {
    personality.owns(source)
        || snapshot.is_ours(source) && !snapshot.is_bridged_beside(personality, ingress, source)
}

/// What becomes of a packet on a segment that guests are bridged to: it stays as it is, and is for
/// the guest that has its destination, or for the uplink.
#[inline(never)]
fn across<'s, A: Family>(
    query: &Query<'s, A>,
    segment: Bridge,
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Course<'s, A>, Refusal> {
    let (flow, interface) = (&query.flow, query.interface);
    let (source, destination) = (flow.source.into(), flow.destination.into());
    let one_host = flow.source.is_one_host() && flow.destination.is_one_host();
    if !one_host || snapshot.is_group(flow.source) || snapshot.is_group(flow.destination) {
        return Err(DropReason::Martian.into());
    }
    let owners = snapshot.owners();
    let sender = owners.on_segment(interface.id, source);
    let from_uplink = query.ingress == Some(segment.uplink);
    if from_uplink && (sender.is_some() || snapshot.is_ours(source)) {
        return Err(DropReason::InsideSource.into());
    }
    if let Some(port) = query.ingress.filter(|_| !from_uplink) {
        if sender.is_none_or(|guest| guest.port != port) {
            trace.step(|| Step::Violation(Violation::Address(source)));
            return Err(DropReason::SpoofedSource.into());
        }
        admit::service(snapshot, port, flow, trace)?;
    }
    let guest = owners.on_segment(interface.id, destination);
    // What is for the router or for guests behind it comes in by the personality that answers.
    if sender.is_none() && guest.is_none() || snapshot.answerer(segment, destination).is_some() {
        return Err(DropReason::WrongPersonality.into());
    }
    if query.transport == Transport::IcmpError {
        return Ok(Course::Error);
    }
    let way = Way {
        interface,
        next_hop: flow.destination,
        guest,
    };
    if let Some(guest) = guest {
        trace.step(|| Step::RouteToGuest {
            to: destination,
            guest: guest.id,
        });
    }
    permit(query, flow, &way, snapshot, trace)?;
    let (payer, limits) = payer(snapshot, (interface, query.ingress), source);
    Ok(Course::Forward(Plan {
        to: *flow,
        snat: None,
        way,
        payer,
        limits,
        served: guest.filter(|_| sender.is_none()),
    }))
}

/// Whether a packet that came to a MAC we share with the host's kernel is the kernel's: all that is
/// neither for a guest nor about one's session.
fn is_the_hosts<A: Family>(
    query: &Query<'_, A>,
    holder: Option<&Interface>,
    snapshot: &Snapshot,
) -> bool {
    let (flow, interface) = (&query.flow, query.interface.id);
    let destination = flow.destination.into();
    let is_guests = || {
        snapshot.owners().is_public(destination, interface)
            || holder.is_none() && snapshot.is_ours(destination)
    };
    query.transport != Transport::IcmpError
        && snapshot
            .translations()
            .inward(flow, query.interface)
            .is_none()
        && !is_guests()
}

/// How a packet is sent on. `to` is its flow with the destination that it really has; `hairpin` the
/// personality whose address it was sent to from inside.
#[inline(always)]
fn plan<'s, A: Family>(
    query: &Query<'s, A>,
    (mut to, hairpin): (Flow<A>, Option<InterfaceId>),
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Plan<'s, A>, Refusal> {
    let interface = query.interface;
    let selector = Selector::of(&to, Some(interface.id));
    let way =
        route(snapshot, selector, trace).map_err(|no_way| Refusal::no_way(no_way, interface))?;
    permit(query, &to, &way, snapshot, trace)?;
    if let Some(Bounds { ttl, .. }) = query.bounds {
        if ttl <= 1 {
            return Err(Refusal::TTL);
        }
        trace.step(|| Step::Ttl { before: ttl });
    }
    let egress = way.interface;
    let nobodys = way.guest.is_none() && way.next_hop == to.destination;
    if nobodys
        && let Some(ingress) = query.ingress
        && snapshot.admission(ingress).guests
        && egress.ports == [ingress]
    {
        // It would go back to the link it came from (RFC 4443 §3.1, S08).
        let error = IcmpError::HostUnreachable;
        return Err(Refusal::told(DropReason::SamePort, error));
    }
    let (payer, limits) = payer(snapshot, (interface, query.ingress), to.source.into());
    if query.transport == Transport::Fragment && query.flow.destination != to.destination {
        return Err(DropReason::FragmentUntranslatable.into());
    }
    let leaves_by = egress.personality.then_some(egress.id).or(hairpin);
    let snat = match leaves_by {
        Some(worn) => outward(query, &mut to, (egress, worn), snapshot, trace)?,
        None => {
            trace.step(|| Step::NoTranslation);
            None
        }
    };
    if let Some(Bounds {
        unfragmented: Some(length),
        ..
    }) = query.bounds
    {
        fits(length, egress, trace)?;
    }
    Ok(Plan {
        to,
        snat,
        way,
        payer,
        limits,
        served: way.guest.filter(|_| interface.personality),
    })
}

/// Whom a packet from `source` counts against that came in by an interface and port, and what that one
/// may use.
pub(crate) fn payer<'s>(
    snapshot: &'s Snapshot,
    (interface, ingress): (&Interface, Option<PortId>),
    source: IpAddr,
) -> (Payer, &'s Limits) {
    let general = &snapshot.config().router().limits;
    match snapshot.sender(interface, source) {
        Some(guest) => (Payer::By(guest.number), &guest.limits),
        None => match ingress.or_else(|| interface.ports.first().copied()) {
            Some(port) => (Payer::Port(port), general),
            None => (Payer::Nobody, general),
        },
    }
}

/// Translates the source of a packet that leaves by `egress`, under the addresses that the personality
/// `worn` has; nothing that needs it leaves without. An address that is shared with others is the
/// result, with the entry: the port is still to be had.
#[inline(always)]
fn outward<'s, A: Family>(
    query: &Query<'_, A>,
    to: &mut Flow<A>,
    (egress, worn): (&Interface, InterfaceId),
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Option<(&'s Snat, A)>, Refusal> {
    let translations = snapshot.translations();
    let ends = (to.source.into(), to.destination.into());
    let found = translations.outward(ends, worn, snapshot.owners());
    let address = match found {
        Outward::AsItIs => {
            trace.step(|| Step::NoTranslation);
            guard(ends.0, egress, snapshot, trace)?;
            return Ok(None);
        }
        Outward::Excepted => {
            trace.step(|| Step::NoTranslation);
            return Ok(None);
        }
        Outward::OneToOne(address) => {
            trace.step(|| Step::OneToOne {
                from: ends.0,
                to: address,
            });
            address
        }
        Outward::Shared(index, snat, address) => {
            trace.step(|| Step::Snat {
                index,
                from: snat.from,
                to: address,
            });
            address
        }
    };
    let address = A::from_ip(address).ok_or(DropReason::NatUnsupported)?;
    match (query.transport, found) {
        (Transport::Fragment, _) => Err(DropReason::FragmentUntranslatable.into()),
        (
            Transport::Tcp(_) | Transport::Udp | Transport::EchoRequest,
            Outward::Shared(_, snat, _),
        ) => Ok(Some((snat, address))),
        // Without ports a session tells whose answers are, where it can be one's alone.
        (Transport::Other, _) | (_, Outward::OneToOne(_)) => {
            to.source = address;
            Ok(None)
        }
        _ => Err(DropReason::NatUnsupported.into()),
    }
}

/// Only what a personality has or answers for leaves by it untranslated (X01).
fn guard(
    source: IpAddr,
    egress: &Interface,
    snapshot: &Snapshot,
    trace: &mut impl Trace,
) -> Result<(), Refusal> {
    if egress.may_send(source, snapshot.owners()) {
        return Ok(());
    }
    trace.step(|| Step::Guarded {
        source: Some(source),
        interface: egress.id,
    });
    Err(DropReason::EgressGuard.into())
}

/// A packet that may not be fragmented and is too large for `egress` is refused with the MTU
/// (RFC 1191 §4, F07; RFC 4443 §3.2, S02).
pub(crate) fn fits(
    length: usize,
    egress: &Interface,
    trace: &mut impl Trace,
) -> Result<(), Refusal> {
    if length <= egress.mtu as usize {
        return Ok(());
    }
    trace.step(|| Step::TooBig {
        length,
        interface: egress.id,
    });
    let error = IcmpError::TooBig { mtu: egress.mtu };
    Err(Refusal::told(DropReason::FragmentationNeeded, error))
}
