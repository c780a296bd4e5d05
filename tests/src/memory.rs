//! Session memory that outlives a router, as a mapped memfd does, and that anybody may write to.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::{ptr, slice};

use tapgate_engine::base::ip::Address;
use tapgate_engine::config::Config;
use tapgate_engine::session::{SessionDetail, SessionMemory, SessionRecord, Sessions};
use tapgate_engine::time::Instant;

use crate::router::{Router, START};

/// Both families' session memory.
#[derive(Debug, Clone)]
pub struct Memory {
    /// IPv4's.
    pub v4: Records<Ipv4Addr>,
    /// IPv6's.
    pub v6: Records<Ipv6Addr>,
    /// When the router before ended.
    now: Instant,
    used: bool,
}

/// One family's session memory.
#[derive(Debug, Clone)]
pub struct Records<A> {
    records: Vec<SessionRecord<A>>,
    details: Vec<SessionDetail>,
}

impl Memory {
    /// With so many records of each family, all free.
    pub fn free(capacity: usize) -> Self {
        Self {
            v4: Records::free(capacity),
            v6: Records::free(capacity),
            now: START,
            used: false,
        }
    }

    /// Something wrote to it: the next router takes another's place.
    #[must_use]
    pub fn used(self) -> Self {
        Self { used: true, ..self }
    }

    /// Overwrites everything with noise.
    pub fn fill(&mut self, seed: u64) {
        let mut random = seed;
        self.v4.fill(&mut random);
        self.v6.fill(&mut random);
        self.used = true;
    }

    /// A router over it, which is gone when this returns. It is the first, or takes the place of the one
    /// before, whose clock goes on.
    pub fn start<R>(&mut self, config: &Config, with: impl FnOnce(&mut Router) -> R) -> R {
        let inherited = std::mem::replace(&mut self.used, true);
        // SAFETY: both live longer than the router, which `with` only borrows, and nobody else has
        // them meanwhile.
        let (v4, v6) = unsafe { (self.v4.lend(), self.v6.lend()) };
        let sessions = Sessions { v4, v6, inherited };
        let mut router = Router::started(config, sessions, self.now);
        let result = with(&mut router);
        self.now = router.now;
        result
    }
}

impl<A: Address> Records<A> {
    /// Bytes of a record and its detail.
    pub const SIZE: usize = size_of::<SessionRecord<A>>() + size_of::<SessionDetail>();
    /// Bytes of a record that mean something: its fields leave no gaps before that, the last of them
    /// being four addresses.
    const MEANT: usize = 48 + 4 * size_of::<A>();

    fn free(capacity: usize) -> Self {
        Self {
            records: vec![SessionRecord::default(); capacity],
            details: vec![SessionDetail::default(); capacity],
        }
    }

    /// How many records there are, free ones too.
    pub fn capacity(&self) -> usize {
        self.records.len()
    }

    /// A record.
    pub fn record(&self, number: usize) -> &SessionRecord<A> {
        &self.records[number]
    }

    /// The bytes of a record and its detail, as [`Self::write`] wants them.
    pub fn read(&self, number: usize) -> Vec<u8> {
        let record = ptr::from_ref(&self.records[number]).cast();
        let detail = ptr::from_ref(&self.details[number]).cast();
        // SAFETY: so many bytes are there, and belong to fields: integers and addresses.
        let (record, detail): (&[u8], &[u8]) = unsafe {
            (
                slice::from_raw_parts(record, Self::MEANT),
                slice::from_raw_parts(detail, size_of::<SessionDetail>()),
            )
        };
        let mut bytes = record.to_vec();
        bytes.resize(size_of::<SessionRecord<A>>(), 0);
        bytes.extend(detail);
        bytes
    }

    /// Makes the bytes a record and its detail; what is missing is zero.
    pub fn write(&mut self, number: usize, bytes: &[u8]) {
        let mut whole = vec![0; Self::SIZE];
        whole[..bytes.len()].copy_from_slice(bytes);
        let (record, detail) = whole.split_at(size_of::<SessionRecord<A>>());
        // SAFETY: both are read where as many bytes are, aligned or not. Records and details are
        // integers and addresses only, so that any bytes are a valid value (their documentation).
        unsafe {
            self.records[number] = ptr::read_unaligned(record.as_ptr().cast());
            self.details[number] = ptr::read_unaligned(detail.as_ptr().cast());
        }
    }

    fn fill(&mut self, random: &mut u64) {
        for number in 0..self.capacity() {
            let noise = (0..Self::SIZE).map(|_| {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                // Small values are the ones that mean something.
                match *random & 0x300 {
                    0 => *random as u8,
                    _ => *random as u8 & 3,
                }
            });
            self.write(number, &noise.collect::<Vec<_>>());
        }
    }

    /// The memory as a router's.
    ///
    /// # Safety
    /// While the router is there, `self` stays where it is and nobody uses it.
    unsafe fn lend(&mut self) -> SessionMemory<A>
    where
        A: 'static,
    {
        let (records, details) = (self.records.as_mut_slice(), self.details.as_mut_slice());
        // SAFETY: the caller's promise.
        unsafe { SessionMemory::mapped(&mut *ptr::from_mut(records), &mut *ptr::from_mut(details)) }
    }
}
