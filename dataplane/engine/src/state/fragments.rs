//! Datagrams under way in fragments: which pieces came, what becomes of them, what waits.
//!
//! A datagram that is sent on is never put together: its fragments follow the first, and those that
//! came before it wait. Only what is for the router itself waits until it is whole.
//!
//! | fate | a fragment | next |
//! |---|---|---|
//! | (none), open | not the first | it waits: open |
//! | (none), open | the first, and it is sent on | follows; what waited is released |
//! | (none), open | the first, and it is for the router | ours: it waits |
//! | (none), open | the first, and it is refused | refused; what waited is released, and refused as well |
//! | follows | another | sent on as the first was; (none) after the last |
//! | ours | another | it waits; all are taken, and (none), after the last |
//! | refused | any | refused for the same reason |
//! | any but refused | one that overlaps another | refused (RFC 5722) |
//! | any | too late | (none) |
//!
//! What is released comes in anew, and is noted then: until then the datagram knows nothing of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use super::payer::Payer;
use crate::base::addr::{InterfaceId, PortId};
use crate::base::deadlines::Deadlines;
use crate::base::drops::DropReason;
use crate::base::hash::HashKey;
use crate::base::random::derive;
use crate::base::shares::Shares;
use crate::base::time::Instant;
use crate::wire::frame::OwnedFrame;
use crate::wire::piece::Piece;

/// Bytes that all datagrams under way take at most, about; each payer has a share of them.
const ROOM: u32 = 8 << 20;
/// What a datagram takes beside the fragments that wait, in bytes, about.
const BESIDE_DATAGRAM: u32 = 1_024;
/// What a fragment that waits takes beside its bytes, about.
const BESIDE_FRAGMENT: usize = 256;
/// Most fragments of a datagram: 65,535 bytes at Linux's smallest path MTU (552) are 125.
const MOST_PIECES: usize = 128;

/// What the fragments of a datagram have in common (RFC 791 §3.2, RFC 8200 §4.5). Who speaks on another
/// port has no part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) port: PortId,
    pub(crate) interface: InterfaceId,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Over IPv6 that of the fragment header: only the first says what the datagram carries.
    pub(crate) protocol: u8,
    pub(crate) identification: u32,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for address in [self.source, self.destination] {
            state.write_u128(match address {
                IpAddr::V4(address) => u128::from(address.to_bits()),
                IpAddr::V6(address) => address.to_bits(),
            });
        }
        let place = u128::from(self.port.0) << 16 | u128::from(self.interface.0);
        let what = u128::from(self.identification) << 8 | u128::from(self.protocol);
        state.write_u128(place << 64 | what);
    }
}

/// What becomes of a datagram's fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The first has not come.
    Open,
    /// They go where the first went, as a part of its flow.
    Follows {
        /// The protocol that the datagram carries.
        protocol: u8,
        /// Source and destination port.
        ports: (u16, u16),
    },
    /// They are for the router, and are put together.
    Ours,
    /// None passes any more.
    Refused(DropReason),
}

/// A datagram under way.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) key: Key,
    pub(crate) fate: Fate,
    pub(crate) payer: Payer,
    /// Where each fragment that is noted begins and ends, in order.
    pieces: Vec<(u16, u16)>,
    /// Where the last one ends.
    end: Option<u16>,
    /// What waits, in order of arrival: where it begins, and the frame as received.
    pub(crate) held: Vec<(u16, OwnedFrame)>,
    /// Bytes that it counts for.
    taken: u32,
}

/// What a fragment is to its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It was missing.
    New,
    /// It came before.
    Duplicate,
    /// It contradicts another.
    Overlap,
    /// The datagram has as many as it may.
    TooMany,
}

