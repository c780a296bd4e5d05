//! One worker's mutable state: sessions, neighbours, budgets, counters, frames to send.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::counters::Counters;
use crate::drops::{DropCounters, DropReason};
use crate::explain::{Silent, Steps, Trace};
use crate::family::Family;
use crate::flows::Flows;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::icmp::Budget;
use crate::local::quoted_flow;
use crate::neighbor::{Event, Held, Neighbors};
use crate::process::Router;
use crate::session::{Flow, Sessions};
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;
pub use crate::view::{NeighborView, SessionView};

/// Announcements of an address after a start or a change, and the time between them (RFC 5227 §3:
/// ANNOUNCE_NUM 2, ANNOUNCE_INTERVAL 2 s; one more, and closer, for peers that lose the first).
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// A full look for expired sessions takes this many steps, one each [`SWEEP_INTERVAL`].
const SWEEP_STEPS: usize = 40;
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Records looked at when the table is full and a new session wants in.
const SWEEP_WHEN_FULL: usize = 256;

/// One worker's state. Nobody else touches it.
#[derive(Debug)]
pub struct Shard {
    pub(crate) v4: Flows<Ipv4Addr>,
    pub(crate) v6: Flows<Ipv6Addr>,
    pub(crate) neighbors: Neighbors,
    pub(crate) budget: Budget,
    pub(crate) drops: DropCounters,
    pub(crate) counters: Counters,
    pub(crate) outbox: Vec<Output>,
    released: VecDeque<Held>,
    announcements: Vec<Announcement>,
    next_sweep: Instant,
    /// The interfaces of the last snapshot adopted.
    interfaces: Vec<Interface>,
    seed: u64,
}

/// A frame of our own making on its way out.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) port: PortId,
    pub(crate) frame: OwnedFrame,
}

#[derive(Debug)]
struct Announcement {
    due: Instant,
    interface: InterfaceId,
    left: u8,
}

impl Shard {
    /// State for one worker. Sessions found in `memory` (left by an earlier dataplane of the same
    /// boot) live on. `seed` feeds hashing and random choices.
    pub fn new(snapshot: &Snapshot, memory: impl Into<Sessions>, seed: u64, now: Instant) -> Self {
        let router = snapshot.config().router();
        let memory = memory.into();
        let mut shard = Self {
            v4: Flows::new(memory.v4, seed, router),
            v6: Flows::new(memory.v6, seed, router),
            neighbors: Neighbors::new(router.neighbors as usize, seed.rotate_left(23)),
            budget: Budget::new(router.icmp_errors_per_second, now),
            drops: DropCounters::default(),
            counters: Counters::default(),
            outbox: Vec::new(),
            released: VecDeque::new(),
            announcements: Vec::new(),
            next_sweep: now,
            interfaces: Vec::new(),
            seed,
        };
        shard.counters.sessions_recovered =
            shard.v4.recover_mappings() + shard.v6.recover_mappings();
        shard.adopt(snapshot, now);
        shard
    }

