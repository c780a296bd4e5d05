//! Sessions under the configuration: whether one still stands, and which way its packets go.

use std::net::IpAddr;

use super::back::by_personality;
use super::judge::{Course, Plan, judge};
use super::query::{Query, Refusal};
use crate::base::addr::{InterfaceId, PortId};
use crate::base::drops::DropReason;
use crate::base::time::Ticks;
use crate::config::Mapping;
use crate::model::interface::Interface;
use crate::model::nat::Mapped;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Silent, Trace};
use crate::state::context::Context;
use crate::state::session::{Hit, Path, SessionDetail, SessionRecord};
use crate::state::shard::Tracked;
use crate::wire::flow::Direction;
use crate::wire::packet::{Family, TCP, Transport, UDP};

/// Whether session `number` still stands: not idle for too long, and allowed by the snapshot. One
/// that does not is ended.
#[inline(always)]
pub(crate) fn is_current<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    number: u32,
    now: Ticks,
) -> bool {
    let sessions = &A::flows(ctx.shard).sessions;
    let record = sessions.get(number);
    if sessions.is_expired(record, now) {
        ctx.shard.counters.sessions_expired += 1;
    } else if record.generation == ctx.snapshot.generation() || renew::<A, T>(ctx, number) {
        return true;
    } else {
        ctx.shard.counters.sessions_revoked += 1;
    }
    A::flows_mut(ctx.shard).end(number);
    false
}

/// Judges a session under a snapshot it has not seen. One that stands has its paths found anew.
#[cold]
fn renew<A: Tracked, T: Trace>(ctx: &mut Context<'_, T>, number: u32) -> bool {
    let snapshot = ctx.snapshot;
    let sessions = &A::flows(ctx.shard).sessions;
    let (record, tos) = (*sessions.get(number), sessions.detail(number).tos());
    let Some((plan, query)) = plan_of((&record, tos), snapshot, ctx.trace) else {
        return false;
    };
    if !is_the_same(&record, &plan) {
        return false;
    }
    let flows = A::flows_mut(ctx.shard);
    flows.charge(number, plan.payer);
    let sessions = &mut flows.sessions;
    let detail = sessions.detail_mut(number);
    detail.set_guest(plan.guest());
    detail.set_rule(plan.rule.map(|rule| (rule.place, rule.mark)));
    sessions.connections_mut().close(number);
    if let Some(rule) = plan.counted_by() {
        sessions.connections_mut().open(number, rule, plan.opener());
    }
    let record = sessions.get_mut(number);
    record.generation = snapshot.generation();
    record.set_path(Direction::Forward, Some(Path::by(plan.way.interface.id)));
    record.set_path(Direction::Reply, Some(Path::by(query.interface.id)));
    // Packets from any other port have their source checked again.
    record.admit(Direction::Forward, query.ingress);
    record.admit(Direction::Reply, None);
    record.set_by_sized_route(plan.way.is_sized());
    true
}

/// Whether a session, which was opened with this type of service, would stand if it met `snapshot` now.
pub(crate) fn stands<A: Family>(
    (record, tos): (&SessionRecord<A>, u8),
    snapshot: &Snapshot,
) -> bool {
    plan_of((record, tos), snapshot, &mut Silent)
        .is_some_and(|(plan, _)| is_the_same(record, &plan))
}

/// What would become of the session's first packet now, if it would be sent on, and by which interface
/// and port it would come.
fn plan_of<'s, A: Family>(
    (record, tos): (&SessionRecord<A>, u8),
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Option<(Plan<'s, A>, Query<'s, A>)> {
    let query = query((record, tos), snapshot)?;
    match judge(&query, snapshot, trace) {
        Ok(Course::Forward(plan)) => Some((plan, query)),
        _ => None,
    }
}

