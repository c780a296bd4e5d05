//! Neighbour discovery: answers for own and guests' addresses, and what is learnt from others
//! (RFC 4861).

use std::net::Ipv6Addr;

use super::answers::{self, Answer};
use super::claims::{claiming, conflict, count_objection, not_ours};
use super::{ra, say, virtuals};
use crate::base::checksum;
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::trace::{Step, Trace, Violation, Whose};
use crate::path::admit;
use crate::state::context::Context;
use crate::state::egress;
use crate::wire::frame::{Frame, Link, OwnedFrame, Verdict};
use crate::wire::nd::{
    ALL_NODES, HOP_LIMIT, Message, NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, OVERRIDE,
    REDIRECT, ROUTER, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION, SOLICITED, SOURCE_LINK_LAYER,
    TARGET_LINK_LAYER, multicast_mac, parse, solicited_node,
};
use crate::wire::packet::{Family, Packet};

/// A message of neighbour discovery.
pub(crate) fn receive<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<Ipv6Addr>,
    link: Link,
) -> Result<Verdict, DropReason> {
    let snapshot = ctx.snapshot;
    if snapshot.is_own(link) {
        return Err(DropReason::OwnFrame);
    }
    if !link.destination.is_group()
        && snapshot
            .wearer(link.port, link.vlan, link.destination)
            .is_none()
    {
        return Err(DropReason::UnknownMac);
    }
    let body = &frame.bytes[packet.l4..packet.end];
    let sum = checksum::sum(body, Ipv6Addr::icmp_sum(packet));
    if packet.ttl != HOP_LIMIT || body[1] != 0 || checksum::fold(sum) != 0xffff {
        return Err(DropReason::NdMalformed);
    }
    // RFC 6980 §5, an "atomic" fragment among them (G03).
    if packet.has_fragment_header(frame.bytes) {
        return Err(DropReason::NdMalformed);
    }
    match body[0] {
        ROUTER_SOLICITATION => ra::solicited(ctx, packet, body, link),
        NEIGHBOR_SOLICITATION => {
            let message = parse(body, SOURCE_LINK_LAYER)?;
            let sender = packet.flow.source.into();
            not_ours(ctx, sender, link, DropReason::NdSenderIsUs)?;
            if virtuals::heard(ctx, sender, link, false)? {
                return Ok(Verdict::Consumed);
            }
            if packet.flow.source.is_unspecified() {
                virtuals::probed(snapshot, message.target.into(), link)?;
            }
            admit_sender(ctx, packet, link)?;
            solicited(ctx, frame, packet, &message, link)
        }
        NEIGHBOR_ADVERTISEMENT => {
            let message = parse(body, TARGET_LINK_LAYER)?;
            // RFC 4861 §7.1.2 (N02).
            if message.flags & SOLICITED != 0 && packet.flow.destination.is_multicast() {
                return Err(DropReason::NdMalformed);
            }
            let target = message.target.into();
            not_ours(ctx, target, link, DropReason::NdSenderIsUs)?;
            let announced = message.flags & (SOLICITED | OVERRIDE) == OVERRIDE;
            if packet.flow.source != message.target {
                admit_sender(ctx, packet, link)?;
            }
            if virtuals::heard(ctx, target, link, announced)? {
                return Ok(Verdict::Consumed);
            }
            admit_sender(ctx, packet, link)?;
            if let Some(network) = snapshot.network_on(link.port) {
                let (place, reason) = ((link.port, network), DropReason::SpoofedAdvertisement);
                admit::speaker(ctx, place, message.target, reason)?;
            }
            advertised(ctx, &message, link)
        }
        ROUTER_ADVERTISEMENT | REDIRECT if snapshot.admission(link.port).is_checked() => {
            ctx.trace.step(|| Step::Violation(Violation::Router));
            Err(DropReason::RogueServer)
        }
        _ => Err(DropReason::NdIgnored),
    }
}

fn admit_sender<T: Trace>(
    ctx: &mut Context<'_, T>,
    packet: &Packet<Ipv6Addr>,
    link: Link,
) -> Result<(), DropReason> {
    let Some(network) = ctx.snapshot.network_on(link.port) else {
        return Ok(());
    };
    let (place, reason) = ((link.port, network), DropReason::SpoofedSource);
    admit::speaker(ctx, place, packet.flow.source, reason)
}

