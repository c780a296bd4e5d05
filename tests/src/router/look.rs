//! What came out of the router, and what it says of itself.

use std::collections::{BTreeMap, VecDeque};

use tapgate_engine::addr::PortId;
use tapgate_engine::drops::DropReason;
use tapgate_engine::explain::{Line, Packet};
use tapgate_engine::frame::{Offload, OwnedFrame, Verdict};
use tapgate_engine::run::{NeighborView, SessionView, Usage};
use tapgate_engine::state::claims::Notice;
use tapgate_engine::state::journal::Entry;

use super::{Router, Sent};
use crate::packet::untag;

impl Router {
    /// What came out of `port` since it was last taken.
    pub fn take(&mut self, port: &str) -> Vec<Sent> {
        let (taken, left) = self.out.drain(..).partition(|(name, _)| name == port);
        self.out = left;
        let taken: VecDeque<(String, Sent)> = taken;
        taken.into_iter().map(|(_, sent)| sent).collect()
    }

    /// The bytes of what came out of `port` since it was last taken, without ARP.
    pub fn take_packets(&mut self, port: &str) -> Vec<Vec<u8>> {
        let packets = self.take(port).into_iter().map(|sent| sent.bytes);
        packets
            .filter(|bytes| untag(bytes).0[12..14] == [8, 0])
            .collect()
    }

    /// Everything that came out, by port, since it was last taken.
    pub fn take_all(&mut self) -> BTreeMap<String, Vec<Sent>> {
        let mut by_port: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
        for (port, sent) in self.out.drain(..) {
            by_port.entry(port).or_default().push(sent);
        }
        by_port
    }

    /// Everything that came out, in order, since it was last taken: its port and its bytes.
    pub fn sent(&mut self) -> Vec<(String, Vec<u8>)> {
        let frames = self.out.drain(..);
        frames.map(|(port, sent)| (port, sent.bytes)).collect()
    }

    /// The last that came out and was not taken yet.
    pub fn last_sent(&mut self) -> Option<(String, Vec<u8>)> {
        self.out.pop_back().map(|(port, sent)| (port, sent.bytes))
    }

    /// Nothing came out since it was last taken.
    pub fn is_silent(&self) -> bool {
        self.out.is_empty()
    }

    /// What would become of a packet of the router's own: every decision, and the verdict.
    ///
    /// # Errors
    /// The router sends no such packet.
    pub fn explain_own(&self, packet: &Packet<'_>) -> Result<(Vec<Line>, Verdict), String> {
        self.engine.explain_own(packet, self.now)
    }

    /// The sessions, up to 1,000 of them.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.engine.sessions(1_000, self.now)
    }

    /// The neighbours.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        self.engine.neighbors()
    }

    /// What an operator must hear of, since this was last asked.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.engine.notices()
    }

    /// Who met a limit since this was asked last: a guest or port, of what, and whether that is over.
    pub fn limits_met(&mut self) -> Vec<(String, DropReason, bool)> {
        self.engine.limits_met()
    }

    /// What rules with `log` had to say since this was asked last.
    pub fn entries(&mut self) -> Vec<Entry> {
        self.engine.entries()
    }

    /// What a guest of this name uses.
    pub fn usage(&self, guest: &str) -> Usage {
        self.engine.usage(guest).expect("a guest")
    }

    /// What guests sent that is not theirs: port, reason, frames.
    pub fn violations(&self) -> Vec<(PortId, DropReason, u64)> {
        self.engine.violations()
    }

    /// What would become of a frame, and why.
    pub fn explain(&mut self, port: &str, bytes: &[u8]) -> (Vec<Line>, Verdict) {
        let (bytes, vlan) = untag(bytes);
        let mut frame = OwnedFrame {
            bytes,
            vlan,
            offload: Offload::default(),
        };
        let ingress = self.port(port);
        self.engine
            .explain(&mut frame.as_frame(), ingress, self.now)
    }

    /// Everything counted that is not zero, by name.
    pub fn counts(&mut self) -> BTreeMap<String, u64> {
        self.engine.counts()
    }

    /// How many frames were dropped for `reason`.
    pub fn dropped(&mut self, reason: DropReason) -> u64 {
        self.engine.drops().get(reason)
    }
}
