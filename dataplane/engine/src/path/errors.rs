//! ICMP errors from others: they go the way of the session of the packet they quote.

use super::hop::{self, Hop};
use super::{bandwidth, standing};
use crate::base::checksum;
use crate::base::drops::DropReason;
use crate::base::time::Ticks;
use crate::model::interface::Arrival;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::session::{Hit, SessionRecord};
use crate::state::shard::Tracked;
use crate::wire::flow::{Direction, Flow};
use crate::wire::frame::{Checksum, Frame, OwnedFrame, Verdict};
use crate::wire::icmp::{self, Quoted};
use crate::wire::packet::{Family, Packet, rewrite};

/// An ICMP error: translated and forwarded if the packet it quotes is one of a session's and the
/// error is addressed to that packet's sender (RFC 5508 REQ-4, REQ-5; T14, P01). It neither refreshes
/// nor ends the session (T07).
pub(crate) fn translate<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> Result<Verdict, DropReason> {
    let (quoted, hit) = about(ctx, frame, packet, arrival)?;
    let direction = hit.direction;
    let record = *A::flows(ctx.shard).sessions.get(hit.number);
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    match hop::repair::<A, T>(ctx, hit).map_err(|refusal| refusal.reason)? {
        (way, Hop::Known(_, mac, port)) => {
            if ctx.snapshot.limits_bandwidth() {
                let to = record.sent(direction).destination;
                let ends = (packet.flow.source.into(), to.into());
                let place = (arrival.interface, way.interface);
                bandwidth::take(ctx, place, ends, packet.length())?;
            }
            restore(frame, packet, &quoted, &record, direction);
            ctx.shard.counters.icmp_errors_translated += 1;
            hop::deliver(ctx, frame, packet, &way, (mac, port))
        }
        (_, Hop::Pending(id)) => {
            let copy = OwnedFrame::from(&*frame);
            Ok(egress::hold(ctx, copy, Some(arrival.port), id))
        }
    }
}

/// What an error quotes, and the session that sent it: to the sender of that goes the error, and from where
/// it was sent to it comes (RFC 5508 REQ-4).
pub(super) fn about<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> Result<(Quoted<A>, Hit), DropReason> {
    icmp::verify(frame, packet)?;
    let quoted = Quoted::parse(frame.bytes, packet).ok_or(DropReason::IcmpUnmatched)?;
    let sessions = &A::flows(ctx.shard).sessions;
    let hit = sessions.find(&quoted.flow.reversed());
    let hit = hit.ok_or(DropReason::IcmpUnmatched)?;
    if !standing::is_current::<A, T>(ctx, hit.number, Ticks::from(ctx.now)) {
        return Err(DropReason::IcmpUnmatched);
    }
    let record = A::flows(ctx.shard).sessions.get(hit.number);
    if record.received(hit.direction).destination != packet.flow.destination {
        return Err(DropReason::IcmpUnmatched);
    }
    let back = record.path(hit.direction.reversed());
    if back.is_none_or(|path| path.interface != arrival.interface.id) {
        return Err(DropReason::WrongInterface);
    }
    ctx.trace.step(|| Step::QuotesSession);
    Ok((quoted, hit))
}

/// Puts the session's other side into the error and into what it quotes.
fn restore<A: Family>(
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    quoted: &Quoted<A>,
    record: &SessionRecord<A>,
    direction: Direction,
) {
    let sent = record.sent(direction);
    // From inside, even a router on the way there must not show its own address (T14).
    let hide = direction == Direction::Forward && record.source_rewritten();
    let source = if hide || packet.flow.source == record.received(direction).source {
        sent.source
    } else {
        packet.flow.source
    };
    quoted.restore(frame.bytes, &record.received(direction.reversed()));
    // The checksum that goes with the old addresses: `rewrite` updates it when it changes them.
    let l4 = &mut frame.bytes[packet.l4..packet.end];
    l4[2..4].fill(0);
    let check = !checksum::fold(checksum::sum(l4, A::icmp_sum(packet)));
    l4[2..4].copy_from_slice(&check.to_be_bytes());
    frame.offload.checksum = Checksum::Present;
    let to = Flow {
        source,
        destination: sent.destination,
        ..packet.flow
    };
    rewrite(frame, packet, &to);
}
