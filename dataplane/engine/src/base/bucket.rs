//! Token buckets: so much a second, and half a second's worth at once.

use std::time::Duration;

use super::time::Instant;

/// A token bucket whose rate is told with each use, so that a configuration may change it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// Thousandths of a token that are used up.
    used: u64,
    seen: Instant,
}

impl Bucket {
    /// Takes a token if there is one. `per_second` tokens come back each second, and the bucket
    /// holds half a second's worth, at least one. At a rate of zero there is none.
    pub fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let holds = (u64::from(per_second) * 500).max(1_000);
        per_second > 0 && self.draw(1_000, (per_second.into(), holds), now)
    }

    /// Takes `amount` tokens if there are as many: `per_second` come back each second, and the bucket
    /// holds `holds`.
    pub fn take_some(
        &mut self,
        amount: u64,
        (per_second, holds): (u64, u64),
        now: Instant,
    ) -> bool {
        self.draw(amount * 1_000, (per_second, holds * 1_000), now)
    }

    /// Puts `amount` tokens back.
    pub fn give_back(&mut self, amount: u64) {
        self.used = self.used.saturating_sub(amount * 1_000);
    }

    /// Takes `amount` tokens that there may not be.
    pub fn overdraw(&mut self, amount: u64) {
        self.used += amount * 1_000;
    }

    /// In thousandths of a token, but for what comes back.
    fn draw(&mut self, amount: u64, (per_second, holds): (u64, u64), now: Instant) -> bool {
        let passed: Duration = now.since(self.seen);
        self.seen = now;
        let back = (passed.as_millis() as u64).saturating_mul(per_second);
        self.used = self.used.saturating_sub(back);
        let enough = self.used + amount <= holds;
        if enough {
            self.used += amount;
        }
        enough
    }
}

/// A bucket for each of many, by number.
#[derive(Debug, Clone, Default)]
pub struct Buckets(Vec<Bucket>);

impl Buckets {
    /// As [`Bucket::take`], from the bucket of `who`.
    pub fn take(&mut self, who: usize, per_second: u32, now: Instant) -> bool {
        self.of(who).take(per_second, now)
    }

    /// The bucket of `who`.
    pub fn of(&mut self, who: usize) -> &mut Bucket {
        if self.0.len() <= who {
            self.0.resize(who + 1, Bucket::default());
        }
        &mut self.0[who]
    }

    /// The bucket of `who` alone; for trying things out.
    #[must_use]
    pub fn only(&self, who: usize) -> Self {
        let bucket = self.0.get(who).copied().unwrap_or_default();
        let mut only = vec![Bucket::default(); who];
        only.push(bucket);
        Self(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_second_at_once_and_the_rate_after_that() {
        let mut bucket = Bucket::default();
        let mut taken = |now| (0..1_000).filter(|_| bucket.take(10, Instant(now))).count();
        assert_eq!(taken(0), 5);
        assert_eq!(taken(99), 0);
        assert_eq!(taken(100), 1);
        assert_eq!(taken(1_000_000), 5, "no more than fits is saved up");
    }

    #[test]
    fn a_slow_bucket_holds_one_and_a_stopped_one_none() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(1, Instant(0)));
        assert!(!bucket.take(1, Instant(999)));
        assert!(bucket.take(1, Instant(2_000)));
        assert!(!bucket.take(0, Instant(1_000_000)));
    }
}
