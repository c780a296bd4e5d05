//! Connections announce no larger segments than fit (MSS clamping).

use crate::model::interface::Interface;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::wire::frame::{Checksum, Frame};
use crate::wire::packet::{Family, Packet};
use crate::wire::tcp::clamp_mss;

/// Bytes of a TCP header without options, which an announcement does not count (RFC 6691).
const TCP_HEADER: usize = 20;

/// Has a SYN between two interfaces announce no larger segments than fit both their MTUs, if one of the
/// two asks for it.
#[cold]
pub(crate) fn clamp<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    (ingress, egress): (&Interface, &Interface),
) {
    if !ingress.clamps_mss && !egress.clamps_mss {
        return;
    }
    let mtu = ingress.mtu.min(egress.mtu) as usize;
    let most = mtu.saturating_sub(A::HEADER + TCP_HEADER);
    let most = u16::try_from(most).unwrap_or(u16::MAX);
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
