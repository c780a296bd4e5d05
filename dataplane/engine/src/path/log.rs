//! Rules with `log`: what is written of a flow's first packet.

use super::judge::payer;
use super::query::Refusal;
use crate::model::interface::Arrival;
use crate::model::policy::Ruling;
use crate::state::context::Context;
use crate::state::journal::Entry;
use crate::wire::packet::{Family, Packet};

/// Has it written down that a rule refused a packet, if the rule wants that.
pub(crate) fn refusal<A: Family, T>(
    ctx: &mut Context<'_, T>,
    arrival: Arrival<'_>,
    packet: &Packet<A>,
    refusal: &Refusal,
) {
    let place = refusal.logged_by;
    let policy = ctx.snapshot.policy();
    if let Some(rule) = place.and_then(|place| policy.ruling(place)) {
        write(ctx, arrival, packet, rule);
    }
}

/// Has it written down that `rule` decided about a packet.
#[cold]
#[inline(never)]
pub(crate) fn write<A: Family, T>(
    ctx: &mut Context<'_, T>,
    arrival: Arrival<'_>,
    packet: &Packet<A>,
    rule: &Ruling,
) {
    let Arrival { port, interface } = arrival;
    let flow = &packet.flow;
    let (source, destination) = (flow.source.into(), flow.destination.into());
    let (payer, _) = payer(ctx.snapshot, (interface, Some(port)), source);
    let owners = ctx.snapshot.owners();
    let from = ctx.snapshot.sender(interface, source);
    // What a redirected port stands for is known where it is redirected.
    let inside = || {
        let inward = ctx.snapshot.translations().inward(flow, interface);
        owners.owner(inward.map_or(destination, |inward| inward.flow.destination.into()))
    };
    let entry = Entry {
        rule: rule.origin,
        action: rule.action,
        guest: from.or_else(inside).map(|guest| guest.number),
        interface: interface.id,
        protocol: flow.protocol,
        source: (source, flow.source_port),
        destination: (destination, flow.destination_port),
        left_out: 0,
    };
    ctx.shard.journal.write(payer, entry, ctx.now);
}
