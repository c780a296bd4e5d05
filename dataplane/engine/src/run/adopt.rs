//! What a start, a new configuration, or a device that came, changes in the state.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::base::addr::PortId;
use crate::base::drops::DropReason;
use crate::base::time::{Instant, Ticks};
use crate::model::change::{Advertising, Change, Groups};
use crate::model::snapshot::Snapshot;
use crate::model::trace::Silent;
use crate::speak::announce;
use crate::state::context::Context;
use crate::state::neighbor::{Neighbor, NeighborState};
use crate::state::ports::Share;
use crate::state::router::Router;
use crate::state::session::{SessionRecord, Sessions};
use crate::state::shard::{Flood, Shard};
use crate::wire::packet::Family;

/// How long after a takeover ports may be attached that were attached before it.
const TAKEOVER: Duration = Duration::from_secs(5);

/// The router's state at the start, with `snapshot` adopted. `inherited`: an earlier dataplane had the
/// addresses already, and they are not claimed anew. `seed` feeds hashing and random choices.
pub fn start_router(snapshot: &Snapshot, inherited: bool, seed: u64, now: Instant) -> Router {
    let claims_from = match inherited {
        true => now + TAKEOVER,
        false => now,
    };
    let mut router = Router::empty(snapshot.config().router(), seed, claims_from);
    adopt_router(snapshot, &mut router, now);
    router
}

/// One worker's state at the start, with `snapshot` adopted. Sessions found in `memory` (left by an
/// earlier dataplane of the same boot) live on, as far as they make sense (H14).
pub fn start_shard(
    snapshot: &Snapshot,
    memory: impl Into<Sessions>,
    share: Share,
    seed: u64,
    now: Instant,
) -> Shard {
    let section = snapshot.config().router();
    let mut memory = memory.into();
    let found = memory.v4.live() + memory.v6.live();
    if found > 0 {
        memory.v4.keep(|record| is_credible(record, snapshot, now));
        memory.v6.keep(|record| is_credible(record, snapshot, now));
    }
    let mut shard = Shard::over(memory, section, share, seed, now);
    let recovered = shard.v4.recover_mappings() + shard.v6.recover_mappings();
    shard.counters.sessions_recovered = recovered;
    shard.counters.sessions_refused = found - recovered;
    adopt_shard(snapshot, &mut shard);
    shard
}

/// Whether a session that an earlier dataplane left can be one: it makes sense by itself, and an
/// external port that it holds is one that we give out. Whether it is allowed is judged when its next
/// packet comes.
fn is_credible<A: Family>(record: &SessionRecord<A>, snapshot: &Snapshot, now: Instant) -> bool {
    let (inside, outside) = (record.inside(), record.outside());
    let gives = |address: A, port| {
        let translations = snapshot.translations();
        translations.gives(address.into(), Some(port))
    };
    record.is_sound(Ticks::from(now))
        && (!record.holds_port() || gives(outside.source, outside.source_port))
        && (!record.is_by_mapping() || gives(inside.destination, inside.destination_port))
}

/// Call once for each newly published snapshot, for each worker, before its first frame under it.
/// What it changes in sessions they learn one by one, when they meet it.
pub fn adopt_shard(snapshot: &Snapshot, shard: &mut Shard) {
    let timeouts = &snapshot.config().router().timeouts;
    shard.v4.sessions.set_timeouts(timeouts);
    shard.v6.sessions.set_timeouts(timeouts);
    if uses(snapshot, IpAddr::is_ipv4) {
        shard.v4.sessions.prepare();
    }
    if uses(snapshot, IpAddr::is_ipv6) {
        shard.v6.sessions.prepare();
    }
    let count = snapshot.translations().count_sessions();
    shard.v4.sessions.keep_tally(count);
    shard.v6.sessions.keep_tally(count);
    let change = snapshot.change();
    // What was said of them is no longer so.
    let relinked = |flood: &Flood| change.relinked.binary_search(&flood.interface).is_ok();
    shard.floods.retain(|flood| !relinked(flood));
    if change.redirects || change.since != shard.generation {
        let translations = snapshot.translations();
        shard.v4.ports.reserve(translations.reserved_ports());
        shard.v6.ports.reserve(translations.reserved_ports());
    }
    let limits = || {
        snapshot
            .policy()
            .rulings()
            .filter_map(|ruling| ruling.limits)
    };
    shard.rates.keep(limits().map(|limits| limits.rule));
    if limits().any(|limits| limits.connections.is_some()) {
        shard.v4.sessions.connections_mut().prepare();
        shard.v6.sessions.connections_mut().prepare();
    }
    shard.generation = snapshot.generation();
}

/// Whether a family is configured somewhere. If sessions of another come all the same, their memory is
/// made with the first.
fn uses(snapshot: &Snapshot, family: fn(&IpAddr) -> bool) -> bool {
    snapshot.interfaces().any(|interface| {
        let addresses = interface.addresses.iter().map(IpNet::addr);
        let mut all = addresses.chain(interface.next_hops.iter().copied());
        interface.bridge.is_some() || all.any(|address| family(&address))
    })
}

