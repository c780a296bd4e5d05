//! What becomes due with time, and what waits to be sent.

use std::net::IpAddr;
use std::time::Duration;

use super::process::process;
use crate::base::addr::PortId;
use crate::base::drops::DropReason;
use crate::base::time::Instant;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Silent, Trace};
use crate::path::{fragments, refuse, standing};
use crate::speak::{announce, answers, claims, metadata, mld, ra, say};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::neighbor::{Event, Held, Resolution};
use crate::state::nexthops::Ask;
use crate::state::router::Router;
use crate::state::session::{ENDED_AT_ONCE, SessionDetail, SessionRecord};
use crate::state::shard::{Output, Shard, Tracked};
use crate::wire::error::IcmpError;
use crate::wire::flow::Direction;
use crate::wire::frame::{Frame, Verdict};

/// Things of a kind done at once at most, and frames sent by them, about; what is left is done when it
/// is asked for again, with traffic between.
const AT_ONCE: usize = 64;
/// A full look for expired sessions takes this many steps, one each [`SWEEP_INTERVAL`].
const SWEEP_STEPS: usize = 40;
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Sessions of a family looked at in one go: where there are more to a step, it is made in pieces.
const SWEPT_AT_ONCE: usize = 256;
/// The least time between two pieces.
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// Does what has become due: retransmissions, announcements, expiry. Frames go to the outbox.
pub fn poll(snapshot: &Snapshot, (router, shard): (&mut Router, &mut Shard), now: Instant) {
    let mut ctx = Context {
        snapshot,
        router,
        shard,
        now,
        trace: &mut Silent,
        ingress: None,
    };
    egress::continue_floods(&mut ctx);
    answers::poll(&mut ctx);
    let things = [
        next_hops,
        virtuals,
        neighbors,
        claims::poll::<Silent>,
        announce::poll::<Silent>,
        mld::poll::<Silent>,
        ra::poll::<Silent>,
        metadata::poll::<Silent>,
        fragments::poll::<Silent>,
    ];
    for thing in things {
        let enough = ctx.shard.outbox.len() + AT_ONCE;
        (0..AT_ONCE).find(|_| !thing(&mut ctx) || ctx.shard.outbox.len() >= enough);
    }
    ctx.shard.refused.poll(now);
    sweep(snapshot, ctx.shard, now);
}

/// Asks the next one of the next hops that is to be asked whether it is there. Whether there was one.
fn next_hops<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    let Router {
        next_hops,
        neighbors,
        claims,
        ..
    } = &mut *ctx.router;
    let answered = |place, since| neighbors.was_heard(place, since);
    let waits = |(interface, next_hop)| {
        let interface = ctx.snapshot.interface(interface);
        interface.is_some_and(|interface| claims.is_claiming_for(interface, next_hop))
    };
    let Some(((interface, address), ask)) = next_hops.poll(ctx.now, answered, waits) else {
        return false;
    };
    match (neighbors.resolve(interface, address, None, ctx.now), ask) {
        // It is not known, and is asked for by this.
        (Resolution::Pending(_) | Resolution::Full, _) => {}
        (Resolution::Known(_, mac, port), Ask::Neighbor) => {
            say::solicit(ctx, interface, address, Some((mac, port)));
        }
        (Resolution::Known(_, mac, port), Ask::Ping { target, number }) => match target {
            IpAddr::V4(target) => say::ping(ctx, interface, (target, number), (mac, port)),
            IpAddr::V6(target) => say::ping(ctx, interface, (target, number), (mac, port)),
        },
    }
    true
}

/// Asks who has the next virtual address that is to be asked for. Whether there was one.
fn virtuals<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    let Some(address) = ctx.router.virtuals.poll(ctx.now) else {
        return false;
    };
    if let Some(holder) = ctx.snapshot.owners().owner(address) {
        say::solicit(ctx, holder.network, address, None);
    }
    true
}

/// Asks for the next neighbour that is to be asked for, or gives it up. Whether there was one.
fn neighbors<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    match ctx.router.neighbors.poll(ctx.now) {
        None => return false,
        Some(Event::Solicit {
            interface,
            target,
            to,
        }) => say::solicit(ctx, interface, target, to),
        // The senders of what waited are told "host unreachable" (F05).
        Some(Event::Failed {
            interface,
            target,
            held,
        }) => {
            ctx.router.next_hops.failed((interface, target), ctx.now);
            for Held {
                mut frame, origin, ..
            } in held
            {
                ctx.shard.drops.add(DropReason::NeighborUnresolved, 1);
                if let Some(origin) = origin {
                    let error = IcmpError::HostUnreachable;
                    refuse::tell_late(ctx, &frame.as_frame(), origin, error);
                }
            }
        }
    }
    true
}