impl Datagram {
    /// What `piece` is to it.
    pub(crate) fn fit(&self, piece: &Piece) -> Fit {
        let range = (piece.start, piece.end);
        let last = self.pieces.last().map_or(0, |(_, end)| *end);
        let ends_right = match (piece.more, self.end) {
            (true, Some(end)) => piece.end < end,
            (false, Some(end)) => piece.end == end,
            (true, None) => true,
            (false, None) => last <= piece.end,
        };
        let place = self.pieces.partition_point(|(start, _)| *start < range.0);
        let next = self.pieces.get(place);
        if next == Some(&range) && ends_right && (piece.more || self.end.is_some()) {
            return Fit::Duplicate;
        }
        let before = place.checked_sub(1).map(|before| self.pieces[before].1);
        let apart = before.is_none_or(|end| end <= range.0)
            && next.is_none_or(|(start, _)| range.1 <= *start);
        match (ends_right && apart, self.pieces.len() < MOST_PIECES) {
            (false, _) => Fit::Overlap,
            (true, false) => Fit::TooMany,
            (true, true) => Fit::New,
        }
    }

    /// Whether every fragment is noted.
    pub(crate) fn is_whole(&self) -> bool {
        let up_to = self
            .pieces
            .iter()
            .try_fold(0, |at, (start, end)| (*start == at).then_some(*end));
        up_to.is_some() && up_to == self.end
    }

    fn note(&mut self, piece: &Piece) {
        let place = self
            .pieces
            .partition_point(|(start, _)| *start < piece.start);
        self.pieces.insert(place, (piece.start, piece.end));
        if !piece.more {
            self.end = Some(piece.end);
        }
    }
}

/// All datagrams under way that came to one worker.
#[derive(Debug)]
pub(crate) struct Fragments {
    datagrams: BTreeMap<u64, Datagram>,
    numbers: HashMap<Key, u64, HashKey>,
    /// By payer, the oldest first: what makes room.
    by_payer: BTreeSet<(usize, u64)>,
    due: Deadlines<u64>,
    room: Shares,
    /// Datagrams, and fragments that waited, which made room for others since this was asked last.
    displaced: (u64, u64),
    last: u64,
    seed: u64,
    identifications: u64,
}

