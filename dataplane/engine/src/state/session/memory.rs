//! Where sessions are kept.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::layout6::Detail6;
use super::record::{SessionDetail, SessionRecord};
use crate::base::ip::Address;

/// The memory of one family's sessions: a record and a detail each.
#[derive(Debug)]
pub struct SessionMemory<A: 'static = Ipv4Addr> {
    pub(super) records: Place<SessionRecord<A>>,
    pub(super) details: Place<SessionDetail>,
}

/// Where a list lies.
#[derive(Debug)]
pub(super) enum Place<T: 'static> {
    /// In the process's own memory.
    Owned(Box<[T]>),
    /// In memory that outlives the process (a mapped memfd).
    Mapped(&'static mut [T]),
}

/// The memory of both families' sessions.
#[derive(Debug)]
pub struct Sessions {
    /// IPv4.
    pub v4: SessionMemory<Ipv4Addr>,
    /// IPv6.
    pub v6: SessionMemory<Ipv6Addr>,
    /// Left by an earlier dataplane, whose place this one takes.
    pub inherited: bool,
}

impl From<SessionMemory> for Sessions {
    /// As many IPv6 sessions, in the process's own memory.
    fn from(v4: SessionMemory) -> Self {
        Self {
            v6: SessionMemory::owned(v4.capacity()),
            v4,
            inherited: false,
        }
    }
}

impl<A: Address> SessionMemory<A> {
    /// Fresh memory for `capacity` sessions.
    pub fn owned(capacity: usize) -> Self {
        Self {
            records: Place::Owned(vec![SessionRecord::default(); capacity].into()),
            details: Place::Owned(vec![SessionDetail::default(); capacity].into()),
        }
    }

    /// Memory that outlives the process; both lists are of the same length.
    pub fn mapped(
        records: &'static mut [SessionRecord<A>],
        details: &'static mut [SessionDetail],
    ) -> Self {
        Self {
            records: Place::Mapped(records),
            details: Place::Mapped(details),
        }
    }

    /// For how many sessions there is room.
    pub fn capacity(&self) -> usize {
        self.records.len().min(self.details.len())
    }

    /// How many sessions are in it.
    pub(crate) fn live(&self) -> u64 {
        self.records
            .iter()
            .filter(|record| record.is_live())
            .count() as u64
    }

    /// Frees all sessions but those that are `sound`, and forgets of these what only the process
    /// knew that left them: its numbers for ports, interfaces, guests and rules.
    pub(crate) fn keep(&mut self, sound: impl Fn(&SessionRecord<A>) -> bool) {
        let all = self.records.iter_mut().zip(self.details.iter_mut());
        for (record, detail) in all.filter(|(record, _)| record.is_live()) {
            match sound(record) {
                true => {
                    record.forget_numbers();
                    detail.forget_numbers();
                }
                false => (*record, *detail) = Default::default(),
            }
        }
    }

    /// Takes over what an earlier version left, as far as there is room; returns how many sessions.
    pub fn convert(&mut self, records: &[SessionRecord<A>], details: &[Detail6]) -> usize {
        let old = records.iter().zip(details).filter(|old| old.0.is_live());
        let places = self.records.iter_mut().zip(self.details.iter_mut());
        let taken = old
            .zip(places)
            .map(|((old, old_detail), (record, detail))| {
                (*record, *detail) = (*old, old_detail.convert());
            });
        taken.count()
    }
}

impl<T> std::ops::Deref for Place<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(list) => list,
            Self::Mapped(list) => list,
        }
    }
}

impl<T> std::ops::DerefMut for Place<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Owned(list) => list,
            Self::Mapped(list) => list,
        }
    }
}
