//! One worker's mutable state: sessions, neighbours, budgets, counters, frames to send.

use std::net::IpAddr;

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::drops::DropCounters;
use crate::explain::Steps;
use crate::frame::{Frame, Verdict};
use crate::session::SessionMemory;
use crate::snapshot::Snapshot;
use crate::time::Instant;

/// One worker's state. Nobody else touches it.
#[derive(Debug)]
pub struct Shard {}

impl Shard {
    /// State for one worker. Sessions found in `memory` (left by an earlier dataplane of the same
    /// boot) live on. `seed` feeds hashing and random choices.
    pub fn new(_snapshot: &Snapshot, _memory: SessionMemory, _seed: u64, _now: Instant) -> Self {
        todo!()
    }

    /// Call once for each newly published snapshot, before the first frame under it: announces
    /// our addresses, drops neighbours of interfaces that are gone.
    pub fn adopt(&mut self, _snapshot: &Snapshot, _now: Instant) {
        todo!()
    }

    /// Call when a port's device came (back): addresses on it are announced anew.
    pub fn port_attached(&mut self, _port: PortId, _snapshot: &Snapshot, _now: Instant) {
        todo!()
    }

    /// Brings the session memory of the flows in `frames` into the cache, so that the misses of a
    /// batch overlap. Optional; call before `process` for a batch of more than one frame.
    pub fn warm<'a>(&self, _frames: impl Iterator<Item = &'a [u8]>) {
        todo!()
    }

    /// Does what has become due: retransmissions, announcements, expiry. Frames go to the outbox.
    pub fn poll(&mut self, _snapshot: &Snapshot, _now: Instant) {
        todo!()
    }

    /// When [`Shard::poll`] must be called next at the latest; `None`: nothing is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Hands every frame of the outbox to `send` and empties it, packets released by a resolved
    /// neighbour among them. Call after each batch and each [`Shard::poll`].
    pub fn drain(
        &mut self,
        _snapshot: &Snapshot,
        _now: Instant,
        _send: impl FnMut(PortId, &mut Frame<'_>),
    ) {
        todo!()
    }

    /// Frames dropped by reason. The dataplane adds its own (`PortDown`, `TransmitFailed`,
    /// `FrameTruncated`).
    pub fn drops(&mut self) -> &mut DropCounters {
        todo!()
    }

    /// Counters other than drops: name, value, what it counts.
    pub fn counters(&self) -> Vec<(&'static str, u64, &'static str)> {
        todo!()
    }

    /// At most `most` sessions from `cursor` on, and the cursor to go on with.
    pub fn sessions(
        &self,
        _cursor: u64,
        _most: usize,
        _now: Instant,
    ) -> (Vec<SessionView>, Option<u64>) {
        todo!()
    }

    /// All neighbours.
    pub fn neighbors(&self, _now: Instant) -> Vec<NeighborView> {
        todo!()
    }

    /// What would become of `frame`: runs the real `process` on a copy of the state concerned.
    pub fn explain(
        &self,
        _frame: &mut Frame<'_>,
        _ingress: PortId,
        _snapshot: &Snapshot,
        _now: Instant,
    ) -> (Steps, Verdict) {
        todo!()
    }
}

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
