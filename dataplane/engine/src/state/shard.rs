//! One worker's state: sessions, counters, budgets, frames to send.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::destinations::Destinations;
use super::flows::Flows;
use super::fragments::Fragments;
use super::journal::Journal;
use super::ports::Share;
use super::rates::Rates;
use super::refused::Refused;
use super::session::Sessions;
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::bucket::{Bucket, Buckets};
use crate::base::counters::Counters;
use crate::base::drops::{DropCounters, DropReason};
use crate::base::time::Instant;
use crate::config::RouterSection;
use crate::wire::error::IcmpError;
use crate::wire::frame::OwnedFrame;
use crate::wire::packet::Family;

/// One worker's state. Nobody else touches it.
#[derive(Debug)]
pub struct Shard {
    pub(crate) v4: Flows<Ipv4Addr>,
    pub(crate) v6: Flows<Ipv6Addr>,
    pub(crate) fragments: Fragments,
    /// How many ICMP errors may still be sent, by class of error: so a flood of one class does not
    /// silence the others (F12).
    pub(crate) budgets: [Bucket; IcmpError::CLASSES],
    /// The same by whose packet it is about.
    pub(crate) told: [Buckets; IcmpError::CLASSES],
    /// By payer: how many sessions it opened lately.
    pub(crate) openers: Buckets,
    /// By payer: the addresses it turned to lately.
    pub(crate) destinations: Destinations,
    /// By guest's number: what it sent, and what it was sent, lately.
    pub(crate) bandwidth: [Buckets; 2],
    /// What rules with a rate let through lately.
    pub(crate) rates: Rates,
    pub(crate) drops: DropCounters,
    pub(crate) counters: Counters,
    pub(crate) outbox: Vec<Output>,
    /// Frames that are being sent by many ports, some at a time.
    pub(crate) floods: VecDeque<Flood>,
    /// By port: how many frames guests sent that they may not send.
    pub(crate) violations: BTreeMap<(PortId, DropReason), u64>,
    /// What rules have to say.
    pub(crate) journal: Journal,
    /// Who met a limit.
    pub(crate) refused: Refused,
    pub(crate) next_sweep: Instant,
    /// The generation of the snapshot it adopted last; 0: none.
    pub(crate) generation: u32,
    pub(crate) share: Share,
    pub(crate) seed: u64,
}

/// A frame of our own making on its way out.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) port: PortId,
    pub(crate) frame: OwnedFrame,
}

/// A frame of our own making that leaves by all ports of an interface, in pieces.
#[derive(Debug)]
pub(crate) struct Flood {
    pub(crate) interface: InterfaceId,
    pub(crate) to: MacAddr,
    pub(crate) frame: OwnedFrame,
    /// The next of the interface's ports.
    pub(crate) at: usize,
}

/// A family whose sessions a shard has.
pub trait Tracked: Family {
    /// This family's sessions and mappings.
    fn flows(shard: &Shard) -> &Flows<Self>;

    /// This family's sessions and mappings, to change them.
    fn flows_mut(shard: &mut Shard) -> &mut Flows<Self>;
}

impl Tracked for Ipv4Addr {
    #[inline]
    fn flows(shard: &Shard) -> &Flows<Self> {
        &shard.v4
    }

    #[inline]
    fn flows_mut(shard: &mut Shard) -> &mut Flows<Self> {
        &mut shard.v4
    }
}

impl Tracked for Ipv6Addr {
    #[inline]
    fn flows(shard: &Shard) -> &Flows<Self> {
        &shard.v6
    }

    #[inline]
    fn flows_mut(shard: &mut Shard) -> &mut Flows<Self> {
        &mut shard.v6
    }
}

impl Shard {
    /// The state of one worker over `memory`, in which nothing has happened yet.
    pub(crate) fn over(
        memory: Sessions,
        section: &RouterSection,
        share: Share,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            v4: Flows::new(memory.v4, seed, &section.timeouts, share),
            v6: Flows::new(memory.v6, seed, &section.timeouts, share),
            fragments: Fragments::new(seed.rotate_left(53)),
            budgets: [Bucket::default(); IcmpError::CLASSES],
            told: Default::default(),
            openers: Buckets::default(),
            destinations: Destinations::new(seed.rotate_left(37)),
            bandwidth: Default::default(),
            rates: Rates::default(),
            drops: DropCounters::default(),
            counters: Counters::default(),
            outbox: Vec::new(),
            floods: VecDeque::new(),
            violations: BTreeMap::new(),
            journal: Journal::default(),
            refused: Refused::default(),
            next_sweep: now,
            generation: 0,
            share,
            seed,
        }
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

    /// What is counted beside drops.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Frames that guests sent and may not send: port, reason, how many.
    pub fn violations(&self) -> impl Iterator<Item = (PortId, DropReason, u64)> + '_ {
        let list = self.violations.iter();
        list.map(|(&(port, reason), &frames)| (port, reason, frames))
    }

    /// Frames dropped by reason. The dataplane adds its own (`PortDown`, `TransmitFailed`,
    /// `FrameTruncated`).
    pub fn drops(&mut self) -> &mut DropCounters {
        &mut self.drops
    }

    /// How many sessions there are, of both families.
    pub fn sessions(&self) -> usize {
        self.v4.sessions.len() + self.v6.sessions.len()
    }

    /// Memory of sessions, their index and external ports' tables, in bytes.
    pub fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }

    /// Of these, external ports' tables, in bytes.
    pub fn port_memory(&self) -> usize {
        self.v4.ports.memory() + self.v6.ports.memory()
    }

    /// When expired sessions are looked for next or a datagram's fragments have been waited for, or at
    /// once if there is more to be sent; `None`: there are none.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.floods.is_empty() {
            return Some(Instant::default());
        }
        let idle = self.v4.sessions.is_empty() && self.v6.sessions.is_empty();
        let sweep = (!idle).then_some(self.next_sweep);
        sweep
            .into_iter()
            .chain(self.fragments.next_deadline())
            .chain(self.refused.next_deadline())
            .min()
    }

    /// Counts a dropped frame, for its port as well if a guest sent what it may not.
    #[inline]
    pub(crate) fn count_drop(&mut self, reason: DropReason, ingress: Option<PortId>) {
        self.drops.add(reason, 1);
        if reason.is_violation() {
            self.count_violation(reason, ingress);
        }
    }

    /// Counts what a guest may not send, for its port.
    #[cold]
    pub(crate) fn count_violation(&mut self, reason: DropReason, ingress: Option<PortId>) {
        if let Some(port) = ingress {
            *self.violations.entry((port, reason)).or_default() += 1;
        }
    }
}
