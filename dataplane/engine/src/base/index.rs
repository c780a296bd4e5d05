//! A hash index of fixed size: from a hash to 32-bit values, one cache line per bucket.
//!
//! Ten values share a 64-byte bucket with a 16-bit tag each; what does not fit goes to the next
//! bucket, and every bucket passed on the way counts it, so that a lookup knows when to stop and
//! removal leaves no tombstone. It never grows: the caller bounds how much it puts in.

/// Values a bucket holds.
const SLOTS: usize = 10;
/// Share of slots in use when the index holds what it was made for: 3/4.
const LOAD: (usize, usize) = (3, 4);

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    /// Four 16-bit tags to a word: slot `n`'s is in word `n / 4`, the lowest first.
    tags: [u64; 2],
    /// The tags of the last two slots.
    last_tags: u32,
    /// Value + 1; 0 is empty.
    values: [u32; SLOTS],
    /// Values that passed this bucket because it was full.
    passed: u32,
}

/// A hash index of fixed size.
#[derive(Debug, Clone)]
pub struct Index {
    /// Made by [`Index::prepare`], or when the first value comes.
    buckets: Box<[Bucket]>,
    capacity: usize,
}

impl Index {
    /// An index for at most `capacity` values, each below `u32::MAX`.
    pub fn new(capacity: usize) -> Self {
        Self {
            buckets: Box::default(),
            capacity,
        }
    }

    /// Makes its memory. A large index takes milliseconds for that, which a packet must not wait for.
    #[inline]
    pub fn prepare(&mut self) {
        if self.buckets.is_empty() {
            self.make();
        }
    }

    #[cold]
    fn make(&mut self) {
        let slots = self.capacity * LOAD.1 / LOAD.0 + SLOTS;
        self.buckets = vec![Bucket::default(); slots.div_ceil(SLOTS)].into();
    }

    /// Memory used, in bytes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The first value put in under `hash` for which `matches` holds.
    #[inline]
    pub fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash as u16;
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets.get(at)?;
            let mut hits = bucket.hits(tag);
            while hits != 0 {
                let value = bucket.values[hits.trailing_zeros() as usize % SLOTS];
                if value != 0 && matches(value - 1) {
                    return Some(value - 1);
                }
                hits &= hits - 1;
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Reads a word of the bucket of `hash`, to have it in the cache.
    #[inline]
    pub fn touch(&self, hash: u64) -> u32 {
        self.buckets
            .get(self.home(hash))
            .map_or(0, |bucket| bucket.passed)
    }

    /// A value that may have been put in under `hash`, not compared with anything: for bringing
    /// what it points at into the cache.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        let bucket = self.buckets.get(self.home(hash))?;
        let hits = bucket.hits(hash as u16);
        let value = bucket.values[hits.trailing_zeros() as usize % SLOTS];
        (hits != 0 && value != 0).then(|| value - 1)
    }

    /// Nothing was put in under `hash`: one look tells, unless its bucket was full once.
    #[inline]
    pub fn lacks(&self, hash: u64) -> bool {
        let bucket = self.buckets.get(self.home(hash));
        bucket.is_some_and(|bucket| bucket.passed == 0 && bucket.hits(hash as u16) == 0)
    }

    /// Puts `value` in under `hash`. The caller keeps within the capacity.
    pub fn insert(&mut self, hash: u64, value: u32) {
        self.prepare();
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.values.iter().position(|&value| value == 0) {
                bucket.set_tag(slot, hash as u16);
                bucket.values[slot] = value + 1;
                return;
            }
            bucket.passed += 1;
            at = self.next(at);
        }
    }

    /// Takes `value` out again; it was put in under `hash`.
    pub fn remove(&mut self, hash: u64, value: u32) {
        let home = self.home(hash);
        let mut at = home;
        let slot = loop {
            let Some(bucket) = self.buckets.get(at) else {
                return;
            };
            if let Some(slot) = bucket.values.iter().position(|&found| found == value + 1) {
                break slot;
            }
            if bucket.passed == 0 {
                return;
            }
            at = self.next(at);
        };
        self.buckets[at].values[slot] = 0;
        while at != home {
            at = if at == 0 {
                self.buckets.len() - 1
            } else {
                at - 1
            };
            self.buckets[at].passed -= 1;
        }
    }

    /// What looking for `hash` in vain costs: buckets looked into, and values compared. It is the
    /// most that finding, putting in or taking out under `hash` costs.
    #[cfg(test)]
    pub(crate) fn cost(&self, hash: u64) -> usize {
        let mut cost = 1;
        self.find(hash, |_| {
            cost += 1;
            false
        });
        let mut at = self.home(hash);
        while self.buckets[at].passed > 0 {
            cost += 1;
            at = self.next(at);
        }
        cost
    }

    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() {
            0
        } else {
            at + 1
        }
    }
}

/// The lowest and the highest bit of every 16-bit lane.
const LOW: u64 = 0x0001_0001_0001_0001;
const HIGH: u64 = LOW << 15;

impl Bucket {
    /// A mask with a bit for each slot whose tag is `tag`, and sometimes for one with another tag.
    ///
    /// A lane with the wanted tag is zero after the exclusive-or, and the subtraction sets its top
    /// bit. The borrow may set the top bit of the lane above as well. That does no harm, because
    /// the caller compares what the value stands for.
    #[inline]
    fn hits(&self, tag: u16) -> u32 {
        let wanted = u64::from(tag) * LOW;
        let zero = |word: u64| {
            let lanes = word ^ wanted;
            let top = lanes.wrapping_sub(LOW) & !lanes & HIGH;
            // Gathers the four top bits into the lowest four.
            ((top >> 15).wrapping_mul(0x0000_2000_4000_8001) >> 45) as u32 & 0xf
        };
        zero(self.tags[0])
            | zero(self.tags[1]) << 4
            | (zero(u64::from(self.last_tags) | !wanted << 32) & 3) << 8
    }

    fn set_tag(&mut self, slot: usize, tag: u16) {
        let shift = slot % 4 * 16;
        if let Some(word) = self.tags.get_mut(slot / 4) {
            *word = *word & !(0xffff << shift) | u64::from(tag) << shift;
        } else {
            self.last_tags = self.last_tags & !(0xffff << shift) | u32::from(tag) << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> u64 {
        (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn holds_its_capacity_and_forgets_what_is_removed() {
        let mut index = Index::new(10_000);
        for n in 0..10_000 {
            index.insert(hash(n), n);
        }
        for n in 0..10_000 {
            assert_eq!(index.find(hash(n), |value| value == n), Some(n));
        }
        for n in (0..10_000).step_by(2) {
            index.remove(hash(n), n);
        }
        for n in 0..10_000 {
            assert_eq!(
                index.find(hash(n), |value| value == n),
                (n % 2 == 1).then_some(n)
            );
        }
        for n in (1..10_000).step_by(2) {
            index.remove(hash(n), n);
        }
        assert!(
            index
                .buckets
                .iter()
                .all(|bucket| bucket.passed == 0 && bucket.values == [0; SLOTS])
        );
    }

    #[test]
    fn survives_every_value_in_one_bucket() {
        let mut index = Index::new(100);
        for n in 0..100 {
            index.insert(7 << 16, n);
        }
        assert_eq!(index.find(7 << 16, |value| value == 99), Some(99));
        for n in 0..100 {
            index.remove(7 << 16, n);
        }
        assert_eq!(index.find(7 << 16, |_| true), None);
    }
}
