//! One worker's mutable state: sessions, neighbours, budgets, counters, frames to send.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::announce::Announcer;
use crate::answers::{Bucket, Delayed};
use crate::claims::Claims;
use crate::counters::Counters;
use crate::drops::{DropCounters, DropReason};
use crate::explain::{Silent, Steps, Trace};
use crate::family::Family;
use crate::flows::Flows;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::icmp::Budget;
use crate::listener::Listener;
use crate::local::quoted_flow;
use crate::neighbor::{Event, Held, Neighbors};
use crate::owners::Guest;
use crate::process::Router;
use crate::service::Declined;
use crate::service::ra::Advertisers;
use crate::session::{Flow, Sessions};
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;
pub use crate::view::{NeighborView, SessionView};

/// A full look for expired sessions takes this many steps, one each [`SWEEP_INTERVAL`].
const SWEEP_STEPS: usize = 40;
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Records looked at when the table is full and a new session wants in.
const SWEEP_WHEN_FULL: usize = 256;

/// How long after a takeover ports may be attached that were attached before it.
const TAKEOVER: Duration = Duration::from_secs(5);

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
    /// What guests sent and may not, by port.
    pub(crate) violations: BTreeMap<(PortId, DropReason), u64>,
    pub(crate) advertisers: Advertisers,
    pub(crate) declined: Declined,
    released: VecDeque<Held>,
    pub(crate) announcer: Announcer,
    pub(crate) claims: Claims,
    pub(crate) listener: Listener,
    /// By guest's port: how much it was answered.
    pub(crate) answers: Vec<Bucket>,
    pub(crate) delayed: Delayed,
    next_sweep: Instant,
    /// The interfaces and guests of the last snapshot adopted.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) guests: Vec<Guest>,
    /// Until then nothing is claimed: an earlier dataplane had the addresses already.
    pub(crate) claims_from: Instant,
    seed: u64,
}

/// A frame of our own making on its way out.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) port: PortId,
    pub(crate) frame: OwnedFrame,
}

impl Shard {
    /// State for one worker. Sessions found in `memory` (left by an earlier dataplane of the same
    /// boot) live on. `seed` feeds hashing and random choices.
    pub fn new(snapshot: &Snapshot, memory: impl Into<Sessions>, seed: u64, now: Instant) -> Self {
        let router = snapshot.config().router();
        let memory = memory.into();
        let claims_from = match memory.inherited {
            true => now + TAKEOVER,
            false => now,
        };
        let mut shard = Self {
            v4: Flows::new(memory.v4, seed, router),
            v6: Flows::new(memory.v6, seed, router),
            neighbors: Neighbors::new(router.neighbors as usize, seed.rotate_left(23)),
            budget: Budget::new(router.icmp_errors_per_second, now),
            drops: DropCounters::default(),
            counters: Counters::default(),
            outbox: Vec::new(),
            violations: BTreeMap::new(),
            advertisers: Advertisers::new(seed.rotate_left(29)),
            declined: Declined::new(),
            released: VecDeque::new(),
            announcer: Announcer::default(),
            claims: Claims::new(seed.rotate_left(37)),
            listener: Listener::new(seed.rotate_left(41)),
            answers: Vec::new(),
            delayed: Delayed::new(seed.rotate_left(47)),
            next_sweep: now,
            interfaces: Vec::new(),
            guests: Vec::new(),
            claims_from,
            seed,
        };
        shard.counters.sessions_recovered =
            shard.v4.recover_mappings() + shard.v6.recover_mappings();
        shard.adopt(snapshot, now);
        shard
    }

    /// Brings the session memory of the flows in `frames` into the cache, so that the misses of a
    /// batch overlap. Optional; call before `process` for a batch of more than one frame.
    pub fn warm<'a>(&self, frames: impl Iterator<Item = &'a [u8]> + Clone) {
        if !self.v4.sessions.is_empty() {
            self.v4.warm(frames.clone());
        }
        if !self.v6.sessions.is_empty() {
            self.v6.warm(frames);
        }
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
        self.poll_delayed(now);
        self.poll_claims(snapshot, now);
        self.poll_announcements(snapshot, now);
        self.poll_listener(snapshot, now);
        self.send_advertisements(snapshot, now);
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
        [
            self.neighbors.next_deadline(),
            self.delayed.next_deadline(),
            self.claims.next_deadline(),
            self.announcer.next_deadline(),
            self.listener.next_deadline(),
            self.advertisers.next_deadline(),
            sweep,
        ]
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

    /// What guests sent and may not: port, reason, frames.
    pub fn violations(&self) -> impl Iterator<Item = (PortId, DropReason, u64)> + '_ {
        let list = self.violations.iter();
        list.map(|(&(port, reason), &frames)| (port, reason, frames))
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
            ingress: Some(ingress),
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
        snapshot: &Snapshot,
        held: VecDeque<Held>,
        interface: &Interface,
        to: (MacAddr, PortId),
    ) {
        for held in held {
            if held.origin.is_some() {
                self.released.push_back(held);
            } else {
                self.send(snapshot, held.frame, interface, to);
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
            IpAddr::V4(target) => self.request(snapshot, interface, target, to),
            IpAddr::V6(target) => self.neighbor_solicitation(snapshot, interface, target, to),
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
                ingress: None,
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
            violations: BTreeMap::new(),
            advertisers: self.advertisers.clone(),
            declined: self.declined.clone(),
            released: VecDeque::new(),
            announcer: Announcer::default(),
            claims: self.claims.clone(),
            listener: Listener::new(self.seed),
            answers: self.answers.clone(),
            delayed: Delayed::new(self.seed),
            next_sweep: now,
            interfaces: Vec::new(),
            guests: Vec::new(),
            claims_from: now,
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
