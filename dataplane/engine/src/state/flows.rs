//! One family's sessions with the external ports they hold.

use super::ports::{ExternalPorts, Share};
use super::session::{SessionMemory, SessionRecord, SessionTable};
use crate::base::ip::Address;
use crate::base::time::{Instant, Ticks};
use crate::config::Timeouts;
use crate::state::payer::Payer;
use crate::wire::packet::Family;

/// Most sessions of a batch that are brought into the cache beforehand.
const WARMED: usize = 64;

/// One family's sessions and mappings.
#[derive(Debug)]
pub struct Flows<A: Address> {
    pub(crate) sessions: SessionTable<A>,
    pub(crate) ports: ExternalPorts<A>,
}

impl<A: Address> Flows<A> {
    pub(crate) fn new(
        memory: SessionMemory<A>,
        seed: u64,
        timeouts: &Timeouts,
        share: Share,
    ) -> Self {
        Self {
            sessions: SessionTable::new(memory, seed, timeouts),
            ports: ExternalPorts::new(seed.rotate_left(11), share),
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.sessions.memory() + self.ports.memory()
    }

    /// Ends a session and gives its external port back.
    pub(crate) fn end(&mut self, number: u32) {
        let record = self.sessions.remove(number);
        release(&mut self.ports, &record);
    }

    /// Has session `number`, and the external port it holds, count against `payer`.
    pub(crate) fn charge(&mut self, number: u32, payer: Payer) {
        let Self { sessions, ports } = self;
        sessions.ledger_mut().charge(number, payer);
        let record = sessions.get(number);
        if record.holds_port() {
            let outside = record.outside();
            let place = (outside.source, outside.protocol);
            ports.charge(place, outside.source_port, payer);
        }
    }

    /// Ends what has expired, or is `over` for another reason, among the next `most` records;
    /// returns how many of each.
    pub(crate) fn sweep(
        &mut self,
        most: usize,
        now: Instant,
        over: impl Fn(&SessionRecord<A>) -> bool,
    ) -> (u64, u64) {
        let Self { sessions, ports } = self;
        ports.tick(now);
        let (mut gone, mut revoked) = (0, 0);
        sessions.sweep(most, Ticks::from(now), over, |record, expired| {
            release(ports, &record);
            match expired {
                true => gone += 1,
                false => revoked += 1,
            }
        });
        (gone, revoked)
    }

    /// Has sessions that were taken over hold their external ports again. A session whose port is
    /// another's ends. Returns how many live on.
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
            let holds = !record.holds_port()
                || self.ports.restore(
                    outside.source,
                    outside.protocol,
                    (inside.source, inside.source_port),
                    outside.source_port,
                    Payer::Nobody,
                );
            if holds {
                recovered += 1;
            } else {
                self.sessions.remove(number);
            }
        }
        recovered
    }
}

fn release<A: Address>(ports: &mut ExternalPorts<A>, record: &SessionRecord<A>) {
    if record.holds_port() {
        let outside = record.outside();
        ports.release(outside.source, outside.protocol, outside.source_port);
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
