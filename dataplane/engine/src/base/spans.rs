//! What numbers stand for, from one border to the next: how prefixes and ranges are looked up, however
//! many there are.
//!
//! A look-up takes two steps. The upper bits of a key tell a slot, and the slot which borders may be in it;
//! among these, mostly a few side by side, the key is searched. Two or three places in memory are
//! read where a trie reads one for each step down.

/// A number that is looked up.
pub trait Key: Copy + Ord {
    /// The least there is.
    const LEAST: Self;

    /// The next, if there is one.
    fn next(self) -> Option<Self>;

    /// Which slot this is in, where each is `1 << shift` wide and the first begins at `first`. What comes
    /// before that is in the first.
    fn slot(self, first: Self, shift: u32) -> usize;

    /// How many bits the distance from `first` has.
    fn bits_from(self, first: Self) -> u32;
}

macro_rules! keys {
    ($($number:ty),*) => {$(
        impl Key for $number {
            const LEAST: Self = 0;

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            #[inline]
            fn slot(self, first: Self, shift: u32) -> usize {
                usize::try_from(self.saturating_sub(first) >> shift).unwrap_or(usize::MAX)
            }

            fn bits_from(self, first: Self) -> u32 {
                Self::BITS - self.saturating_sub(first).leading_zeros()
            }
        }
    )*};
}

keys!(u16, u32, u128);

/// In no range.
pub const NOWHERE: u32 = u32::MAX;

/// So many slots are worth their memory in any case.
const FEWEST_SLOTS: usize = 64;

/// A value for each key. Neighbouring keys have the same, mostly.
#[derive(Debug, Clone)]
pub struct Spans<K> {
    /// From each key on up to the next; the first is the least there is.
    spans: Box<[(K, u32)]>,
    /// Where the borders of each slot begin among them, and where the last ends.
    slots: Box<[u32]>,
    /// Where the first slot begins.
    first: K,
    /// How wide a slot is, in bits.
    shift: u32,
}

impl<K: Key> Default for Spans<K> {
    /// No key has a value.
    fn default() -> Self {
        Self {
            spans: Box::default(),
            slots: Box::default(),
            first: K::LEAST,
            shift: 0,
        }
    }
}

impl<K: Key> Spans<K> {
    /// Values from each of these keys on up to the next, in ascending order; of equal keys the last counts.
    /// Keys before the first have no value.
    pub fn new(borders: impl IntoIterator<Item = (K, u32)>) -> Self {
        let mut spans: Vec<(K, u32)> = Vec::new();
        for (key, value) in borders {
            debug_assert!(spans.last().is_none_or(|(last, _)| *last <= key));
            if spans.last().is_some_and(|(last, _)| *last == key) {
                spans.pop();
            }
            // What ended in between may have left the same on both sides.
            if spans.last().is_none_or(|(_, before)| *before != value) {
                spans.push((key, value));
            }
        }
        let [Some(first), Some(last)] = [spans.get(1).or(spans.first()), spans.last()] else {
            return Self::default();
        };
        let (first, last) = (first.0, last.0);
        // Two borders for a slot: more slots would take more memory than they save steps. Of few borders
        // that does not count.
        let wanted = (spans.len() / 2).max(FEWEST_SLOTS).ilog2();
        let shift = last.bits_from(first).saturating_sub(wanted);
        let mut slots = Vec::with_capacity(last.slot(first, shift) + 2);
        for (place, (key, _)) in spans.iter().enumerate() {
            let slot = key.slot(first, shift);
            slots.resize(slots.len().max(slot + 1), place as u32);
        }
        slots.push(spans.len() as u32);
        Self {
            spans: spans.into(),
            slots: slots.into(),
            first,
            shift,
        }
    }

    /// For each key the number of the innermost range that it is in, or [`NOWHERE`], and for each range the
    /// one around it. Ranges are from a first key to a last, in order of both, the widest first where they
    /// begin at once; any two are apart, or one is within the other, as prefixes are.
    pub fn innermost(ranges: &[(K, K)]) -> (Self, Vec<u32>) {
        let mut borders = vec![(K::LEAST, NOWHERE)];
        let mut around = Vec::with_capacity(ranges.len());
        let mut open: Vec<(K, u32)> = Vec::new();
        let close = |open: &mut Vec<(K, u32)>, borders: &mut Vec<(K, u32)>| {
            let ended = open.pop().and_then(|(last, _)| last.next());
            let outer = open.last().map_or(NOWHERE, |(_, number)| *number);
            borders.extend(ended.map(|after| (after, outer)));
        };
        for (number, (first, last)) in ranges.iter().enumerate() {
            while open.last().is_some_and(|(end, _)| end < first) {
                close(&mut open, &mut borders);
            }
            around.push(open.last().map_or(NOWHERE, |(_, number)| *number));
            borders.push((*first, number as u32));
            open.push((*last, number as u32));
        }
        while !open.is_empty() {
            close(&mut open, &mut borders);
        }
        (Self::new(borders), around)
    }

