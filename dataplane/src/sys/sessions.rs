//! Session memory that outlives the process: a memfd whose descriptor control keeps.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use tapgate_engine::session::{
    Detail6, LAYOUT, SessionDetail, SessionMemory, SessionRecord, Sessions,
};

/// What the first page holds, so that a later dataplane knows whether it can use the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    layout: u32,
    /// Bytes of a record of IPv4 and of IPv6, whatever else there is.
    records: [u32; 2],
    capacity: u64,
}

/// Lists start on pages of their own.
const PAGE: usize = 4096;
/// Nobody can change the size under the mapping, which would be a SIGBUS.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

type Record<A> = SessionRecord<A>;
type V4 = Ipv4Addr;
type V6 = Ipv6Addr;

impl Header {
    /// Of the present layout.
    const fn of(capacity: usize) -> Self {
        Self {
            magic: *b"tapgate\0",
            layout: LAYOUT,
            records: [
                size_of::<Record<V4>>() as u32,
                size_of::<Record<V6>>() as u32,
            ],
            capacity: capacity as u64,
        }
    }

    /// Of the layout before, whose records were as they are now.
    const fn before(capacity: usize) -> Self {
        Self {
            layout: Detail6::LAYOUT,
            ..Self::of(capacity)
        }
    }
}

/// Where the lists start, each of `sizes.len()` lists on a page of its own, and one past the last:
/// the length of all.
const fn places<const N: usize>(sizes: [usize; N], capacity: usize) -> ([usize; N], usize) {
    let (mut starts, mut end, mut n) = ([0; N], PAGE, 0);
    while n < N {
        starts[n] = end;
        end = (end + capacity * sizes[n]).next_multiple_of(PAGE);
        n += 1;
    }
    (starts, end)
}

/// Records and details of IPv4, then of IPv6.
const fn layout(capacity: usize) -> ([usize; 4], usize) {
    layout_of(size_of::<SessionDetail>(), capacity)
}

/// The layout before: its details had another size.
const fn layout_before(capacity: usize) -> ([usize; 4], usize) {
    layout_of(size_of::<Detail6>(), capacity)
}

const fn layout_of(detail: usize, capacity: usize) -> ([usize; 4], usize) {
    let sizes = [
        size_of::<Record<V4>>(),
        detail,
        size_of::<Record<V6>>(),
        detail,
    ];
    places(sizes, capacity)
}

/// Session memory that outlives the process, and the descriptor by which it does.
#[derive(Debug)]
pub struct SharedSessions {
    descriptor: OwnedFd,
}

impl SharedSessions {
    /// Fresh memory for `capacity` sessions of each family. It is zero, which is free, and takes up
    /// no room until it is used.
    ///
    /// # Errors
    /// Not enough memory or descriptors.
    pub fn create(capacity: usize) -> io::Result<(Self, Sessions)> {
        let length = layout(capacity).1;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = memfd_create("tapgate-sessions", flags)?;
        ftruncate(&descriptor, length as u64)?;
        fcntl_add_seals(&descriptor, SEALS)?;
        let mapping = Mapping::of(&descriptor, length)?;
        // SAFETY: the mapping is new, ours alone, page-aligned and longer than a header.
        unsafe { mapping.base.cast::<Header>().write(Header::of(capacity)) };
        Ok((Self { descriptor }, sessions(mapping, capacity, false)))
    }

