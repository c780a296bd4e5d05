//! What guests that are bridged need beside flows: ARP, neighbour discovery, MLD and DHCP. All of it is
//! checked by who may say it, and sent to the one place that it is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::place::{Crossing, Place, uplink};
use crate::base::addr::MacAddr;
use crate::base::checksum;
use crate::base::drops::DropReason;
use crate::model::owners::Guest;
use crate::model::trace::{Step, Trace, Violation};
use crate::path::admit;
use crate::state::context::Context;
use crate::state::egress;
use crate::state::shard::Output;
use crate::wire::arp::Arp;
use crate::wire::frame::{Frame, Link, OwnedFrame};
use crate::wire::mld;
use crate::wire::nd::{
    HOP_LIMIT, NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, REDIRECT, ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION, SOURCE_LINK_LAYER, TARGET_LINK_LAYER, link_layer, parse,
};
use crate::wire::packet::{Family, Packet, Transport};

/// Where the client's MAC lies in a BOOTP message (RFC 951 §3), from its UDP header.
const CLIENT_AT: usize = 8 + 28;
/// UDP ports of DHCP (RFC 2131 §4.1).
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

/// An ARP packet.
pub(super) fn arp<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    place: &Place<'s>,
) -> Result<Crossing<'s>, DropReason> {
    let arp = Arp::parse(frame.bytes)?;
    if arp.sender_mac != place.link.source {
        return Err(DropReason::ArpSenderMismatch);
    }
    if place.to_group() && place.link.destination != MacAddr::BROADCAST {
        return Err(DropReason::Broadcast);
    }
    let (sender, target) = (arp.sender.into(), arp.target.into());
    // A probe says that its target will be the sender's (RFC 5227 §2.1.1).
    let claimed = match arp.sender.is_unspecified() && place.sender.is_some() {
        true => target,
        false => sender,
    };
    place.owns(ctx, claimed, DropReason::SpoofedArp)?;
    if place.sender.is_none() && arp.sender == arp.target && place.to_group() {
        return tell_all(ctx, frame, place);
    }
    deliver(ctx, frame, place, target)
}

/// A message of neighbour discovery or MLD.
pub(super) fn message<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<Ipv6Addr>,
    place: &Place<'s>,
    kind: u8,
) -> Result<Crossing<'s>, DropReason> {
    let body = &frame.bytes[packet.l4..packet.end];
    let sum = checksum::sum(body, Ipv6Addr::icmp_sum(packet));
    let is_right = checksum::fold(sum) == 0xffff && !packet.has_fragment_header(frame.bytes);
    if matches!(
        kind,
        mld::QUERY | mld::REPORT_V1 | mld::DONE_V1 | mld::REPORT
    ) {
        return match is_right && packet.ttl == 1 && place.to_group() {
            true => listeners(ctx, frame, place, kind),
            false => Err(DropReason::MldMalformed),
        };
    }
    if !is_right || packet.ttl != HOP_LIMIT {
        return Err(DropReason::NdMalformed);
    }
    let (source, destination) = (packet.flow.source, packet.flow.destination);
    // What is for many by one header is for many by the other.
    if destination.is_multicast() != place.to_group() {
        return Err(DropReason::Broadcast);
    }
    match kind {
        ROUTER_SOLICITATION => {
            let options = body.get(8..).ok_or(DropReason::NdMalformed)?;
            let (mac, _) = link_layer(options, SOURCE_LINK_LAYER)?;
            own_mac(ctx, place, mac)?;
            match place.sender {
                Some(_) => leave(ctx, frame, place),
                None => Ok(Crossing::Router(place.link)),
            }
        }
        NEIGHBOR_SOLICITATION => {
            let message = parse(body, SOURCE_LINK_LAYER)?;
            own_mac(ctx, place, message.link_layer)?;
            // A guest's probe could end another's.
            if source.is_unspecified() && place.sender.is_some() {
                let target = message.target.into();
                place.owns(ctx, target, DropReason::SpoofedAdvertisement)?;
            }
            deliver(ctx, frame, place, message.target.into())
        }
        NEIGHBOR_ADVERTISEMENT => {
            let message = parse(body, TARGET_LINK_LAYER)?;
            if source.is_unspecified() {
                return Err(DropReason::NdMalformed);
            }
            own_mac(ctx, place, message.link_layer)?;
            let target = message.target.into();
            place.owns(ctx, target, DropReason::SpoofedAdvertisement)?;
            match (destination.is_multicast(), place.sender) {
                (true, Some(_)) => leave(ctx, frame, place),
                (true, None) => tell_all(ctx, frame, place),
                (false, _) => deliver(ctx, frame, place, destination.into()),
            }
        }
        ROUTER_ADVERTISEMENT | REDIRECT if place.sender.is_some() => {
            ctx.trace.step(|| Step::Violation(Violation::Router));
            Err(DropReason::RogueServer)
        }
        ROUTER_ADVERTISEMENT if destination.is_multicast() => tell_all(ctx, frame, place),
        ROUTER_ADVERTISEMENT => deliver(ctx, frame, place, destination.into()),
        // Whoever is on the segment could send guests elsewhere by it.
        _ => Err(DropReason::NdIgnored),
    }
}

/// The client's MAC, if a packet is a DHCP message (RFC 2131).
pub(super) fn dhcp_client(frame: &Frame<'_>, packet: &Packet<Ipv4Addr>) -> Option<MacAddr> {
    let ports = (packet.flow.source_port, packet.flow.destination_port);
    let is_dhcp = packet.transport == Transport::Udp
        && matches!(
            ports,
            (DHCP_CLIENT, DHCP_SERVER) | (DHCP_SERVER, DHCP_CLIENT)
        );
    let client = frame.bytes.get(packet.l4 + CLIENT_AT..)?;
    (is_dhcp && client.len() >= 6).then(|| MacAddr::from_slice(client))
}

