//! Sessions, neighbours and counters as people see them.

use std::net::IpAddr;

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::base::time::{Instant, Ticks};
use crate::config::policy::Origin;
use crate::model::health::Outage;
use crate::model::owners::Guest;
use crate::model::snapshot::Snapshot;
use crate::state::neighbor::Neighbor;
use crate::state::payer::Payer;
use crate::state::router::Router;
use crate::state::session::Ledger;
use crate::state::shard::{Shard, Tracked};
use crate::wire::flow::Direction;

/// A session, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `tapgate show sessions`
pub struct SessionView {
    pub protocol: u8,
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    /// The source as the destination sees it, when translated.
    pub translated: Option<(IpAddr, u16)>,
    pub iif: InterfaceId,
    pub oif: InterfaceId,
    pub state: &'static str,
    /// The rule of the policy that let it in; `None`: none did, or it was not judged since the last
    /// change.
    pub rule: Option<Origin>,
    /// Its mark; 0 is none.
    pub mark: u32,
    /// Packets and bytes from the opener.
    pub forward: (u64, u64),
    /// Packets and bytes back to it.
    pub reply: (u64, u64),
    pub expires: Instant,
}

/// A neighbour, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `tapgate show neighbors`
pub struct NeighborView {
    pub address: IpAddr,
    pub interface: InterfaceId,
    pub port: Option<PortId>,
    pub mac: Option<MacAddr>,
    pub state: &'static str,
    pub confirmed: Instant,
    pub held: usize,
}

/// A next hop of routes, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // what `tapgate show routes` tells of it
pub struct NextHopView {
    pub interface: InterfaceId,
    pub address: IpAddr,
    /// Why it is out of use; `None`: it is in use.
    pub down: Option<&'static str>,
    /// Since when it has been in or out of use.
    pub since: Instant,
    /// How often that has changed.
    pub changes: u32,
}

/// What a guest uses, and could use now: how many, and how many at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Sessions that it opened, of both families.
    pub opened: (u32, u32),
    /// Sessions that were opened to it and that it answered, of both families.
    pub served: (u32, u32),
    /// External ports of the address and protocol of which it has most.
    pub ports: (u32, u32),
    /// Neighbours behind its port, or asked for on behalf of it.
    pub neighbors: (u32, u32),
    /// Packets for which it had no more, by reason.
    pub refused: Vec<(DropReason, u64)>,
}

/// What a guest uses.
pub fn usage(router: &Router, shard: &Shard, guest: &Guest) -> Usage {
    let sessions = |payer: Payer| {
        let who = payer.index();
        let [v4, v6] = [shard.v4.sessions.ledger(), shard.v6.sessions.ledger()].map(Ledger::shares);
        let shared = v4.most(who) + v6.most(who);
        let most = guest.limits.sessions.map_or(shared, |each| 2 * each);
        (v4.used(who) + v6.used(who), most)
    };
    let (by, to) = (Payer::By(guest.number), Payer::To(guest.number));
    let ports = [shard.v4.ports.most_held(by), shard.v6.ports.most_held(by)];
    let (held, shared) = ports.into_iter().flatten().max().unwrap_or_default();
    Usage {
        opened: sessions(by),
        served: sessions(to),
        ports: (held, guest.limits.ports.unwrap_or(shared)),
        neighbors: router.neighbors.share(guest.port),
        refused: shard.refused.of(by).chain(shard.refused.of(to)).collect(),
    }
}

/// All next hops of routes.
pub fn next_hops(router: &Router) -> Vec<NextHopView> {
    let all = router.next_hops.iter();
    all.map(|((interface, address), hop)| NextHopView {
        interface,
        address,
        down: hop.down.map(Outage::name),
        since: hop.since,
        changes: hop.changes,
    })
    .collect()
}

/// All neighbours.
pub fn neighbors(router: &Router) -> Vec<NeighborView> {
    let view = |neighbor: &Neighbor| {
        let known = neighbor.mac != MacAddr::ZERO;
        NeighborView {
            address: neighbor.address,
            interface: neighbor.interface,
            port: known.then_some(neighbor.port),
            mac: known.then_some(neighbor.mac),
            state: neighbor.state.name(),
            confirmed: neighbor.confirmed,
            held: neighbor.held.len(),
        }
    };
    router.neighbors.iter().map(view).collect()
}

