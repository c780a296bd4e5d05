//! The engine, as the harness calls it: all calls into it are here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tapgate_engine::addr::PortId;
use tapgate_engine::config::Config;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::explain::{Line, Packet, describe};
use tapgate_engine::frame::{Frame, Verdict};
use tapgate_engine::model::health::Outage;
use tapgate_engine::run::{
    NeighborView, SessionView, Usage, counters, neighbors, next_hops, sessions, usage,
};
use tapgate_engine::session::Sessions;
use tapgate_engine::snapshot::{Findings, Snapshot};
use tapgate_engine::state::claims::Notice;
use tapgate_engine::state::journal::Entry;
use tapgate_engine::state::payer::Payer;
use tapgate_engine::time::Instant;

use super::books::Handled;

/// A configuration, compiled, and a router with one worker.
pub(super) struct Engine {
    snapshot: Snapshot,
    engine: tapgate_engine::Engine,
}

impl Engine {
    pub(super) fn new(config: &Config, memory: Sessions, seed: u64, now: Instant) -> Self {
        let snapshot = Snapshot::build(config, None);
        let engine = tapgate_engine::Engine::new(&snapshot, memory, seed, now);
        Self { snapshot, engine }
    }

    pub(super) fn adopt(&mut self, config: &Config, now: Instant) {
        self.snapshot = Snapshot::build(config, Some(&self.snapshot));
        self.engine.adopt(&self.snapshot, now);
    }

    pub(super) fn set_outage(&mut self, at: (&str, IpAddr), outage: Option<Outage>, now: Instant) {
        let mut health = self.snapshot.health().clone();
        let interface = self.snapshot.interface_id(at.0).expect("an interface");
        health.set(interface, at.1, outage);
        let findings = Findings {
            health: Some(health),
            ..Findings::default()
        };
        self.snapshot = self.snapshot.with_findings(&findings);
        self.engine.adopt(&self.snapshot, now);
    }

    pub(super) fn warm<'a>(&self, frames: impl Iterator<Item = &'a [u8]> + Clone) {
        self.engine.shard.warm(frames);
    }

    pub(super) fn process(&mut self, frame: &mut Frame<'_>, from: PortId, now: Instant) -> Verdict {
        self.engine.process(frame, from, &self.snapshot, now)
    }

    pub(super) fn drain(&mut self, now: Instant, send: impl FnMut(PortId, &mut Frame<'_>)) {
        self.engine.drain(&self.snapshot, now, send);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.engine.next_deadline()
    }

    pub(super) fn poll(&mut self, now: Instant) {
        self.engine.poll(&self.snapshot, now);
        self.publish(now);
    }

    /// As the worker does after each batch.
    pub(super) fn publish(&mut self, now: Instant) {
        let findings = self.engine.take_findings(now);
        if !findings.is_empty() {
            self.snapshot = self.snapshot.with_findings(&findings);
            self.engine.adopt(&self.snapshot, now);
        }
    }

    /// Who holds a virtual address.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&str> {
        let owner = self.snapshot.owners().owner(address);
        owner.map(|guest| guest.name.as_str())
    }

    pub(super) fn set_ports_down(&mut self, ports: BTreeSet<PortId>, now: Instant) {
        self.engine.set_ports_down(ports, &self.snapshot, now);
        self.publish(now);
    }

    /// Next hops: interface, address, why it is out of use.
    pub(super) fn next_hops(&self) -> Vec<(String, IpAddr, Option<&'static str>)> {
        let name = |id| self.snapshot.interface_name(id).to_owned();
        next_hops(&self.engine.router)
            .into_iter()
            .map(|hop| (name(hop.interface), hop.address, hop.down))
            .collect()
    }

    pub(super) fn attach(&mut self, port: PortId, now: Instant) {
        self.engine.port_attached(port, &self.snapshot, now);
    }

    pub(super) fn explain(
        &self,
        frame: &mut Frame<'_>,
        from: PortId,
        now: Instant,
    ) -> (Vec<Line>, Verdict) {
        let (steps, verdict) = self.engine.explain(frame, from, &self.snapshot, now);
        let lines = steps.0.iter().map(|step| describe(step, &self.snapshot));
        (lines.collect(), verdict)
    }

    pub(super) fn explain_own(
        &self,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(Vec<Line>, Verdict), String> {
        let (steps, verdict) = self.engine.explain_own(packet, &self.snapshot, now)?;
        let lines = steps.0.iter().map(|step| describe(step, &self.snapshot));
        Ok((lines.collect(), verdict))
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
        sessions(&self.snapshot, &self.engine.shard, 0, most, now).0
    }

    pub(super) fn neighbors(&self) -> Vec<NeighborView> {
        neighbors(&self.engine.router)
    }

    pub(super) fn notices(&mut self) -> Vec<Notice> {
        self.engine.take_notices()
    }

    /// Who met a limit, of what, and whether that is over.
    pub(super) fn limits_met(&mut self) -> Vec<(String, DropReason, bool)> {
        let met = self.engine.take_limits_met();
        let name = |payer| match payer {
            Payer::By(guest) | Payer::To(guest) => self.snapshot.guest_name(guest).to_owned(),
            Payer::Port(port) => self.snapshot.port_name(port).to_owned(),
            Payer::Nobody => String::new(),
        };
        met.iter()
            .map(|met| (name(met.payer), met.reason, met.over))
            .collect()
    }

    /// What rules with `log` had to say.
    pub(super) fn entries(&mut self) -> Vec<Entry> {
        self.engine.take_entries().collect()
    }

    pub(super) fn usage(&self, guest: &str) -> Option<Usage> {
        let mut guests = self.snapshot.owners().guests().iter();
        let guest = guests.find(|other| other.name == guest)?;
        Some(usage(&self.engine.router, &self.engine.shard, guest))
    }

    pub(super) fn violations(&self) -> Vec<(PortId, DropReason, u64)> {
        self.engine.shard.violations().collect()
    }

    pub(super) fn drops(&mut self) -> &mut DropCounters {
        self.engine.shard.drops()
    }

    /// The counters that say what became of frames.
    pub(super) fn handled(&self) -> Handled {
        Handled::of(&counters(&self.engine.router, &self.engine.shard))
    }

    /// Everything counted that is not zero, by name.
    pub(super) fn counts(&mut self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (reason, count) in self.engine.shard.drops().iter() {
            counts.insert(format!("drop {}", reason.name()), count);
        }
        for (name, count, _) in counters(&self.engine.router, &self.engine.shard) {
            counts.insert(name.to_owned(), count);
        }
        counts.retain(|_, count| *count > 0);
        counts
    }
}
