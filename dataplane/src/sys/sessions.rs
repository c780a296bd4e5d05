//! Session memory that outlives the process: a memfd whose descriptor control keeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use tapgate_engine::session::{LAYOUT, Record, Record6, SessionMemory, Sessions};

/// What the first page holds, so that a later dataplane knows whether it can use the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    layout: u32,
    records: [u32; 2],
    capacity: u64,
}

/// Records start here: on a page of their own, and aligned for huge pages as little as that.
const HEADER_PAGE: usize = 4096;
/// Nobody can change the size under the mapping, which would be a SIGBUS.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

impl Header {
    const fn of(capacity: usize) -> Self {
        Self {
            magic: *b"tapgate\0",
            layout: LAYOUT,
            records: [size_of::<Record>() as u32, size_of::<Record6>() as u32],
            capacity: capacity as u64,
        }
    }

    /// Where the IPv6 records start: on a page of their own too.
    const fn second(capacity: usize) -> usize {
        (HEADER_PAGE + capacity * size_of::<Record>()).next_multiple_of(HEADER_PAGE)
    }

    const fn length(capacity: usize) -> usize {
        Self::second(capacity) + capacity * size_of::<Record6>()
    }
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
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = memfd_create("tapgate-sessions", flags)?;
        ftruncate(&descriptor, Header::length(capacity) as u64)?;
        fcntl_add_seals(&descriptor, SEALS)?;
        let base = map(&descriptor, capacity)?;
        // SAFETY: the mapping is new, ours alone, page-aligned and longer than a header.
        unsafe { base.cast::<Header>().write(Header::of(capacity)) };
        Ok((Self { descriptor }, records(base, capacity, false)))
    }

    /// Memory an earlier dataplane left behind, if it fits: same layout, same capacity.
    ///
    /// # Errors
    /// It does not fit, and why.
    pub fn adopt(descriptor: OwnedFd, capacity: usize) -> Result<(Self, Sessions), String> {
        let refuse = |error: rustix::io::Errno| format!("cannot be examined: {error}");
        let length = fstat(&descriptor).map_err(refuse)?.st_size;
        let seals = fcntl_get_seals(&descriptor).map_err(refuse)?;
        if !seals.contains(SEALS) || usize::try_from(length) != Ok(Header::length(capacity)) {
            return Err(format!("is not for {capacity} sessions ({length} bytes)"));
        }
        let base =
            map(&descriptor, capacity).map_err(|error| format!("cannot be mapped: {error}"))?;
        // SAFETY: the mapping is page-aligned and longer than a header, which is plain integers.
        let header = unsafe { base.cast::<Header>().read() };
        if header != Header::of(capacity) {
            // SAFETY: the mapping just made; nothing refers to it.
            let unmapped = unsafe { munmap(base.as_ptr().cast(), Header::length(capacity)) };
            debug_assert!(unmapped.is_ok());
            return Err("was laid out by another version".to_owned());
        }
        Ok((Self { descriptor }, records(base, capacity, true)))
    }
}

impl AsFd for SharedSessions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn map(descriptor: &OwnedFd, capacity: usize) -> io::Result<NonNull<u8>> {
    let length = Header::length(capacity);
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
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn records(base: NonNull<u8>, capacity: usize, inherited: bool) -> Sessions {
    // SAFETY: the mapping has `Header::length(capacity)` bytes, is never unmapped once this is
    // called, and is mapped once in this process; the kept descriptor is only stored by control,
    // not mapped. The two ranges do not overlap and start on pages, which aligns them. Any bytes
    // are a valid record (its documentation).
    let (v4, v6) = unsafe {
        let second = base.add(Header::second(capacity)).cast();
        (
            std::slice::from_raw_parts_mut(base.add(HEADER_PAGE).cast().as_ptr(), capacity),
            std::slice::from_raw_parts_mut(second.as_ptr(), capacity),
        )
    };
    Sessions {
        v4: SessionMemory::Mapped(v4),
        v6: SessionMemory::Mapped(v6),
        inherited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_over_only_by_what_fits_it() {
        let (shared, memory) = SharedSessions::create(1000).unwrap();
        assert_eq!((memory.v4.len(), memory.v6.len()), (1000, 1000));
        drop(memory);
        let again = |shared: &SharedSessions| shared.descriptor.try_clone().unwrap();
        assert!(SharedSessions::adopt(again(&shared), 999).is_err());
        let (_, memory) = SharedSessions::adopt(again(&shared), 1000).unwrap();
        assert_eq!((memory.v4.len(), memory.v6.len()), (1000, 1000));

        let base = map(&shared.descriptor, 1000).unwrap();
        let old = Header {
            layout: LAYOUT + 1,
            ..Header::of(1000)
        };
        // SAFETY: the mapping starts with a header.
        unsafe { base.cast::<Header>().write(old) };
        let refused = SharedSessions::adopt(again(&shared), 1000).unwrap_err();
        assert!(refused.contains("another version"), "{refused}");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(SharedSessions::adopt(file.into(), 1000).is_err());
    }

    #[test]
    fn the_size_cannot_be_changed_by_anybody() {
        let (shared, _memory) = SharedSessions::create(10).unwrap();
        assert!(ftruncate(&shared.descriptor, 0).is_err());
    }
}
