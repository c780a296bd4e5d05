//! Connections announce no larger segments than fit (MSS clamping).

use crate::model::interface::Interface;
use crate::model::route::{Selector, Way, route};
use crate::model::trace::{Silent, Step, Trace};
use crate::state::context::Context;
use crate::wire::frame::{Checksum, Frame};
use crate::wire::packet::{Family, Packet};
use crate::wire::tcp::clamp_mss;

/// Bytes of a TCP header without options, which an announcement does not count (RFC 6691).
const TCP_HEADER: usize = 20;

/// Has a SYN between two interfaces announce no larger segments than the route says that it leaves by, and
/// than fit both ways, its own and that of its answers, if one of the two interfaces asks for it. A way is left
/// out where its route says nothing of sizes.
#[cold]
pub(crate) fn clamp<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    (ingress, egress): (&Interface, &Interface),
    [way, back]: [Option<Way<'_>>; 2],
) {
    let fitting = (ingress.clamps_mss || egress.clamps_mss).then(|| {
        let there = way.map_or(egress.mtu, |way| way.mtu());
        let back = back.map_or(ingress.mtu, |way| way.mtu());
        (there.min(back) as usize).saturating_sub(A::HEADER + TCP_HEADER)
    });
    let fitting = fitting.map(|most| u16::try_from(most).unwrap_or(u16::MAX));
    let advised = way.and_then(|way| way.route?.advmss);
    let Some(most) = fitting.into_iter().chain(advised).min() else {
        return;
    };
    let complete = !matches!(frame.offload.checksum, Checksum::Partial { .. });
    let segment = &mut frame.bytes[packet.l4..packet.end];
    if let Some(before) = clamp_mss(segment, most, complete) {
        ctx.shard.counters.mss_clamped += 1;
        ctx.trace.step(|| Step::Mss {
            before,
            after: most,
        });
    }
}

/// The way of the answers to a first SYN, if it is asked how large they may be.
#[cold]
pub(crate) fn way_back<'s, A: Family, T>(
    ctx: &Context<'s, T>,
    (packet, tos): (&Packet<A>, u8),
    (ingress, egress): (&Interface, &Interface),
) -> Option<Way<'s>> {
    let asked = ingress.clamps_mss || egress.clamps_mss;
    if !asked || ctx.snapshot.least_mtu() == usize::MAX {
        return None;
    }
    let answers = Selector::of(&packet.flow.reversed(), Some(egress.id), tos);
    route(ctx.snapshot, answers, &mut Silent).ok()
}
