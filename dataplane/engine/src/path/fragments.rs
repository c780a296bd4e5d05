//! Fragments that come in, in whatever order (RFC 4787 REQ-14, T08).
//!
//! The first of a datagram has the ports, and is judged and translated as any packet. The others go
//! the way of the first: to its session, with its rewrite of the addresses, or nowhere if it was
//! refused (P03). Those that come before it wait for it. What is for the router itself is put together.

use std::time::Duration;

use super::judge;
use super::{admit, bridge, forward, local, refuse};
use crate::base::drops::DropReason;
use crate::model::interface::Arrival;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Piecing, Step, Trace};
use crate::state::context::Context;
use crate::state::fragments::{Fate, Fit, Key};
use crate::state::neighbor::Held;
use crate::state::payer::Payer;
use crate::state::shard::{Output, Tracked};
use crate::wire::error::IcmpError;
use crate::wire::flow::Flow;
use crate::wire::frame::{ETHERNET, Frame, OwnedFrame, Verdict};
use crate::wire::packet::{Family, Packet, Part};
use crate::wire::piece::Piece;
use crate::wire::reassembly::reassemble;

/// How long what is sent on is waited for: the timer that RFC 791 §3.2 begins with, half of what Linux
/// waits. Who waits longer takes a later datagram for this one, since a sender has 65,536
/// identifications (RFC 4963).
const ON_THE_WAY: Duration = Duration::from_secs(15);
/// The same for what may be for the router itself (RFC 1122 §3.3.2, RFC 8200 §4.5; G01).
const TO_US: Duration = Duration::from_secs(60);

/// A packet that no session is known for, or a fragment. Not a part of `process`, whose registers
/// forwarding needs.
#[inline(never)]
pub(crate) fn or_first<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    match packet.part {
        Part::Whole => unknown(ctx, frame, packet, arrival),
        Part::First | Part::Later => receive(ctx, frame, packet, arrival),
    }
}

/// A packet that no session is known for: it crosses the segment that guests are bridged to, or is routed.
fn unknown<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    match arrival.interface.bridge {
        Some(_) => bridge::pass(ctx, frame, packet, arrival),
        None => forward::first(ctx, frame, packet, arrival),
    }
}

/// A fragment that was sent to an interface's MAC.
#[inline(never)]
fn receive<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    let (source, destination) = (packet.flow.source, packet.flow.destination);
    let place = (arrival.port, arrival.interface);
    // Nobody keeps anything at another's expense.
    admit::speaker(ctx, place, source, DropReason::SpoofedSource)?;
    if ctx.snapshot.is_group(destination) {
        return Err(DropReason::Broadcast);
    }
    let piece = A::piece(frame, packet)?;
    let of = Of {
        key: key(packet, &piece, arrival),
        piece,
        arrival,
    };
    let number = ctx.shard.fragments.find(&of.key);
    let fate = match number {
        Some(number) => check(ctx, number, &piece)?,
        None => Fate::Open,
    };
    match (fate, number) {
        (Fate::Refused(reason), _) => Err(reason),
        (Fate::Follows { protocol, ports }, Some(number)) => {
            let packet = following(packet, protocol, ports);
            follow(ctx, frame, &packet, &of, number)
        }
        _ if piece.is_first() => first(ctx, frame, packet, &of, number),
        _ => wait(ctx, frame, packet, &of, number),
    }
}

/// A fragment, and what it is one of.
struct Of<'s> {
    key: Key,
    piece: Piece,
    arrival: Arrival<'s>,
}

/// What a fragment's datagram is known by.
pub(crate) fn key<A: Family>(packet: &Packet<A>, piece: &Piece, arrival: Arrival<'_>) -> Key {
    Key {
        port: arrival.port,
        interface: arrival.interface.id,
        source: packet.flow.source.into(),
        destination: packet.flow.destination.into(),
        protocol: packet.flow.protocol,
        identification: piece.identification,
    }
}

/// The fate of a fragment that may be one of its datagram.
fn check<T: Trace>(
    ctx: &mut Context<'_, T>,
    number: u64,
    piece: &Piece,
) -> Result<Fate, DropReason> {
    let Some(datagram) = ctx.shard.fragments.get(number) else {
        return Ok(Fate::Open);
    };
    let fate = datagram.fate;
    if let Fate::Refused(_) = fate {
        step(ctx, piece, Piecing::Refused);
        return Ok(fate);
    }
    match datagram.fit(piece) {
        Fit::New => Ok(fate),
        Fit::Duplicate => Err(DropReason::FragmentDuplicate),
        Fit::TooMany => Err(DropReason::FragmentNoRoom),
        Fit::Overlap => {
            let reason = DropReason::FragmentOverlap;
            ctx.shard.counters.datagrams_overlapping += 1;
            settle(ctx, number, Fate::Refused(reason));
            Err(reason)
        }
    }
}