/// At most `most` of a worker's sessions from `cursor` on, and the cursor to go on with.
pub fn sessions(
    snapshot: &Snapshot,
    shard: &Shard,
    cursor: u64,
    most: usize,
    now: Instant,
) -> (Vec<SessionView>, Option<u64>) {
    type V4 = std::net::Ipv4Addr;
    type V6 = std::net::Ipv6Addr;
    // The high half of the cursor tells the family.
    if cursor >> 32 == 0 {
        let (mut views, next) = of_family::<V4>(snapshot, shard, cursor as u32, most, now);
        if let Some(next) = next {
            return (views, Some(u64::from(next)));
        }
        let (more, next) = of_family::<V6>(snapshot, shard, 0, most - views.len(), now);
        views.extend(more);
        return (views, next.map(|next| 1 << 32 | u64::from(next)));
    }
    let (views, next) = of_family::<V6>(snapshot, shard, cursor as u32, most, now);
    (views, next.map(|next| 1 << 32 | u64::from(next)))
}

fn of_family<A: Tracked>(
    snapshot: &Snapshot,
    shard: &Shard,
    from: u32,
    most: usize,
    now: Instant,
) -> (Vec<SessionView>, Option<u32>) {
    let sessions = &A::flows(shard).sessions;
    let mut views = Vec::new();
    for (number, record) in sessions.iter_from(from) {
        if views.len() == most {
            return (views, Some(number));
        }
        if sessions.is_expired(record, Ticks::from(now)) {
            continue;
        }
        let (inside, outside) = (record.inside(), record.outside());
        let detail = sessions.detail(number);
        let is_judged = record.generation == snapshot.generation();
        let rule = |place| snapshot.policy().ruling(place).map(|ruling| ruling.origin);
        let interface = |direction| {
            record
                .path(direction)
                .map_or(InterfaceId(u16::MAX), |path| path.interface)
        };
        views.push(SessionView {
            protocol: inside.protocol,
            source: (inside.source.into(), inside.source_port),
            destination: (inside.destination.into(), inside.destination_port),
            translated: record
                .source_rewritten()
                .then_some((outside.source.into(), outside.source_port)),
            iif: interface(Direction::Reply),
            oif: interface(Direction::Forward),
            state: record.state(),
            rule: is_judged.then(|| rule(detail.rule()?)).flatten(),
            mark: detail.mark(),
            forward: record.traffic(detail, Direction::Forward),
            reply: record.traffic(detail, Direction::Reply),
            expires: sessions.expires(record),
        });
    }
    (views, None)
}

/// Counters other than drops, and levels: name, value, what it counts.
pub fn counters(router: &Router, shard: &Shard) -> Vec<(&'static str, u64, &'static str)> {
    let mut list = shard.counters.list();
    list.extend([
        (
            "sessions",
            (shard.v4.sessions.len() + shard.v6.sessions.len()) as u64,
            "Sessions now.",
        ),
        (
            "sessions_capacity",
            shard.v4.sessions.capacity() as u64,
            "Sessions that fit, of each family.",
        ),
        (
            "tcp_segments_ignored",
            shard.v4.sessions.ignored() + shard.v6.sessions.ignored(),
            "RST and SYN segments for established connections that had wrong numbers: sent on, and the session stays as it is.",
        ),
        (
            "nat_ports_held",
            (shard.v4.ports.held() + shard.v6.ports.held()) as u64,
            "External ports in use now.",
        ),
        (
            "datagrams_under_way",
            shard.fragments.len() as u64,
            "Datagrams in fragments of which some are still to come, or which are refused.",
        ),
        (
            "fragment_memory_bytes",
            shard.fragments.memory().into(),
            "Memory of these datagrams and of fragments that wait, about.",
        ),
        (
            "neighbors",
            router.neighbors.iter().count() as u64,
            "Neighbours known or asked for now.",
        ),
        (
            "session_memory_bytes",
            shard.memory() as u64,
            "Memory of sessions, their index and NAT's port tables.",
        ),
    ]);
    list
}
