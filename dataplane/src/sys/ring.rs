//! The memory that an AF_PACKET socket's TPACKET_V2 receive ring shares with the kernel.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// One frame's metadata and bytes, as the kernel left them.
pub struct Slot<'a> {
    /// `TP_STATUS_*` bits.
    pub status: u32,
    /// The frame's length before it was cut to the slot.
    pub length: usize,
    /// 802.1Q tag control information, when `status` says it is valid.
    pub vlan: u16,
    /// The tag protocol identifier, when `status` says it is valid.
    pub tpid: u16,
    /// The room before the frame, which ends with the `virtio_net_hdr`, and as much of the frame
    /// as the slot holds.
    pub room: &'a mut [u8],
    /// Where the frame starts in it.
    pub start: usize,
}

/// How a ring is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of one slot.
    pub slot: usize,
    /// Bytes of one physically contiguous block; no slot crosses its end.
    pub block: usize,
    /// Blocks.
    pub blocks: usize,
}

impl Geometry {
    /// Contiguous memory the kernel can nearly always find.
    const BLOCK: usize = 64 << 10;
    const CACHE_LINE: usize = 64;

    /// At least `slots` slots for frames of `frame` bytes. A slot is an odd number of cache lines,
    /// so that the slots' first lines spread over all sets of the cache.
    pub fn holding(frame: usize, slots: usize) -> Self {
        let lines = (Self::overhead() + frame).div_ceil(Self::CACHE_LINE) | 1;
        let slot = lines * Self::CACHE_LINE;
        let block = slot.next_power_of_two().max(Self::BLOCK);
        Self {
            slot,
            block,
            blocks: slots.div_ceil(block / slot),
        }
    }

    /// Slots of the whole ring.
    pub fn slots(self) -> usize {
        self.block / self.slot * self.blocks
    }

    /// Bytes of the whole ring.
    pub fn length(self) -> usize {
        self.block * self.blocks
    }

    /// What the kernel puts before a frame: its header, an address, the `virtio_net_hdr`.
    const fn overhead() -> usize {
        libc::TPACKET2_HDRLEN.next_multiple_of(libc::TPACKET_ALIGNMENT) + 16
    }
}

/// A place in the ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    block: usize,
    slot: usize,
}

impl Cursor {
    fn advance(&mut self, geometry: &Geometry) {
        self.slot += 1;
        if (self.slot + 1) * geometry.slot > geometry.block {
            self.slot = 0;
            self.block += 1;
            if self.block == geometry.blocks {
                self.block = 0;
            }
        }
    }

    fn offset(self, geometry: &Geometry) -> usize {
        self.block * geometry.block + self.slot * geometry.slot
    }
}

/// A mapped receive ring.
#[derive(Debug)]
pub struct Ring {
    base: NonNull<u8>,
    geometry: Geometry,
    slots: usize,
    /// The slot the kernel fills next, as far as we have read.
    next: Cell<Cursor>,
    /// The oldest slot not yet given back, and how many there are.
    oldest: Cursor,
    held: Cell<usize>,
}

// SAFETY: the mapping belongs to this value alone; nothing in it is bound to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring that was set up on `socket` with this geometry.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn map(socket: impl AsFd, geometry: Geometry) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                geometry.length(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                socket,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            base,
            geometry,
            slots: geometry.slots(),
            next: Cell::default(),
            oldest: Cursor::default(),
            held: Cell::new(0),
        })
    }

    /// Gives every slot taken back to the kernel.
    pub fn release(&mut self) {
        for _ in 0..self.held.take() {
            self.status_of(self.oldest)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.oldest.advance(&self.geometry);
        }
    }

    /// The next slot's `TP_STATUS_*` bits; `None` when the kernel has not filled it.
    pub fn status(&self) -> Option<u32> {
        let status = self.status_of(self.next.get()).load(Ordering::Acquire);
        // Slots that were handed out stay filled until they are given back, so stop before the
        // first of them.
        let filled = status & libc::TP_STATUS_USER != 0 && self.held.get() < self.slots;
        filled.then_some(status)
    }

    /// Takes the next slot, if the kernel has filled it. It is ours until [`Ring::release`].
    pub fn take(&self) -> Option<Slot<'_>> {
        let status = self.status()?;
        let slot_size = self.geometry.slot;
        let mut next = self.next.get();
        // SAFETY: a slot's first byte is inside the mapping.
        let slot = unsafe { self.base.add(next.offset(&self.geometry)) };
        // SAFETY: `status` says the kernel has filled the slot and will not touch it until it is
        // given back; the header is plain integers at its start.
        let header: libc::tpacket2_hdr = unsafe { slot.cast().read() };
        let before = size_of_val(&header);
        let mac = usize::from(header.tp_mac).clamp(before, slot_size);
        let stored = (header.tp_snaplen as usize).min(slot_size - mac);
        // SAFETY: the range is inside this slot (bounds above) and after the status word, which is
        // accessed by itself. The slot is handed out once: we advance past it, stop before coming
        // round to it (`status`), and it is given back only through `&mut self`, which cannot be
        // had while the slice lasts.
        let room = unsafe {
            std::slice::from_raw_parts_mut(slot.add(before).as_ptr(), mac - before + stored)
        };
        next.advance(&self.geometry);
        self.next.set(next);
        self.held.set(self.held.get() + 1);
        Some(Slot {
            status,
            length: header.tp_len as usize,
            vlan: header.tp_vlan_tci,
            tpid: header.tp_vlan_tpid,
            room,
            start: mac - before,
        })
    }

    fn status_of(&self, cursor: Cursor) -> &AtomicU32 {
        let start = cursor.offset(&self.geometry);
        // SAFETY: `start` is a slot's first byte, inside the mapping and aligned to 64 bytes. The
        // kernel's header starts with the status word, and both sides only access it atomically.
        unsafe { AtomicU32::from_ptr(self.base.add(start).cast().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`; slices into it borrow `self`, so none is left.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.geometry.length()) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_an_odd_number_of_lines_and_never_cross_a_block() {
        for frame in [1514, 1518, 4096, 9018, 65_600] {
            let geometry = Geometry::holding(frame, 1024);
            assert!(geometry.slot >= frame + 76, "{geometry:?}");
            assert_eq!(geometry.slot / 64 % 2, 1);
            assert!(geometry.slots() >= 1024);
            let mut cursor = Cursor::default();
            for _ in 0..geometry.slots() {
                let end = cursor.offset(&geometry) % geometry.block + geometry.slot;
                assert!(end <= geometry.block && cursor.block < geometry.blocks);
                cursor.advance(&geometry);
            }
            assert_eq!(cursor, Cursor::default());
        }
    }
}
