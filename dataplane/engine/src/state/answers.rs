//! How often each guest's port was answered, and answers that are delayed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::addr::PortId;
use crate::base::bucket::Bucket;
use crate::base::random::Random;
use crate::base::time::Instant;
use crate::wire::frame::OwnedFrame;

/// Most answers that wait.
const DELAYED: usize = 4_096;

/// A bucket for each guest's port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered {
    by_port: Vec<Bucket>,
}

impl Answered {
    /// Whether `port` may be answered once more, at `per_second` answers a second.
    pub(crate) fn take(&mut self, port: PortId, per_second: u32, now: Instant) -> bool {
        if self.by_port.len() <= port.index() {
            self.by_port.resize(port.index() + 1, Bucket::default());
        }
        self.by_port[port.index()].take(per_second, now)
    }
}

/// Answers that are delayed.
#[derive(Debug, Clone)]
pub(crate) struct Delayed {
    waiting: BTreeMap<(Instant, u64), (PortId, OwnedFrame)>,
    next: u64,
    random: Random,
}

impl Delayed {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            random: Random::new(seed),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }

    /// Keeps an answer for a random time of at most `longest` milliseconds. `false`: too many
    /// wait, and this one is lost; whoever asked will ask again.
    pub(crate) fn keep(
        &mut self,
        port: PortId,
        frame: OwnedFrame,
        longest: u32,
        now: Instant,
    ) -> bool {
        if self.waiting.len() >= DELAYED {
            return false;
        }
        let wait = self.random.below(u64::from(longest) + 1);
        self.next += 1;
        let due = now + Duration::from_millis(wait);
        self.waiting.insert((due, self.next), (port, frame));
        true
    }

    /// The next answer whose time has come.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(PortId, OwnedFrame)> {
        let entry = self.waiting.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}
