//! One family's sessions with the external ports they hold.

use crate::addr::InterfaceId;
use crate::config;
use crate::family::{Address, Family};
use crate::nat::Nat;
use crate::session::{Direction, SessionMemory, SessionRecord, SessionTable, Ticks};
use crate::shard::SessionView;
use crate::time::Instant;

/// Sessions of a batch that are brought into the cache beforehand.
const WARMED: usize = 64;

/// One family's sessions and mappings.
#[derive(Debug)]
pub struct Flows<A: Address> {
    pub(crate) sessions: SessionTable<A>,
    pub(crate) nat: Nat<A>,
}

impl<A: Address> Flows<A> {
    pub(crate) fn new(memory: SessionMemory<A>, seed: u64, router: &config::Router) -> Self {
        Self {
            sessions: SessionTable::new(memory, seed, &router.timeouts),
            nat: Nat::new(seed.rotate_left(11)),
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.sessions.memory() + self.nat.memory()
    }

    /// Ends a session and gives its external port back.
    pub(crate) fn end(&mut self, number: u32) {
        let record = self.sessions.remove(number);
        self.release(&record);
    }

    fn release(&mut self, record: &SessionRecord<A>) {
        if record.is_translated() {
            let outside = record.outside();
            self.nat
                .release(outside.source, outside.protocol, outside.source_port);
        }
    }

    /// Ends what has expired among the next `most` records; returns how many.
    pub(crate) fn sweep(&mut self, most: usize, now: Instant) -> u64 {
        let mut ended = Vec::new();
        self.sessions
            .sweep(most, Ticks::from(now), |record| ended.push(record));
        for record in &ended {
            self.release(record);
        }
        ended.len() as u64
    }

    /// Ends the sessions that use one of these interfaces; returns how many.
    pub(crate) fn end_those_of(&mut self, gone: &[InterfaceId]) -> u64 {
        let uses = |record: &SessionRecord<A>| {
            [Direction::Forward, Direction::Reply]
                .into_iter()
                .filter_map(|direction| record.path(direction))
                .any(|path| gone.contains(&path.interface))
        };
        let numbers: Vec<u32> = self
            .sessions
            .iter_from(0)
            .filter(|(_, record)| uses(record))
            .map(|(number, _)| number)
            .collect();
        for number in &numbers {
            self.end(*number);
        }
        numbers.len() as u64
    }

    /// Sessions taken over hold their external ports again; one whose port is not to be had ends.
    /// Returns how many live on.
    pub(crate) fn recover_mappings(&mut self) -> u64 {
        let numbers: Vec<u32> = self
            .sessions
            .iter_from(0)
            .map(|(number, _)| number)
            .collect();
        let mut recovered = 0;
        for number in numbers {
            let record = self.sessions.get(number);
            let (inside, outside) = (record.inside(), record.outside());
            let holds = !record.is_translated()
                || self.nat.restore(
                    outside.source,
                    outside.protocol,
                    (inside.source, inside.source_port),
                    outside.source_port,
                );
            if holds {
                recovered += 1;
            } else {
                self.sessions.remove(number);
            }
        }
        recovered
    }

    /// Live sessions from number `from` on, at most `most`, and the number to go on with.
    pub(crate) fn view(
        &self,
        from: u32,
        most: usize,
        now: Instant,
    ) -> (Vec<SessionView>, Option<u32>) {
        let mut views = Vec::new();
        for (number, record) in self.sessions.iter_from(from) {
            if views.len() == most {
                return (views, Some(number));
            }
            if self.sessions.is_expired(record, Ticks::from(now)) {
                continue;
            }
            let (inside, outside) = (record.inside(), record.outside());
            let interface = |direction| {
                record
                    .path(direction)
                    .map_or(InterfaceId(u16::MAX), |path| path.interface)
            };
            views.push(SessionView {
                protocol: inside.protocol,
                source: (inside.source.into(), inside.source_port),
                destination: (inside.destination.into(), inside.destination_port),
                translated: record
                    .is_translated()
                    .then_some((outside.source.into(), outside.source_port)),
                iif: interface(Direction::Reply),
                oif: interface(Direction::Forward),
                state: record.state().name(),
                forward: record.traffic(Direction::Forward),
                reply: record.traffic(Direction::Reply),
                expires: self.sessions.expires(record),
            });
        }
        (views, None)
    }

    /// A copy of what one flow can touch: session `number`, and the pools of `externals`.
    pub(crate) fn excerpt(
        &self,
        number: Option<u32>,
        externals: &[A],
        seed: u64,
        router: &config::Router,
    ) -> Self {
        let mut memory = SessionMemory::owned(4);
        if let Some(number) = number {
            memory[0] = *self.sessions.get(number);
        }
        let mut copy = Self {
            sessions: SessionTable::new(memory, seed, &router.timeouts),
            nat: self.nat.excerpt(externals),
        };
        if let Some(number) = number
            && copy.sessions.len() == 1
        {
            // Recovering forgot what only a restart makes doubtful.
            *copy.sessions.get_mut(0) = *self.sessions.get(number);
        }
        copy
    }
}

impl<A: Family> Flows<A> {
    /// Brings the sessions of this family's frames into the cache: the index buckets of all of them,
    /// then the records.
    pub(crate) fn warm<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) {
        let mut hashes = [0; WARMED];
        let mut count = 0;
        for (hash, flow) in hashes.iter_mut().zip(frames.filter_map(A::flow_hint)) {
            *hash = self.sessions.hash(&flow);
            count += 1;
        }
        let hashes = &hashes[..count];
        let touched = hashes.iter().fold(0, |sum: u32, hash| {
            sum.wrapping_add(self.sessions.touch_bucket(*hash))
        });
        std::hint::black_box(touched);
        let mut numbers = [None; WARMED];
        for (number, hash) in numbers.iter_mut().zip(hashes) {
            *number = self.sessions.candidate(*hash);
        }
        let candidates = numbers[..count].iter().flatten();
        let touched = candidates.fold(0, |sum: u32, number| {
            sum.wrapping_add(self.sessions.touch(*number))
        });
        std::hint::black_box(touched);
    }
}
