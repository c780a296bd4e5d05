//! How many sessions a rule lets through at a time: counted by rule and opener, given back when a
//! session ends, whatever ends it.

use std::hash::BuildHasher;

use crate::base::hash::HashKey;
use crate::base::index::Index;
use crate::base::ip::Address;
use crate::state::payer::Payer;

/// Who opens sessions, as rules count them: a guest, whichever of its addresses it uses, or an address
/// (IPv6: a /64, which is one customer's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Opener<A> {
    Guest(u16),
    Network(A),
}

impl<A: Address> Opener<A> {
    /// Whoever sends from `source`, and is counted as `payer`.
    pub(crate) fn of(payer: Payer, source: A) -> Self {
        match payer {
            Payer::By(guest) | Payer::To(guest) => Self::Guest(guest),
            Payer::Port(_) | Payer::Nobody => Self::Network(source.network(64)),
        }
    }
}

/// The sessions of one family that rules count.
#[derive(Debug)]
pub(crate) struct Connections<A> {
    capacity: usize,
    key: HashKey,
    index: Index,
    counts: Vec<Count<A>>,
    /// Of them, those that count nothing.
    free: Vec<u32>,
    /// By session number: the place of its count, plus one. Empty as long as nothing is counted.
    held: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Count<A> {
    rule: u64,
    opener: Opener<A>,
    sessions: u32,
}

impl<A: Address> Connections<A> {
    /// For at most this many sessions.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            capacity,
            key: HashKey::new(seed),
            index: Index::new(capacity),
            counts: Vec::new(),
            free: Vec::new(),
            held: Vec::new(),
        }
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        let places = self.held.len() + self.free.capacity();
        self.index.memory()
            + self.counts.capacity() * size_of::<Count<A>>()
            + places * size_of::<u32>()
    }

    /// Some rule counts from now on: makes the memory for it, all at once. Later it would take time when
    /// there is much to do.
    pub(crate) fn prepare(&mut self) {
        if self.held.is_empty() {
            self.held = vec![0; self.capacity];
            self.counts.reserve(self.capacity);
            self.free.reserve(self.capacity);
            self.index.prepare();
        }
    }

    /// How many sessions of `opener` the rule lets through now.
    pub(crate) fn of(&self, rule: u64, opener: Opener<A>) -> u32 {
        let place = self.find(rule, opener);
        place.map_or(0, |place| self.counts[place as usize].sessions)
    }

    /// The rule lets session `number` of `opener` through.
    pub(crate) fn open(&mut self, number: u32, rule: u64, opener: Opener<A>) {
        let place = self.add(rule, opener, 1);
        self.prepare();
        self.held[number as usize] = place + 1;
    }

    /// Session `number` is over, or another rule lets it through.
    #[inline]
    pub(crate) fn close(&mut self, number: u32) {
        if let Some(held @ 1..) = self.held.get_mut(number as usize) {
            let place = std::mem::take(held) - 1;
            self.give_back(place);
        }
    }

    /// The rule lets `sessions` of `opener` through, whichever; for trying things out.
    pub(crate) fn presume(&mut self, rule: u64, opener: Opener<A>, sessions: u32) {
        self.add(rule, opener, sessions);
    }

    fn find(&self, rule: u64, opener: Opener<A>) -> Option<u32> {
        self.index.find(self.hash(rule, opener), |place| {
            let count = &self.counts[place as usize];
            (count.rule, count.opener) == (rule, opener)
        })
    }

    fn add(&mut self, rule: u64, opener: Opener<A>, sessions: u32) -> u32 {
        if let Some(place) = self.find(rule, opener) {
            self.counts[place as usize].sessions += sessions;
            return place;
        }
        let count = Count {
            rule,
            opener,
            sessions,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.counts[place as usize] = count;
                place
            }
            None => {
                self.counts.push(count);
                self.counts.len() as u32 - 1
            }
        };
        self.index.insert(self.hash(rule, opener), place);
        place
    }

    #[cold]
    fn give_back(&mut self, place: u32) {
        let count = &mut self.counts[place as usize];
        count.sessions -= 1;
        if count.sessions == 0 {
            let Count { rule, opener, .. } = *count;
            self.index.remove(self.hash(rule, opener), place);
            self.free.push(place);
        }
    }

    fn hash(&self, rule: u64, opener: Opener<A>) -> u64 {
        self.key.hash_one((rule, opener))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::base::addr::PortId;

    #[test]
    fn sessions_are_counted_by_rule_and_opener_and_given_back() {
        let mut connections: Connections<Ipv4Addr> = Connections::new(8, 1);
        let (one, two) = (Opener::Guest(1), Opener::Network([192, 0, 2, 1].into()));
        connections.close(3);
        for (number, rule, opener) in [(0, 7, one), (1, 7, one), (2, 7, two), (3, 8, one)] {
            connections.open(number, rule, opener);
        }
        let of = |connections: &Connections<_>| {
            [(7, one), (7, two), (8, one), (8, two)].map(|(rule, who)| connections.of(rule, who))
        };
        assert_eq!(of(&connections), [2, 1, 1, 0]);
        connections.close(0);
        connections.close(0);
        assert_eq!(of(&connections), [1, 1, 1, 0], "given back once");
        (1..4).for_each(|number| connections.close(number));
        assert_eq!(of(&connections), [0; 4]);
        // Places are used again: as many rules and openers as there are sessions, over and over.
        for round in 0..100 {
            (0..8).for_each(|number| connections.open(number, round, two));
            (0..8).for_each(|number| connections.close(number));
        }
        assert_eq!(connections.counts.len(), 3);
    }

    #[test]
    fn a_guest_is_one_opener_and_so_is_a_64() {
        let stranger = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            Opener::of(Payer::Port(PortId(0)), Ipv6Addr::from_ip(address).unwrap())
        };
        assert_eq!(stranger("2001:db8::1"), stranger("2001:db8::ffff:0:0:1"));
        assert_ne!(stranger("2001:db8::1"), stranger("2001:db8:0:1::1"));
        let of = |last| Opener::of(Payer::By(4), Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(of(1), of(2));
        let of = |last| Opener::of(Payer::Nobody, Ipv4Addr::new(10, 0, 0, last));
        assert_ne!(of(1), of(2));
    }
}
