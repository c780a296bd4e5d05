//! The engine, as the harness calls it: all calls into it are here.

use std::collections::BTreeMap;

use tapgate_engine::addr::PortId;
use tapgate_engine::claims::Notice;
use tapgate_engine::config::Config;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::explain::Step;
use tapgate_engine::frame::{Frame, Verdict};
use tapgate_engine::process;
use tapgate_engine::session::SessionMemory;

use tapgate_engine::shard::{NeighborView, SessionView, Shard};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

/// A configuration, compiled, and one worker's state.
pub(super) struct Engine {
    snapshot: Snapshot,
    shard: Shard,
}

impl Engine {
    pub(super) fn new(config: &Config, memory: SessionMemory, seed: u64, now: Instant) -> Self {
        let snapshot = Snapshot::build(config, None);
        let mut shard = Shard::new(&snapshot, memory, seed, now);
        shard.adopt(&snapshot, now);
        Self { snapshot, shard }
    }

    pub(super) fn adopt(&mut self, config: &Config, now: Instant) {
        self.snapshot = Snapshot::build(config, Some(&self.snapshot));
        self.shard.adopt(&self.snapshot, now);
    }

    pub(super) fn warm<'a>(&self, frames: impl Iterator<Item = &'a [u8]> + Clone) {
        self.shard.warm(frames);
    }

    pub(super) fn process(&mut self, frame: &mut Frame<'_>, from: PortId, now: Instant) -> Verdict {
        process(frame, from, &self.snapshot, &mut self.shard, now)
    }

    pub(super) fn drain(&mut self, now: Instant, send: impl FnMut(PortId, &mut Frame<'_>)) {
        self.shard.drain(&self.snapshot, now, send);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.shard.next_deadline()
    }

    pub(super) fn poll(&mut self, now: Instant) {
        self.shard.poll(&self.snapshot, now);
    }

    pub(super) fn attach(&mut self, port: PortId, now: Instant) {
        self.shard.port_attached(port, &self.snapshot, now);
    }

    pub(super) fn explain(
        &self,
        frame: &mut Frame<'_>,
        from: PortId,
        now: Instant,
    ) -> (Vec<Step>, Verdict) {
        let (steps, verdict) = self.shard.explain(frame, from, &self.snapshot, now);
        (steps.0, verdict)
    }

    pub(super) fn config(&self) -> &Config {
        self.snapshot.config()
    }

    pub(super) fn generation(&self) -> u32 {
        self.snapshot.generation()
    }

    pub(super) fn port(&self, name: &str) -> Option<PortId> {
        self.snapshot.port_id(name)
    }

    pub(super) fn port_name(&self, port: PortId) -> &str {
        self.snapshot.port_name(port)
    }

    pub(super) fn sessions(&self, most: usize, now: Instant) -> Vec<SessionView> {
        self.shard.sessions(0, most, now).0
    }

    pub(super) fn neighbors(&self, now: Instant) -> Vec<NeighborView> {
        self.shard.neighbors(now)
    }

    pub(super) fn notices(&mut self) -> Vec<Notice> {
        self.shard.take_notices()
    }

    pub(super) fn violations(&self) -> Vec<(PortId, DropReason, u64)> {
        self.shard.violations().collect()
    }

    pub(super) fn drops(&mut self) -> &mut DropCounters {
        self.shard.drops()
    }

    /// Everything counted that is not zero, by name.
    pub(super) fn counts(&mut self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (reason, count) in self.shard.drops().iter() {
            counts.insert(format!("drop {}", reason.name()), count);
        }
        for (name, count, _) in self.shard.counters() {
            counts.insert(name.to_owned(), count);
        }
        counts.retain(|_, count| *count > 0);
        counts
    }
}
