//! Forwarding: packets of a session, and the first packet of what may become one.

use super::hop::{self, Hop, Station};
use super::judge::{Course, Plan, fits, is_forged, judge};
use super::policy::permits_answers;
use super::query::{Bounds, Query, Refusal, mapped};
use super::refuse::refuse;
use super::{admit, bandwidth, errors, limits, local, log, mss, standing};
use crate::base::drops::DropReason;
use crate::base::time::Ticks;
use crate::config::Mapping;
use crate::model::interface::{Arrival, Interface};
use crate::model::trace::{Ends, Step, Trace};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::payer::Payer;
use crate::state::ports::NoPort;
use crate::state::session::{Hit, Path, SessionDetail, SessionRecord};
use crate::state::shard::Tracked;
use crate::wire::error::IcmpError;
use crate::wire::flow::{Direction, Flow};
use crate::wire::frame::{Frame, OwnedFrame, Verdict};
use crate::wire::packet::{Family, Packet, Part, rewrite};

/// Records looked at for expired ones when a new session finds no room.
const SWEEP_WHEN_FULL: usize = 16;

/// An IP packet with a flow, that was sent to an interface's MAC. `None`: no session knows it.
///
/// Fragments have a copy of this of their own. So what it calls for every packet, and parsing, is inlined
/// by order: the compiler, left to itself, calls what is called from two places (20 instructions more).
#[inline(always)]
pub(crate) fn by_session<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> Result<Option<Verdict>, DropReason> {
    match A::flows(ctx.shard).sessions.find(&packet.flow) {
        Some(hit) => established(ctx, frame, packet, arrival, hit),
        None => Ok(None),
    }
}

/// A packet of a session. `None`: the session is over, treat it as a first packet.
#[inline(always)]
fn established<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
    hit: Hit,
) -> Result<Option<Verdict>, DropReason> {
    let Hit { number, direction } = hit;
    let now = Ticks::from(ctx.now);
    if !standing::is_current::<A, T>(ctx, number, now) {
        return Ok(None);
    }
    let record = A::flows(ctx.shard).sessions.get(number);
    ctx.trace.step(|| Step::Session {
        direction,
        state: record.state(),
    });
    let (back, path) = (record.path(direction.reversed()), record.path(direction));
    let (admitted, to) = (record.admitted(direction), record.sent(direction));
    if back.is_none_or(|path| path.interface != arrival.interface.id) {
        return Err(astray(ctx, packet, arrival));
    }
    if admitted != Some(arrival.port) {
        admit_to_session(ctx, packet, arrival, hit)?;
    }
    let refused = |ctx: &mut Context<'_, T>, frame: &Frame<'_>, refusal| {
        refuse(ctx, frame, packet, arrival.interface, refusal)
    };
    if packet.ttl <= 1 {
        return Err(refused(ctx, frame, Refusal::TTL));
    }
    let known = path.and_then(|path| ctx.router.neighbors.follow(path.neighbor, ctx.now));
    let (egress, hop) = match (path, known) {
        (Some(path), Some(hop)) => (ctx.snapshot.interface(path.interface), hop),
        _ => match hop::repair::<A, T>(ctx, hit) {
            Ok((way, Hop::Known(_, mac, port))) => (Some(way.interface), (mac, port)),
            Ok((_, Hop::Pending(id))) => {
                let copy = OwnedFrame::from(&*frame);
                return Ok(Some(egress::hold(ctx, copy, Some(arrival.port), id)));
            }
            Err(refusal) => return Err(refused(ctx, frame, refusal)),
        },
    };
    let egress = egress.ok_or(DropReason::NoRoute)?;
    let length = packet.wire_len(frame);
    let mtu = match length > ctx.snapshot.least_mtu() {
        true => mtu_of::<A, T>(ctx, hit, egress),
        false => egress.mtu,
    };
    let whole = length <= mtu as usize;
    if !whole && packet.dont_fragment {
        let refusal = fits(length, (egress, mtu), ctx.trace).err();
        let refusal = refusal.unwrap_or(DropReason::FragmentationNeeded.into());
        return Err(refused(ctx, frame, refusal));
    }
    if packet.is_syn() {
        let ways = standing::ways_if_sized::<A, T>(ctx, hit);
        mss::clamp(ctx, frame, packet, (arrival.interface, egress), ways);
    }
    if ctx.snapshot.limits_bandwidth() {
        let ends = (packet.flow.source.into(), to.destination.into());
        bandwidth::take(ctx, (arrival.interface, egress), ends, packet.length())?;
    }
    rewrite(frame, packet, &to);
    trace_rewrite(ctx.trace, &packet.flow, &to);
    let mut verdict = egress::emit(ctx, frame, egress, hop)?;
    if !whole {
        verdict = hop::cut(ctx, frame, mtu as usize, hop.1)?;
    }
    let sessions = &mut A::flows_mut(ctx.shard).sessions;
    sessions.account(hit, packet.length(), packet.segment(frame), now);
    ctx.shard.counters.forwarded_by_session += 1;
    Ok(Some(verdict))
}

