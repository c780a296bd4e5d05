//! Guests that are bridged: what passes between them, their uplink and the router, frame by frame,
//! before anything is routed.
//!
//! A frame passes as it is, or not at all. From a guest only its own pair of MAC and address passes;
//! from the uplink, only what is for a guest. An address tells whose a packet is, a MAC only where
//! no guest and no personality has the address:
//!
//! | for | from a guest | from the uplink |
//! |---|---|---|
//! | an address of a bridged guest | to that guest | to that guest, at its MAC or (ARP, NDP, DHCP) a group |
//! | an address that a personality there has or answers for | the router | the router |
//! | any other | the uplink | the router, which drops it |
//!
//! Of groups only that passes which ARP, neighbour discovery, MLD and DHCP need (`control.rs`). Each
//! goes to one place, except what the segment's routers say to all.

mod control;
mod place;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) use place::Crossing;
use place::{Place, uplink};

use super::forward::begin;
use super::judge::{Course, judge};
use super::policy::permits_answers;
use super::query::Query;
use super::{admit, bandwidth, errors, limits, log, offload, standing};
use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::base::time::Ticks;
use crate::model::interface::Arrival;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace, Violation};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::session::{Hit, Path};
use crate::state::shard::Tracked;
use crate::wire::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Link, Verdict};
use crate::wire::mld;
use crate::wire::nd;
use crate::wire::packet::{Family, Packet, Part, Transport};

/// A frame that came in by the port of a bridged guest, or by the uplink of one.
///
/// # Errors
/// It may not pass.
#[inline(never)]
pub(crate) fn receive<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    link: Link,
) -> Result<Crossing<'s>, DropReason> {
    let is_guests = !ctx.snapshot.is_uplink(link.port);
    let Some(network) = ctx.snapshot.segment(link.port, link.vlan) else {
        // A guest is untagged; an uplink may have VLANs that nobody is bridged to.
        return match is_guests {
            true => Err(DropReason::UnknownMac),
            false => Ok(Crossing::Router(link)),
        };
    };
    let owners = ctx.snapshot.owners();
    let sender = owners.bridged(network.id, link.source);
    let sender = match sender {
        Some(guest) if is_guests && guest.port == link.port => Some(guest),
        None if !is_guests => None,
        Some(_) if !is_guests => return Err(DropReason::OwnFrame),
        _ => {
            ctx.trace
                .step(|| Step::Violation(Violation::Mac(link.source)));
            return Err(DropReason::SpoofedMac);
        }
    };
    if !is_guests
        && !link.destination.is_group()
        && owners.bridged(network.id, link.destination).is_none()
    {
        return Ok(Crossing::Router(link));
    }
    let place = Place {
        network,
        sender,
        link,
    };
    match u16::from_be_bytes([frame.bytes[12], frame.bytes[13]]) {
        ETHERTYPE_IPV4 => {
            let packet = Ipv4Addr::parse(frame)?;
            offload::accept(frame, &packet)?;
            frame.truncate(packet.end);
            place.owns(ctx, packet.flow.source.into(), DropReason::SpoofedSource)?;
            if let Some(client) = control::dhcp_client(frame, &packet)
                && let Some(crossing) = control::dhcp(ctx, frame, &packet, &place, client)?
            {
                return Ok(crossing);
            }
            packet_of(ctx, frame, &packet, &place)
        }
        ETHERTYPE_IPV6 => {
            let packet = Ipv6Addr::parse(frame)?;
            offload::accept(frame, &packet)?;
            frame.truncate(packet.end);
            place.owns(ctx, packet.flow.source.into(), DropReason::SpoofedSource)?;
            match packet.transport {
                Transport::IcmpOther(kind) if is_control(kind) => {
                    control::message(ctx, frame, &packet, &place, kind)
                }
                Transport::Udp if packet.is_dhcp_request() && place.to_group() => {
                    control::dhcp6(ctx, frame, &place)
                }
                _ => packet_of(ctx, frame, &packet, &place),
            }
        }
        ETHERTYPE_ARP => {
            offload::accept_none(frame)?;
            control::arp(ctx, frame, &place)
        }
        _ => Err(DropReason::UnknownEthertype),
    }
}

/// Where a packet to `destination` comes in on a segment, unless it is sent to a personality's MAC: by
/// the personality that answers for it, or by the bridged network.
pub(crate) fn arrival(
    snapshot: &Snapshot,
    (port, vlan): (PortId, Option<u16>),
    destination: IpAddr,
) -> Option<Arrival<'_>> {
    let network = snapshot.segment(port, vlan)?;
    let is_guests = network.ports.contains(&port);
    let router = || snapshot.answerer(network.bridge?, destination);
    let interface = is_guests.then(router).flatten().unwrap_or(network);
    Some(Arrival { port, interface })
}

/// A packet of a flow, on a segment that guests are bridged to: of a session, or the first of what may
/// become one.
pub(crate) fn pass<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    let found = match packet.has_flow() || packet.part == Part::Later {
        true => A::flows(ctx.shard).sessions.find(&packet.flow),
        false => None,
    };
    if let Some(hit) = found
        && standing::is_current::<A, T>(ctx, hit.number, Ticks::from(ctx.now))
    {
        return established(ctx, frame, packet, arrival, hit);
    }
    first(ctx, frame, packet, arrival)
}

/// Messages that are no flow's: neighbour discovery, and who listens to which group.
fn is_control(kind: u8) -> bool {
    nd::KINDS.contains(&kind)
        || [mld::QUERY, mld::REPORT_V1, mld::DONE_V1, mld::REPORT].contains(&kind)
}