    /// Memory that an earlier dataplane left behind for as many sessions. If its layout is the one
    /// before the present one, it is converted.
    ///
    /// # Errors
    /// It does not fit, and why.
    pub fn adopt(descriptor: OwnedFd, capacity: usize) -> Result<(Self, Sessions), String> {
        let refuse = |error: rustix::io::Errno| format!("cannot be examined: {error}");
        let unmapped = |error| format!("cannot be mapped: {error}");
        let length = fstat(&descriptor).map_err(refuse)?.st_size;
        let length = usize::try_from(length).unwrap_or_default();
        let seals = fcntl_get_seals(&descriptor).map_err(refuse)?;
        if !seals.contains(SEALS) || length < PAGE {
            return Err(format!("is none of ours ({length} bytes)"));
        }
        let mapping = Mapping::of(&descriptor, length).map_err(unmapped)?;
        // SAFETY: the mapping is page-aligned and longer than a header, which is plain integers.
        let header = unsafe { mapping.base.cast::<Header>().read() };
        let wrong_size = || format!("is not for {capacity} sessions ({length} bytes)");
        if header == Header::of(capacity) {
            return match length == layout(capacity).1 {
                true => Ok((Self { descriptor }, sessions(mapping, capacity, true))),
                false => Err(wrong_size()),
            };
        }
        if header == Header::before(capacity) {
            return match length == layout_before(capacity).1 {
                true => Self::convert(&mapping, capacity),
                false => Err(wrong_size()),
            };
        }
        let known = [LAYOUT, Detail6::LAYOUT].contains(&header.layout);
        match known && header.capacity != capacity as u64 {
            true => Err(wrong_size()),
            false => Err("was laid out by another version".to_owned()),
        }
    }

    fn convert(old: &Mapping, capacity: usize) -> Result<(Self, Sessions), String> {
        let (shared, mut sessions) = Self::create(capacity)
            .map_err(|error| format!("cannot be converted for want of memory: {error}"))?;
        let ([records4, details4, records6, details6], _) = layout_before(capacity);
        // SAFETY: the lists are inside the mapping, whose length was compared with the layout's, and
        // start on pages, which aligns them. Any bytes are valid values (their documentation). Nobody
        // writes to it: the dataplane it belonged to is gone.
        let converted = unsafe {
            let (records, details) = (old.list(records4, capacity), old.list(details4, capacity));
            let v4 = sessions.v4.convert(records, details);
            let (records, details) = (old.list(records6, capacity), old.list(details6, capacity));
            v4 + sessions.v6.convert(records, details)
        };
        sessions.inherited = true;
        tracing::info!(converted, "sessions of an older layout converted");
        Ok((shared, sessions))
    }
}

impl AsFd for SharedSessions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A mapping that goes with this value, unless it is leaked.
struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn of(descriptor: &OwnedFd, length: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                descriptor,
                0,
            )?
        };
        // SAFETY: the mapping just made. Huge pages are a wish: without them it is only slower.
        let _ = unsafe { madvise(base, length, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// The list of `count` values at `start`.
    ///
    /// # Safety
    /// It lies inside the mapping, is aligned, any bytes are a valid value, and nobody writes to it
    /// while the list is used.
    unsafe fn list<T>(&self, start: usize, count: usize) -> &[T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.base.add(start).cast().as_ptr(), count) }
    }

    /// The list of `count` values at `start`, to change them, for ever.
    ///
    /// # Safety
    /// As for [`Self::list`]; the mapping is never unmapped, and nobody else has the list.
    unsafe fn list_mut<T>(&self, start: usize, count: usize) -> &'static mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start).cast().as_ptr(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `of`; lists into it borrow `self`, or `self` was leaked.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