/// The largest packet of a session's that leaves by `egress`.
#[inline(never)]
fn mtu_of<A: Tracked, T>(ctx: &Context<'_, T>, hit: Hit, egress: &Interface) -> u32 {
    match standing::ways_if_sized::<A, T>(ctx, hit) {
        [Some(way), _] if way.interface.id == egress.id => way.mtu(),
        _ => egress.mtu,
    }
}

/// Why a session's packet is refused that came in by another interface than those before it.
#[cold]
fn astray<A: Tracked, T: Trace>(
    ctx: &Context<'_, T>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> DropReason {
    match arrival.interface.personality && ctx.snapshot.is_ours(packet.flow.source.into()) {
        true => DropReason::InsideSource,
        false => DropReason::WrongInterface,
    }
}

/// A session's packet that came in by another port than those before it, or under a new
/// configuration: its source is looked at once more.
#[cold]
fn admit_to_session<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
    Hit { number, direction }: Hit,
) -> Result<(), DropReason> {
    let place = (arrival.port, arrival.interface);
    let (source, reason) = (packet.flow.source, DropReason::SpoofedSource);
    // An uplink's sources are not checked: those of a guest that is bridged there must not be forged.
    if arrival.interface.personality
        && is_forged(
            arrival.interface,
            Some(arrival.port),
            source.into(),
            ctx.snapshot,
        )
    {
        return Err(DropReason::InsideSource);
    }
    admit::speaker(ctx, place, source, reason)?;
    let sessions = &mut A::flows_mut(ctx.shard).sessions;
    sessions
        .get_mut(number)
        .admit(direction, Some(arrival.port));
    Ok(())
}

/// A packet that no session knows.
#[inline(never)]
pub(crate) fn first<'s, A: Tracked, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    ctx.trace.step(|| Step::FirstPacket);
    let (place, source) = ((arrival.port, arrival.interface), packet.flow.source.into());
    admit::first_come(ctx, place, source, DropReason::SpoofedSource)?;
    let state = (ctx.snapshot, &*ctx.shard);
    let query = Query {
        keeps: None,
        flow: packet.flow,
        mapped: mapped(&packet.flow, arrival.interface, state),
        transport: packet.transport,
        interface: arrival.interface,
        ingress: Some(arrival.port),
        tos: A::tos(frame),
        bounds: Some(Bounds {
            ttl: packet.ttl,
            unfragmented: packet.dont_fragment.then(|| packet.wire_len(frame)),
        }),
    };
    match judge(&query, ctx.snapshot, ctx.trace) {
        Ok(Course::Forward(plan)) => forward(ctx, frame, packet, arrival, (&query, &plan)),
        Ok(Course::Local) => local::receive(ctx, frame, packet, arrival),
        // What it quotes is checked by its checksum, which covers all of it.
        Ok(Course::Error) if packet.part != Part::Whole => Err(DropReason::FragmentUntranslatable),
        Ok(Course::Error) => errors::translate(ctx, frame, packet, arrival),
        Err(refusal) => {
            log::refusal(ctx, arrival, packet, &refusal);
            Err(refuse(ctx, frame, packet, arrival.interface, refusal))
        }
    }
}