/// Call once for each newly published snapshot, before the first frame under it: claims and announces
/// addresses that are new, forgets neighbours that are gone. Costs what has changed. Returns how many
/// packets waited for neighbours that are gone.
pub fn adopt_router(snapshot: &Snapshot, router: &mut Router, now: Instant) -> usize {
    if router.generation == snapshot.generation() {
        return 0;
    }
    let mut change = snapshot.change().clone();
    if change.since != router.generation {
        // It follows on another than we know: what we know may be wrong.
        let section = snapshot.config().router();
        *router = Router::empty(section, router.seed, router.claims_from);
        change = Arc::new(snapshot.change_from_nothing());
    }
    let change = &*change;
    let waited = forget_neighbors(router, change);
    forget_what_is_gone(snapshot, router, change);
    if now >= router.claims_from {
        for &(interface, address) in &change.claims {
            router.claims.begin(interface, address, now);
        }
    }
    for (interface, addresses) in &change.appearing {
        let addresses = announce::ready(snapshot, router, *interface, addresses);
        router.announcer.add_all(*interface, addresses, now);
    }
    for (interface, addresses) in &change.moving {
        let addresses = announce::ready(snapshot, router, *interface, addresses);
        router.announcer.add(*interface, addresses, now);
    }
    for Groups {
        interface,
        joined,
        left,
    } in &change.groups
    {
        router.memberships.change(*interface, joined, left, now);
    }
    for Advertising {
        interface,
        port,
        what,
    } in &change.advertising
    {
        router.advertisers.change((*interface, *port), what, now);
    }
    let interval = snapshot.config().router().announce_interval;
    router.announcer.repeat_every(interval, now);
    router.declined.clear();
    router.next_hops.adopt(snapshot, now);
    router.virtuals.adopt(snapshot.owners(), now);
    router.generation = snapshot.generation();
    waited
}

fn forget_neighbors(router: &mut Router, change: &Change) -> usize {
    let neighbors = &mut router.neighbors;
    let stations = change.stations.iter();
    let waited = stations.map(|&(interface, address)| neighbors.unpin(interface, address));
    let waited: usize = waited.sum();
    for &(interface, address) in &change.taken_over {
        neighbors.moved(interface, address);
    }
    if change.relinked.is_empty() && change.unplugged.is_empty() {
        return waited;
    }
    waited
        + neighbors.forget(|neighbor: &Neighbor| {
            let place = (neighbor.interface, neighbor.port);
            change.relinked.binary_search(&neighbor.interface).is_ok()
                || neighbor.state != NeighborState::Incomplete
                    && change.unplugged.binary_search(&place).is_ok()
        })
}

fn forget_what_is_gone(snapshot: &Snapshot, router: &mut Router, change: &Change) {
    router.claims.forget(|interface, address| {
        snapshot
            .interface(interface)
            .is_none_or(|interface| !interface.owns(address))
    });
    for interface in &change.relinked {
        if snapshot.interface(*interface).is_none() {
            router.memberships.forget(*interface);
            router.announcer.forget(*interface);
        }
    }
}

/// Call when a port's device came (back): who was heard there is forgotten, what is behind or on it is
/// announced anew, and an uplink's own addresses are claimed anew, since it may be another link. Who did not answer
/// there yet is asked again. A guest with another MAC need not say so: the announcement may spare it the question.
pub fn port_attached(
    port: PortId,
    snapshot: &Snapshot,
    (router, shard): (&mut Router, &mut Shard),
    now: Instant,
) {
    let stays = |state| matches!(state, NeighborState::Incomplete | NeighborState::Permanent);
    router
        .neighbors
        .forget(|neighbor| neighbor.port == port && !stays(neighbor.state));
    let mut ctx = Context {
        snapshot,
        router,
        shard,
        now,
        trace: &mut Silent,
        ingress: None,
    };
    for interface in snapshot.all_on(port) {
        if interface.personality {
            if interface.shared.is_none() && now >= ctx.router.claims_from {
                let claimed = interface.claimed();
                claimed.for_each(|address| ctx.router.claims.begin(interface.id, address, now));
            }
            ctx.router.memberships.report_again(interface.id, now);
            ctx.router.neighbors.ask_again(interface.id, now);
            ctx.router.next_hops.attached(interface.id, now);
        }
        announce::all(&mut ctx, interface);
        ctx.router.advertisers.attached((interface.id, port), now);
    }
    announce::guests_behind(&mut ctx, port);
    for (address, holder) in snapshot.owners().holders() {
        if holder.port == port {
            ctx.router.virtuals.doubt(address, now);
        }
    }
}

/// Counts packets that waited for neighbours that a new configuration did away with.
pub(crate) fn count_waited(shard: &mut Shard, waited: usize) {
    shard
        .drops
        .add(DropReason::NeighborUnresolved, waited as u64);
}