    /// The value of a key.
    #[inline]
    pub fn find(&self, key: K) -> Option<u32> {
        let last = self.slots.len().checked_sub(2)?;
        let slot = key.slot(self.first, self.shift).min(last);
        let (begin, end) = (self.slots[slot] as usize, self.slots[slot + 1] as usize);
        let within = &self.spans[begin..end];
        let next = begin + within.partition_point(|(border, _)| *border <= key);
        let (_, value) = self.spans.get(next.checked_sub(1)?)?;
        Some(*value)
    }

    /// Bytes it takes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.spans) + size_of_val(&*self.slots)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(Spans::<u32>::default().find(0), None);
        assert_eq!(Spans::<u32>::new([]).find(u32::MAX), None);
        let spans = Spans::new([(7_u16, 1)]);
        assert_eq!(
            [6, 7, u16::MAX].map(|key| spans.find(key)),
            [None, Some(1), Some(1)]
        );
    }

    /// As a walk through all borders finds.
    fn check<K: Key + std::fmt::Debug>(mut borders: Vec<(K, u32)>, keys: &[K]) {
        borders.sort_by_key(|(key, _)| *key);
        let spans = Spans::new(borders.iter().copied());
        let all = keys.iter().chain(borders.iter().map(|(key, _)| key));
        for key in all {
            let before = borders.iter().filter(|(border, _)| border <= key);
            let expected = before.last().map(|(_, value)| *value);
            assert_eq!(spans.find(*key), expected, "{key:?} among {borders:?}");
        }
    }

    proptest! {
        #[test]
        fn the_last_border_before_a_key_tells(
            few in proptest::collection::vec((any::<u16>(), 0_u32..4), 0..200),
            keys in proptest::collection::vec(any::<u16>(), 1..100),
            (offset, scale) in (any::<u32>(), 0_u32..16),
        ) {
            check(few.clone(), &keys);
            // The same close together somewhere, and far apart.
            let at32 = |key: &u16| (u32::from(*key) << scale).wrapping_add(offset);
            let at128 = |key: &u16| u128::from(*key) << (scale * 7) | u128::from(offset);
            let wide = few.iter().map(|(key, value)| (at32(key), *value));
            check(wide.collect(), &keys.iter().map(at32).collect::<Vec<_>>());
            let wide = few.iter().map(|(key, value)| (at128(key), *value));
            // And further away than slots can be counted.
            let far = keys.iter().map(|key| at128(key).wrapping_add(u128::from(*key) << 100));
            check(wide.collect(), &keys.iter().map(at128).chain(far).collect::<Vec<_>>());
        }

        #[test]
        fn the_innermost_range_counts(
            prefixes in proptest::collection::btree_set((any::<u32>(), 0_u32..=32), 0..60),
            close in proptest::collection::btree_set((0_u32..64, 26_u32..=32), 0..60),
            keys in proptest::collection::vec(any::<u32>(), 1..50),
        ) {
            let range = |&(key, length): &(u32, u32)| {
                let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
                (key & !hosts, key | hosts)
            };
            let mut ranges: Vec<_> = prefixes.iter().chain(&close).map(range).collect();
            ranges.sort_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
            ranges.dedup();
            let (spans, around) = Spans::innermost(&ranges);
            let narrowest = |holds: &dyn Fn(&(u32, u32)) -> bool| {
                let all = ranges.iter().enumerate().filter(|(_, range)| holds(range));
                all.min_by_key(|(_, (first, last))| last - first)
                    .map_or(NOWHERE, |(number, _)| number as u32)
            };
            for key in keys.iter().copied().chain(0..70).chain(ranges.iter().map(|r| r.1)) {
                let found = narrowest(&|(first, last)| (*first..=*last).contains(&key));
                prop_assert_eq!(spans.find(key), Some(found));
            }
            for (this, outer) in ranges.iter().zip(around) {
                let wider = narrowest(&|other| other != this && other.0 <= this.0 && other.1 >= this.1);
                prop_assert_eq!(outer, wider);
            }
        }
    }
}