/// Sends a first packet on as planned, and remembers what follows as a session.
#[inline(always)]
fn forward<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
    (query, plan): (&Query<'_, A>, &Plan<'_, A>),
) -> Result<Verdict, DropReason> {
    if let Err(reason) = limits::turn(ctx, arrival, plan) {
        let refusal = limits::beyond(ctx, arrival.interface, plan, reason);
        return Err(refuse(ctx, frame, packet, arrival.interface, refusal));
    }
    let egress = plan.way.interface;
    let (neighbor, hop): (_, Station) = match hop::resolve(ctx, &plan.way) {
        Some(Hop::Known(id, mac, port)) => (id, (mac, port)),
        Some(Hop::Pending(id)) => {
            let copy = OwnedFrame::from(&*frame);
            return Ok(egress::hold(ctx, copy, Some(arrival.port), id));
        }
        None => return Err(DropReason::NeighborTableFull),
    };
    if ctx.snapshot.limits_bandwidth() {
        let (from, to) = (packet.flow.source, plan.to.destination);
        let place = (arrival.interface, egress);
        bandwidth::take(ctx, place, (from.into(), to.into()), packet.length())?;
    }
    let mut to = plan.to;
    if packet.is_tracked() {
        let path = Path {
            interface: egress.id,
            neighbor,
        };
        if let Err(reason) = limits::admit(ctx, arrival, plan) {
            let refusal = limits::beyond(ctx, arrival.interface, plan, reason);
            return Err(refuse(ctx, frame, packet, arrival.interface, refusal));
        }
        match begin(ctx, (frame, packet), arrival, plan, path) {
            Ok(translated) => to = translated,
            // What needs no translation needs no session either, if its answers may pass without.
            Err(reason)
                if plan.snat.is_none()
                    && to == packet.flow
                    && permits_answers(query, &plan.way, ctx.snapshot) =>
            {
                ctx.shard.refused.count(plan.payer, reason, ctx.now);
                ctx.shard.counters.forwarded_without_session += 1;
            }
            Err(reason) => {
                ctx.shard.refused.count(plan.payer, reason, ctx.now);
                // Decision 1: the sender is told "host unreachable" (RFC 6888 REQ-11).
                let refusal = Refusal::told(reason, IcmpError::HostUnreachable);
                return Err(refuse(ctx, frame, packet, arrival.interface, refusal));
            }
        }
    }
    if packet.is_syn() {
        let back = mss::way_back(ctx, (packet, A::tos(frame)), (arrival.interface, egress));
        let ends = (arrival.interface, egress);
        mss::clamp(ctx, frame, packet, ends, [Some(plan.way), back]);
    }
    if let Some(rule) = plan.rule.filter(|rule| rule.log) {
        log::write(ctx, arrival, packet, rule);
    }
    rewrite(frame, packet, &to);
    trace_rewrite(ctx.trace, &packet.flow, &to);
    let verdict = hop::deliver(ctx, frame, packet, &plan.way, hop)?;
    ctx.shard.counters.forwarded_first += 1;
    Ok(verdict)
}

