//! One family's sessions with the external ports they hold.

use super::ports::{ExternalPorts, NoPort, Share, Wanted};
use super::session::{SessionDetail, SessionMemory, SessionRecord, SessionTable, Subject};
use crate::base::ip::Address;
use crate::base::time::{Instant, Ticks};
use crate::config::{Mapping, Timeouts};
use crate::model::nat::Mapped;
use crate::state::payer::Payer;
use crate::wire::flow::Flow;
use crate::wire::packet::{Family, TCP, UDP};

/// Most sessions of a batch that are brought into the cache beforehand.
const WARMED: usize = u64::BITS as usize;

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

    /// An external port for a flow, whose source it is to be: `to` has its inside source still.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn acquire(
        &mut self,
        wanted: &Wanted<A>,
        mapping: Mapping,
        to: &Flow<A>,
    ) -> Result<u16, NoPort> {
        match mapping {
            Mapping::EndpointIndependent => self.ports.acquire(wanted),
            Mapping::EndpointDependent => {
                self.has_room(wanted, to)?;
                let Self { sessions, ports } = self;
                ports.acquire_shared(wanted, |port| is_taken(sessions, wanted, to, port))
            }
        }
    }

    /// The port that [`Self::acquire`] would give, without giving it.
    ///
    /// # Errors
    /// As it would.
    pub(crate) fn peek(
        &self,
        wanted: &Wanted<A>,
        mapping: Mapping,
        to: &Flow<A>,
    ) -> Result<u16, NoPort> {
        match mapping {
            Mapping::EndpointIndependent => self.ports.peek(wanted),
            Mapping::EndpointDependent => {
                self.has_room(wanted, to)?;
                let taken = |port| is_taken(&self.sessions, wanted, to, port);
                self.ports.peek_shared(wanted, taken)
            }
        }
    }

    /// Whether one more endpoint-dependent flow of the payer may go where `to` goes: it has as many there
    /// as are left to the others, so nobody can keep all others from a destination.
    fn has_room(&self, wanted: &Wanted<A>, to: &Flow<A>) -> Result<(), NoPort> {
        let leaves = leaving(wanted, to, 0);
        let there = Subject::destination(&leaves);
        let all = self.sessions.shared_by(&there);
        let used = self
            .sessions
            .shared_by(&there.of_payer(wanted.payer.index()));
        let free = self.ports.own_part(wanted.range).saturating_sub(all);
        match wanted.limit.unwrap_or(free) {
            _ if free == 0 => Err(NoPort::Exhausted),
            most if used < most => Ok(()),
            _ => Err(NoPort::Limited),
        }
    }

    /// Whom an external port stands for, if somebody inside uses it, and whether that one has spoken to
    /// `remote`. Only TCP and UDP have such.
    pub(crate) fn mapped(&self, external: (A, u16), protocol: u8, remote: A) -> Option<Mapped<A>> {
        if !matches!(protocol, TCP | UDP) {
            return None;
        }
        let inside = self.ports.holder(external, protocol)?;
        let sessions = |subject| self.sessions.shared_by(&subject);
        (sessions(Subject::mapping(external, protocol)) > 0).then(|| Mapped {
            inside,
            spoken_to: sessions(Subject::spoken(external, remote, protocol)) > 0,
        })
    }

    /// Has a session to be have a part in the external port that gives it its destination. `None`, and what it
    /// has of external ports is given back, where the port is another's by now, or the answers would be
    /// another session's.
    #[cold]
    pub(crate) fn join(
        &mut self,
        mut record: SessionRecord<A>,
        mapped: &Mapped<A>,
    ) -> Option<SessionRecord<A>> {
        let (inside, answers) = (record.inside(), record.outside().reversed());
        let external = (inside.destination, inside.destination_port);
        let is_held = self.ports.holder(external, inside.protocol) == Some(mapped.inside);
        if !is_held || self.sessions.find(&answers).is_some() {
            self.release(record);
            return None;
        }
        record.set_by_mapping(mapped.spoken_to);
        self.ports.join(external, inside.protocol);
        Some(record)
    }

    /// Gives back what a session that is not to be has of external ports.
    #[cold]
    pub(crate) fn release(&mut self, record: SessionRecord<A>) {
        release(&mut self.ports, &record);
    }

    /// Has a session hold its external ports again. False, and nothing changed, where another has one.
    pub(crate) fn restore(&mut self, record: &SessionRecord<A>) -> bool {
        restore(&mut self.ports, record)
    }

    /// Has session `number`, and the external port it holds, count against `payer`.
    pub(crate) fn charge(&mut self, number: u32, payer: Payer) {
        let Self { sessions, ports } = self;
        sessions.charge(number, payer);
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
        over: impl Fn(&SessionRecord<A>, &SessionDetail) -> bool,
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
            if restore(&mut self.ports, record) {
                recovered += 1;
            } else {
                self.sessions.remove(number);
            }
        }
        recovered
    }
}