/// The first fragment: what becomes of it becomes of all.
fn first<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    of: &Of<'s>,
    number: Option<u64>,
) -> Result<Verdict, DropReason> {
    step(ctx, &of.piece, Piecing::First);
    let parsed = A::parse_first(frame, packet);
    let verdict = parsed.and_then(|first| send(ctx, frame, &first, of.arrival));
    let flow = parsed.map_or(packet.flow, |first| first.flow);
    let fate = match verdict {
        // It comes in anew when its next hop is known: then it is the first.
        Ok(Verdict::Hold) => return verdict,
        Ok(Verdict::Consumed) => Fate::Ours,
        Ok(_) => Fate::Follows {
            protocol: flow.protocol,
            ports: (flow.source_port, flow.destination_port),
        },
        Err(reason) => Fate::Refused(reason),
    };
    let number = number.or_else(|| {
        let payer = payer(ctx, &flow, of.arrival);
        open(ctx, packet, of, payer)
    });
    match (fate, number) {
        (Fate::Ours, None) => return Err(DropReason::FragmentNoRoom),
        (Fate::Ours, Some(number)) => {
            ctx.shard.fragments.become_ours(number);
            return collect::<A, T>(ctx, frame, of, number);
        }
        (_, Some(number)) => {
            settle(ctx, number, fate);
            ctx.shard.fragments.note(number, &of.piece);
        }
        // Those that follow it will find no room either.
        (_, None) => {}
    }
    verdict
}

/// A fragment of a datagram whose first was sent on.
fn follow<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    of: &Of<'s>,
    number: u64,
) -> Result<Verdict, DropReason> {
    step(ctx, &of.piece, Piecing::Follows);
    let verdict = send(ctx, frame, packet, of.arrival)?;
    // One that waits for its next hop comes in anew.
    if verdict != Verdict::Hold && ctx.shard.fragments.note(number, &of.piece) {
        ctx.shard.fragments.close(number);
        ctx.shard.counters.datagrams_complete += 1;
    }
    Ok(verdict)
}

/// Sends a fragment on that has its datagram's flow: by its session, or as a packet that none knows.
fn send<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    if arrival.interface.bridge.is_none()
        && (packet.has_flow() || packet.part == Part::Later)
        && let Some(verdict) = forward::by_session(ctx, frame, packet, arrival)?
    {
        return Ok(verdict);
    }
    unknown(ctx, frame, packet, arrival)
}

/// A fragment that has to wait: for the first, or for all others.
fn wait<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    of: &Of<'_>,
    number: Option<u64>,
) -> Result<Verdict, DropReason> {
    step(ctx, &of.piece, Piecing::Waits);
    let number = number.or_else(|| {
        let payer = payer(ctx, &packet.flow, of.arrival);
        open(ctx, packet, of, payer)
    });
    collect::<A, T>(ctx, frame, of, number.ok_or(DropReason::FragmentNoRoom)?)
}

/// Keeps a fragment; if the datagram is for the router and whole, it is received.
fn collect<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    of: &Of<'_>,
    number: u64,
) -> Result<Verdict, DropReason> {
    let copy = OwnedFrame::from(frame);
    let kept = ctx.shard.fragments.hold(number, &of.piece, copy);
    if let Some(datagram) = ctx.shard.fragments.get(number) {
        let payer = datagram.payer;
        count_displaced(ctx, payer, kept.is_none());
    }
    let is_whole = kept.ok_or(DropReason::FragmentNoRoom)?;
    let is_ours = |number| {
        let datagram = ctx.shard.fragments.get(number);
        datagram.is_some_and(|datagram| datagram.fate == Fate::Ours)
    };
    if is_whole && is_ours(number) {
        return deliver::<A, T>(ctx, of.arrival, number);
    }
    ctx.shard.counters.fragments_held += 1;
    Ok(Verdict::Hold)
}

/// Puts a datagram together that is for the router, and receives it.
fn deliver<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    arrival: Arrival<'_>,
    number: u64,
) -> Result<Verdict, DropReason> {
    let datagram = ctx.shard.fragments.close(number);
    let fragments = datagram.map_or_else(Vec::new, |datagram| datagram.held);
    let fragments = fragments.into_iter().map(|(_, frame)| frame).collect();
    let whole = reassemble::<A>(fragments);
    let mut whole = whole.ok_or(DropReason::FragmentMalformed)?;
    ctx.shard.counters.datagrams_complete += 1;
    ctx.shard.counters.datagrams_reassembled += 1;
    ctx.trace.step(|| Step::Reassembled {
        length: whole.bytes.len() - ETHERNET,
    });
    let mut view = whole.as_frame();
    let packet = A::parse(&view)?;
    let verdict = local::receive(ctx, &mut view, &packet, arrival)?;
    let Verdict::Emit(port) = verdict else {
        return Ok(verdict);
    };
    // It does not fit into the place of the fragment that came last.
    let frame = OwnedFrame::from(&view);
    ctx.shard.outbox.push(Output { port, frame });
    Ok(Verdict::Replaced)
}