/// A DHCP message: a guest asks for itself only, and hears what is for it. `None`: it is a packet as any
/// other, to one station.
pub(super) fn dhcp<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<Ipv4Addr>,
    place: &Place<'s>,
    client: MacAddr,
) -> Result<Option<Crossing<'s>>, DropReason> {
    admit::service(ctx.snapshot, place.link.port, &packet.flow, ctx.trace)?;
    if place.sender.is_some() {
        own_mac(ctx, place, Some(client))?;
    }
    if !place.to_group() {
        return Ok(None);
    }
    if place.sender.is_some() {
        return leave(ctx, frame, place).map(Some);
    }
    let guest = ctx.snapshot.owners().bridged(place.network.id, client);
    match guest.filter(|_| packet.flow.destination_port == DHCP_CLIENT) {
        Some(guest) => reach(ctx, frame, place, guest).map(Some),
        None => Ok(Some(Crossing::Router(place.link))),
    }
}

/// A DHCPv6 message to a group is a guest's question (RFC 8415 §7.1).
pub(super) fn dhcp6<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    place: &Place<'s>,
) -> Result<Crossing<'s>, DropReason> {
    match place.sender {
        Some(_) => leave(ctx, frame, place),
        None => Ok(Crossing::Router(place.link)),
    }
}

/// Guests tell who asks which groups they listen to, and only the segment's routers ask.
fn listeners<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    place: &Place<'s>,
    kind: u8,
) -> Result<Crossing<'s>, DropReason> {
    match (kind, place.sender) {
        (mld::QUERY, Some(_)) => {
            ctx.trace.step(|| Step::Violation(Violation::Router));
            Err(DropReason::RogueServer)
        }
        (mld::QUERY, None) => tell_all(ctx, frame, place),
        (_, Some(_)) => leave(ctx, frame, place),
        (_, None) => Ok(Crossing::Router(place.link)),
    }
}

/// A guest may tell no MAC but its own.
fn own_mac<T: Trace>(
    ctx: &mut Context<'_, T>,
    place: &Place<'_>,
    told: Option<MacAddr>,
) -> Result<(), DropReason> {
    match told {
        Some(mac) if place.sender.is_some() && mac != place.link.source => {
            ctx.trace.step(|| Step::Violation(Violation::Mac(mac)));
            Err(DropReason::SpoofedMac)
        }
        _ => Ok(()),
    }
}

/// To whoever has `address`: a guest, the router, or somebody on the uplink.
fn deliver<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    place: &Place<'s>,
    address: IpAddr,
) -> Result<Crossing<'s>, DropReason> {
    let sender = place.sender.map(|guest| guest.id);
    match place.guest(ctx, address) {
        // It asks for itself, or tells the segment.
        Some(guest) if Some(guest.id) == sender => leave(ctx, frame, place),
        Some(guest) => reach(ctx, frame, place, guest),
        None if sender.is_none() => Ok(Crossing::Router(place.link)),
        None => match place.router(ctx, address) {
            Some(_) if place.to_group() => Ok(Crossing::Router(place.link)),
            Some(personality) => {
                frame.bytes[0..6].copy_from_slice(&personality.mac.0);
                Ok(Crossing::Router(Link {
                    destination: personality.mac,
                    ..place.link
                }))
            }
            None => leave(ctx, frame, place),
        },
    }
}

/// To a guest: at its MAC, or at the group that it was sent to.
fn reach<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    place: &Place<'s>,
    guest: &Guest,
) -> Result<Crossing<'s>, DropReason> {
    let to = place.link.destination;
    let mac = guest.mac.unwrap_or(to);
    if place.sender.is_none() && !to.is_group() && to != mac {
        return Err(DropReason::WrongPersonality);
    }
    let to = if to.is_group() { to } else { mac };
    let verdict = egress::pass(ctx, frame, place.network, (to, guest.port))?;
    ctx.shard.counters.bridged += 1;
    Ok(Crossing::Passed(verdict))
}

/// To the uplink.
fn leave<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    place: &Place<'s>,
) -> Result<Crossing<'s>, DropReason> {
    let to = place.link.destination;
    let port = uplink(ctx, place.network, to, place.link.port)?;
    let verdict = egress::pass(ctx, frame, place.network, (to, port))?;
    ctx.shard.counters.bridged += 1;
    Ok(Crossing::Passed(verdict))
}

/// To all guests of the segment, and the router. Copies are limited: anybody on an uplink can send
/// these.
fn tell_all<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &Frame<'_>,
    place: &Place<'s>,
) -> Result<Crossing<'s>, DropReason> {
    let ports = &place.network.ports;
    let copies = ctx.snapshot.config().router().answers_per_second;
    let rate = copies / ports.len().max(1) as u32;
    let uplink = place.link.port.index();
    if !ctx.router.answered.take(uplink, rate.max(1), ctx.now) {
        return Ok(Crossing::Router(place.link));
    }
    ctx.trace.step(|| Step::Flooded { ports: ports.len() });
    for &port in ports {
        let frame = OwnedFrame {
            vlan: None,
            ..OwnedFrame::from(frame)
        };
        ctx.shard.outbox.push(Output { port, frame });
    }
    ctx.shard.counters.bridged_to_all += 1;
    Ok(Crossing::Heard)
}