/// The session's first packet, as it would come in now.
fn query<'s, A: Family>(
    (record, tos): (&SessionRecord<A>, u8),
    snapshot: &'s Snapshot,
) -> Option<Query<'s, A>> {
    let flow = record.inside();
    let (interface, ingress) = place(record, snapshot)?;
    Some(Query {
        flow,
        keeps: leaves_by(record, snapshot),
        transport: match flow.protocol {
            TCP => Transport::Tcp(0),
            UDP => Transport::Udp,
            icmp if icmp == A::ICMP => Transport::EchoRequest,
            _ => Transport::Other,
        },
        interface,
        ingress,
        tos,
        mapped: record.is_by_mapping().then(|| {
            let to = record.outside();
            Mapped {
                inside: (to.destination, to.destination_port),
                spoken_to: record.is_expected(),
            }
        }),
        bounds: None,
    })
}

/// The personality that a session leaves by. After a start its address outside tells it.
fn leaves_by<A: Family>(record: &SessionRecord<A>, snapshot: &Snapshot) -> Option<InterfaceId> {
    let known = record.path(Direction::Forward).map(|path| path.interface);
    let interface = match known {
        Some(id) if !snapshot.is_still(id, record.generation) => None,
        Some(id) => snapshot.interface(id),
        None => snapshot.holder(record.outside().source.into()),
    };
    interface
        .filter(|interface| interface.personality)
        .map(|interface| interface.id)
}

/// Where the session's first packet would come in now: a guest's where the guest is, any other's where
/// it came in. `None`: that interface or port is gone.
fn place<'s, A: Family>(
    record: &SessionRecord<A>,
    snapshot: &'s Snapshot,
) -> Option<(&'s Interface, Option<PortId>)> {
    let flow = record.inside();
    let Some(path) = record.path(Direction::Reply) else {
        if let Some(place) = bridged(flow.source.into(), flow.destination.into(), snapshot) {
            return Some(place);
        }
        // The dataplane that knew is gone: take the interface by which an answer would leave now; of several
        // that lead out the one whose address was spoken to (T21).
        let back = Selector::ours(flow.destination, flow.source, flow.protocol);
        let way = route(snapshot, back, &mut Silent).ok();
        let spoken_to = snapshot.holder(flow.destination.into());
        if let Some(personality) = spoken_to.filter(|holder| holder.personality)
            && way.is_none_or(|way| way.interface.personality)
        {
            return Some((personality, None));
        }
        let way = way?;
        return Some((way.interface, way.guest.map(|guest| guest.port)));
    };
    let still = snapshot.is_still(path.interface, record.generation);
    let came_by = snapshot.interface(path.interface).filter(|_| still);
    if let Some(bridged) = came_by.filter(|interface| interface.bridge.is_some()) {
        let guest = snapshot.owners().on_segment(bridged.id, flow.source.into());
        let uplink = || bridged.bridge.map(|segment| segment.uplink);
        return Some((bridged, guest.map(|guest| guest.port).or_else(uplink)));
    }
    if let Some(personality) = came_by.filter(|interface| interface.personality) {
        return Some((personality, None));
    }
    if let Some(guest) = snapshot.owners().owner(flow.source.into()) {
        return Some((snapshot.interface(guest.network)?, Some(guest.port)));
    }
    match record.admitted(Direction::Forward) {
        Some(port) if !snapshot.is_still_port(port, record.generation) => None,
        Some(port) => Some((snapshot.network_on(port)?, Some(port))),
        None => Some((came_by?, None)),
    }
}

/// Where a packet to or from a bridged guest comes in, if it is one.
fn bridged(
    source: IpAddr,
    destination: IpAddr,
    snapshot: &Snapshot,
) -> Option<(&Interface, Option<PortId>)> {
    let owners = snapshot.owners();
    let bridged = |address| {
        owners
            .owner(address)
            .and_then(|guest| Some((guest, guest.bridge?)))
    };
    if let Some((guest, segment)) = bridged(source) {
        let network = || snapshot.interface(guest.network);
        let interface = snapshot.answerer(segment, destination).or_else(network);
        return Some((interface?, Some(guest.port)));
    }
    let (guest, segment) = bridged(destination).filter(|_| !snapshot.is_ours(source))?;
    Some((snapshot.interface(guest.network)?, Some(segment.uplink)))
}

