//! The session table: records of fixed number, found by either direction's flow.

use foldhash::fast::FixedState;

use super::{Direction, FREE, Flow, Index, SessionMemory, SessionRecord, State};
use crate::config::Timeouts;
use crate::family::Address;
use crate::time::Instant;

/// Coarse time for sessions: tenths of a second on the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks(pub u32);

impl From<Instant> for Ticks {
    #[inline]
    fn from(now: Instant) -> Self {
        Self((now.as_millis() / 100) as u32)
    }
}

/// Ends the chain of free records.
const END: u32 = u32::MAX;

/// All sessions of one shard.
#[derive(Debug)]
pub struct SessionTable<A: Address> {
    memory: SessionMemory<A>,
    index: Index,
    seed: FixedState,
    /// First of the chain of records that were used and are free again.
    free: u32,
    /// Records from here on were never used.
    fresh: u32,
    live: u32,
    /// Where the search for expired sessions goes on.
    hand: u32,
    timeouts: [u32; 5],
    /// The least of them: a session seen within it needs no closer look.
    shortest: u32,
}

/// The order of [`SessionTable::timeouts`].
const TCP_ESTABLISHED: usize = 0;
const TCP_TRANSITORY: usize = 1;
const UDP: usize = 2;
const ICMP: usize = 3;
const OTHER: usize = 4;

impl<A: Address> SessionTable<A> {
    /// A table over `memory`; what is live in it stays so. `seed` is random per start.
    pub fn new(memory: SessionMemory<A>, seed: u64, timeouts: &Timeouts) -> Self {
        let capacity = memory.len().min(END as usize / 2);
        let mut table = Self {
            index: Index::new(capacity * 2),
            memory,
            seed: FixedState::with_seed(seed),
            free: END,
            fresh: 0,
            live: 0,
            hand: 0,
            timeouts: [0; 5],
            shortest: 0,
        };
        table.set_timeouts(timeouts);
        table.recover();
        table
    }

    /// Uses other idle times from now on.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.timeouts = [
            timeouts.tcp_established,
            timeouts.tcp_transitory,
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

    /// No session is live.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many sessions fit.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Memory used for records and index, in bytes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.memory) + self.index.memory()
    }

    /// The flow's hash, for [`Self::find`].
    #[inline]
    pub fn hash(&self, flow: &Flow<A>) -> u64 {
        flow.hash(&self.seed)
    }

    /// The session that `flow`, as received, belongs to, and its direction.
    #[inline]
    pub fn find(&self, flow: &Flow<A>) -> Option<(u32, Direction)> {
        let found = self.index.find(self.hash(flow), |value| {
            let (number, direction) = split(value);
            self.memory
                .get(number as usize)
                .is_some_and(|record| record.is(direction, flow))
        });
        found.map(split)
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

    /// Reads a record's first and last word, to have both its cache lines in the cache.
    #[inline]
    pub fn touch(&self, number: u32) -> u32 {
        self.memory
            .get(number as usize)
            .map_or(0, SessionRecord::touch)
    }

    /// The record of a session.
    #[inline]
    pub fn get(&self, number: u32) -> &SessionRecord<A> {
        &self.memory[number as usize]
    }

    /// The record of a session, to change it.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> &mut SessionRecord<A> {
        &mut self.memory[number as usize]
    }

    /// Adds a session. `None` when the table is full.
    pub fn insert(&mut self, mut record: SessionRecord<A>, now: Ticks) -> Option<u32> {
        record.seen = now.0;
        let number = if self.free != END {
            let number = self.free;
            self.free = self.memory[number as usize].generation;
            number
        } else if (self.fresh as usize) < self.memory.len() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        self.memory[number as usize] = record;
        self.live += 1;
        self.enter(number);
        Some(number)
    }

    /// Ends a session and returns what it was.
    pub fn remove(&mut self, number: u32) -> SessionRecord<A> {
        let record = self.memory[number as usize];
        for direction in [Direction::Forward, Direction::Reply] {
            let hash = self.hash(&record.received(direction));
            self.index.remove(hash, join(number, direction));
        }
        self.memory[number as usize] = SessionRecord {
            state: FREE,
            generation: self.free,
            ..SessionRecord::default()
        };
        self.free = number;
        self.live -= 1;
        record
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

    /// Looks at up to `most` records from where it stopped last, and ends those that have
    /// expired; `ended` gets what they were.
    pub fn sweep(&mut self, most: usize, now: Ticks, mut ended: impl FnMut(SessionRecord<A>)) {
        for _ in 0..most.min(self.fresh as usize) {
            if self.hand >= self.fresh {
                self.hand = 0;
            }
            let record = &self.memory[self.hand as usize];
            if record.is_live() && self.is_expired(record, now) {
                ended(self.remove(self.hand));
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
            .map(|number| (number, &self.memory[number as usize]))
            .filter(|(_, record)| record.is_live())
    }

    #[inline]
    fn timeout(&self, record: &SessionRecord<A>) -> u32 {
        let class = match (record.protocol, record.state()) {
            (6, State::Established) => TCP_ESTABLISHED,
            (6, _) => TCP_TRANSITORY,
            (17, _) => UDP,
            (1 | 58, _) => ICMP,
            _ => OTHER,
        };
        self.timeouts[class]
    }

    fn enter(&mut self, number: u32) {
        let record = self.memory[number as usize];
        for direction in [Direction::Forward, Direction::Reply] {
            let hash = self.hash(&record.received(direction));
            self.index.insert(hash, join(number, direction));
        }
    }

    /// Indexes what an earlier process left in the memory. A record whose flow is there already
    /// (it died between two writes) is freed.
    fn recover(&mut self) {
        let Some(last) = self.memory.iter().rposition(SessionRecord::is_live) else {
            return;
        };
        self.fresh = last as u32 + 1;
        for number in (0..self.fresh).rev() {
            let record = self.memory[number as usize];
            let twice = [Direction::Forward, Direction::Reply]
                .into_iter()
                .any(|direction| self.find(&record.received(direction)).is_some());
            if record.is_live() && !twice {
                self.memory[number as usize].generation = 0;
                for direction in [Direction::Forward, Direction::Reply] {
                    self.memory[number as usize].set_path(direction, None);
                }
                self.enter(number);
                self.live += 1;
            } else {
                self.memory[number as usize] = SessionRecord {
                    state: FREE,
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

const fn split(value: u32) -> (u32, Direction) {
    (
        value >> 1,
        if value & 1 == 0 {
            Direction::Forward
        } else {
            Direction::Reply
        },
    )
}
