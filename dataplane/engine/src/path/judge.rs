//! The one decision: whether a packet may go, where, and as what.
//!
//! [`judge`] is a pure function of the packet's flow and the snapshot. The first packet of a flow,
//! the judging anew of a session after a reload, the repair of a path and `explain` all ask it, so
//! what is forbidden to one is forbidden to all.

use std::net::IpAddr;

use super::admit;
use super::hairpin::{hairpin, remote};
use super::policy::permit;
use super::query::{Bounds, Query, Refusal};
use crate::base::addr::{InterfaceId, PortId};
use crate::base::drops::DropReason;
use crate::base::ip::is_of_a_link;
use crate::config::{Limits, PortRange};
use crate::model::bridge::Bridge;
use crate::model::interface::Interface;
use crate::model::nat::{By, Inward, Mapped, Outward, Snat};
use crate::model::owners::Guest;
use crate::model::policy::Ruling;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace, Violation};
use crate::state::payer::Payer;
use crate::state::ports::Wanted;
use crate::state::session::Opener;
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
    /// The external address that the source shares with others.
    pub(crate) snat: Option<Shared<'s, A>>,
    /// The mapping that gives it its destination.
    pub(crate) mapped: Option<Mapped<A>>,
    /// Who sends it, before translation.
    pub(crate) source: A,
    /// Where it goes.
    pub(crate) way: Way<'s>,
    /// Whom it counts against.
    pub(crate) payer: Payer,
    /// What that one may use.
    pub(crate) limits: &'s Limits,
    /// The guest that it is for, if a stranger opens it.
    pub(crate) served: Option<&'s Guest>,
    /// The rule of the policy that lets it pass, if one does.
    pub(crate) rule: Option<&'s Ruling>,
}

/// An external address that a source shares with others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'s, A> {
    /// The entry that says so.
    pub(crate) snat: &'s Snat,
    /// The address.
    pub(crate) external: A,
    /// Its ports that would do.
    pub(crate) ports: PortRange,
}

