//! The policy, compiled: which rule is the first that matches, at a cost that hardly depends on how many
//! there are.
//!
//! Each of six dimensions (where from, where to, source, destination, service, source port) says by one
//! look-up which rules it leaves in question, as a bit for each; the first bit that all leave is the rule
//! (bit vectors, Lakshman and Stiliadis 1998). A summary of each vector, one bit for 64, skips what is
//! empty (aggregation, Baboescu and Varghese 2001).

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::base::addr::{GuestId, InterfaceId};
use crate::config::policy::{Action, CheckedRule, Origin, PortSpan, Side};
use crate::config::{Config, Guest};

/// One end of a flow: the interface it is behind, and the guest if it is one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The interface.
    pub interface: InterfaceId,
    /// The guest.
    pub guest: Option<GuestId>,
    /// The address, inside.
    pub address: IpAddr,
}

/// What is asked about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// The protocol.
    pub protocol: u8,
    /// The destination port, or the ICMP type; 0 if it has neither.
    pub service: u16,
    /// The source port; 0 if it has none.
    pub source_port: u16,
}

/// What about a flow a rule does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mismatch {
    Source,
    Destination,
    Service,
    SourcePort,
}

/// All rules of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// In the order in which they are asked.
    rules: Vec<(Origin, Action)>,
    vectors: Vectors,
    from: Sides,
    to: Sides,
    source: Addresses,
    destination: Addresses,
    services: Ports,
    source_ports: Ports,
}

/// A bit for each rule, and a summary of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Vector {
    words: Vec<u64>,
    summary: Vec<u64>,
}

/// The number of a vector.
type Number = u32;

/// Every vector that some look-up leads to, once.
#[derive(Debug, Clone, Default)]
struct Vectors {
    all: Vec<Vector>,
    known: HashMap<Vector, Number, FixedState>,
}

/// By interface and by guest.
#[derive(Debug, Clone, Default)]
struct Sides {
    interfaces: Vec<Number>,
    guests: Vec<Number>,
}

/// By the longest prefix.
#[derive(Debug, Clone, Default)]
struct Addresses {
    v4: PrefixMap<Ipv4Net, Number>,
    v6: PrefixMap<Ipv6Net, Number>,
}

/// By protocol: the vector from each port on up to the next.
#[derive(Debug, Clone, Default)]
struct Ports {
    by_protocol: HashMap<u8, Vec<(u16, Number)>, FixedState>,
    other: Number,
}

impl Policy {
    /// The policy of a configuration whose interfaces have these numbers.
    pub(crate) fn build(config: &Config, interfaces: &[InterfaceId]) -> Self {
        let rules = &config.policy().rules[..];
        if rules.is_empty() {
            return Self::default();
        }
        let mut vectors = Vectors::default();
        let mut side = |of: fn(&CheckedRule) -> &[Side]| {
            Sides::build(rules, of, config, interfaces, &mut vectors)
        };
        let (from, to) = (side(|rule| &rule.from), side(|rule| &rule.to));
        let mut addresses =
            |of: fn(&CheckedRule) -> &[IpNet]| Addresses::build(rules, of, &mut vectors);
        let source = addresses(|rule| &rule.source);
        let destination = addresses(|rule| &rule.destination);
        let mut ports =
            |of: fn(&CheckedRule) -> &[(u8, PortSpan)]| Ports::build(rules, of, &mut vectors);
        let services = ports(|rule| &rule.services);
        let source_ports = ports(|rule| &rule.source_ports);
        vectors.known = HashMap::default();
        Self {
            rules: rules
                .iter()
                .map(|rule| (rule.origin, rule.action))
                .collect(),
            vectors,
            from,
            to,
            source,
            destination,
            services,
            source_ports,
        }
    }

    /// It has no rules.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule that matches; `None`: none does.
    pub fn decide(&self, asked: &Question) -> Option<(Origin, Action)> {
        if self.is_empty() {
            return None;
        }
        self.first(asked).map(|rule| self.rules[rule])
    }

    /// The rules between the two sides that were passed over before the one that decides, each with
    /// what it does not match.
    pub fn passed_over(&self, asked: &Question) -> Vec<(Origin, Mismatch)> {
        if self.is_empty() {
            return Vec::new();
        }
        let end = self.first(asked).unwrap_or(self.rules.len());
        let [from, to, dimensions @ ..] = self.vectors_for(asked);
        let reasons = [
            Mismatch::Source,
            Mismatch::Destination,
            Mismatch::Service,
            Mismatch::SourcePort,
        ];
        let concerns = |rule: &usize| from.has(*rule) && to.has(*rule);
        let why = |rule: usize| {
            let misses = |(vector, _): &(&Vector, Mismatch)| !vector.has(rule);
            let (_, reason) = dimensions.into_iter().zip(reasons).find(misses)?;
            Some((self.rules[rule].0, reason))
        };
        (0..end).filter(concerns).filter_map(why).collect()
    }

    fn first(&self, asked: &Question) -> Option<usize> {
        let vectors = self.vectors_for(asked);
        let [first, rest @ ..] = vectors;
        for (n, summary) in first.summary.iter().enumerate() {
            let mut left = rest
                .iter()
                .fold(*summary, |left, other| left & other.summary[n]);
            while left != 0 {
                let word = n * 64 + left.trailing_zeros() as usize;
                let all = rest
                    .iter()
                    .fold(first.words[word], |all, other| all & other.words[word]);
                if all != 0 {
                    return Some(word * 64 + all.trailing_zeros() as usize);
                }
                left &= left - 1;
            }
        }
        None
    }