/// Whether `plan` would have the session's packets leave as they do.
fn is_the_same<A: Family>(record: &SessionRecord<A>, plan: &Plan<'_, A>) -> bool {
    let outside = record.outside();
    let to = &plan.to;
    let destination =
        (outside.destination, outside.destination_port) == (to.destination, to.destination_port);
    let source = match plan.snat {
        Some(shared) => {
            let dependent = shared.snat.mapping == Mapping::EndpointDependent;
            record.holds_port()
                && shared.external == outside.source
                && shared.ports.contains(outside.source_port)
                // A port that is others' too is none for a mapping of its own.
                && (dependent || !record.is_endpoint_dependent())
        }
        None => {
            !record.holds_port()
                && (outside.source, outside.source_port) == (to.source, to.source_port)
        }
    };
    destination && source && record.is_by_mapping() == plan.mapped.is_some()
}

/// The way that a session's packets go in `direction` now.
pub(crate) fn way<'s, A: Family>(
    (record, detail): (&SessionRecord<A>, &SessionDetail),
    direction: Direction,
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Way<'s>, Refusal> {
    let lost = Refusal::from(DropReason::NoRoute);
    match direction {
        Direction::Forward => {
            let query = query((record, detail.tos()), snapshot).ok_or(lost)?;
            match judge(&query, snapshot, trace)? {
                Course::Forward(plan) => Ok(plan.way),
                Course::Local | Course::Error => Err(lost),
            }
        }
        Direction::Reply => way_back((record, detail), snapshot, trace),
    }
}

/// The ways that a session's packets go now, in this direction and in the other, if a route says anything of
/// their sizes.
pub(crate) fn ways_if_sized<'s, A: Tracked, T>(
    ctx: &Context<'s, T>,
    Hit { number, direction }: Hit,
) -> [Option<Way<'s>>; 2] {
    let sessions = &A::flows(ctx.shard).sessions;
    let (record, detail) = (sessions.get(number), sessions.detail(number));
    if !record.is_by_sized_route() {
        return [None; 2];
    }
    [direction, direction.reversed()]
        .map(|direction| way((record, detail), direction, ctx.snapshot, &mut Silent).ok())
}

/// The way of answers. Rules see them after their translation is reversed, as in Linux; but answers
/// to what came from outside leave by the personality it came to, whatever the rules say of the guest
/// (T21).
fn way_back<'s, A: Family>(
    (record, detail): (&SessionRecord<A>, &SessionDetail),
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Way<'s>, Refusal> {
    let inside = record.inside();
    let came_by = |direction| {
        let path = record.path(direction)?;
        snapshot.interface(path.interface)
    };
    let heard = came_by(Direction::Forward).map(|interface| interface.id);
    // Answers mostly have the type of service that they answer, and the mark is the session's.
    let selector = Selector::of(&inside.reversed(), heard, detail.tos()).marked(detail.mark());
    let way = route(snapshot, selector, trace);
    if let Some(opened_by) = came_by(Direction::Reply)
        && opened_by.personality
        && !way.is_ok_and(|way| way.interface.id == opened_by.id)
    {
        if let Some(guest) = snapshot.bridged_beside(opened_by, inside.source.into()) {
            let next_hop = snapshot.owners().next_hop(guest, inside.source.into());
            return Ok(Way {
                interface: opened_by,
                next_hop,
                guest: Some(guest),
                route: None,
            });
        }
        return match by_personality(opened_by, inside.source, trace) {
            Some(way) => Ok(way),
            None => way.map_err(|no_way| no_way.reason().into()),
        };
    }
    let answered_by = came_by(Direction::Forward);
    way.map_err(|no_way| match answered_by {
        Some(interface) => Refusal::no_way(no_way, interface),
        None => no_way.reason().into(),
    })
}
