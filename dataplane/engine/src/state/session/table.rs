//! The session table: records of fixed number, found by either direction's flow.

use super::connections::Connections;
use super::ledger::Ledger;
use super::memory::SessionMemory;
use super::record::{FREE, KEEPS_MAPPING, SessionDetail, SessionRecord};
use super::stage::Stage;
use super::tally::{Subject, Tally};
use crate::base::hash::HashKey;
use crate::base::index::Index;
use crate::base::ip::Address;
use crate::base::time::{Instant, Ticks};
use crate::config::Timeouts;
use crate::state::payer::Payer;
use crate::wire::flow::{Direction, Flow};
use crate::wire::packet::TCP;
use crate::wire::tcp::Segment;

/// A session that a packet belongs to, and which way the packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The session's number.
    pub number: u32,
    /// The packet's direction.
    pub direction: Direction,
}

/// Most sessions that one look for expired ones ends: each takes as long as looking at several.
pub(crate) const ENDED_AT_ONCE: u64 = 32;

/// Ends the chain of free records.
const END: u32 = u32::MAX;

/// All sessions of one shard.
#[derive(Debug)]
pub struct SessionTable<A: Address> {
    memory: SessionMemory<A>,
    ledger: Ledger,
    connections: Connections<A>,
    index: Index,
    /// `None`: nobody asks.
    tally: Option<Tally<A>>,
    key: HashKey,
    /// First of the chain of records that were used and are free again.
    free: u32,
    /// Records from here on were never used.
    fresh: u32,
    live: u32,
    /// RST and SYN segments that were outside of an established connection's window.
    ignored: u64,
    /// Where the search for expired sessions goes on.
    hand: u32,
    timeouts: [u32; 6],
    /// The least of them: a session seen within it needs no closer look.
    shortest: u32,
}

/// The order of [`SessionTable::timeouts`].
const TCP_ESTABLISHED: usize = 0;
const TCP_OPENING: usize = 1;
const TCP_CLOSING: usize = 2;
const UDP: usize = 3;
const ICMP: usize = 4;
const OTHER: usize = 5;

impl<A: Address> SessionTable<A> {
    /// A table over `memory`; what is live in it stays so. `seed` is random per start.
    pub fn new(memory: SessionMemory<A>, seed: u64, timeouts: &Timeouts) -> Self {
        let capacity = memory.capacity().min(END as usize / 2);
        let mut table = Self {
            index: Index::new(capacity * 2),
            ledger: Ledger::new(capacity),
            tally: None,
            connections: Connections::new(capacity, seed.rotate_left(23)),
            memory,
            key: HashKey::new(seed),
            free: END,
            fresh: 0,
            live: 0,
            ignored: 0,
            hand: 0,
            timeouts: [0; 6],
            shortest: 0,
        };
        table.set_timeouts(timeouts);
        table.recover();
        table
    }

    /// There are going to be sessions: makes the memory for them. That of a family which nobody uses is
    /// not made.
    pub fn prepare(&mut self) {
        self.index.prepare();
    }

