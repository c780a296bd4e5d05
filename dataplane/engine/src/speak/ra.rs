//! Router advertisements: answering solicitations, and sending what is due (RFC 4861 §6.2).

mod message;

use std::net::Ipv6Addr;

use super::{answers, claims};
use crate::base::drops::DropReason;
use crate::model::interface::{GATEWAY, Interface};
use crate::model::trace::{Step, Trace};
use crate::path::admit;
use crate::state::advertisers::Advertisement;
use crate::state::context::Context;
use crate::state::egress;
use crate::wire::frame::{Link, Verdict};
use crate::wire::nd::{self, ALL_NODES, SOURCE_LINK_LAYER, multicast_mac};
use crate::wire::packet::Packet;

/// A router solicitation that passed the checks of all neighbour discovery; the others of RFC 4861
/// §6.1.1 are made here (N20).
pub(crate) fn solicited<T: Trace>(
    ctx: &mut Context<'_, T>,
    packet: &Packet<Ipv6Addr>,
    body: &[u8],
    link: Link,
) -> Result<Verdict, DropReason> {
    let options = body.get(8..).ok_or(DropReason::NdMalformed)?;
    let (mac, _) = nd::link_layer(options, SOURCE_LINK_LAYER)?;
    let asker = packet.flow.source;
    if asker.is_unspecified() && mac.is_some() {
        return Err(DropReason::NdMalformed);
    }
    let serves = |network: &&Interface| !network.personality && network.services.ra.is_some();
    let network = ctx.snapshot.hearing(link).find(serves);
    let network = network.ok_or(DropReason::NdIgnored)?;
    claims::not_ours(ctx, asker.into(), link, DropReason::NdSenderIsUs)?;
    admit::speaker(ctx, (link.port, network), asker, DropReason::SpoofedSource)?;
    answers::may_answer(ctx, link.port)?;
    // The unspecified address is nobody's: no neighbour is learnt from it.
    let to = (!asker.is_unspecified()).then(|| (asker, mac.unwrap_or(link.source)));
    if let (Some((_, mac)), Some(_)) = (to, mac) {
        answers::learn(ctx, network, asker.into(), (mac, link.port));
    }
    ctx.trace.step(|| Step::RouterSolicited {
        asker: to.map(|(asker, _)| asker.into()),
        interface: network.id,
    });
    ctx.shard.counters.router_solicitations_heard += 1;
    let place = (network.id, link.port);
    ctx.router.advertisers.solicited(place, to, ctx.now);
    Ok(Verdict::Consumed)
}

/// Sends the next advertisement that is due. Whether there was one.
pub(crate) fn poll<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    match ctx.router.advertisers.poll(ctx.now) {
        Some(due) => {
            send(ctx, &due);
            true
        }
        None => false,
    }
}

/// Guests are told that they lose their gateway (RFC 4861 §6.2.5).
pub(crate) fn farewell<T: Trace>(ctx: &mut Context<'_, T>) {
    for last in ctx.router.advertisers.stop() {
        send(ctx, &last);
    }
}

fn send<T: Trace>(ctx: &mut Context<'_, T>, due: &Advertisement) {
    let (interface, port) = due.place;
    let Some(interface) = ctx.snapshot.interface(interface) else {
        return;
    };
    let body = if due.farewell {
        message::farewell(&due.ra, interface)
    } else {
        let flags = message::flags(ctx.snapshot, interface, port);
        message::message(&due.ra, &due.gone, flags, interface)
    };
    let everybody = (ALL_NODES, multicast_mac(ALL_NODES));
    let (to, mac) = due.to.unwrap_or(everybody);
    // A farewell, too, comes from the gateway's address, which may just have been given up.
    let source = interface.link_local.unwrap_or(GATEWAY);
    let frame = message::frame((source, to), &body);
    ctx.shard.counters.router_advertisements_sent += 1;
    egress::send(ctx, frame, interface, (mac, port));
}

#[cfg(test)]
#[path = "ra/tests.rs"]
mod tests;
