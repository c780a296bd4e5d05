//! Packets to the router's own addresses.

use super::back::way_back;
use super::hop;
use super::metadata;
use super::query::Refusal;
use super::refuse::{answers_back, refuse};
use crate::base::checksum::Delta;
use crate::base::drops::DropReason;
use crate::model::interface::Arrival;
use crate::model::tables::NoWay;
use crate::model::trace::Trace;
use crate::state::context::Context;
use crate::wire::error::{IcmpError, Problem};
use crate::wire::flow::Flow;
use crate::wire::frame::{Frame, Verdict};
use crate::wire::icmp;
use crate::wire::packet::{Family, Packet, Part, Transport};

/// A packet to one of our own addresses. Not a part of `process`, whose registers forwarding needs.
#[inline(never)]
pub(crate) fn receive<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> Result<Verdict, DropReason> {
    // RFC 4862 §5.4: a tentative address is nobody's yet (N12).
    let destination = packet.flow.destination.into();
    let holder = ctx
        .snapshot
        .holder(destination)
        .unwrap_or(arrival.interface);
    if !ctx.router.claims.is_ours(holder.id, destination) {
        return Err(DropReason::AddressTentative);
    }
    if let Some(problem) = packet.problem_at_end {
        return Err(refuse_header(ctx, frame, packet, arrival, problem));
    }
    let unwanted = match packet.transport {
        // The rest is waited for (`fragments.rs`).
        Transport::EchoRequest if packet.part == Part::First => return Ok(Verdict::Consumed),
        Transport::EchoRequest => return echo(ctx, frame, packet, arrival),
        Transport::EchoReply
            if packet.part != Part::First && is_pong(ctx, frame, packet, arrival) =>
        {
            return Ok(Verdict::Consumed);
        }
        Transport::EchoReply | Transport::IcmpOther(_) | Transport::IcmpError => {
            return Err(DropReason::IcmpIgnored);
        }
        Transport::Tcp(_) if metadata::is_for(packet, arrival) => {
            return metadata::receive(ctx, frame, packet, arrival);
        }
        Transport::Fragment => return Err(DropReason::FragmentUntranslatable),
        Transport::Tcp(_) | Transport::Udp => IcmpError::PortUnreachable,
        Transport::Other => IcmpError::ProtocolUnreachable,
    };
    // Guests are told; the internet is not (decision 6).
    if arrival.interface.personality {
        return Err(DropReason::NoSession);
    }
    let refusal = Refusal::told(DropReason::PortUnreachable, unwanted);
    Err(refuse(ctx, frame, packet, arrival.interface, refusal))
}

/// Refuses a packet with a header that must be discarded by who does not understand it (S10).
#[cold]
pub(crate) fn refuse_header<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
    problem: Problem,
) -> DropReason {
    let error = IcmpError::ParameterProblem(problem);
    let refusal = Refusal {
        reason: DropReason::IpOptions,
        told: problem.told.then_some(error),
        logged_by: None,
    };
    refuse(ctx, frame, packet, arrival.interface, refusal)
}

/// Whether an echo reply answers a ping of ours.
#[cold]
fn is_pong<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> bool {
    let Some([_, _, _, _, i0, i1, s0, s1]) = frame
        .bytes
        .get(packet.l4..)
        .and_then(|l4| l4.first_chunk())
        .copied()
    else {
        return false;
    };
    let number = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
    icmp::verify(frame, packet).is_ok()
        && ctx
            .router
            .next_hops
            .pong(arrival.interface.id, packet.flow.source.into(), number)
}

/// Turns an echo request into its reply, in place (RFC 1812 §4.3.3.6, F13).
fn echo<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> Result<Verdict, DropReason> {
    icmp::verify(frame, packet)?;
    let Flow {
        source,
        destination,
        ..
    } = packet.flow;
    let asked = (destination, source, A::tos(frame));
    let way = way_back(ctx.snapshot, arrival.interface, asked, ctx.trace).map_err(NoWay::reason)?;
    if !answers_back(arrival.interface, way.interface) {
        return Err(DropReason::WrongInterface);
    }
    let hop = hop::resolve(ctx, &way).ok_or(DropReason::NeighborTableFull)?;
    turn_around(frame, packet);
    ctx.shard.counters.echo_replies += 1;
    hop::answer(ctx, frame, packet, &way, hop)
}

fn turn_around<A: Family>(frame: &mut Frame<'_>, packet: &Packet<A>) {
    let (at, length) = (A::SOURCE_AT, size_of::<A::Bytes>());
    let (from, to) = (packet.flow.destination, packet.flow.source);
    frame.bytes[at..at + length].copy_from_slice(from.octets().as_ref());
    frame.bytes[at + length..at + 2 * length].copy_from_slice(to.octets().as_ref());
    A::own_header(frame, packet);
    let l4 = &mut frame.bytes[packet.l4..packet.end];
    let check = u16::from_be_bytes([l4[2], l4[3]]);
    let kind = Delta::default().word(
        u16::from(A::ECHO_REQUEST) << 8,
        u16::from(A::ECHO_REPLY) << 8,
    );
    l4[0] = A::ECHO_REPLY;
    l4[2..4].copy_from_slice(&kind.apply(check).to_be_bytes());
}