impl Fragments {
    /// None. Whoever knows identifications or hashes does not know `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            datagrams: BTreeMap::new(),
            numbers: HashMap::with_hasher(HashKey::new(seed)),
            by_payer: BTreeSet::new(),
            due: Deadlines::default(),
            room: Shares::new(ROOM),
            displaced: (0, 0),
            last: 0,
            seed: derive(seed, 5),
            identifications: 0,
        }
    }

    /// The number of a datagram.
    pub(crate) fn find(&self, key: &Key) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    /// The datagram of a number.
    pub(crate) fn get(&self, number: u64) -> Option<&Datagram> {
        self.datagrams.get(&number)
    }

    /// The datagrams under way.
    pub(crate) fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// What they take, in bytes, about.
    pub(crate) fn memory(&self) -> u32 {
        self.room.all()
    }

    /// A new datagram, of which nothing came yet. `None`: `payer` has as much as it may.
    pub(crate) fn open(
        &mut self,
        key: Key,
        payer: Payer,
        patience: Duration,
        now: Instant,
    ) -> Option<u64> {
        if !self.make_room(payer, BESIDE_DATAGRAM, None) {
            return None;
        }
        self.last += 1;
        let number = self.last;
        self.room.take(payer.index(), BESIDE_DATAGRAM);
        self.numbers.insert(key, number);
        self.by_payer.insert((payer.index(), number));
        self.due.set(number, now + patience);
        let datagram = Datagram {
            key,
            fate: Fate::Open,
            payer,
            pieces: Vec::new(),
            end: None,
            held: Vec::new(),
            taken: BESIDE_DATAGRAM,
        };
        self.datagrams.insert(number, datagram);
        Some(number)
    }

    /// A fragment of a datagram has passed. Whether it was the last that was missing.
    pub(crate) fn note(&mut self, number: u64, piece: &Piece) -> bool {
        self.datagrams.get_mut(&number).is_some_and(|datagram| {
            datagram.note(piece);
            datagram.is_whole()
        })
    }

    /// Keeps a fragment. Whether it was the last that was missing; `None`: there is no room for it.
    pub(crate) fn hold(&mut self, number: u64, piece: &Piece, frame: OwnedFrame) -> Option<bool> {
        let more = (frame.bytes.len() + BESIDE_FRAGMENT) as u32;
        let payer = self.datagrams.get(&number)?.payer;
        if !self.make_room(payer, more, Some(number)) {
            return None;
        }
        let datagram = self.datagrams.get_mut(&number)?;
        self.room.take(payer.index(), more);
        datagram.taken += more;
        datagram.held.push((piece.start, frame));
        datagram.note(piece);
        Some(datagram.is_whole())
    }

    /// The fate of a datagram is known from now on. Returns what waited, of which it knows nothing any
    /// more.
    pub(crate) fn settle(&mut self, number: u64, fate: Fate) -> Vec<(u16, OwnedFrame)> {
        let Some(datagram) = self.datagrams.get_mut(&number) else {
            return Vec::new();
        };
        datagram.fate = fate;
        let back = datagram.taken - BESIDE_DATAGRAM;
        self.room.give_back(datagram.payer.index(), back);
        datagram.taken = BESIDE_DATAGRAM;
        if !datagram.held.is_empty() {
            datagram.pieces.clear();
            datagram.end = None;
        }
        std::mem::take(&mut datagram.held)
    }

    /// A datagram is for the router: what waited waits on, for the rest.
    pub(crate) fn become_ours(&mut self, number: u64) {
        if let Some(datagram) = self.datagrams.get_mut(&number) {
            datagram.fate = Fate::Ours;
        }
    }

    /// A datagram is over.
    pub(crate) fn close(&mut self, number: u64) -> Option<Datagram> {
        let datagram = self.datagrams.remove(&number)?;
        self.numbers.remove(&datagram.key);
        self.by_payer.remove(&(datagram.payer.index(), number));
        self.due.clear(number);
        self.room.give_back(datagram.payer.index(), datagram.taken);
        Some(datagram)
    }

    /// The next datagram that has waited long enough.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Datagram> {
        let number = self.due.pop(now)?;
        self.close(number)
    }

    /// When the next one has.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Datagrams that made room since this was asked last, and fragments of them that waited.
    pub(crate) fn take_displaced(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.displaced)
    }

    /// A number that nobody can guess for a datagram of our own (RFC 7739 §5.2).
    pub(crate) fn identification(&mut self) -> u32 {
        self.identifications += 1;
        derive(self.seed, self.identifications) as u32
    }

    /// One datagram alone, and what its payer, or else `payer`, could have if all its others made room;
    /// for trying things out.
    pub(crate) fn only(&self, key: &Key, payer: Payer) -> Self {
        let mut copy = Self::new(self.seed);
        let number = self.find(key);
        let datagram = number.and_then(|number| self.get(number));
        let payer = datagram.map_or(payer, |datagram| datagram.payer);
        copy.room = self.room.clone();
        let others = self.others(payer, number);
        copy.room.give_back(payer.index(), others);
        if let (Some(number), Some(datagram)) = (number, datagram) {
            copy.numbers.insert(*key, number);
            copy.by_payer.insert((payer.index(), number));
            copy.datagrams.insert(number, datagram.clone());
            copy.last = number;
        }
        copy
    }

    /// What `payer` has beside the datagram `but`.
    fn others(&self, payer: Payer, but: Option<u64>) -> u32 {
        let own = but.and_then(|number| self.get(number));
        let own = own.map_or(0, |datagram| datagram.taken);
        self.room.used(payer.index()) - own
    }

    /// Sees to it that `payer` may have `more` bytes: its oldest datagrams, but for one, make room.
    /// Whether it may; if not, none had to go.
    fn make_room(&mut self, payer: Payer, more: u32, but: Option<u64>) -> bool {
        let who = payer.index();
        if self.room.may_take(who, more) {
            return true;
        }
        let others = self.others(payer, but);
        if !self.room.may_take_after(who, more, others) {
            return false;
        }
        while !self.room.may_take(who, more) {
            let mut oldest = self.by_payer.range((who, 0)..=(who, u64::MAX));
            let Some(&(_, oldest)) = oldest.find(|(_, number)| Some(*number) != but) else {
                return false;
            };
            if let Some(gone) = self.close(oldest) {
                self.displaced.0 += 1;
                self.displaced.1 += gone.held.len() as u64;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
