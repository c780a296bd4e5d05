//! How many flows rules let through in a second, by rule and by whom they count against.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use super::payer::Payer;
use crate::base::bucket::Bucket;
use crate::base::time::Instant;

/// A bucket for each rule with a rate, and each guest or uplink of whose flows it let one through.
/// Rules, guests and ports are configured, so nobody chooses how many there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates(HashMap<(u64, Payer), Bucket, FixedState>);

impl Rates {
    /// Whether the rule lets through one more of `payer`'s flows, at `per_second` of them.
    pub(crate) fn take(
        &mut self,
        (rule, payer): (u64, Payer),
        per_second: u32,
        now: Instant,
    ) -> bool {
        let bucket = self.0.entry((rule, payer)).or_default();
        bucket.take(per_second, now)
    }

    /// Only what is known of this rule and payer; for trying things out.
    pub(crate) fn only(&self, key: (u64, Payer)) -> Self {
        let bucket = self.0.get(&key).map(|bucket| (key, *bucket));
        Self(bucket.into_iter().collect())
    }

    /// Forgets rules that are gone.
    pub(crate) fn keep(&mut self, rules: impl Iterator<Item = u64>) {
        if !self.0.is_empty() {
            let rules: HashSet<u64, FixedState> = rules.collect();
            self.0.retain(|(rule, _), _| rules.contains(rule));
        }
    }
}
