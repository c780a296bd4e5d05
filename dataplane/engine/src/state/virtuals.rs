//! Virtual addresses: which guest has one now, by what guests say.
//!
//! | its holder | somebody who lists it | next |
//! |---|---|---|
//! | was not heard yet | speaks of it as its own | that one is the holder, and was heard |
//! | was heard | announces it: gratuitous ARP (RFC 5227 §3), unsolicited neighbour advertisement that overrides (RFC 4861 §7.2.6) | that one is the holder |
//! | was heard | speaks of it otherwise | nothing: it is not its own |
//! | was heard | its port's device is another | it was not heard |
//!
//! Who has not been heard is asked, since a router that was started anew does not know. A guest that takes
//! addresses over is slowed down ([`TURNS`]), because all sessions are looked at anew after that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::bucket::Bucket;
use crate::base::deadlines::Deadlines;
use crate::base::time::Instant;
use crate::model::owners::Owners;

/// How often a guest may take addresses over: one turn in 5 s, and four at once.
const TURNS: Turns = Turns {
    cost: 5,
    per_second: 1,
    holds: 20,
};
/// In a turn it may take over each of its addresses once.
const TURN: Duration = Duration::from_millis(20);
/// The least time between two snapshots because of this.
const PAUSE: Duration = Duration::from_millis(50);
/// When a holder that was not heard is asked, after it was asked before.
const ASKED_AFTER: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(10),
];

/// A token bucket's measures.
struct Turns {
    cost: u64,
    per_second: u64,
    holds: u64,
}

/// What a guest's message means for a virtual address that it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing: it has it already, or does not get it by this.
    Nothing,
    /// It has it from the next snapshot on.
    Taken,
    /// It would have it, had it not taken over so much already.
    TooOften,
}

/// All virtual addresses.
#[derive(Debug, Clone, Default)]
pub struct Virtuals {
    known: BTreeMap<IpAddr, Known>,
    /// Taken over, and not published yet: the number of the taker's name.
    moves: BTreeMap<IpAddr, u16>,
    /// When they were last published.
    published: Option<Instant>,
    takers: BTreeMap<u16, Taker>,
    due: Deadlines<IpAddr>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Its holder was heard to have it.
    heard: bool,
    /// How often it was asked.
    asked: usize,
    /// When it was last taken over.
    taken: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taker {
    bucket: Bucket,
    /// When its last turn began.
    turn: Option<Instant>,
}

impl Virtuals {
    /// Goes by these from now on.
    pub fn adopt(&mut self, owners: &Owners, now: Instant) {
        let members = |address: &IpAddr| owners.members(*address).next().is_some();
        self.known.retain(|address, _| members(address));
        self.moves.retain(|address, _| members(address));
        let gone: Vec<IpAddr> = self
            .due
            .keys()
            .filter(|address| !members(address))
            .collect();
        for address in gone {
            self.due.clear(address);
        }
        for address in owners.virtual_addresses() {
            if !self.known.contains_key(&address) {
                self.doubt(address, now);
            }
        }
    }

    /// Whether `address`'s holder still has it is not known any more.
    pub fn doubt(&mut self, address: IpAddr, now: Instant) {
        self.known.insert(address, Known::default());
        self.due.set(address, now);
    }

    /// A guest says that it has `address`, which it lists. `from`: who has it, `to`: who says so. `announced`:
    /// to everybody, and unasked.
    pub fn heard(
        &mut self,
        address: IpAddr,
        (from, to): (u16, u16),
        announced: bool,
        now: Instant,
    ) -> Said {
        let Some(known) = self.known.get_mut(&address) else {
            return Said::Nothing;
        };
        match self.moves.get(&address) {
            Some(taker) if *taker == to => return Said::Taken,
            // It keeps it, if it says so as the other did.
            Some(_) if from == to && announced => {}
            _ if from == to => {
                known.heard = true;
                self.due.clear(address);
                return Said::Nothing;
            }
            _ => {}
        }
        if known.heard && !announced {
            return Said::Nothing;
        }
        let taker = self.takers.entry(to).or_default();
        let in_turn = taker.turn.is_some_and(|began| {
            now.since(began) < TURN && known.taken.is_none_or(|taken| taken < began)
        });
        if !in_turn {
            let rate = (TURNS.per_second, TURNS.holds);
            if !taker.bucket.take_some(TURNS.cost, rate, now) {
                return Said::TooOften;
            }
            taker.turn = Some(now);
        }
        *known = Known {
            heard: true,
            asked: 0,
            taken: Some(now),
        };
        self.due.clear(address);
        match from == to {
            true => drop(self.moves.remove(&address)),
            false => drop(self.moves.insert(address, to)),
        }
        Said::Taken
    }

    /// The next address whose holder is to be asked for.
    pub fn poll(&mut self, now: Instant) -> Option<IpAddr> {
        let address = self.due.pop(now)?;
        let known = self.known.get_mut(&address)?;
        let last = ASKED_AFTER.len() - 1;
        self.due
            .set(address, now + ASKED_AFTER[known.asked.min(last)]);
        known.asked += 1;
        Some(address)
    }

    /// When [`Self::poll`] or [`Self::take_moves`] has something to do next.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        let publication = match (self.moves.is_empty(), self.published) {
            (true, _) => None,
            (false, None) => Some(Instant::default()),
            (false, Some(published)) => Some(published + PAUSE),
        };
        self.due.next().into_iter().chain(publication).min()
    }

    /// What was taken over and is to be published now.
    pub fn take_moves(&mut self, now: Instant) -> BTreeMap<IpAddr, u16> {
        let waits = |published: Instant| now.since(published) < PAUSE;
        if self.moves.is_empty() || self.published.is_some_and(waits) {
            return BTreeMap::new();
        }
        self.published = Some(now);
        std::mem::take(&mut self.moves)
    }

    /// They were not published.
    pub fn put_back(&mut self, moves: BTreeMap<IpAddr, u16>) {
        for (address, taker) in moves {
            self.moves.entry(address).or_insert(taker);
        }
        self.published = None;
    }
}

#[cfg(test)]
mod tests;