/// Somebody asks for an address (N03, N04, N05).
fn solicited<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<Ipv6Addr>,
    message: &Message,
    link: Link,
) -> Result<Verdict, DropReason> {
    let sender = packet.flow.source;
    check_solicitation(packet, message)?;
    if sender.is_unspecified() && is_rival(ctx, message, link) {
        return Err(DropReason::NdSenderIsUs);
    }
    let target = message.target.into();
    let (interface, flags, delay) =
        match answers::answer_for(ctx, target, link, DropReason::NdNotForUs) {
            Answer::Own(interface) => (interface, ROUTER | OVERRIDE, None),
            Answer::Proxied(interface) if ctx.router.claims.source_on(interface).is_none() => {
                return Err(DropReason::AddressTentative);
            }
            // RFC 4861 §7.2.8: a proxy does not override (N05).
            Answer::Proxied(interface) => (interface, ROUTER, answers::proxy_delay(ctx, link)),
            Answer::Wait(id) => {
                let copy = OwnedFrame::from(frame);
                return Ok(egress::hold(ctx, copy, Some(link.port), id));
            }
            Answer::Silence(reason) => return Err(reason),
        };
    count_objection(ctx, interface, (sender.into(), target), link);
    answers::may_answer(ctx, link.port)?;
    ctx.trace.step(|| Step::NdAnswered {
        sender: sender.into(),
        target,
        whose: match flags & OVERRIDE {
            0 => Whose::Anothers,
            _ => Whose::Ours,
        },
    });
    let begin = ctx.shard.outbox.len();
    answer(ctx, sender, message, (interface, flags), link);
    if let Some(longest) = delay {
        answers::delay(ctx, begin, longest);
    }
    Ok(Verdict::Consumed)
}

/// Answers a solicitation, and learns from it who asks (N08).
fn answer<T: Trace>(
    ctx: &mut Context<'_, T>,
    asker: Ipv6Addr,
    message: &Message,
    (interface, flags): (&Interface, u8),
    link: Link,
) {
    ctx.shard.counters.neighbor_solicitations_answered += 1;
    if asker.is_unspecified() {
        let to = (multicast_mac(ALL_NODES), link.port);
        let about = (message.target, flags);
        say::advertise(ctx, interface, about, ALL_NODES, to);
        return;
    }
    let station = (message.link_layer.unwrap_or(link.source), link.port);
    if message.link_layer.is_some() {
        answers::learn(ctx, interface, asker.into(), station);
    }
    let about = (message.target, flags | SOLICITED);
    say::advertise(ctx, interface, about, asker, station);
}

/// Whether a duplicate-address probe is for an address that we are claiming ourselves. If it is
/// from somebody else, neither may have the address (RFC 4862 §5.4.3; N13); it may be a probe of
/// our own that came back (RFC 7527 §4.1; N14).
fn is_rival<T: Trace>(ctx: &mut Context<'_, T>, message: &Message, link: Link) -> bool {
    let target = message.target.into();
    let Some(interface) = claiming(ctx.snapshot, ctx.router, target, link) else {
        return false;
    };
    let claims = &ctx.router.claims;
    if !claims.is_mine(interface.id, target, message.nonce) {
        conflict(ctx, interface, target, link, DropReason::NdSenderIsUs);
    }
    true
}

/// Somebody says whose an address is.
fn advertised<T: Trace>(
    ctx: &mut Context<'_, T>,
    message: &Message,
    link: Link,
) -> Result<Verdict, DropReason> {
    let solicited = message.flags & SOLICITED != 0;
    let (snapshot, now) = (ctx.snapshot, ctx.now);
    let target = message.target.into();
    let mut wanted = false;
    for interface in snapshot.hearing(link) {
        let neighbors = &mut ctx.router.neighbors;
        let known = neighbors.knows(interface.id, target);
        wanted |= known;
        // RFC 9131 §6.1: if a guest's unasked advertisement is remembered, the first packet to it
        // need not wait (N17). It may only speak of what it owns, or what is on its link.
        if !known
            && !interface.personality
            && let Some(mac) = message.link_layer
            && snapshot.may_be_learnt(interface, link.port, target)
        {
            neighbors.learn(interface.id, target, (mac, link.port), now);
            wanted = true;
            continue;
        }
        let station = (message.link_layer, link.port);
        let flags = (solicited, message.flags & OVERRIDE != 0);
        let held = neighbors.advertised(interface.id, target, station, flags, now);
        if let Some(mac) = message.link_layer {
            egress::release(ctx, held, interface, (mac, link.port));
        }
    }
    match wanted {
        true => Ok(Verdict::Consumed),
        false => Err(DropReason::NdUnsolicited),
    }
}

/// RFC 4861 §7.1.1 (N01), beyond what every message must satisfy.
fn check_solicitation(packet: &Packet<Ipv6Addr>, message: &Message) -> Result<(), DropReason> {
    let probe = packet.flow.source.is_unspecified();
    let wrong = probe
        && (message.link_layer.is_some()
            || packet.flow.destination != solicited_node(message.target));
    match wrong {
        true => Err(DropReason::NdMalformed),
        false => Ok(()),
    }
}