fn sessions(mapping: Mapping, capacity: usize, inherited: bool) -> Sessions {
    let ([records4, details4, records6, details6], _) = layout(capacity);
    // SAFETY: the mapping is as long as the layout, is leaked below, and is mapped once in this
    // process; the kept descriptor is only stored by control, not mapped. The lists do not overlap and
    // start on pages, which aligns them. Any bytes are valid values (their documentation).
    let sessions = unsafe {
        Sessions {
            v4: SessionMemory::mapped(
                mapping.list_mut(records4, capacity),
                mapping.list_mut(details4, capacity),
            ),
            v6: SessionMemory::mapped(
                mapping.list_mut(records6, capacity),
                mapping.list_mut(details6, capacity),
            ),
            inherited,
        }
    };
    std::mem::forget(mapping);
    sessions
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn capacities(sessions: &Sessions) -> (usize, usize) {
        (sessions.v4.capacity(), sessions.v6.capacity())
    }

    #[test]
    fn memory_is_taken_over_only_by_what_fits_it() {
        let (shared, memory) = SharedSessions::create(1000).unwrap();
        assert_eq!(capacities(&memory), (1000, 1000));
        drop(memory);
        let again = |shared: &SharedSessions| shared.descriptor.try_clone().unwrap();
        let refused = SharedSessions::adopt(again(&shared), 999).unwrap_err();
        assert!(refused.contains("is not for 999 sessions"), "{refused}");
        let (_, memory) = SharedSessions::adopt(again(&shared), 1000).unwrap();
        assert_eq!(capacities(&memory), (1000, 1000));
        assert!(memory.inherited);

        let mapping = Mapping::of(&shared.descriptor, layout(1000).1).unwrap();
        let old = Header {
            layout: LAYOUT + 1,
            ..Header::of(1000)
        };
        // SAFETY: the mapping starts with a header.
        unsafe { mapping.base.cast::<Header>().write(old) };
        let refused = SharedSessions::adopt(again(&shared), 1000).unwrap_err();
        assert!(refused.contains("another version"), "{refused}");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(SharedSessions::adopt(file.into(), 1000).is_err());
    }

    /// Memory as the layout before left it, with one session of IPv4 in the second place.
    fn left_by_layout_6(capacity: usize, length: usize) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = memfd_create("tapgate-sessions", flags).unwrap();
        ftruncate(&descriptor, length as u64).unwrap();
        fcntl_add_seals(&descriptor, SEALS).unwrap();
        let file = std::fs::File::from(descriptor.try_clone().unwrap());
        let mut header = b"tapgate\0".to_vec();
        for word in [6u32, 64, 128, 0] {
            header.extend(word.to_ne_bytes());
        }
        header.extend((capacity as u64).to_ne_bytes());
        file.write_all_at(&header, 0).unwrap();
        // Protocol, state, TCP's state, flags; generation; last seen.
        let mut record = vec![6, 2, 1, 5];
        record.extend(7u32.to_ne_bytes());
        record.extend(1u32.to_ne_bytes());
        // Admitted ports, paths: forgotten. Ports, counts, addresses.
        record.resize(32, 0);
        for word in [1_000u16, 53, 53, 2_000, 3, 500, 0, 0] {
            record.extend(word.to_ne_bytes());
        }
        record.extend([10, 0, 0, 1, 192, 0, 2, 1, 192, 0, 2, 1, 203, 0, 113, 1]);
        assert_eq!(record.len(), 64);
        file.write_all_at(&record, 4096 + 64).unwrap();
        // Bytes forward from bit 16 on; the guest.
        let (details, guest) = (4096 + 8192, 4u16);
        file.write_all_at(&9u32.to_ne_bytes(), details + 24 + 4)
            .unwrap();
        file.write_all_at(&guest.to_ne_bytes(), details + 24 + 20)
            .unwrap();
        descriptor
    }

    #[test]
    fn sessions_of_the_layout_before_are_converted() {
        let (starts, length) = layout_before(100);
        assert_eq!(starts[1], 4096 + 8192, "100 records of 64 bytes");
        let old = left_by_layout_6(100, length);
        let (shared, memory) = SharedSessions::adopt(old, 100).unwrap();
        assert!(memory.inherited);
        drop(memory);
        // What control keeps from now on is the new memory.
        let ([records, details, ..], length) = layout(100);
        let mapping = Mapping::of(&shared.descriptor, length).unwrap();
        // SAFETY: the lists are the layout's; nobody has them any more.
        let (records, details): (&[Record<V4>], &[SessionDetail]) =
            unsafe { (mapping.list(records, 100), mapping.list(details, 100)) };
        let live: Vec<_> = records.iter().filter(|record| record.is_live()).collect();
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].inside().source, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(live[0].outside().source_port, 2_000);
        assert!(live[0].holds_port() && live[0].state() == "established");
        let forward = tapgate_engine::wire::flow::Direction::Forward;
        assert_eq!(live[0].traffic(&details[0], forward), (3, 9 << 16 | 500));
        assert_eq!(details[0].guest(), Some(3));
        let short = left_by_layout_6(100, length - 4096);
        assert!(SharedSessions::adopt(short, 100).is_err());
    }

    #[test]
    fn the_size_cannot_be_changed_by_anybody() {
        let (shared, _memory) = SharedSessions::create(10).unwrap();
        assert!(ftruncate(&shared.descriptor, 0).is_err());
    }
}
