//! Answers that are delayed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::addr::PortId;
use crate::base::random::Random;
use crate::base::shares::Shares;
use crate::base::time::Instant;
use crate::wire::frame::OwnedFrame;

/// Most answers that wait.
const DELAYED: u32 = 4_096;

/// Answers that are delayed.
#[derive(Debug, Clone)]
pub(crate) struct Delayed {
    waiting: BTreeMap<(Instant, u64), (PortId, OwnedFrame)>,
    /// How many wait, by port.
    shares: Shares,
    next: u64,
    random: Random,
}

impl Delayed {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            waiting: BTreeMap::new(),
            shares: Shares::new(DELAYED),
            next: 0,
            random: Random::new(seed),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }

    /// Keeps an answer for a random time of at most `longest` milliseconds. `false`: the port has
    /// its share of all that may wait, and this one is lost; whoever asked will ask again.
    pub(crate) fn keep(
        &mut self,
        port: PortId,
        frame: OwnedFrame,
        longest: u32,
        now: Instant,
    ) -> bool {
        if !self.shares.may_take(port.index(), 1) {
            return false;
        }
        self.shares.take(port.index(), 1);
        let wait = self.random.below(u64::from(longest) + 1);
        self.next += 1;
        let due = now + Duration::from_millis(wait);
        self.waiting.insert((due, self.next), (port, frame));
        true
    }

    /// The next answer whose time has come.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(PortId, OwnedFrame)> {
        let entry = self.waiting.first_entry()?;
        let due = (entry.key().0 <= now).then(|| entry.remove())?;
        self.shares.give_back(due.0.index(), 1);
        Some(due)
    }
}