/// Remembers a first packet as a session, and returns its flow as it leaves.
#[inline(always)]
pub(crate) fn begin<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    (frame, packet): (&Frame<'_>, &Packet<A>),
    arrival: Arrival<'_>,
    plan: &Plan<'_, A>,
    path: Path,
) -> Result<Flow<A>, DropReason> {
    make_room::<A, T>(ctx, plan)?;
    let to = match plan.snat {
        Some(_) => translate(ctx, plan)?,
        None => plan.to,
    };
    // Without a port of its own its answers could be another's too.
    let sessions = &A::flows(ctx.shard).sessions;
    if plan.snat.is_none() && to != packet.flow && sessions.find(&to.reversed()).is_some() {
        return Err(DropReason::NatAmbiguous);
    }
    let now = Ticks::from(ctx.now);
    let holds_port = plan.snat.is_some();
    let mut record = SessionRecord::new(packet.flow, to, holds_port, ctx.snapshot.generation());
    if let Some(shared) = plan.snat
        && shared.snat.mapping == Mapping::EndpointDependent
    {
        record.set_endpoint_dependent();
    }
    record.set_path(Direction::Forward, Some(path));
    record.set_path(Direction::Reply, Some(Path::by(arrival.interface.id)));
    record.admit(Direction::Forward, Some(arrival.port));
    record.set_by_sized_route(plan.way.is_sized());
    let mut detail = SessionDetail::default();
    detail.set_tos(A::tos(frame));
    detail.set_guest(plan.guest());
    detail.set_rule(plan.rule.map(|rule| (rule.place, rule.mark)));
    let flows = A::flows_mut(ctx.shard);
    if let Some(mapped) = &plan.mapped {
        record = flows.join(record, mapped).ok_or(DropReason::NatAmbiguous)?;
    }
    let Some(number) = flows.sessions.insert(record, detail, plan.payer) else {
        flows.release(record);
        return Err(DropReason::SessionTableFull);
    };
    let first = (packet.length(), packet.segment(frame));
    flows.sessions.count_first(number, first, now);
    if let Some(rule) = plan.counted_by() {
        let connections = flows.sessions.connections_mut();
        connections.open(number, rule, plan.opener());
    }
    ctx.shard.counters.sessions_created += 1;
    Ok(to)
}

/// Sees to it that the plan's payer may have one more session: an expired one makes room for it, or the
/// oldest of its own that was not answered (H03).
#[inline(always)]
fn make_room<A: Tracked, T>(
    ctx: &mut Context<'_, T>,
    plan: &Plan<'_, A>,
) -> Result<(), DropReason> {
    let ledger = A::flows_mut(ctx.shard).sessions.ledger_mut();
    ledger.limit(plan.payer, plan.limits.sessions);
    if let Some(guest) = plan.served {
        ledger.limit(Payer::To(guest.number), guest.limits.sessions);
    }
    if ledger.may_open(plan.payer) {
        return Ok(());
    }
    displace::<A, T>(ctx, plan.payer)
}

/// Ends a session that makes room for another of `payer`'s.
#[cold]
fn displace<A: Tracked, T>(ctx: &mut Context<'_, T>, payer: Payer) -> Result<(), DropReason> {
    let flows = A::flows_mut(ctx.shard);
    let (expired, _) = flows.sweep(SWEEP_WHEN_FULL, ctx.now, |_, _| false);
    ctx.shard.counters.sessions_expired += expired;
    let flows = A::flows_mut(ctx.shard);
    let ledger = flows.sessions.ledger();
    if ledger.may_open(payer) {
        return Ok(());
    }
    if let Some(oldest) = ledger.spare(payer) {
        flows.end(oldest);
        ctx.shard.counters.sessions_displaced += 1;
        return Ok(());
    }
    match ledger.shares().used(payer.index()) {
        0 => Err(DropReason::SessionTableFull),
        _ => Err(DropReason::GuestSessions),
    }
}

/// The plan's flow as it leaves, with an external port taken for it.
#[inline(always)]
fn translate<A: Tracked, T>(
    ctx: &mut Context<'_, T>,
    plan: &Plan<'_, A>,
) -> Result<Flow<A>, DropReason> {
    let wanted = plan.wanted().ok_or(DropReason::NatExhausted)?;
    let mapping = plan
        .snat
        .map_or_else(Mapping::default, |shared| shared.snat.mapping);
    let flows = A::flows_mut(ctx.shard);
    let port = flows.acquire(&wanted, mapping, &plan.to);
    let port = port.map_err(|no_port| match no_port {
        NoPort::Exhausted => DropReason::NatExhausted,
        NoPort::Limited => DropReason::GuestPorts,
    })?;
    Ok(Flow {
        source: wanted.external,
        source_port: port,
        ..plan.to
    })
}

fn trace_rewrite<A: Family>(trace: &mut impl Trace, from: &Flow<A>, to: &Flow<A>) {
    if from != to {
        let ends = |flow: &Flow<A>| Ends {
            source: (flow.source.into(), flow.source_port),
            destination: (flow.destination.into(), flow.destination_port),
        };
        trace.step(|| Step::Rewrite {
            from: ends(from),
            to: ends(to),
        });
    }
}