impl<A> Plan<'_, A> {
    /// The external port that it needs, if it shares an external address.
    pub(crate) fn wanted(&self) -> Option<Wanted<A>>
    where
        A: Family,
    {
        let shared = self.snat?;
        Some(Wanted {
            external: shared.external,
            protocol: self.to.protocol,
            inside: (self.to.source, self.to.source_port),
            range: shared.ports,
            payer: self.payer,
            limit: self.limits.ports,
            alone: shared.snat.block.is_some(),
        })
    }

    /// The rule that counts its sessions, if one does.
    pub(crate) fn counted_by(&self) -> Option<u64> {
        let limits = self.rule?.limits?;
        limits.connections.map(|_| limits.rule)
    }

    /// Who opens it, as rules count their sessions.
    pub(crate) fn opener(&self) -> Opener<A>
    where
        A: Family,
    {
        Opener::of(self.payer, self.source)
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
    let inward = inward(query, snapshot);
    let holder = receive(query, inward.is_ok(), snapshot, trace)?;
    if query.transport == Transport::IcmpError {
        return Ok(Course::Error);
    }
    match inward {
        Ok(inward) => {
            trace.step(|| turned(flow, &inward, snapshot));
            let hairpin = (!interface.personality)
                .then(|| hairpin(flow, (interface, inward.personality), snapshot));
            return plan(query, (inward.flow, hairpin), snapshot, trace).map(|plan| {
                Course::Forward(Plan {
                    mapped: query.mapped.filter(|_| matches!(inward.by, By::Mapping(_))),
                    ..plan
                })
            });
        }
        Err(Some(index)) => trace.step(|| filtered(flow, index, snapshot)),
        Err(None) => {}
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

/// The flow with the destination that it really has, if it is translated: by what is configured, or
/// else by a mapping that lets it in. Otherwise the entry that keeps it out, if one does.
#[inline(always)]
fn inward<A: Family>(
    query: &Query<'_, A>,
    snapshot: &Snapshot,
) -> Result<Inward<A>, Option<usize>> {
    let configured = snapshot.translations().inward(&query.flow, query.interface);
    match (configured, &query.mapped) {
        (Some(inward), _) => Ok(inward),
        (None, None) => Err(None),
        (None, Some(mapped)) => unasked(query, mapped, snapshot),
    }
}

/// What comes to a mapping that no session expects.
#[cold]
fn unasked<A: Family>(
    query: &Query<'_, A>,
    mapped: &Mapped<A>,
    snapshot: &Snapshot,
) -> Result<Inward<A>, Option<usize>> {
    let (flow, interface) = (&query.flow, query.interface);
    let personality = snapshot.holder(flow.destination.into()).ok_or(None)?;
    if interface.personality && interface.id != personality.id {
        return Err(None);
    }
    let remote = remote(flow, (interface, personality), snapshot);
    let translations = snapshot.translations();
    translations.unasked((flow, remote), mapped, personality.id, snapshot.owners())
}

/// Another destination, as a step.
fn turned<A: Family>(flow: &Flow<A>, inward: &Inward<A>, snapshot: &Snapshot) -> Step {
    let from = (flow.destination.into(), flow.destination_port);
    let to = (inward.flow.destination.into(), inward.flow.destination_port);
    match inward.by {
        By::OneToOne => Step::OneToOne {
            from: from.0,
            to: to.0,
        },
        By::Redirect => Step::Redirect { from, to },
        By::Mapping(index) => Step::LetIn {
            index,
            filtering: snapshot.translations().snat[index].filtering,
            from,
            to,
        },
    }
}

/// What keeps a packet from the guest that uses the port that it is for, as a step.
fn filtered<A: Family>(flow: &Flow<A>, index: usize, snapshot: &Snapshot) -> Step {
    Step::Filtered {
        index,
        filtering: snapshot.translations().snat[index].filtering,
        port: (flow.destination.into(), flow.destination_port),
        sender: flow.source.into(),
    }
}

/// Whether a packet may come in at all. `turned`: it has another destination by translation. Returns the interface whose own address it is for, if it is
/// for one.
#[inline(always)]
fn receive<'s, A: Family>(
    query: &Query<'s, A>,
    turned: bool,
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
    if interface.shared.is_some() && !turned && is_the_hosts(query, holder, snapshot) {
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
        logged_by: None,
    }
}

/// What comes in by a personality is from outside, and for an address that this personality has or
/// answers for. Nobody there has an address of ours or of a guest; addresses inside are reached by
/// sessions and redirected ports alone (H05). An error may be about a session that is not translated
/// (`except`): what it quotes decides.
fn from_uplink<A: Family>(
    query: &Query<'_, A>,
    holder: Option<&Interface>,
    snapshot: &Snapshot,
) -> Result<(), DropReason> {
    let personality = query.interface;
    let (source, destination) = (query.flow.source.into(), query.flow.destination.into());
    let pair_of = |address| snapshot.translations().outside_of_pair(address);
    if is_forged(personality, query.ingress, source, snapshot) {
        return Err(DropReason::InsideSource);
    }
    let pair = pair_of(destination);
    let answered = match holder {
        Some(holder) => holder.id == personality.id,
        None => {
            snapshot.owners().is_public(destination, personality.id) || pair == Some(personality.id)
        }
    };
    let is_personalitys = || holder.is_some_and(|holder| holder.personality) || pair.is_some();
    if answered {
        Ok(())
    } else if is_personalitys() || snapshot.is_public(destination) {
        Err(DropReason::WrongPersonality)
    } else if snapshot.is_ours(destination) && query.transport != Transport::IcmpError {
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
        || snapshot.translations().outside_of_pair(source).is_some()
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
        next_hop: destination,
        guest,
        route: None,
    };
    if let Some(guest) = guest {
        trace.step(|| Step::RouteToGuest {
            to: destination,
            guest: guest.id,
        });
    }
    let rule = permit(query, flow, &way, snapshot, trace)?;
    let (payer, limits) = payer(snapshot, (interface, query.ingress), source);
    Ok(Course::Forward(Plan {
        to: *flow,
        source: flow.source,
        snat: None,
        mapped: None,
        way,
        payer,
        limits,
        served: guest.filter(|_| sender.is_none()),
        rule,
    }))
}

/// Whether a packet that came to a MAC we share with the host's kernel is the kernel's: all that is
/// neither for a guest nor about one's session. It is not translated.
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
    query.transport != Transport::IcmpError && !is_guests()
}