/// Gives up the next datagram of which fragments are missing for too long. Whether there was one.
pub(crate) fn poll<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    let Some(datagram) = ctx.shard.fragments.expire(ctx.now) else {
        return false;
    };
    if let Fate::Refused(_) = datagram.fate {
        return true;
    }
    ctx.shard.counters.datagrams_timed_out += 1;
    let waited = datagram.held.len() as u64;
    ctx.shard.drops.add(DropReason::FragmentTimeout, waited);
    let mut held = datagram.held.into_iter();
    // RFC 792, RFC 4443 §3.3: only who put the datagram together tells, and only if the first came.
    if datagram.fate == Fate::Ours
        && let Some((_, mut first)) = held.find(|(start, _)| *start == 0)
    {
        let origin = datagram.key.port;
        ctx.ingress = Some(origin);
        let error = IcmpError::ReassemblyTimeout;
        refuse::tell_late(ctx, &first.as_frame(), origin, error);
        ctx.ingress = None;
    }
    true
}

/// Begins a datagram.
fn open<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    packet: &Packet<A>,
    of: &Of<'_>,
    payer: Payer,
) -> Option<u64> {
    let patience = patience(ctx.snapshot, packet, of.arrival);
    let fragments = &mut ctx.shard.fragments;
    let number = fragments.open(of.key, payer, patience, ctx.now);
    count_displaced(ctx, payer, number.is_none());
    number
}

/// Counts what had to go for a fragment of `payer`'s, and whether it had to itself.
fn count_displaced<T>(ctx: &mut Context<'_, T>, payer: Payer, refused: bool) {
    let (datagrams, fragments) = ctx.shard.fragments.take_displaced();
    if datagrams == 0 && !refused {
        return;
    }
    let reason = DropReason::FragmentNoRoom;
    ctx.shard.counters.datagrams_displaced += datagrams;
    ctx.shard.drops.add(reason, fragments);
    ctx.shard.refused.count(payer, reason, ctx.now);
}

/// The fate of a datagram is known: what waited comes in anew, and meets it.
fn settle<T>(ctx: &mut Context<'_, T>, number: u64, fate: Fate) {
    let Some(datagram) = ctx.shard.fragments.get(number) else {
        return;
    };
    let (origin, worker) = (Some(datagram.key.port), ctx.shard.share.worker());
    let released = ctx.shard.fragments.settle(number, fate);
    let released = released.into_iter().map(|(_, frame)| Held {
        frame,
        origin,
        worker,
    });
    ctx.router.released.extend(released);
}

/// Whom a datagram counts against: its sender; or the guest that it is for, where that is known to
/// expect it.
fn payer<A: Tracked, T>(ctx: &Context<'_, T>, flow: &Flow<A>, arrival: Arrival<'_>) -> Payer {
    let place = (arrival.interface, Some(arrival.port));
    let (sender, _) = judge::payer(ctx.snapshot, place, flow.source.into());
    let sessions = &A::flows(ctx.shard).sessions;
    let expected = arrival.interface.personality.then(|| sessions.find(flow));
    let expected = expected.flatten().filter(|hit| {
        let record = sessions.get(hit.number);
        !record.makes_room()
    });
    let guest = expected.and_then(|hit| sessions.detail(hit.number).guest());
    guest.map_or(sender, Payer::To)
}

/// A fragment as one of its datagram's flow.
pub(crate) fn following<A: Family>(
    packet: &Packet<A>,
    protocol: u8,
    ports: (u16, u16),
) -> Packet<A> {
    let flow = Flow {
        source_port: ports.0,
        destination_port: ports.1,
        protocol,
        ..packet.flow
    };
    Packet { flow, ..*packet }
}

fn step<T: Trace>(ctx: &mut Context<'_, T>, piece: &Piece, what: Piecing) {
    let Piece {
        identification,
        start,
        ..
    } = *piece;
    ctx.trace.step(|| Step::Fragment {
        identification,
        start,
        what,
    });
}

fn patience<A: Family>(snapshot: &Snapshot, packet: &Packet<A>, arrival: Arrival<'_>) -> Duration {
    let destination = packet.flow.destination.into();
    let own = snapshot.holder(destination).is_some() || arrival.interface.owns(destination);
    match own {
        true => TO_US,
        false => ON_THE_WAY,
    }
}