/// Ends some of the sessions that have expired, or that an interface which is gone leaves no way.
fn sweep(snapshot: &Snapshot, shard: &mut Shard, now: Instant) {
    if now < shard.next_sweep {
        return;
    }
    let most = shard.v4.sessions.used().max(shard.v6.sessions.used());
    let pieces = most.div_ceil(SWEEP_STEPS * SWEPT_AT_ONCE).max(1);
    shard.next_sweep = now + (SWEEP_INTERVAL / pieces as u32).max(SWEEP_PAUSE);
    let steps = SWEEP_STEPS * pieces;
    let (expired, revoked) = sweep_family::<std::net::Ipv4Addr>(snapshot, shard, steps, now);
    let (expired6, revoked6) = sweep_family::<std::net::Ipv6Addr>(snapshot, shard, steps, now);
    if (expired + revoked).max(expired6 + revoked6) >= ENDED_AT_ONCE {
        // There may be more: after some traffic.
        shard.next_sweep = now;
    }
    shard.counters.sessions_expired += expired + expired6;
    shard.counters.sessions_revoked += revoked + revoked6;
}

fn sweep_family<A: Tracked>(
    snapshot: &Snapshot,
    shard: &mut Shard,
    steps: usize,
    now: Instant,
) -> (u64, u64) {
    let flows = A::flows_mut(shard);
    let share = flows.sessions.used().div_ceil(steps);
    let is_gone = |record: &SessionRecord<A>, detail: &SessionDetail| {
        record.generation != snapshot.generation()
            && [Direction::Forward, Direction::Reply]
                .into_iter()
                .filter_map(|direction| record.path(direction))
                .any(|path| !snapshot.is_still(path.interface, record.generation))
            && !standing::stands((record, detail.tos()), snapshot)
    };
    flows.sweep(share, now, is_gone)
}

/// Hands every frame of the outbox to `send` and empties it, packets released by a resolved
/// neighbour among them. Call after each batch and each [`poll`]; for every worker when one of them did
/// something, since what it heard may release frames of another.
pub fn drain(
    snapshot: &Snapshot,
    both: (&mut Router, &mut Shard),
    now: Instant,
    send: impl FnMut(PortId, &mut Frame<'_>),
) {
    let route = |frame: &mut Frame<'_>, origin, both: (&mut Router, &mut Shard)| {
        process(frame, origin, snapshot, both, now)
    };
    drain_by(snapshot, both, now, route, send);
}

/// The same for who watches: `route` processes what was released.
pub fn drain_by(
    snapshot: &Snapshot,
    (router, shard): (&mut Router, &mut Shard),
    now: Instant,
    mut route: impl FnMut(&mut Frame<'_>, PortId, (&mut Router, &mut Shard)) -> Verdict,
    mut send: impl FnMut(PortId, &mut Frame<'_>),
) {
    // Whoever was asked for in this batch is asked now.
    if router
        .neighbors
        .next_deadline()
        .is_some_and(|due| due <= now)
    {
        let mut ctx = Context {
            snapshot,
            router: &mut *router,
            shard: &mut *shard,
            now,
            trace: &mut Silent,
            ingress: None,
        };
        (0..AT_ONCE).find(|_| !neighbors(&mut ctx));
        let displaced = ctx.router.neighbors.take_displaced();
        ctx.shard
            .drops
            .add(DropReason::NeighborUnresolved, displaced);
    }
    while let Some(Held {
        mut frame, origin, ..
    }) = next_released(router, shard)
    {
        let Some(origin) = origin else { continue };
        let mut view = frame.as_frame();
        let both = (&mut *router, &mut *shard);
        if let Verdict::Emit(port) = route(&mut view, origin, both) {
            shard.counters.packets_released += 1;
            send(port, &mut view);
        }
    }
    for Output { port, frame } in &mut shard.outbox {
        send(*port, &mut frame.as_frame());
    }
    shard.outbox.clear();
}

/// The next frame that waited for a neighbour and is this worker's, whoever heard the neighbour.
fn next_released(router: &mut Router, shard: &Shard) -> Option<Held> {
    let worker = shard.share.worker();
    let place = router
        .released
        .iter()
        .position(|held| held.worker == worker)?;
    router.released.remove(place)
}

/// Call when the router stops: guests are told that they lose their gateway (RFC 4861 §6.2.5). Frames
/// go to the outbox.
pub fn stop(snapshot: &Snapshot, (router, shard): (&mut Router, &mut Shard), now: Instant) {
    ra::farewell(&mut Context {
        snapshot,
        router,
        shard,
        now,
        trace: &mut Silent,
        ingress: None,
    });
}
