//! Ports that were freed a short while ago: they rest before somebody else gets them, so that what is
//! still under way to the one before does not reach the next (RFC 6888 REQ-8, T17).
//!
//! Time goes in periods of [`REST`]. A port rests for the rest of the period in which it was freed and
//! for the next one: 120 to 240 s, at the cost of two bits a port.

use std::time::Duration;

use crate::base::time::Instant;

/// How long a freed port rests at least (RFC 6888 REQ-8).
const REST: Duration = Duration::from_secs(120);

/// A span of [`REST`], by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Period(u64);

impl Period {
    /// The one that `now` is in.
    pub(super) fn of(now: Instant) -> Self {
        Self(now.as_millis() / REST.as_millis() as u64)
    }
}

/// Which resting ports are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// All.
    Full,
    /// Those that were freed in this period: nothing else is left.
    Little,
    /// None: nothing else is left.
    None,
}

impl Patience {
    /// In this order it is lost, so that those that rested longest are taken first. Where no port
    /// rests there is nothing to be lost.
    pub(super) fn left(cooling: &Cooling, now: Period) -> &'static [Self] {
        match now.0.saturating_sub(cooling.period.0) {
            0 | 1 => &[Self::Full, Self::Little, Self::None],
            _ => &[Self::Full],
        }
    }
}

/// The resting ports of a pool, a bit each.
#[derive(Debug, Clone)]
pub(super) struct Cooling {
    /// The last period in which a port was freed.
    period: Period,
    /// Freed in it.
    recent: Box<[u64]>,
    /// Freed in the one before.
    older: Box<[u64]>,
}

impl Cooling {
    /// None of `ports` ports rests.
    pub(super) fn new(ports: usize) -> Self {
        Self {
            period: Period::default(),
            recent: vec![0; ports / 64].into(),
            older: vec![0; ports / 64].into(),
        }
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.recent) + size_of_val(&*self.older)
    }

    /// A port was freed.
    pub(super) fn rest(&mut self, port: u16, now: Period) {
        match now.0.saturating_sub(self.period.0) {
            0 => {}
            1 => {
                std::mem::swap(&mut self.recent, &mut self.older);
                self.recent.fill(0);
            }
            _ => {
                self.recent.fill(0);
                self.older.fill(0);
            }
        }
        self.period = now;
        self.recent[port as usize / 64] |= 1 << (port % 64);
    }

    /// The ports among 64 that begin at 64 times `word` which rest too shortly to be taken.
    pub(super) fn resting(&self, word: usize, now: Period, patience: Patience) -> u64 {
        match (patience, now.0.saturating_sub(self.period.0)) {
            (Patience::Full, 0) => self.recent[word] | self.older[word],
            (Patience::Full, 1) | (Patience::Little, 0) => self.recent[word],
            _ => 0,
        }
    }
}
