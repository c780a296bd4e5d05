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
/// Of more than a block of rules, so many are listed, and their bits not kept: a cache line less to read, and to
/// ask whether the others leave them too takes no longer than to look at a block.
const FEW: usize = 4;

/// A bit for each rule, and one for each block of them that has any: there are at most 65,536.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bits {
    blocks: Box<[[u64; WORDS]]>,
    summary: u128,
    /// Rules whose bit is not set.
    missing: usize,
}

/// The rules that are left in question, as they are looked for: a cache line, and one for each block that is
/// looked into.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct Vector {
    summary: u128,
    /// Where there are many.
    blocks: Box<[[u64; WORDS]]>,
    kind: Kind,
    /// How many of the few there are, and which, in order.
    count: u8,
    few: [u16; FEW],
}

/// How many rules a vector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Many,
    Few,
}

/// The number of a vector.
pub(super) type Number = u32;

/// Every vector that some look-up leads to, once.
#[derive(Debug, Clone, Default)]
pub(super) struct Vectors {
    all: Vec<Vector>,
    known: HashMap<Bits, Number, FixedState>,
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
    let mut fewest: Option<&Vector> = None;
    for vector in vectors.iter().filter(|vector| vector.kind != Kind::All) {
        limiting[count..].fill(vector);
        count += 1;
        if vector.kind == Kind::Few && fewest.is_none_or(|fewest| vector.count < fewest.count) {
            fewest = Some(vector);
        }
    }
    if let Some(fewest) = fewest {
        return first_of_few(fewest, &limiting[..count], range);
    }
    match limiting {
        _ if range.is_empty() => None,
        _ if count == 0 => Some(range.start),
        [a, b, c, ..] if count <= 3 => first_of([a, b, c], range),
        all => first_of(all, range),
    }
}

/// The same, where one of them leaves few.
fn first_of_few(few: &Vector, vectors: &[&Vector], range: Range<usize>) -> Option<usize> {
    let mut rules = few.few[..usize::from(few.count)]
        .iter()
        .map(|rule| usize::from(*rule));
    rules.find(|rule| range.contains(rule) && vectors.iter().all(|vector| vector.has(*rule)))
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

impl Bits {
    fn new(rules: usize) -> Self {
        Self {
            blocks: vec![[0; WORDS]; rules.div_ceil(BLOCK)].into(),
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

    fn has(&self, rule: usize) -> bool {
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

impl From<Bits> for Vector {
    fn from(bits: Bits) -> Self {
        let words = bits.blocks.as_flattened().iter().enumerate();
        let rules = words.flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| 64 * word + bit)
        });
        let mut few = [0; FEW];
        let mut count = 0;
        for rule in rules.take(FEW + 1) {
            if count < FEW {
                few[count] = rule as u16;
            }
            count += 1;
        }
        let kind = match count {
            _ if bits.missing == 0 => Kind::All,
            ..=FEW if bits.blocks.len() > 1 => Kind::Few,
            _ => Kind::Many,
        };
        Self {
            summary: bits.summary,
            blocks: match kind {
                Kind::Many => bits.blocks,
                Kind::All | Kind::Few => Box::default(),
            },
            kind,
            count: count.min(FEW) as u8,
            few,
        }
    }
}

impl Vector {
    /// Whether it leaves a rule.
    #[inline]
    pub(super) fn has(&self, rule: usize) -> bool {
        match self.kind {
            Kind::All => true,
            Kind::Many => self.blocks[rule / BLOCK][rule % BLOCK / 64] >> (rule % 64) & 1 == 1,
            Kind::Few => {
                let few = &self.few[..usize::from(self.count)];
                few.iter().any(|other| usize::from(*other) == rule)
            }
        }
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

    pub(super) fn number(&mut self, bits: Bits) -> Number {
        if let Some(number) = self.known.get(&bits) {
            return *number;
        }
        let number = self.all.len() as Number;
        self.all.push(bits.clone().into());
        self.known.insert(bits, number);
        number
    }
}

/// Which vector each key leads to. Of rules, each for the keys from one up to before another, or to the
/// last of all; those that are for any are in `any`.
pub(super) fn spans<K: Key>(
    rules: impl Iterator<Item = (K, Option<K>, usize)>,
    any: &Bits,
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
        any: &Bits,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_rule_is_the_one_that_asking_all_in_turn_finds(
            rules in prop_oneof![1_usize..40, 500_usize..1_300],
            // Of each dimension how many in a thousand rules it leaves, or all.
            shares in proptest::array::uniform6(prop_oneof![
                Just(1_000_u32), 0_u32..20, 0_u32..1_000, 990_u32..1_000
            ]),
            seed in any::<u32>(),
            (from, to) in (0.0..=1.0, 0.0..=1.0),
        ) {
            let drawn = |dimension: usize, rule: usize| {
                let mixed = (seed as usize ^ rule << 3 ^ dimension).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 40) as u32 % 1_000 < shares[dimension]
            };
            let made = [0, 1, 2, 3, 4, 5].map(|d| Vector::from(Bits::of(rules, |rule| drawn(d, rule))));
            for (dimension, vector) in made.iter().enumerate() {
                for rule in 0..rules {
                    prop_assert_eq!(vector.has(rule), drawn(dimension, rule));
                }
            }
            let at = |share: f64| (share * rules as f64) as usize;
            for range in [0..rules, at(from)..rules, at(from)..at(to)] {
                let expected = range.clone().find(|rule| (0..6).all(|d| drawn(d, *rule)));
                prop_assert_eq!(first(&made.each_ref(), range), expected);
            }
        }
    }
}