/// How a packet is sent on. `to` is its flow with the destination that it really has; `hairpin` the
/// personality whose address it wears since it was sent to one outside from inside.
#[inline(always)]
fn plan<'s, A: Family>(
    query: &Query<'s, A>,
    (mut to, hairpin): (Flow<A>, Option<InterfaceId>),
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Plan<'s, A>, Refusal> {
    let interface = query.interface;
    let selector = Selector::of(&to, Some(interface.id), query.tos).keeping(query.keeps);
    let lost = |no_way| Refusal::no_way(no_way, interface);
    let mut way = route(snapshot, selector, trace).map_err(lost)?;
    let mut rule = permit(query, &to, &way, snapshot, trace)?;
    // A mark may lead elsewhere, where the policy is asked again.
    if let Some(mark) = rule.map(|rule| rule.mark).filter(|mark| *mark != 0)
        && snapshot.rules().marks
    {
        trace.step(|| Step::Marked { mark });
        way = route(snapshot, selector.marked(mark), trace).map_err(lost)?;
        rule = permit(query, &to, &way, snapshot, trace)?;
    }
    if let Some(Bounds { ttl, .. }) = query.bounds {
        if ttl <= 1 {
            return Err(Refusal::TTL);
        }
        trace.step(|| Step::Ttl { before: ttl });
    }
    let egress = way.interface;
    let nobodys = way.guest.is_none() && way.next_hop == to.destination.into();
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
        fits(length, (egress, way.mtu()), trace)?;
    }
    Ok(Plan {
        to,
        source: query.flow.source,
        snat,
        mapped: None,
        way,
        payer,
        limits,
        served: way.guest.filter(|_| interface.personality),
        rule,
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
) -> Result<Option<Shared<'s, A>>, Refusal> {
    let translations = snapshot.translations();
    let ends = (to.source.into(), to.destination.into());
    let found = translations.outward(ends, worn, snapshot.owners());
    let address = match found {
        Outward::Nothing => {
            let error = IcmpError::HostUnreachable;
            return Err(Refusal::told(DropReason::NatUnsupported, error));
        }
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
        Outward::Shared(worn) => {
            trace.step(|| Step::Snat {
                index: worn.index,
                from: worn.snat.from,
                to: worn.address,
                block: worn.snat.block.map(|_| worn.ports),
            });
            worn.address
        }
    };
    let address = A::from_ip(address).ok_or(DropReason::NatUnsupported)?;
    match (query.transport, found) {
        (Transport::Fragment, _) => Err(DropReason::FragmentUntranslatable.into()),
        (Transport::Tcp(_) | Transport::Udp | Transport::EchoRequest, Outward::Shared(worn)) => {
            Ok(Some(Shared {
                snat: worn.snat,
                external: address,
                ports: worn.ports,
            }))
        }
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

/// A packet that may not be fragmented and is too large for its way by `egress` is refused with the MTU
/// (RFC 1191 §4, F07; RFC 4443 §3.2, S02).
pub(crate) fn fits(
    length: usize,
    (egress, mtu): (&Interface, u32),
    trace: &mut impl Trace,
) -> Result<(), Refusal> {
    if length <= mtu as usize {
        return Ok(());
    }
    trace.step(|| Step::TooBig {
        length,
        interface: egress.id,
        mtu,
    });
    let error = IcmpError::TooBig { mtu };
    Err(Refusal::told(DropReason::FragmentationNeeded, error))
}