    /// Uses other idle times from now on.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.timeouts = [
            timeouts.tcp_established,
            timeouts.tcp_opening(),
            timeouts.tcp_closing(),
            timeouts.udp,
            timeouts.icmp,
            timeouts.other,
        ]
        .map(|seconds| seconds.saturating_mul(10));
        self.shortest = self.timeouts.into_iter().min().unwrap_or(0);
    }

    /// How many sessions are live.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// How many RST and SYN segments were outside of an established connection's window (RFC 5961).
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// No session is live.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many sessions fit.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// All memory used for sessions, in bytes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.memory.records)
            + size_of_val(&*self.memory.details)
            + self.index.memory()
            + self.ledger.memory()
            + self.tally.as_ref().map_or(0, Tally::memory)
            + self.connections.memory()
    }

    /// The flow's hash, for [`Self::find`].
    #[inline]
    pub fn hash(&self, flow: &Flow<A>) -> u64 {
        flow.hash(&self.key)
    }

    /// The session that `flow`, as received, belongs to, and its direction.
    #[inline(always)]
    pub fn find(&self, flow: &Flow<A>) -> Option<Hit> {
        let found = self.index.find(self.hash(flow), |value| {
            let hit = split(value);
            self.memory
                .records
                .get(hit.number as usize)
                .is_some_and(|record| record.is(hit.direction, flow))
        });
        found.map(split)
    }

    /// What finding `flow` costs at most.
    #[cfg(test)]
    pub(crate) fn cost(&self, flow: &Flow<A>) -> usize {
        self.index.cost(self.hash(flow))
    }

    /// Reads a word of the bucket of `hash`, to have it in the cache.
    #[inline]
    pub fn touch_bucket(&self, hash: u64) -> u32 {
        self.index.touch(hash)
    }

    /// The first candidate record for `hash`.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        self.index.candidate(hash).map(|value| value >> 1)
    }

    /// No session is found by `hash`, as far as one look tells.
    #[inline]
    pub fn lacks(&self, hash: u64) -> bool {
        self.index.lacks(hash)
    }

    /// Reads a record's first and last word, to have all of it in the cache.
    #[inline]
    pub fn touch(&self, number: u32) -> u32 {
        self.memory
            .records
            .get(number as usize)
            .map_or(0, SessionRecord::touch)
    }

    /// The record of a session.
    #[inline]
    pub fn get(&self, number: u32) -> &SessionRecord<A> {
        &self.memory.records[number as usize]
    }

    /// The record of a session, to change it.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> &mut SessionRecord<A> {
        &mut self.memory.records[number as usize]
    }

    /// What few packets need of a session.
    #[inline]
    pub fn detail(&self, number: u32) -> &SessionDetail {
        &self.memory.details[number as usize]
    }

    /// What few packets need of a session, to change it.
    #[inline]
    pub fn detail_mut(&mut self, number: u32) -> &mut SessionDetail {
        &mut self.memory.details[number as usize]
    }

    /// Counts a packet of `length` bytes seen at `now`, and follows the protocol's state.
    #[inline(always)]
    pub fn account(&mut self, hit: Hit, length: usize, segment: Option<Segment>, now: Ticks) {
        let Hit { number, direction } = hit;
        let record = &mut self.memory.records[number as usize];
        let before = record.stage;
        let carry = record.count(direction, length);
        match segment {
            Some(segment) => {
                let detail = &mut self.memory.details[number as usize];
                if !record.hear_tcp(detail, direction, &segment, now) && !record.makes_room() {
                    self.ignored += 1;
                }
            }
            None => record.hear(direction, now),
        }
        if before != record.stage {
            self.turn(hit, before);
        }
        if carry != [0, 0] {
            self.memory.details[number as usize].carry(direction, carry);
        }
    }

    /// Whom each session counts against.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whom each session counts against, to change it.
    pub(crate) fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Has session `number` count against `payer`.
    pub(crate) fn charge(&mut self, number: u32, payer: Payer) {
        self.uncount(number);
        self.ledger.charge(number, payer);
        self.count(number);
    }

    /// Whether sessions are counted by what they share ([`Self::shared_by`]) from now on. Costs a look at
    /// all of them when it begins.
    pub(crate) fn keep_tally(&mut self, on: bool) {
        if on == self.tally.is_some() {
            return;
        }
        let tally = on.then(|| Tally::new(self.memory.capacity(), self.key.clone()));
        self.tally = tally;
        for number in 0..self.fresh {
            if self.get(number).is_live() {
                self.count(number);
            }
        }
    }

    /// How many sessions share this; 0 where that is not counted.
    pub(crate) fn shared_by(&self, subject: &Subject<A>) -> u32 {
        self.tally.as_ref().map_or(0, |tally| tally.count(subject))
    }

    /// As if so many sessions shared this; for trying things out.
    pub(crate) fn assume(&mut self, subject: Subject<A>, sessions: u32) {
        self.keep_tally(true);
        if let Some(tally) = &mut self.tally {
            tally.set(subject, sessions);
        }
    }

    /// How many sessions rules let through.
    pub(crate) fn connections(&self) -> &Connections<A> {
        &self.connections
    }

    /// How many sessions rules let through, to change it.
    pub(crate) fn connections_mut(&mut self) -> &mut Connections<A> {
        &mut self.connections
    }

    /// Adds a session that counts against `payer`. `None` when the table is full.
    ///
    /// Inlined by order, and the record handed over by value: it is put together where it stays. Copied from
    /// elsewhere, in larger pieces than it was written in, it would wait for all that was written before.
    #[inline(always)]
    pub fn insert(
        &mut self,
        record: SessionRecord<A>,
        detail: SessionDetail,
        payer: Payer,
    ) -> Option<u32> {
        let number = if self.free != END {
            let number = self.free;
            self.free = self.memory.records[number as usize].generation;
            number
        } else if (self.fresh as usize) < self.memory.capacity() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        let hashes = self.hashes(&record);
        self.memory.records[number as usize] = record;
        self.memory.details[number as usize] = detail;
        self.live += 1;
        self.ledger.open(number, payer);
        self.enter(number, hashes);
        self.count(number);
        Some(number)
    }

    /// Counts the opener's first packet of session `number`, seen at `now`, by its length and segment.
    #[inline]
    pub fn count_first(&mut self, number: u32, first: (usize, Option<Segment>), now: Ticks) {
        let record = &mut self.memory.records[number as usize];
        self.memory.details[number as usize].count_first(record, first.0, first.1, now);
    }

    /// Ends a session and returns what it was.
    pub fn remove(&mut self, number: u32) -> SessionRecord<A> {
        let record = self.memory.records[number as usize];
        self.uncount(number);
        for direction in [Direction::Forward, Direction::Reply] {
            let hash = self.hash(&record.received(direction));
            self.index.remove(hash, join(number, direction));
        }
        self.memory.records[number as usize] = SessionRecord {
            stage: FREE,
            generation: self.free,
            ..SessionRecord::default()
        };
        self.free = number;
        self.live -= 1;
        self.ledger.close(number);
        self.connections.close(number);
        record
    }

    /// A session has come further than stage `before`.
    #[cold]
    fn turn(&mut self, Hit { number, direction }: Hit, before: u8) {
        self.uncount(number);
        let record = self.get(number);
        let (stage, is_tcp) = (record.stage(), record.protocol == TCP);
        let was_new = before == Stage::New as u8;
        // An opener that resets what it opens scans: that does not count as an answer.
        if is_tcp && was_new && (stage == Stage::Established || direction == Direction::Reply) {
            self.ledger.connected(number);
        }
        match stage {
            Stage::Established => {
                let guest = self.detail(number).guest();
                self.ledger.answered(number, guest);
                let record = self.get_mut(number);
                if record.is_by_mapping() {
                    record.flags |= KEEPS_MAPPING;
                }
            }
            // It makes room already, and no later for having failed.
            Stage::Closing if was_new => {}
            // What is opened anew is its payer's newest.
            Stage::New | Stage::Closing => {
                self.ledger.unanswered(number);
                if stage == Stage::New && is_tcp {
                    self.ledger.connects(number);
                }
            }
        }
        self.count(number);
    }

    #[inline]
    fn count(&mut self, number: u32) {
        if let Some(tally) = &mut self.tally {
            let record = &self.memory.records[number as usize];
            tally.add(record, self.ledger.payer(number));
        }
    }

    #[inline]
    fn uncount(&mut self, number: u32) {
        if let Some(tally) = &mut self.tally {
            let record = &self.memory.records[number as usize];
            tally.take(record, self.ledger.payer(number));
        }
    }

    /// By a mapping that nobody uses any more: only strangers speak in it.
    fn is_orphan(&self, record: &SessionRecord<A>) -> bool {
        record.is_by_mapping() && !record.keeps_mapping() && {
            let to = record.inside();
            let external = (to.destination, to.destination_port);
            self.shared_by(&Subject::mapping(external, to.protocol)) == 0
        }
    }

    /// Idle for longer than its state allows.
    #[inline]
    pub fn is_expired(&self, record: &SessionRecord<A>, now: Ticks) -> bool {
        let idle = now.0.saturating_sub(record.seen);
        idle > self.shortest && idle > self.timeout(record)
    }

    /// When the session ends if nothing more is seen of it.
    pub fn expires(&self, record: &SessionRecord<A>) -> Instant {
        Instant::from_millis(u64::from(record.seen.saturating_add(self.timeout(record))) * 100)
    }

    /// Looks at up to `most` records from where it stopped last, and ends those that have expired,
    /// whose mapping has, or that are `over` for another reason, until it has ended [`ENDED_AT_ONCE`];
    /// `ended` gets what they were, and whether they had expired.
    pub fn sweep(
        &mut self,
        most: usize,
        now: Ticks,
        over: impl Fn(&SessionRecord<A>, &SessionDetail) -> bool,
        mut ended: impl FnMut(SessionRecord<A>, bool),
    ) {
        let mut left = ENDED_AT_ONCE;
        for _ in 0..most.min(self.fresh as usize) {
            if left == 0 {
                return;
            }
            if self.hand >= self.fresh {
                self.hand = 0;
            }
            let record = &self.memory.records[self.hand as usize];
            if record.is_live() {
                let expired = self.is_expired(record, now) || self.is_orphan(record);
                if expired || over(record, self.detail(self.hand)) {
                    ended(self.remove(self.hand), expired);
                    left -= 1;
                }
            }
            self.hand += 1;
        }
    }

    /// How many records were ever used: what a full sweep looks at.
    pub fn used(&self) -> usize {
        self.fresh as usize
    }

    /// Live sessions with their numbers, from number `from` on.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, &SessionRecord<A>)> {
        (from..self.fresh)
            .map(|number| (number, &self.memory.records[number as usize]))
            .filter(|(_, record)| record.is_live())
    }

    #[inline]
    fn timeout(&self, record: &SessionRecord<A>) -> u32 {
        let class = match (record.protocol, record.stage()) {
            (6, Stage::Established) => TCP_ESTABLISHED,
            (6, Stage::New) => TCP_OPENING,
            (6, Stage::Closing) => TCP_CLOSING,
            (17, _) => UDP,
            (1 | 58, _) => ICMP,
            _ => OTHER,
        };
        self.timeouts[class]
    }

    #[inline]
    fn enter(&mut self, number: u32, hashes: [u64; 2]) {
        for direction in [Direction::Forward, Direction::Reply] {
            let hash = hashes[direction as usize];
            self.index.insert(hash, join(number, direction));
        }
    }

    /// The hashes of both flows that come in.
    #[inline(always)]
    fn hashes(&self, record: &SessionRecord<A>) -> [u64; 2] {
        let [forward, reply] = [Direction::Forward, Direction::Reply];
        [
            self.hash(&record.received(forward)),
            self.hash(&record.received(reply)),
        ]
    }

    /// Indexes what an earlier process left in the memory. A record whose flow is there already
    /// (it died between two writes) is freed.
    fn recover(&mut self) {
        let Some(last) = self.memory.records.iter().rposition(SessionRecord::is_live) else {
            return;
        };
        self.fresh = last as u32 + 1;
        for number in (0..self.fresh).rev() {
            let record = self.memory.records[number as usize];
            let twice = [Direction::Forward, Direction::Reply]
                .into_iter()
                .any(|direction| self.find(&record.received(direction)).is_some());
            if record.is_live() && !twice {
                self.memory.records[number as usize].forget_numbers();
                self.enter(number, self.hashes(&record));
                self.live += 1;
                self.ledger.open(number, Payer::Nobody);
                if !record.makes_room() {
                    self.ledger.answered(number, None);
                }
            } else {
                self.memory.records[number as usize] = SessionRecord {
                    stage: FREE,
                    generation: self.free,
                    ..SessionRecord::default()
                };
                self.free = number;
            }
        }
    }
}

/// A session's number and a direction in one index value.
const fn join(number: u32, direction: Direction) -> u32 {
    number << 1 | direction as u32
}

const fn split(value: u32) -> Hit {
    Hit {
        number: value >> 1,
        direction: if value & 1 == 0 {
            Direction::Forward
        } else {
            Direction::Reply
        },
    }
}