    /// Call once for each newly published snapshot, before the first frame under it: announces
    /// addresses that are new, drops neighbours and sessions of interfaces that are gone.
    pub fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        let router = snapshot.config().router();
        self.v4.sessions.set_timeouts(&router.timeouts);
        self.v6.sessions.set_timeouts(&router.timeouts);
        self.budget.set_rate(router.icmp_errors_per_second);
        let old = std::mem::take(&mut self.interfaces);
        let same = |interface: &Interface| {
            snapshot.interface(interface.id).is_some_and(|new| {
                (&new.name, new.mac, new.vlan, &new.ports)
                    == (
                        &interface.name,
                        interface.mac,
                        interface.vlan,
                        &interface.ports,
                    )
            })
        };
        let changed: Vec<InterfaceId> = old
            .iter()
            .filter(|interface| !same(interface))
            .map(|interface| interface.id)
            .collect();
        if !changed.is_empty() {
            let waited = self
                .neighbors
                .forget(|neighbor| changed.contains(&neighbor.interface));
            self.drops
                .add(DropReason::NeighborUnresolved, waited as u64);
        }
        let renamed = |interface: &Interface| {
            snapshot
                .interface(interface.id)
                .is_none_or(|new| new.name != interface.name)
        };
        let gone: Vec<InterfaceId> = old
            .iter()
            .filter(|interface| renamed(interface))
            .map(|interface| interface.id)
            .collect();
        if !gone.is_empty() {
            self.counters.sessions_revoked +=
                self.v4.end_those_of(&gone) + self.v6.end_those_of(&gone);
        }
        for interface in snapshot.interfaces() {
            if !old.contains(interface) {
                self.schedule_announcements(interface.id, now);
            }
        }
        self.interfaces = snapshot.interfaces().cloned().collect();
    }

    /// Call when a port's device came (back): addresses on it are announced anew.
    pub fn port_attached(&mut self, port: PortId, snapshot: &Snapshot, now: Instant) {
        for interface in snapshot
            .interfaces()
            .filter(|interface| interface.ports.contains(&port))
        {
            self.schedule_announcements(interface.id, now);
        }
    }

    /// Brings the session memory of the flows in `frames` into the cache, so that the misses of a
    /// batch overlap. Optional; call before `process` for a batch of more than one frame.
    pub fn warm<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) {
        let mut hashes = [0; 64];
        let mut count = 0;
        for (hash, bytes) in hashes.iter_mut().zip(frames) {
            *hash = crate::packet::flow_hint(bytes).map_or(0, |flow| self.v4.sessions.hash(&flow));
            count += 1;
        }
        let mut numbers = [None; 64];
        for (number, hash) in numbers.iter_mut().zip(&hashes[..count]) {
            *number = self.v4.sessions.candidate(*hash);
        }
        let touched = numbers[..count]
            .iter()
            .flatten()
            .fold(0, |sum: u32, number| {
                sum.wrapping_add(self.v4.sessions.touch(*number))
            });
        std::hint::black_box(touched);
    }

    /// Does what has become due: retransmissions, announcements, expiry. Frames go to the outbox.
    pub fn poll(&mut self, snapshot: &Snapshot, now: Instant) {
        while let Some(event) = self.neighbors.poll(now) {
            match event {
                Event::Solicit {
                    interface,
                    target,
                    to,
                } => self.solicit(snapshot, interface, target, to),
                Event::Failed { held, .. } => self.give_up(snapshot, held, now),
            }
        }
        self.send_announcements(snapshot, now);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            let share = |used: usize| used.div_ceil(SWEEP_STEPS);
            self.counters.sessions_expired += self.v4.sweep(share(self.v4.sessions.used()), now)
                + self.v6.sweep(share(self.v6.sessions.used()), now);
        }
    }

    /// When [`Shard::poll`] must be called next at the latest; `None`: nothing is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let idle = self.v4.sessions.is_empty() && self.v6.sessions.is_empty();
        let sweep = (!idle).then_some(self.next_sweep);
        let announcement = self
            .announcements
            .iter()
            .map(|announcement| announcement.due)
            .min();
        [self.neighbors.next_deadline(), announcement, sweep]
            .into_iter()
            .flatten()
            .min()
    }

    /// Hands every frame of the outbox to `send` and empties it, packets released by a resolved
    /// neighbour among them. Call after each batch and each [`Shard::poll`].
    pub fn drain(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
        mut send: impl FnMut(PortId, &mut Frame<'_>),
    ) {
        if self.neighbors.next_deadline() == Some(Instant::default()) {
            self.poll(snapshot, now);
        }
        while let Some(Held { mut frame, origin }) = self.released.pop_front() {
            let Some(origin) = origin else { continue };
            let mut view = frame.as_frame();
            let verdict = crate::process(&mut view, origin, snapshot, self, now);
            if let Verdict::Emit(port) = verdict {
                self.counters.packets_released += 1;
                send(port, &mut view);
            }
        }
        for Output { port, frame } in &mut self.outbox {
            send(*port, &mut frame.as_frame());
        }
        self.outbox.clear();
    }

    /// Frames dropped by reason. The dataplane adds its own (`PortDown`, `TransmitFailed`,
    /// `FrameTruncated`).
    pub fn drops(&mut self) -> &mut DropCounters {
        &mut self.drops
    }

    /// Counters other than drops, and levels: name, value, what it counts.
    pub fn counters(&self) -> Vec<(&'static str, u64, &'static str)> {
        let mut list = self.counters.list();
        list.extend([
            (
                "sessions",
                (self.v4.sessions.len() + self.v6.sessions.len()) as u64,
                "Sessions now.",
            ),
            (
                "sessions_capacity",
                self.v4.sessions.capacity() as u64,
                "Sessions that fit, of each family.",
            ),
            (
                "nat_ports_held",
                self.v4.nat.held() as u64,
                "External ports in use now.",
            ),
            (
                "neighbors",
                self.neighbors.iter().count() as u64,
                "Neighbours known or asked for now.",
            ),
            (
                "session_memory_bytes",
                self.memory() as u64,
                "Memory of sessions, their index and NAT's port tables.",
            ),
        ]);
        list
    }

    /// Memory of sessions, their index and NAT's port tables, in bytes.
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }

    /// At most `most` sessions from `cursor` on, and the cursor to go on with.
    pub fn sessions(
        &self,
        cursor: u64,
        most: usize,
        now: Instant,
    ) -> (Vec<SessionView>, Option<u64>) {
        // The high half of the cursor tells the family.
        if cursor >> 32 == 0 {
            let (mut views, next) = self.v4.view(cursor as u32, most, now);
            if let Some(next) = next {
                return (views, Some(u64::from(next)));
            }
            let (more, next) = self.v6.view(0, most - views.len(), now);
            views.extend(more);
            return (views, next.map(|next| 1 << 32 | u64::from(next)));
        }
        let (views, next) = self.v6.view(cursor as u32, most, now);
        (views, next.map(|next| 1 << 32 | u64::from(next)))
    }

    /// All neighbours.
    pub fn neighbors(&self, _now: Instant) -> Vec<NeighborView> {
        let view = |neighbor: &crate::neighbor::Neighbor| {
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
        self.neighbors.iter().map(view).collect()
    }

    /// What would become of `frame`: runs the real `process` on a copy of the state concerned.
    pub fn explain(
        &self,
        frame: &mut Frame<'_>,
        ingress: PortId,
        snapshot: &Snapshot,
        now: Instant,
    ) -> (Steps, Verdict) {
        let mut copy = self.excerpt(frame, snapshot, now);
        let mut steps = Steps::default();
        let verdict = Router {
            snapshot,
            shard: &mut copy,
            now,
            trace: &mut steps,
        }
        .run(frame, ingress);
        if let Verdict::Drop(reason) = verdict {
            steps.step("drop", || {
                format!("{}: {}", reason.name(), reason.explanation())
            });
        }
        (steps, verdict)
    }

    /// What waited for a neighbour that is now known goes on its way.
    pub(crate) fn release(
        &mut self,
        held: VecDeque<Held>,
        interface: &Interface,
        to: (MacAddr, PortId),
    ) {
        for held in held {
            if held.origin.is_some() {
                self.released.push_back(held);
            } else {
                self.send(held.frame, interface, to);
            }
        }
    }

    /// Ends a session and gives its external port back.
    pub(crate) fn end<A: Family>(&mut self, number: u32) {
        A::flows_mut(self).end(number);
    }

    /// Makes room in a full session table if something in it has expired.
    pub(crate) fn make_room<A: Family>(&mut self, now: Instant) {
        let flows = A::flows_mut(self);
        if flows.sessions.len() == flows.sessions.capacity() {
            let ended = flows.sweep(SWEEP_WHEN_FULL, now);
            self.counters.sessions_expired += ended;
        }
    }

    fn schedule_announcements(&mut self, interface: InterfaceId, now: Instant) {
        self.announcements
            .retain(|announcement| announcement.interface != interface);
        self.announcements.push(Announcement {
            due: now,
            interface,
            left: ANNOUNCEMENTS,
        });
    }

    fn send_announcements(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut announcements = std::mem::take(&mut self.announcements);
        for announcement in announcements
            .iter_mut()
            .filter(|announcement| announcement.due <= now)
        {
            let Some(interface) = snapshot.interface(announcement.interface) else {
                announcement.left = 0;
                continue;
            };
            announcement.left -= 1;
            announcement.due = now + ANNOUNCEMENT_INTERVAL;
            for prefix in &interface.addresses {
                if let IpAddr::V4(address) = prefix.addr() {
                    self.announce(interface, address);
                }
            }
        }
        announcements.retain(|announcement| announcement.left > 0);
        self.announcements = announcements;
    }

    fn solicit(
        &mut self,
        snapshot: &Snapshot,
        interface: InterfaceId,
        target: IpAddr,
        to: Option<(MacAddr, PortId)>,
    ) {
        let Some(interface) = snapshot.interface(interface) else {
            return;
        };
        match target {
            IpAddr::V4(target) => self.request(interface, target, to),
            IpAddr::V6(target) => self.neighbor_solicitation(interface, target, to),
        }
    }

    /// A next hop does not answer: the senders of what waited are told "host unreachable" (F05).
    fn give_up(&mut self, snapshot: &Snapshot, held: VecDeque<Held>, now: Instant) {
        for Held { mut frame, origin } in held {
            self.drops.add(DropReason::NeighborUnresolved, 1);
            let Some(origin) = origin else { continue };
            let mut router = Router {
                snapshot,
                shard: self,
                now,
                trace: &mut Silent,
            };
            router.tell_unreachable(&frame.as_frame(), origin);
        }
    }

    /// A copy of what one frame can touch: its session if there is one, the NAT pools it could
    /// draw from, all neighbours.
    fn excerpt(&self, frame: &Frame<'_>, snapshot: &Snapshot, now: Instant) -> Self {
        let router = snapshot.config().router();
        Self {
            v4: excerpt(&self.v4, frame, snapshot, self.seed),
            v6: excerpt(&self.v6, frame, snapshot, self.seed),
            neighbors: self.neighbors.clone(),
            budget: Budget::new(router.icmp_errors_per_second, now),
            drops: DropCounters::default(),
            counters: Counters::default(),
            outbox: Vec::new(),
            released: VecDeque::new(),
            announcements: Vec::new(),
            next_sweep: now,
            interfaces: Vec::new(),
            seed: self.seed,
        }
    }
}

fn excerpt<A: Family>(
    flows: &Flows<A>,
    frame: &Frame<'_>,
    snapshot: &Snapshot,
    seed: u64,
) -> Flows<A> {
    let packet = A::parse(frame).ok();
    let number = packet.and_then(|packet| {
        let quoted = quoted_flow(frame.bytes, &packet).map(Flow::reversed);
        flows.sessions.find(&quoted.unwrap_or(packet.flow))
    });
    let externals: Vec<A> = packet
        .iter()
        .flat_map(|packet| {
            let source = packet.flow.source.into();
            snapshot
                .snat
                .iter()
                .filter(move |snat| snat.from.contains(&source))
        })
        .filter_map(|snat| A::from_ip(snat.to))
        .collect();
    flows.excerpt(
        number.map(|(number, _)| number),
        &externals,
        seed,
        snapshot.config().router(),
    )
}
