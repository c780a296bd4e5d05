//! Whom each session counts against, and which of a payer's sessions make room for another.
//!
//! Sessions that were not answered, or are closing, make room first, the oldest of the same payer;
//! established ones never do. What a stranger opens on an uplink counts against that port until the
//! guest answers, and against the guest from then on. While the guest has all that it may have, its
//! sessions stay the port's, and make room like unanswered ones.

use crate::base::bucket::Bucket;
use crate::base::shares::Shares;
use crate::base::time::Instant;
use crate::state::payer::Payer;

/// Whom each session counts against.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// By session number. All zeroes: not a session's.
    entries: Vec<Entry>,
    /// By payer: its sessions that make room, as a list.
    lists: Vec<List>,
    shares: Shares,
    /// By payer: its TCP connections that did not come about lately.
    opening: Vec<Bucket>,
}

/// A session's place in its payer's list. Numbers are one higher than what they name; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    older: u32,
    newer: u32,
    /// The payer's index, times two; one more if it is in the list.
    payer: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct List {
    oldest: u32,
    newest: u32,
}

impl Ledger {
    /// For this many sessions.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: vec![Entry::default(); capacity],
            lists: Vec::new(),
            shares: Shares::new(capacity as u32),
            opening: Vec::new(),
        }
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.entries)
            + self.lists.capacity() * size_of::<List>()
            + self.shares.memory()
            + self.opening.capacity() * size_of::<Bucket>()
    }

    /// How many sessions each payer has, and may have.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// How many sessions `payer` may have at most; `None`: its share.
    pub(crate) fn limit(&mut self, payer: Payer, limit: Option<u32>) {
        self.shares.limit(payer.index(), limit);
    }

    /// Whether `payer` may have one more.
    #[inline]
    pub(crate) fn may_open(&self, payer: Payer) -> bool {
        self.shares.may_take(payer.index(), 1)
    }

    /// Whether `payer` may open one more TCP connection while up to `most` are not established: a tenth of
    /// that many are forgotten each second.
    pub(crate) fn may_connect(&mut self, payer: Payer, most: u32, now: Instant) -> bool {
        let rate = (u64::from(most / 10).max(1), most.into());
        self.opening_of(payer.index()).take_some(1, rate, now)
    }

    /// The TCP connection of session `number` was established, or its other end refused it.
    pub(super) fn connected(&mut self, number: u32) {
        let payer = self.entries[number as usize].payer >> 1;
        if let Some(opening) = self.opening.get_mut(payer as usize) {
            opening.give_back(1);
        }
    }

    /// The TCP connection of session `number` is opened anew.
    pub(super) fn connects(&mut self, number: u32) {
        let payer = self.entries[number as usize].payer >> 1;
        self.opening_of(payer as usize).overdraw(1);
    }

    /// `payer` has as many TCP connections that did not come about as in `other`; for trying things out.
    pub(crate) fn presume(&mut self, payer: Payer, other: &Self) {
        if let Some(opening) = other.opening.get(payer.index()) {
            *self.opening_of(payer.index()) = *opening;
        }
    }

    /// `payer` may have no more, as in a table where it has `used`; for trying things out.
    pub(crate) fn refuse(&mut self, payer: Payer, used: u32) {
        self.shares.take(payer.index(), used);
        self.shares.divide(0);
    }

    /// The session that makes room for another of `payer`'s, if one does: what an earlier dataplane left
    /// as far as its share or limit goes, then its own.
    pub(crate) fn spare(&self, payer: Payer) -> Option<u32> {
        let oldest = |payer: Payer| self.lists.get(payer.index())?.oldest.checked_sub(1);
        let (own, left) = (payer.index(), Payer::Nobody.index());
        let left = self.shares.may_take_from(own, left);
        let left = left.then(|| oldest(Payer::Nobody)).flatten();
        left.or_else(|| oldest(payer))
    }

    /// Session `number` is new, and `payer`'s.
    pub(super) fn open(&mut self, number: u32, payer: Payer) {
        self.shares.take(payer.index(), 1);
        self.entries[number as usize].payer = (payer.index() as u32) << 1;
        self.append(number);
    }

    /// Session `number` is over.
    pub(super) fn close(&mut self, number: u32) {
        self.take_out(number);
        let payer = self.entries[number as usize].payer >> 1;
        self.shares.give_back(payer as usize, 1);
        self.entries[number as usize] = Entry::default();
    }

    /// Whom session `number` counts against, by index.
    pub(super) fn payer(&self, number: u32) -> usize {
        (self.entries[number as usize].payer >> 1) as usize
    }

    /// Session `number` counts against `payer` from now on; one that strangers opened and a guest
    /// answered stays the guest's.
    pub(crate) fn charge(&mut self, number: u32, payer: Payer) {
        let entry = self.entries[number as usize];
        let is_a_guests = (entry.payer >> 1) % 3 == Payer::To(0).index() as u32;
        let is_strangers = matches!(payer, Payer::Port(_));
        if (entry.payer >> 1) as usize == payer.index() || is_a_guests && is_strangers {
            return;
        }
        let listed = self.take_out(number);
        self.shares.give_back((entry.payer >> 1) as usize, 1);
        self.shares.take(payer.index(), 1);
        self.entries[number as usize].payer = (payer.index() as u32) << 1;
        if listed {
            self.append(number);
        }
    }

    /// Session `number` was answered, by `guest` if it is one's: it makes no room any more, unless
    /// the guest has all that it may have.
    #[cold]
    pub(crate) fn answered(&mut self, number: u32, guest: Option<u16>) {
        let payer = self.entries[number as usize].payer >> 1;
        let strangers = payer != 0 && payer.is_multiple_of(3); // as `Payer::index` has it
        match guest.map(Payer::To) {
            Some(guest) if strangers && !self.may_open(guest) => return,
            Some(guest) if strangers => self.charge(number, guest),
            _ => {}
        }
        self.take_out(number);
    }

    /// Session `number` makes room from now on, as its payer's newest.
    #[cold]
    pub(super) fn unanswered(&mut self, number: u32) {
        self.take_out(number);
        self.append(number);
    }

    fn opening_of(&mut self, payer: usize) -> &mut Bucket {
        if self.opening.len() <= payer {
            self.opening.resize(payer + 1, Bucket::default());
        }
        &mut self.opening[payer]
    }

    fn append(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        let payer = (entry.payer >> 1) as usize;
        entry.payer |= 1;
        if self.lists.len() <= payer {
            self.lists.resize(payer + 1, List::default());
        }
        let list = &mut self.lists[payer];
        (entry.older, entry.newer) = (list.newest, 0);
        match list.newest {
            0 => list.oldest = number + 1,
            newest => self.entries[newest as usize - 1].newer = number + 1,
        }
        list.newest = number + 1;
    }

    /// Takes a session out of its payer's list; whether it was in it.
    fn take_out(&mut self, number: u32) -> bool {
        let entry = self.entries[number as usize];
        if entry.payer & 1 == 0 {
            return false;
        }
        let list = &mut self.lists[(entry.payer >> 1) as usize];
        match entry.older {
            0 => list.oldest = entry.newer,
            older => self.entries[older as usize - 1].newer = entry.newer,
        }
        match entry.newer {
            0 => list.newest = entry.older,
            newer => self.entries[newer as usize - 1].older = entry.older,
        }
        self.entries[number as usize].payer &= !1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::PortId;

    const A: Payer = Payer::By(0);
    const B: Payer = Payer::By(1);
    const UPLINK: Payer = Payer::Port(PortId(0));

    #[test]
    fn the_oldest_unanswered_of_the_same_payer_makes_room() {
        let mut ledger = Ledger::new(16);
        for number in 0..4 {
            ledger.open(number, A);
        }
        ledger.open(9, B);
        assert_eq!((ledger.spare(A), ledger.spare(B)), (Some(0), Some(9)));
        ledger.answered(0, None);
        assert_eq!(ledger.spare(A), Some(1));
        ledger.close(1);
        ledger.unanswered(0);
        assert_eq!(ledger.spare(A), Some(2), "what closed lately leaves later");
        for number in [2, 3, 0] {
            assert_eq!(ledger.spare(A), Some(number));
            ledger.close(number);
        }
        assert_eq!((ledger.spare(A), ledger.shares.used(A.index())), (None, 0));
        assert_eq!(ledger.spare(B), Some(9));
    }

    #[test]
    fn what_strangers_open_is_the_guests_once_it_answers_within_its_share() {
        let mut ledger = Ledger::new(16);
        ledger.limit(Payer::To(0), Some(1));
        ledger.open(0, UPLINK);
        ledger.open(1, UPLINK);
        ledger.answered(0, Some(0));
        ledger.answered(1, Some(0));
        let used = |payer: Payer| ledger.shares.used(payer.index());
        assert_eq!((used(UPLINK), used(Payer::To(0))), (1, 1));
        assert_eq!(
            ledger.spare(UPLINK),
            Some(1),
            "beyond its limit they make room"
        );
        assert_eq!(ledger.spare(Payer::To(0)), None);
        ledger.open(2, A);
        ledger.answered(2, Some(0));
        assert_eq!(
            ledger.shares.used(A.index()),
            1,
            "a guest's own stay its own"
        );
    }

    #[test]
    fn what_an_earlier_dataplane_left_makes_room_for_everybody() {
        let mut ledger = Ledger::new(16);
        ledger.open(5, Payer::Nobody);
        assert_eq!(ledger.spare(B), Some(5));
        ledger.charge(5, A);
        assert_eq!((ledger.spare(B), ledger.spare(A)), (None, Some(5)));
    }

    #[test]
    fn what_an_earlier_dataplane_left_makes_room_for_nobody_beyond_its_share_or_limit() {
        let mut ledger = Ledger::new(16);
        for number in 0..16 {
            ledger.open(number, Payer::Nobody);
        }
        let replace = |ledger: &mut Ledger, payer: Payer| {
            while let Some(number) = ledger.spare(payer).filter(|_| !ledger.may_open(payer)) {
                ledger.close(number);
                ledger.open(number, payer);
                ledger.answered(number, None);
            }
            ledger.shares.used(payer.index())
        };
        ledger.limit(B, Some(3));
        assert_eq!(replace(&mut ledger, B), 3, "its limit");
        assert_eq!(replace(&mut ledger, A), 7, "half of what is left");
        assert_eq!(replace(&mut ledger, UPLINK), 3, "half of what is left then");
        assert_eq!(ledger.shares.used(Payer::Nobody.index()), 3);
    }
}