/// A flow as it leaves by an external port.
fn leaving<A: Address>(wanted: &Wanted<A>, to: &Flow<A>, port: u16) -> Flow<A> {
    Flow {
        source: wanted.external,
        source_port: port,
        ..*to
    }
}

/// Whether the answers to a flow that left by `port` would be another's.
fn is_taken<A: Address>(
    sessions: &SessionTable<A>,
    wanted: &Wanted<A>,
    to: &Flow<A>,
    port: u16,
) -> bool {
    let answers = leaving(wanted, to, port).reversed();
    sessions.find(&answers).is_some()
}

/// Gives back what a session has of external ports.
fn release<A: Address>(ports: &mut ExternalPorts<A>, record: &SessionRecord<A>) {
    let (inside, outside) = (record.inside(), record.outside());
    if record.holds_port() {
        ports.release(outside.source, outside.protocol, outside.source_port);
    }
    if record.is_by_mapping() {
        ports.release(inside.destination, inside.protocol, inside.destination_port);
    }
}

/// Has a session that was taken over have its external ports again. False, and nothing changed, where
/// another has one of them.
fn restore<A: Address>(ports: &mut ExternalPorts<A>, record: &SessionRecord<A>) -> bool {
    let (inside, outside) = (record.inside(), record.outside());
    let protocol = inside.protocol;
    let (external, port) = (outside.source, outside.source_port);
    let holds = if !record.holds_port() {
        true
    } else if record.is_endpoint_dependent() {
        ports.restore_shared((external, port), protocol)
    } else {
        let insider = (inside.source, inside.source_port);
        ports.restore(external, protocol, insider, port, Payer::Nobody)
    };
    if !holds || !record.is_by_mapping() {
        return holds;
    }
    let insider = (outside.destination, outside.destination_port);
    let (to, to_port) = (inside.destination, inside.destination_port);
    let joins = ports.restore(to, protocol, insider, to_port, Payer::Nobody);
    if !joins && record.holds_port() {
        ports.release(external, protocol, port);
    }
    joins
}

impl<A: Family> Flows<A> {
    /// Brings the sessions of this family's frames into the cache: the index buckets of all of them,
    /// then the records. Of those that have none: what the first packet of a flow will need.
    pub(crate) fn warm<'a>(&self, frames: impl Iterator<Item = &'a [u8]> + Clone) {
        let flows = frames.filter_map(A::flow_hint);
        let mut hashes = [0; WARMED];
        let mut count = 0;
        for (hash, flow) in hashes.iter_mut().zip(flows.clone()) {
            *hash = self.sessions.hash(&flow);
            count += 1;
        }
        let hashes = &hashes[..count];
        let touched = hashes.iter().fold(0, |sum: u32, hash| {
            sum.wrapping_add(self.sessions.touch_bucket(*hash))
        });
        std::hint::black_box(touched);
        let mut numbers = [None; WARMED];
        // A bit for each first packet.
        let mut first = 0_u64;
        for (place, (number, hash)) in numbers.iter_mut().zip(hashes).enumerate() {
            *number = self.sessions.candidate(*hash);
            if number.is_none() && self.sessions.lacks(*hash) {
                first |= 1 << place;
            }
        }
        let candidates = numbers[..count].iter().flatten();
        let touched = candidates.fold(0, |sum: u32, number| {
            sum.wrapping_add(self.sessions.touch(*number))
        });
        std::hint::black_box(touched);
        if first != 0 {
            let is_first = |place: &usize| first >> place & 1 == 1;
            let flows = (0..WARMED).zip(flows);
            let flows = flows.filter(|(place, _)| is_first(place));
            self.warm_first(flows.map(|(_, flow)| flow));
        }
    }

    /// Brings what first packets will most likely need into the cache: their mappings, and the index buckets of
    /// their answers.
    #[inline(never)]
    fn warm_first(&self, flows: impl Iterator<Item = Flow<A>>) {
        let mut places = [None; WARMED];
        for (place, (flow, foreseen)) in places.iter_mut().zip(self.ports.foresee(flows)) {
            let (source, source_port) = foreseen.external;
            let leaves = Flow {
                source,
                source_port,
                ..flow
            };
            *place = Some((foreseen, self.sessions.hash(&leaves.reversed())));
        }
        let touched = places.iter().map_while(Option::as_ref);
        let touched = touched.fold(0, |sum: u32, (foreseen, answers)| {
            sum.wrapping_add(foreseen.touch())
                .wrapping_add(self.sessions.touch_bucket(*answers))
        });
        std::hint::black_box(touched);
    }
}
