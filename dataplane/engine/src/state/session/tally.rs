//! How many sessions share something: their mapping, their mapping and the address it was used with, or
//! their destination. Kept only where the configuration asks (`nat.snat`: `filtering`, `mapping`).
//!
//! | counted | of which sessions | asked by |
//! |---|---|---|
//! | external port | the insider opened it, or has answered in it | filtering: whether a mapping is in use |
//! | external port and remote address | the same | filtering: whether that address was spoken to |
//! | destination | endpoint-dependent ones | how many ports are left towards it |
//! | destination and payer | endpoint-dependent ones | how many of them are one's |
//!
//! It repeats what the sessions say, and is made anew from them.

use super::record::SessionRecord;
use crate::base::hash::HashKey;
use crate::base::index::Index;
use crate::base::ip::Address;
use crate::wire::flow::Flow;

/// What a session is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject<A> {
    /// What all of them have; zeroes elsewhere.
    flow: Flow<A>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mapping,
    Destination,
    /// By index.
    Payer(u32),
}

/// Most subjects that one session is counted by: one that turns at an address outside uses two mappings.
const MOST: usize = 4;

/// How many sessions there are of each subject.
#[derive(Debug)]
pub(super) struct Tally<A> {
    entries: Vec<Entry<A>>,
    index: Index,
    /// Entries that are free again.
    free: Vec<u32>,
    key: HashKey,
}

#[derive(Debug, Clone, Copy)]
struct Entry<A> {
    subject: Subject<A>,
    sessions: u32,
}

impl<A: Address> Subject<A> {
    /// The mapping that has an external port.
    pub(crate) fn mapping(external: (A, u16), protocol: u8) -> Self {
        Self::spoken(external, A::UNSPECIFIED, protocol)
    }

    /// The mapping that has an external port, used with a remote address.
    pub(crate) fn spoken((external, port): (A, u16), remote: A, protocol: u8) -> Self {
        Self {
            flow: Flow {
                source: remote,
                destination: external,
                source_port: 0,
                destination_port: port,
                protocol,
            },
            kind: Kind::Mapping,
        }
    }

    /// Where `flow` goes, from its address.
    pub(crate) fn destination(flow: &Flow<A>) -> Self {
        Self {
            flow: Flow {
                source_port: 0,
                ..*flow
            },
            kind: Kind::Destination,
        }
    }

    /// The same, for one payer by its index.
    pub(crate) fn of_payer(self, payer: usize) -> Self {
        Self {
            kind: Kind::Payer(payer as u32),
            ..self
        }
    }

    fn hash(&self, key: &HashKey) -> u64 {
        let kind = match self.kind {
            Kind::Mapping => 0,
            Kind::Destination => 1,
            Kind::Payer(payer) => 2 + u64::from(payer),
        };
        self.flow.hash_with(kind, key)
    }
}

/// What a session of the payer with this index is counted by.
fn subjects<A: Address>(
    record: &SessionRecord<A>,
    payer: usize,
) -> impl Iterator<Item = Subject<A>> {
    let (inside, outside) = (record.inside(), record.outside());
    let protocol = inside.protocol;
    let mut all: [Option<Subject<A>>; MOST] = [None; MOST];
    if record.is_endpoint_dependent() {
        let destination = Subject::destination(&outside);
        all[0] = Some(destination);
        all[1] = Some(destination.of_payer(payer));
    } else if record.holds_port() {
        let external = (outside.source, outside.source_port);
        all[0] = Some(Subject::mapping(external, protocol));
        all[1] = Some(Subject::spoken(external, inside.destination, protocol));
    }
    if record.is_by_mapping() && record.keeps_mapping() {
        let external = (inside.destination, inside.destination_port);
        all[2] = Some(Subject::mapping(external, protocol));
        all[3] = Some(Subject::spoken(external, outside.source, protocol));
    }
    all.into_iter().flatten()
}

impl<A: Address> Tally<A> {
    /// Nothing counted yet, of at most `sessions` sessions.
    pub(super) fn new(sessions: usize, key: HashKey) -> Self {
        let most = sessions * MOST;
        let mut index = Index::new(most);
        // The memory is there when it is used: counting never stops to make it or to move what it has.
        index.prepare();
        Self {
            entries: Vec::with_capacity(most),
            index,
            free: Vec::with_capacity(most),
            key,
        }
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.free) + self.index.memory()
    }

    /// One more session, of the payer with this index.
    pub(super) fn add(&mut self, record: &SessionRecord<A>, payer: usize) {
        for subject in subjects(record, payer) {
            let number = self.entry(subject);
            self.entries[number as usize].sessions += 1;
        }
    }

    /// There are so many sessions of a subject; for trying things out.
    pub(super) fn set(&mut self, subject: Subject<A>, sessions: u32) {
        let number = self.entry(subject);
        self.entries[number as usize].sessions = sessions;
    }

    /// One session less, of the payer with this index.
    pub(super) fn take(&mut self, record: &SessionRecord<A>, payer: usize) {
        for subject in subjects(record, payer) {
            let hash = subject.hash(&self.key);
            let Some(number) = self.find(hash, &subject) else {
                continue;
            };
            let entry = &mut self.entries[number as usize];
            entry.sessions -= 1;
            if entry.sessions == 0 {
                self.index.remove(hash, number);
                self.free.push(number);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self, subject: &Subject<A>) -> u32 {
        let number = self.find(subject.hash(&self.key), subject);
        number.map_or(0, |number| self.entries[number as usize].sessions)
    }

    fn entry(&mut self, subject: Subject<A>) -> u32 {
        let hash = subject.hash(&self.key);
        if let Some(number) = self.find(hash, &subject) {
            return number;
        }
        let entry = Entry {
            subject,
            sessions: 0,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.index.insert(hash, number);
        number
    }

    fn find(&self, hash: u64, subject: &Subject<A>) -> Option<u32> {
        let is = |number: u32| self.entries[number as usize].subject == *subject;
        self.index.find(hash, is)
    }
}