/// A packet of a flow is for one station.
fn packet_of<'s, A: Family, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    place: &Place<'s>,
) -> Result<Crossing<'s>, DropReason> {
    let (link, destination) = (place.link, packet.flow.destination.into());
    if place.to_group() {
        // A guest must not play the DHCP server, whose answers may be for all.
        admit::service(ctx.snapshot, link.port, &packet.flow, ctx.trace)?;
        // The router counts what is not for guests.
        return match place.sender {
            Some(_) => Err(DropReason::Broadcast),
            None => Ok(Crossing::Router(link)),
        };
    }
    if place.sender.is_some() {
        let worn = ctx.snapshot.wearer(link.port, None, link.destination);
        if let Some(personality) = worn.or_else(|| place.router(ctx, destination)) {
            // As if the provider's router had sent it there, which most do not.
            frame.bytes[0..6].copy_from_slice(&personality.mac.0);
            return Ok(Crossing::Router(Link {
                destination: personality.mac,
                ..link
            }));
        }
    }
    ctx.trace.step(|| Step::Interface {
        interface: place.network.id,
        port: link.port,
        mac: link.destination,
    });
    Ok(Crossing::Packet(Arrival {
        port: link.port,
        interface: place.network,
    }))
}

fn established<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
    hit: Hit,
) -> Result<Verdict, DropReason> {
    let record = A::flows(ctx.shard).sessions.get(hit.number);
    ctx.trace.step(|| Step::Session {
        direction: hit.direction,
        state: record.state(),
    });
    let back = record.path(hit.direction.reversed());
    if back.is_none_or(|path| path.interface != arrival.interface.id) {
        return Err(DropReason::WrongInterface);
    }
    let verdict = cross(ctx, frame, packet, arrival)?;
    let sessions = &mut A::flows_mut(ctx.shard).sessions;
    let now = Ticks::from(ctx.now);
    sessions.account(hit, packet.length(), packet.segment(frame), now);
    ctx.shard.counters.forwarded_by_session += 1;
    Ok(verdict)
}

fn first<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    ctx.trace.step(|| Step::FirstPacket);
    // In fragments, which are no neighbour's message (RFC 6980 §5).
    if let Transport::IcmpOther(kind) = packet.transport
        && A::ICMP_HAS_PSEUDO_HEADER
        && is_control(kind)
    {
        return Err(DropReason::NdMalformed);
    }
    let query = Query {
        keeps: None,
        flow: packet.flow,
        mapped: None,
        transport: packet.transport,
        interface: arrival.interface,
        ingress: Some(arrival.port),
        tos: 0,
        bounds: None,
    };
    let plan = match judge(&query, ctx.snapshot, ctx.trace) {
        Ok(Course::Forward(plan)) => plan,
        Ok(Course::Error) if packet.part != Part::Whole => {
            return Err(DropReason::FragmentUntranslatable);
        }
        Ok(Course::Error) => return error(ctx, frame, packet, arrival),
        Ok(Course::Local) => return Err(DropReason::WrongPersonality),
        // Nobody here could tell the sender.
        Err(refusal) => {
            log::refusal(ctx, arrival, packet, &refusal);
            return Err(refusal.reason);
        }
    };
    let within = |ctx: &mut Context<'_, T>, limit: Result<(), DropReason>| {
        limit.map_err(|reason| limits::beyond(ctx, arrival.interface, &plan, reason).reason)
    };
    let turned = limits::turn(ctx, arrival, &plan);
    within(ctx, turned)?;
    if packet.is_tracked() {
        let admitted = limits::admit(ctx, arrival, &plan);
        within(ctx, admitted)?;
        let path = Path::by(arrival.interface.id);
        if let Err(reason) = begin(ctx, (frame, packet), arrival, &plan, path) {
            ctx.shard.refused.count(plan.payer, reason, ctx.now);
            if !permits_answers(&query, &plan.way, ctx.snapshot) {
                return Err(reason);
            }
            ctx.shard.counters.forwarded_without_session += 1;
        }
    }
    if let Some(rule) = plan.rule.filter(|rule| rule.log) {
        log::write(ctx, arrival, packet, rule);
    }
    let verdict = cross(ctx, frame, packet, arrival)?;
    ctx.shard.counters.forwarded_first += 1;
    Ok(verdict)
}

/// An ICMP error passes if it is about a packet of a session, to that packet's sender (RFC 5508 REQ-4).
fn error<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    errors::about(ctx, frame, packet, arrival)?;
    let verdict = cross(ctx, frame, packet, arrival)?;
    ctx.shard.counters.bridged += 1;
    Ok(verdict)
}

/// Sends a packet on as it is: to the guest that has its destination, or by the uplink to the MAC that
/// it is sent to.
fn cross<'s, A: Family, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    let network = arrival.interface;
    if packet.wire_len(frame) > network.mtu as usize {
        return Err(DropReason::TooLarge);
    }
    if ctx.snapshot.limits_bandwidth() {
        let ends = (packet.flow.source.into(), packet.flow.destination.into());
        bandwidth::take(ctx, (network, network), ends, packet.length())?;
    }
    let to = MacAddr::from_slice(frame.bytes);
    let owners = ctx.snapshot.owners();
    let station = match owners.on_segment(network.id, packet.flow.destination.into()) {
        Some(guest) => {
            let mac = guest.mac.unwrap_or(to);
            // From outside the two go together: no guest hears what is another's.
            if network.is_outside(arrival.port) && mac != to {
                return Err(DropReason::WrongPersonality);
            }
            (mac, guest.port)
        }
        None => (to, uplink(ctx, network, to, arrival.port)?),
    };
    egress::pass(ctx, frame, network, station)
}
