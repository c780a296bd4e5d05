//! The next hop: finding it, waiting for it, and putting a packet out to it.

use super::query::Refusal;
use super::standing;
use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::model::route::Way;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::neighbor::{NeighborId, Resolution};
use crate::state::session::{Hit, Path};
use crate::state::shard::{Output, Tracked};
use crate::wire::flow::Direction;
use crate::wire::fragment::fragment;
use crate::wire::frame::{Frame, OwnedFrame, Verdict};
use crate::wire::packet::{Family, Packet};
use crate::wire::segment::segment;

/// A MAC and the port it is behind.
pub(crate) type Station = (MacAddr, PortId);

/// Where a packet goes next, resolved as far as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hop {
    /// To this MAC on this port.
    Known(NeighborId, MacAddr, PortId),
    /// It must wait for this neighbour.
    Pending(NeighborId),
}

/// Finds the way of a session's packets anew and remembers it in the session.
#[cold]
pub(crate) fn repair<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    Hit { number, direction }: Hit,
) -> Result<(Way<'s>, Hop), Refusal> {
    let sessions = &A::flows(ctx.shard).sessions;
    let (record, detail) = (*sessions.get(number), *sessions.detail(number));
    let way = standing::way((&record, &detail), direction, ctx.snapshot, ctx.trace)?;
    let hop = resolve(ctx, &way).ok_or(Refusal::NO_NEIGHBOR)?;
    let (Hop::Known(neighbor, ..) | Hop::Pending(neighbor)) = hop;
    let path = Path {
        interface: way.interface.id,
        neighbor,
    };
    // The path back also says where the opener's packets come in. That must not change when answers
    // leave by another interface.
    let heard = record.path(Direction::Reply).map(|path| path.interface);
    if direction == Direction::Forward || heard.is_none_or(|heard| heard == way.interface.id) {
        let sessions = &mut A::flows_mut(ctx.shard).sessions;
        sessions.get_mut(number).set_path(direction, Some(path));
    }
    if way.is_sized() {
        let sessions = &mut A::flows_mut(ctx.shard).sessions;
        sessions.get_mut(number).set_by_sized_route(true);
    }
    Ok((way, hop))
}

/// The next hop's MAC. If it is not known, it is asked for. `None`: no room to ask.
pub(crate) fn resolve<T: Trace>(ctx: &mut Context<'_, T>, way: &Way<'_>) -> Option<Hop> {
    let (interface, address) = (way.interface.id, way.next_hop);
    let neighbors = &mut ctx.router.neighbors;
    if let Some(guest) = way.guest
        && let Some(mac) = guest.mac
    {
        let id = neighbors.pin(interface, address, (mac, guest.port), ctx.now)?;
        ctx.trace.step(|| Step::NextHopIsGuest {
            guest: guest.id,
            mac,
        });
        return Some(Hop::Known(id, mac, guest.port));
    }
    match neighbors.resolve(interface, address, ctx.ingress, ctx.now) {
        Resolution::Known(id, mac, port) => {
            ctx.trace.step(|| Step::NextHop {
                address,
                interface,
                mac,
            });
            Some(Hop::Known(id, mac, port))
        }
        Resolution::Pending(id) => {
            ctx.trace.step(|| Step::NextHopAsked { address, interface });
            Some(Hop::Pending(id))
        }
        Resolution::Full => None,
    }
}

/// Puts a rewritten packet out, in fragments if it is larger than its way takes.
pub(crate) fn deliver<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    way: &Way<'_>,
    hop: Station,
) -> Result<Verdict, DropReason> {
    let verdict = egress::emit(ctx, frame, way.interface, hop)?;
    let mtu = way.mtu() as usize;
    if packet.wire_len(frame) <= mtu {
        return Ok(verdict);
    }
    cut(ctx, frame, mtu, hop.1)
}

/// Sends a packet of our own that answers another, in fragments if need be. If its next hop is not
/// known it waits: it must not be processed anew as if it had come in.
pub(crate) fn answer<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    way: &Way<'_>,
    hop: Hop,
) -> Result<Verdict, DropReason> {
    let (egress, mtu) = (way.interface, way.mtu() as usize);
    let is_too_large = packet.length() > mtu;
    let pieces = |ctx: &mut Context<'_, T>, frame: &Frame<'_>| {
        let identification = ctx.shard.fragments.identification();
        let pieces = A::cut_own(frame, mtu, identification);
        pieces.ok_or(DropReason::FragmentationNeeded)
    };
    match hop {
        Hop::Known(_, mac, port) => {
            let verdict = egress::emit(ctx, frame, egress, (mac, port))?;
            if !is_too_large {
                return Ok(verdict);
            }
            let pieces = pieces(ctx, frame)?;
            Ok(replace(ctx, pieces, mtu, port))
        }
        Hop::Pending(id) if is_too_large => {
            for piece in pieces(ctx, frame)? {
                ctx.shard.counters.fragments_sent += 1;
                egress::hold(ctx, piece, None, id);
            }
            Ok(Verdict::Hold)
        }
        Hop::Pending(id) => Ok(egress::hold(ctx, OwnedFrame::from(&*frame), None, id)),
    }
}

/// Sends a frame that is ready to leave in fragments of at most `mtu` bytes (F08); a super-frame is cut into its segments
/// first.
#[cold]
pub(crate) fn cut<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    mtu: usize,
    port: PortId,
) -> Result<Verdict, DropReason> {
    let mut fragments = Vec::new();
    let mut whole = true;
    let (mut room, mut scratch) = (Vec::new(), Vec::new());
    let segments = segment(frame, &mut room, &mut |piece| {
        let cut = fragment(piece, mtu, &mut scratch, &mut |part| {
            fragments.push(OwnedFrame::from(&*part));
        });
        whole &= cut.is_ok();
    });
    if segments.is_err() || !whole {
        return Err(DropReason::MergedDatagram);
    }
    Ok(replace(ctx, fragments, mtu, port))
}

/// Fragments that are ready to leave take the place of what they were cut from.
fn replace<T: Trace>(
    ctx: &mut Context<'_, T>,
    fragments: Vec<OwnedFrame>,
    mtu: usize,
    port: PortId,
) -> Verdict {
    ctx.trace.step(|| Step::Cut {
        fragments: fragments.len(),
        mtu,
    });
    ctx.shard.counters.fragments_sent += fragments.len() as u64;
    let outputs = fragments.into_iter().map(|frame| Output { port, frame });
    ctx.shard.outbox.extend(outputs);
    Verdict::Replaced
}
