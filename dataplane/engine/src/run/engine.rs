//! The router with one worker: its state in one place, for whoever needs no more.

use std::collections::BTreeSet;

use super::adopt::{
    adopt_router, adopt_shard, count_waited, port_attached, start_router, start_shard,
};
use super::due;
use super::explain::{Packet, explain, explain_own};
use super::process::process;
use crate::base::addr::{InterfaceId, PortId};
use crate::base::time::Instant;
use crate::model::snapshot::{Findings, Snapshot};
use crate::model::trace::Steps;
use crate::state::claims::{ClaimState, Notice};
use crate::state::journal::Entry;
use crate::state::nexthops;
use crate::state::ports::Share;
use crate::state::refused::LimitMet;
use crate::state::router::Router;
use crate::state::session::Sessions;
use crate::state::shard::Shard;
use crate::wire::frame::{Frame, Verdict};

/// A router with one worker.
#[derive(Debug)]
pub struct Engine {
    /// What the router has once.
    pub router: Router,
    /// What its only worker has.
    pub shard: Shard,
}

impl Engine {
    /// The state at the start, with `snapshot` adopted. Sessions found in `memory` (left by an earlier
    /// dataplane of the same boot) live on. `seed` feeds hashing and random choices.
    pub fn new(snapshot: &Snapshot, memory: impl Into<Sessions>, seed: u64, now: Instant) -> Self {
        let memory = memory.into();
        Self {
            router: start_router(snapshot, memory.inherited, seed, now),
            shard: start_shard(snapshot, memory, Share::ALL, seed, now),
        }
    }

    /// Routes one frame; see [`process`].
    #[inline]
    pub fn process(
        &mut self,
        frame: &mut Frame<'_>,
        ingress: PortId,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Verdict {
        let both = (&mut self.router, &mut self.shard);
        process(frame, ingress, snapshot, both, now)
    }

    /// Call once for each newly published snapshot, before the first frame under it.
    pub fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        let waited = adopt_router(snapshot, &mut self.router, now);
        count_waited(&mut self.shard, waited);
        adopt_shard(snapshot, &mut self.shard);
    }

    /// Call when a port's device came (back); see [`port_attached`].
    pub fn port_attached(&mut self, port: PortId, snapshot: &Snapshot, now: Instant) {
        port_attached(port, snapshot, (&mut self.router, &mut self.shard), now);
    }

    /// Tells which ports are without a link, all of them.
    pub fn set_ports_down(&mut self, ports: BTreeSet<PortId>, snapshot: &Snapshot, now: Instant) {
        self.router.next_hops.set_ports_down(ports, snapshot, now);
    }

    /// What was found out and is not in a snapshot yet. Whoever asks publishes one with it
    /// ([`Snapshot::with_findings`]), or puts it back.
    pub fn take_findings(&mut self, now: Instant) -> Findings {
        let moves = self.router.virtuals.take_moves(now);
        self.shard.counters.virtual_addresses_moved += moves.len() as u64;
        Findings {
            health: self.router.next_hops.take_health(),
            moves,
        }
    }

    /// What [`Self::take_findings`] said could not be published: it will say so again.
    pub fn put_back(&mut self, findings: Findings) {
        if findings.health.is_some() {
            self.router.next_hops.put_back_health();
        }
        self.shard.counters.virtual_addresses_moved -= findings.moves.len() as u64;
        self.router.virtuals.put_back(findings.moves);
    }

    /// Which next hops came into use or went out of it, since this was asked last.
    pub fn take_next_hop_notices(&mut self) -> Vec<nexthops::Notice> {
        self.router.next_hops.take_notices()
    }

    /// Does what has become due; see [`due::poll`].
    pub fn poll(&mut self, snapshot: &Snapshot, now: Instant) {
        due::poll(snapshot, (&mut self.router, &mut self.shard), now);
    }

    /// When [`Self::poll`] must be called next at the latest; `None`: nothing is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let sweep = self.shard.next_deadline();
        self.router.next_deadline().into_iter().chain(sweep).min()
    }

    /// Hands every frame that waits to be sent to `send`; see [`due::drain`].
    pub fn drain(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
        send: impl FnMut(PortId, &mut Frame<'_>),
    ) {
        due::drain(snapshot, (&mut self.router, &mut self.shard), now, send);
    }

    /// Call when the router stops; see [`due::stop`].
    pub fn stop(&mut self, snapshot: &Snapshot, now: Instant) {
        due::stop(snapshot, (&mut self.router, &mut self.shard), now);
    }

    /// What would become of a frame; see [`explain`].
    pub fn explain(
        &self,
        frame: &mut Frame<'_>,
        ingress: PortId,
        snapshot: &Snapshot,
        now: Instant,
    ) -> (Steps, Verdict) {
        explain(frame, ingress, snapshot, (&self.router, &self.shard), now)
    }

    /// What would become of a packet of the router's own; see [`explain_own`].
    ///
    /// # Errors
    /// The router sends no such packet.
    pub fn explain_own(
        &self,
        packet: &Packet<'_>,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<(Steps, Verdict), String> {
        explain_own(packet, snapshot, (&self.router, &self.shard), now)
    }

    /// Whether there is something for [`Self::take_entries`] or [`Self::take_limits_met`].
    #[inline]
    pub fn has_news(&self) -> bool {
        !self.shard.journal.is_empty() || self.shard.refused.has_notices()
    }

    /// What rules with `log` had to say since this was asked last.
    pub fn take_entries(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.shard.journal.take()
    }

    /// Who met a limit since this was asked last, at most once a minute each.
    pub fn take_limits_met(&mut self) -> Vec<LimitMet> {
        self.shard.refused.take_notices()
    }

    /// What an operator must hear of, since it was asked last.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.router.claims.take_notices()
    }

    /// How far the claim of an own address is, if it is not settled.
    pub fn claim_state(
        &self,
        interface: InterfaceId,
        address: std::net::IpAddr,
    ) -> Option<ClaimState> {
        self.router.claims.state(interface, address)
    }
}
