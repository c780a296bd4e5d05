//! Rules, compiled: the first that holds for a packet is found without asking one after the other.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::vectors::{Addresses, Bits, Number, Vector, Vectors, first, spans};
use crate::base::addr::InterfaceId;
use crate::base::spans::Spans;
use crate::config::condition::{Condition, Origin, Subject};
use crate::config::{PortRange, RuleVerdict};

/// A rule. Which one it is a packet tells: its cache lines are side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(128))]
pub struct Rule {
    /// The lower the earlier.
    pub priority: u32,
    /// Which packets it is for.
    pub condition: Condition<InterfaceId>,
    /// What to do; tables by index into the snapshot's.
    pub verdict: RuleVerdict,
}

/// So many rules are asked one after the other: what finds the first that matches among more costs as much.
const FEW: usize = 32;

/// All rules by ascending priority.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Of many, which of them a packet leaves in question.
    index: Option<Index>,
    /// Some rule asks for a mark.
    pub marks: bool,
}

/// Which rules a packet leaves in question by what it is asked for. Of an inverted rule nothing is known
/// beforehand.
#[derive(Debug, Clone)]
struct Index {
    vectors: Vectors,
    from: Addresses,
    to: Addresses,
    iif: Exact<u32>,
    mark: Exact<u32>,
    sport: Spans<u16>,
    dport: Spans<u16>,
}

/// Vectors by exact value.
#[derive(Debug, Clone)]
struct Exact<K> {
    known: HashMap<K, Number, FixedState>,
    other: Number,
}

impl Exact<u32> {
    /// Of values, each with the rule that names it; `any` are the rules that name none.
    fn build(named: Vec<(u32, usize)>, any: &Bits, vectors: &mut Vectors) -> Self {
        let mut by_value: HashMap<u32, Vec<usize>> = HashMap::new();
        for (value, rule) in named {
            by_value.entry(value).or_default().push(rule);
        }
        let number = |(value, rules): (u32, Vec<usize>)| (value, vectors.number(any.with(&rules)));
        Self {
            known: by_value.into_iter().map(number).collect(),
            other: vectors.number(any.clone()),
        }
    }

    #[inline]
    fn find(&self, value: u32) -> Number {
        match self.known.is_empty() {
            true => self.other,
            false => *self.known.get(&value).unwrap_or(&self.other),
        }
    }
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let mut vectors = Vectors::default();
        // What an inverted rule names says nothing.
        let asked = |rule: usize| {
            let condition = &rules[rule].condition;
            (!condition.not).then_some(condition)
        };
        let all = || 0..rules.len();
        let addresses = |of: fn(&Condition<InterfaceId>) -> Option<IpNet>,
                         vectors: &mut Vectors| {
            let named = |rule| asked(rule).and_then(of);
            let any = Bits::of(rules.len(), |rule| named(rule).is_none());
            let prefixes = all().filter_map(|rule| Some((named(rule)?, rule)));
            Addresses::build(prefixes, &any, vectors)
        };
        let exact = |of: fn(&Condition<InterfaceId>) -> Option<u32>, vectors: &mut Vectors| {
            let named = |rule| asked(rule).and_then(of);
            let any = Bits::of(rules.len(), |rule| named(rule).is_none());
            let values = all().filter_map(|rule| Some((named(rule)?, rule)));
            Exact::build(values.collect(), &any, vectors)
        };
        let ports = |of: fn(&Condition<InterfaceId>) -> Option<PortRange>,
                     vectors: &mut Vectors| {
            let named = |rule| asked(rule).and_then(of);
            let any = Bits::of(rules.len(), |rule| named(rule).is_none());
            let ranges = all().filter_map(|rule| {
                let PortRange { first, last } = named(rule)?;
                Some((first, last.checked_add(1), rule))
            });
            spans(ranges, &any, vectors)
        };
        let from = addresses(|condition| condition.from, &mut vectors);
        let to = addresses(|condition| condition.to, &mut vectors);
        let iif = exact(|condition| condition.iif.map(origin), &mut vectors);
        // Of a mask, only that it is one.
        let whole = |condition: &Condition<_>| {
            let mark = condition.fwmark.filter(|mark| mark.mask == u32::MAX);
            mark.map(|mark| mark.value)
        };
        let mark = exact(whole, &mut vectors);
        let sport = ports(|condition| condition.sport, &mut vectors);
        let dport = ports(|condition| condition.dport, &mut vectors);
        vectors.seal();
        Self {
            vectors,
            from,
            to,
            iif,
            mark,
            sport,
            dport,
        }
    }

    #[inline]
    fn vectors_for(&self, packet: &Subject<InterfaceId>) -> [&Vector; 6] {
        let numbers = [
            self.from.find(packet.source),
            self.to.find(packet.destination),
            self.iif.find(origin(packet.iif)),
            self.mark.find(packet.mark),
            self.sport.find(packet.ports.0).unwrap_or(0),
            self.dport.find(packet.ports.1).unwrap_or(0),
        ];
        numbers.map(|number| self.vectors.get(number))
    }
}

impl Rules {
    /// Rules in order of priority.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            index: (rules.len() > FEW).then(|| Index::new(&rules)),
            marks: rules.iter().any(|rule| rule.condition.fwmark.is_some()),
            rules,
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// Those that hold for a packet, in order. `goto` is told where to go on.
    #[inline]
    pub fn asked_of<'r>(&'r self, packet: &'r Subject<InterfaceId>) -> Holding<'r> {
        Holding {
            rules: &self.rules,
            packet,
            vectors: self.index.as_ref().map(|index| index.vectors_for(packet)),
            next: 0,
        }
    }
}

/// The rules that hold for a packet.
pub struct Holding<'r> {
    rules: &'r [Rule],
    packet: &'r Subject<InterfaceId>,
    /// Of many, which of them are left in question.
    vectors: Option<[&'r Vector; 6]>,
    /// The first that was not asked.
    next: usize,
}

impl<'r> Iterator for Holding<'r> {
    type Item = &'r Rule;

    #[inline]
    fn next(&mut self) -> Option<&'r Rule> {
        loop {
            let place = match &self.vectors {
                Some(vectors) => first(vectors, self.next..self.rules.len())?,
                None => self.next,
            };
            let rule = self.rules.get(place)?;
            self.next = place + 1;
            if rule.condition.holds(self.packet) {
                return Some(rule);
            }
        }
    }
}

impl Holding<'_> {
    /// Goes on with the rule of this priority, or the first after it.
    pub fn go_to(&mut self, priority: u32) {
        let place = self.rules.partition_point(|rule| rule.priority < priority);
        self.next = self.next.max(place);
    }
}

/// Where a packet comes from, as a number.
fn origin(origin: Origin<InterfaceId>) -> u32 {
    match origin {
        Origin::Own => u32::MAX,
        Origin::Interface(interface) => interface.index() as u32,
    }
}
