//! Which rules each dimension leaves in question, as a bit for each rule.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::question::End;
use crate::base::addr::InterfaceId;
use crate::base::spans::{Key, Spans};
use crate::config::policy::{CheckedRule, PortSpan, Side};
use crate::config::{Config, Guest};

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
    pub(super) all: Vec<Vector>,
    pub(super) known: HashMap<Vector, Number, FixedState>,
}

/// By interface and by guest.
#[derive(Debug, Clone, Default)]
pub(super) struct Sides {
    interfaces: Vec<Number>,
    guests: Vec<Number>,
}

/// By address.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    v4: Spans<u32>,
    v6: Spans<u128>,
}

/// By protocol and port.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports {
    by_protocol: Vec<Spans<u16>>,
    /// Of protocols that no rule names.
    other: Number,
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

    /// Those for which a dimension says nothing.
    fn of_all<'r, T: 'r>(
        rules: &'r [CheckedRule],
        of: impl Fn(&'r CheckedRule) -> &'r [T],
    ) -> Self {
        let mut vector = Self::new(rules.len());
        let any = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| of(rule).is_empty());
        any.for_each(|(n, _)| vector.set(n));
        vector
    }

    fn with<'n>(&self, rules: impl IntoIterator<Item = &'n usize>) -> Self {
        let mut vector = self.clone();
        rules.into_iter().for_each(|rule| vector.set(*rule));
        vector
    }
}

impl Vectors {
    fn number(&mut self, vector: Vector) -> Number {
        if let Some(number) = self.known.get(&vector) {
            return *number;
        }
        let number = self.all.len() as Number;
        self.all.push(vector.clone());
        self.known.insert(vector, number);
        number
    }
}

impl Sides {
    pub(super) fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[Side],
        config: &Config,
        numbers: &[InterfaceId],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Vector::of_all(rules, of);
        let mut zones: HashMap<u16, Vec<usize>> = HashMap::new();
        let mut interfaces: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut guests: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut groups: HashMap<u16, Vec<usize>> = HashMap::new();
        for (n, rule) in rules.iter().enumerate() {
            for side in of(rule) {
                match side {
                    Side::Zone(zone) => zones.entry(*zone).or_default().push(n),
                    Side::Interface(index) => interfaces.entry(*index).or_default().push(n),
                    Side::Guest(index) => guests.entry(*index).or_default().push(n),
                    Side::Group(group) => groups.entry(*group).or_default().push(n),
                }
            }
        }
        let checked = config.policy();
        let mut number = |interface: usize, guest: Option<usize>| {
            let own = guest.and_then(|guest| checked.guest_zones[guest]);
            // A bridged network is what is beyond its guests: the provider's segment.
            let bridged = config.interfaces()[interface].kind.bridged();
            let is_in = guest.is_none() || bridged.is_none();
            let zone = own.or(checked.interface_zones[interface].filter(|_| is_in));
            let in_zone = zone.and_then(|zone| zones.get(&zone));
            let of_guest = guest.and_then(|guest| guests.get(&guest));
            let in_groups = guest.map_or(&[][..], |guest| &checked.guest_groups[guest]);
            let of_groups = in_groups.iter().map(|group| groups.get(group));
            let of_interface = interfaces.get(&interface).filter(|_| is_in);
            let lists = [in_zone, of_interface, of_guest];
            let lists = lists.into_iter().chain(of_groups).flatten();
            vectors.number(any.with(lists.flatten()))
        };
        let mut sides = Self::default();
        for (index, id) in numbers.iter().enumerate() {
            if sides.interfaces.len() <= id.index() {
                sides.interfaces.resize(id.index() + 1, 0);
            }
            sides.interfaces[id.index()] = number(index, None);
        }
        let guest = |(n, guest): (usize, &Guest)| number(guest.network, Some(n));
        sides.guests = config.guests().iter().enumerate().map(guest).collect();
        sides
    }

    pub(super) fn find(&self, end: &End) -> Number {
        let guest = end.guest.and_then(|guest| self.guests.get(guest.index()));
        let interface = || self.interfaces.get(end.interface.index());
        guest.or_else(interface).copied().unwrap_or(0)
    }
}

/// Which vector each key leads to. Of rules, each for the keys from one up to before another, or to the
/// last of all; those that are for any are in `any`.
fn spans<K: Key>(
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
    pub(super) fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[IpNet],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Vector::of_all(rules, of);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (n, rule) in rules.iter().enumerate() {
            for prefix in of(rule) {
                match prefix {
                    IpNet::V4(net) => {
                        let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                        v4.push((first, last.checked_add(1), n));
                    }
                    IpNet::V6(net) => {
                        let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                        v6.push((first, last.checked_add(1), n));
                    }
                }
            }
        }
        Self {
            v4: spans(v4.into_iter(), &any, vectors),
            v6: spans(v6.into_iter(), &any, vectors),
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

impl Ports {
    pub(super) fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[(u8, PortSpan)],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Vector::of_all(rules, of);
        let mut protocols: HashMap<u8, Vec<(u16, Option<u16>, usize)>> = HashMap::new();
        for (n, rule) in rules.iter().enumerate() {
            for &(protocol, (first, last)) in of(rule) {
                let ranges = protocols.entry(protocol).or_default();
                ranges.push((first, last.checked_add(1), n));
            }
        }
        let mut by_protocol = vec![Spans::default(); 1 + usize::from(u8::MAX)];
        for (protocol, ranges) in protocols {
            by_protocol[usize::from(protocol)] = spans(ranges.into_iter(), &any, vectors);
        }
        Self {
            by_protocol,
            other: vectors.number(any),
        }
    }

    pub(super) fn find(&self, protocol: u8, port: u16) -> Number {
        let spans = &self.by_protocol[usize::from(protocol)];
        spans.find(port).unwrap_or(self.other)
    }
}