    fn vectors_for(&self, asked: &Question) -> [&Vector; 6] {
        [
            self.from.find(&asked.from),
            self.to.find(&asked.to),
            self.source.find(asked.from.address),
            self.destination.find(asked.to.address),
            self.services.find(asked.protocol, asked.service),
            self.source_ports.find(asked.protocol, asked.source_port),
        ]
        .map(|number| &self.vectors.all[number as usize])
    }
}

impl Vector {
    fn new(rules: usize) -> Self {
        let words = rules.div_ceil(64);
        Self {
            words: vec![0; words],
            summary: vec![0; words.div_ceil(64)],
        }
    }

    fn set(&mut self, rule: usize) {
        self.words[rule / 64] |= 1 << (rule % 64);
        self.summary[rule / 4_096] |= 1 << (rule / 64 % 64);
    }

    fn clear(&mut self, rule: usize) {
        self.words[rule / 64] &= !(1 << (rule % 64));
        if self.words[rule / 64] == 0 {
            self.summary[rule / 4_096] &= !(1 << (rule / 64 % 64));
        }
    }

    fn has(&self, rule: usize) -> bool {
        self.words[rule / 64] >> (rule % 64) & 1 == 1
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
    fn build(
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
        for (n, rule) in rules.iter().enumerate() {
            for side in of(rule) {
                match side {
                    Side::Zone(zone) => zones.entry(*zone).or_default().push(n),
                    Side::Interface(index) => interfaces.entry(*index).or_default().push(n),
                    Side::Guest(index) => guests.entry(*index).or_default().push(n),
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
            let of_interface = interfaces.get(&interface).filter(|_| is_in);
            let lists = [in_zone, of_interface, of_guest];
            vectors.number(any.with(lists.into_iter().flatten().flatten()))
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

    fn find(&self, end: &End) -> Number {
        let guest = end.guest.and_then(|guest| self.guests.get(guest.index()));
        let interface = || self.interfaces.get(end.interface.index());
        guest.or_else(interface).copied().unwrap_or(0)
    }
}

impl Addresses {
    fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[IpNet],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Vector::of_all(rules, of);
        let mut by_prefix: HashMap<IpNet, Vec<usize>, FixedState> = HashMap::default();
        for (n, rule) in rules.iter().enumerate() {
            for prefix in of(rule) {
                by_prefix.entry(*prefix).or_default().push(n);
            }
        }
        let mut addresses = Self::default();
        let number = vectors.number(any);
        addresses.v4.insert(Ipv4Net::default(), number);
        addresses.v6.insert(Ipv6Net::default(), number);
        // The shortest first: each has what is said of those around it.
        let mut prefixes: Vec<_> = by_prefix.into_iter().collect();
        prefixes.sort_unstable_by_key(|(prefix, _)| (prefix.prefix_len(), *prefix));
        for (prefix, rules) in prefixes {
            let around = addresses.find(prefix.addr());
            let vector = vectors.all[around as usize].with(&rules);
            let number = vectors.number(vector);
            match prefix {
                IpNet::V4(prefix) => drop(addresses.v4.insert(prefix, number)),
                IpNet::V6(prefix) => drop(addresses.v6.insert(prefix, number)),
            }
        }
        addresses
    }

    fn find(&self, address: IpAddr) -> Number {
        let found = match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, number)| number),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, number)| number),
        };
        found.copied().unwrap_or(0)
    }
}

impl Ports {
    fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[(u8, PortSpan)],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Vector::of_all(rules, of);
        // By protocol: where rules begin, and one past where they end.
        let mut borders: HashMap<u8, Vec<(u32, bool, usize)>> = HashMap::new();
        for (n, rule) in rules.iter().enumerate() {
            for &(protocol, (first, last)) in of(rule) {
                let borders = borders.entry(protocol).or_default();
                borders.push((u32::from(first), true, n));
                borders.push((u32::from(last) + 1, false, n));
            }
        }
        let mut by_protocol = HashMap::default();
        for (protocol, mut borders) in borders {
            borders.sort_unstable();
            // A rule may name the same port twice.
            let mut depth: HashMap<usize, u32> = HashMap::new();
            let (mut now, mut spans) = (any.clone(), vec![(0, vectors.number(any.clone()))]);
            for chunk in borders.chunk_by(|a, b| a.0 == b.0) {
                for &(_, begins, rule) in chunk {
                    let depth = depth.entry(rule).or_default();
                    match begins {
                        true => *depth += 1,
                        false => *depth -= 1,
                    }
                    match *depth {
                        0 => now.clear(rule),
                        _ => now.set(rule),
                    }
                }
                if let Ok(from) = u16::try_from(chunk[0].0) {
                    spans.push((from, vectors.number(now.clone())));
                }
            }
            by_protocol.insert(protocol, spans);
        }
        Self {
            by_protocol,
            other: vectors.number(any),
        }
    }

    fn find(&self, protocol: u8, port: u16) -> Number {
        let Some(spans) = self.by_protocol.get(&protocol) else {
            return self.other;
        };
        let next = spans.partition_point(|(from, _)| *from <= port);
        spans[next - 1].1
    }
}

#[cfg(test)]
mod tests;
