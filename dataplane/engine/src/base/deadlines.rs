//! A queue of deadlines: keys, each with the time at which it is due.

use std::collections::{BTreeMap, BTreeSet};

use super::time::Instant;

/// Keys with a time each, the earliest first.
#[derive(Debug, Clone)]
pub struct Deadlines<K> {
    order: BTreeSet<(Instant, K)>,
    due: BTreeMap<K, Instant>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            due: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// `key` is due at `due`, instead of when it was due before.
    pub fn set(&mut self, key: K, due: Instant) {
        if let Some(old) = self.due.insert(key, due) {
            if old == due {
                return;
            }
            self.order.remove(&(old, key));
        }
        self.order.insert((due, key));
    }

    /// `key` waits for nothing any more.
    pub fn clear(&mut self, key: K) {
        if let Some(old) = self.due.remove(&key) {
            self.order.remove(&(old, key));
        }
    }

    /// When `key` is due, if it is.
    pub fn get(&self, key: K) -> Option<Instant> {
        self.due.get(&key).copied()
    }

    /// All that are due some time.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.due.keys().copied()
    }

    /// When the next one is due.
    #[inline]
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes the next key that is due by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let &(due, key) = self.order.first()?;
        if due > now {
            return None;
        }
        self.order.pop_first();
        self.due.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_time_and_the_earliest_comes_first() {
        let mut deadlines = Deadlines::default();
        deadlines.set("a", Instant(30));
        deadlines.set("b", Instant(20));
        deadlines.set("a", Instant(10));
        deadlines.set("c", Instant(25));
        assert_eq!(deadlines.next(), Some(Instant(10)));
        assert_eq!(deadlines.pop(Instant(9)), None);
        assert_eq!(deadlines.pop(Instant(10)), Some("a"));
        deadlines.clear("b");
        assert_eq!(deadlines.get("b"), None);
        assert_eq!(deadlines.pop(Instant(99)), Some("c"));
        assert_eq!(deadlines.pop(Instant(99)), None);
    }
}
