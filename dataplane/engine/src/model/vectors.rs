//! Which rules each dimension of a packet leaves in question, as a bit for each rule: how the first rule
//! that matches is found without asking one after the other.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::base::spans::{Key, Spans};

/// Words that are looked at together: a cache line.
const WORDS: usize = 8;
/// Rules whose bits these are.
const BLOCK: usize = 64 * WORDS;

/// A bit for each rule, and one for each block of them that has any: there are at most 65,536.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Vector {
    blocks: Vec<[u64; WORDS]>,
    summary: u128,
    /// Rules whose bit is not set.
    missing: usize,
}

/// The number of a vector.
pub(super) type Number = u32;

/// Every vector that some look-up leads to, once.
#[derive(Debug, Clone, Default)]
pub(super) struct Vectors {
    all: Vec<Vector>,
    known: HashMap<Vector, Number, FixedState>,
}

/// By address.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    v4: Spans<u32>,
    v6: Spans<u128>,
}

/// The first rule of `range` that all leave.
pub(super) fn first(vectors: &[&Vector; 6], range: Range<usize>) -> Option<usize> {
    // Most rules say nothing of most dimensions. To name a vector twice does no harm.
    let mut limiting = [vectors[0]; 6];
    let mut count = 0;
    for vector in vectors.iter().filter(|vector| vector.missing > 0) {
        limiting[count..].fill(vector);
        count += 1;
    }
    match limiting {
        _ if range.is_empty() => None,
        _ if count == 0 => Some(range.start),
        [a, b, c, ..] if count <= 3 => first_of([a, b, c], range),
        all => first_of(all, range),
    }
}

/// The same. With a fixed number of vectors a block of each is a few wide instructions.
#[inline(always)]
fn first_of<const N: usize>(vectors: [&Vector; N], range: Range<usize>) -> Option<usize> {
    let (begin, end) = (range.start / BLOCK, (range.end - 1) / BLOCK);
    let within = (u128::MAX << begin) & (u128::MAX >> (127 - end));
    let all = vectors.iter().map(|vector| vector.summary);
    let left = all.fold(within, |left, summary| left & summary);
    // Of one length, which is then compared with once.
    let blocks = vectors.map(|vector| &vector.blocks[..=end]);
    for (half, mut left) in [left as u64, (left >> 64) as u64].into_iter().enumerate() {
        while left != 0 {
            let number = 64 * half + left.trailing_zeros() as usize;
            left &= left - 1;
            let blocks = blocks.map(|blocks| &blocks[number]);
            let of_all = |word: usize| {
                let words = blocks.iter().map(|block| block[word]);
                words.fold(u64::MAX, |all, word| all & word)
            };
            // Most have none: to know that takes a part of what it takes to find it.
            if (0..WORDS).fold(0, |any, word| any | of_all(word)) == 0 {
                continue;
            }
            let before = range.start.saturating_sub(number * BLOCK);
            let found = (before / 64..WORDS).find_map(|word| {
                let from = if word == before / 64 { before % 64 } else { 0 };
                let bits = of_all(word) & u64::MAX << from;
                (bits != 0).then(|| number * BLOCK + word * 64 + bits.trailing_zeros() as usize)
            });
            if let Some(rule) = found {
                return Some(rule).filter(|rule| *rule < range.end);
            }
        }
    }
    None
}

impl Vector {
    fn new(rules: usize) -> Self {
        Self {
            blocks: vec![[0; WORDS]; rules.div_ceil(BLOCK)],
            summary: 0,
            missing: rules,
        }
    }

    fn set(&mut self, rule: usize) {
        self.missing -= usize::from(!self.has(rule));
        self.blocks[rule / BLOCK][rule % BLOCK / 64] |= 1 << (rule % 64);
        self.summary |= 1 << (rule / BLOCK);
    }

    fn clear(&mut self, rule: usize) {
        self.missing += usize::from(self.has(rule));
        let block = &mut self.blocks[rule / BLOCK];
        block[rule % BLOCK / 64] &= !(1 << (rule % 64));
        if *block == [0; WORDS] {
            self.summary &= !(1 << (rule / BLOCK));
        }
    }

    pub(super) fn has(&self, rule: usize) -> bool {
        self.blocks[rule / BLOCK][rule % BLOCK / 64] >> (rule % 64) & 1 == 1
    }

    /// Of so many rules those of which this holds.
    pub(super) fn of(rules: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut vector = Self::new(rules);
        let those = (0..rules).filter(|rule| holds(*rule));
        those.for_each(|rule| vector.set(rule));
        vector
    }

    pub(super) fn with<'n>(&self, rules: impl IntoIterator<Item = &'n usize>) -> Self {
        let mut vector = self.clone();
        rules.into_iter().for_each(|rule| vector.set(*rule));
        vector
    }
}

impl Vectors {
    /// All are there: how to find the number of another is forgotten.
    pub(super) fn seal(&mut self) {
        self.known = HashMap::default();
    }

    pub(super) fn get(&self, number: Number) -> &Vector {
        &self.all[number as usize]
    }

    pub(super) fn number(&mut self, vector: Vector) -> Number {
        if let Some(number) = self.known.get(&vector) {
            return *number;
        }
        let number = self.all.len() as Number;
        self.all.push(vector.clone());
        self.known.insert(vector, number);
        number
    }
}

/// Which vector each key leads to. Of rules, each for the keys from one up to before another, or to the
/// last of all; those that are for any are in `any`.
pub(super) fn spans<K: Key>(
    rules: impl Iterator<Item = (K, Option<K>, usize)>,
    any: &Vector,
    vectors: &mut Vectors,
) -> Spans<K> {
    let mut borders: Vec<(K, bool, usize)> = Vec::new();
    for (first, after, rule) in rules {
        borders.push((first, true, rule));
        borders.extend(after.map(|after| (after, false, rule)));
    }
    borders.sort_unstable();
    // A rule may name the same key twice.
    let mut depth: HashMap<usize, u32> = HashMap::new();
    let (mut now, mut spans) = (any.clone(), vec![(K::LEAST, vectors.number(any.clone()))]);
    for chunk in borders.chunk_by(|a, b| a.0 == b.0) {
        for &(_, begins, rule) in chunk {
            let depth = depth.entry(rule).or_default();
            *depth = match begins {
                true => depth.saturating_add(1),
                false => depth.saturating_sub(1),
            };
            match *depth {
                0 => now.clear(rule),
                _ => now.set(rule),
            }
        }
        spans.push((chunk[0].0, vectors.number(now.clone())));
    }
    Spans::new(spans)
}

impl Addresses {
    /// Of prefixes, each with the rule that names it; those that name none are in `any`.
    pub(super) fn build(
        prefixes: impl Iterator<Item = (IpNet, usize)>,
        any: &Vector,
        vectors: &mut Vectors,
    ) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, rule) in prefixes {
            match prefix {
                IpNet::V4(net) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    v4.push((first, last.checked_add(1), rule));
                }
                IpNet::V6(net) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    v6.push((first, last.checked_add(1), rule));
                }
            }
        }
        Self {
            v4: spans(v4.into_iter(), any, vectors),
            v6: spans(v6.into_iter(), any, vectors),
        }
    }

    pub(super) fn find(&self, address: IpAddr) -> Number {
        let found = match address {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => self.v6.find(address.to_bits()),
        };
        found.unwrap_or(0)
    }
}
