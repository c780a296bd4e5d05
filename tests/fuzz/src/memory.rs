//! Session memory with any bytes in it.

use std::ptr;

use tapgate_engine::base::ip::Address;
use tapgate_engine::session::{SessionDetail, SessionMemory, SessionRecord};

/// One family's session memory.
pub(crate) struct Memory<A: 'static> {
    records: Vec<SessionRecord<A>>,
    details: Vec<SessionDetail>,
}

impl<A: Address> Memory<A> {
    /// Bytes of a record and its detail.
    pub(crate) const SIZE: usize = size_of::<SessionRecord<A>>() + size_of::<SessionDetail>();

    /// With so many records, all free.
    pub(crate) fn free(capacity: usize) -> Self {
        Self {
            records: vec![SessionRecord::default(); capacity],
            details: vec![SessionDetail::default(); capacity],
        }
    }

    /// Makes the bytes a record and its detail; what is missing is zero.
    pub(crate) fn write(&mut self, number: usize, bytes: &[u8]) {
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

    /// Lends the memory as that of a router, which must be gone when `with` returns.
    pub(crate) fn lend(&mut self, with: impl FnOnce(SessionMemory<A>)) {
        let (records, details) = (self.records.as_mut_slice(), self.details.as_mut_slice());
        // SAFETY: the lists live longer than the call, and nobody else has them meanwhile. What is
        // made of them is owned by `with`, which has nowhere to keep it.
        let memory = unsafe {
            SessionMemory::mapped(&mut *ptr::from_mut(records), &mut *ptr::from_mut(details))
        };
        with(memory);
    }
}
