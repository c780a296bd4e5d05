//! What every kind of port has in common: the [`Driver`] interface and its vocabulary.
//!
//! A frame is processed in the memory its driver received it into, and sent from there. That
//! memory is the driver's: [`Driver::receive`] lends it to a [`Batch`], and only
//! [`Driver::reclaim`] may hand it to the kernel, a device or a virtual machine again. Receiving
//! and transmitting borrow a driver shared and reclaiming borrows it alone, so the borrow checker
//! sees to it that nothing is reclaimed while a frame of the batch is in use. It also lets one
//! port send from the memory of another, or from its own.

use std::io;
use std::ops::AddAssign;
use std::os::fd::BorrowedFd;

use arrayvec::ArrayVec;
use tapgate_engine::drops::DropCounters;
use tapgate_engine::frame::{Checksum, Frame, Offload};

/// Most frames handled at once.
pub const BATCH: usize = 64;
/// Room left before a frame that is received into a batch's room.
pub const HEADROOM: usize = 64;
/// Room that receiving one super-frame takes: 64 KiB, its link header and `virtio_net_hdr`, and
/// the headroom.
const SPARE: usize = (64 << 10) + 64 + HEADROOM;
/// Room for the super-frames of one batch. More would not stay in the cache.
pub const ROOM: usize = 8 * SPARE;

/// One kind of port: how frames come in and go out.
pub trait Driver {
    /// What it does with frames on their way out. What it cannot do is done in software before
    /// [`Driver::transmit`].
    fn capabilities(&self) -> Capabilities;

    /// The descriptors that become readable when frames wait.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Appends waiting frames to `batch`, until it is full, its room is used up or none waits.
    /// Frames are in the driver's own memory or in the batch's room.
    ///
    /// # Errors
    /// The device is gone for good.
    fn receive<'a>(&'a self, batch: &mut Batch<'a>, lost: &mut DropCounters) -> io::Result<()>;

    /// Sends frames, at most [`BATCH`]. Never blocks. Writes into their headroom what has to stand
    /// before them.
    ///
    /// When it returns, the frames are no longer the driver's to read, unless they lie in memory
    /// that it shares with the driver they came from. A driver whose device reads later copies
    /// them to memory of its own and says in [`Sent::under_way`] how many it holds.
    fn transmit<'f, 'b: 'f>(&self, frames: impl Iterator<Item = &'f mut Frame<'b>>) -> Sent;

    /// Gives the memory of received frames back to where frames come from, and takes back that of
    /// transmitted frames whose device is done with them. Returns how many frames are still under
    /// way.
    ///
    /// It is called after each batch received, and while frames are under way again and again, at
    /// least every millisecond.
    fn reclaim(&mut self) -> u64;

    /// Frames dropped before they could be received, since the last call.
    fn kernel_drops(&self) -> u64 {
        0
    }

    /// Takes an error that makes a descriptor count as ready until it is taken, such as that the
    /// device went down.
    fn take_error(&self) -> Option<io::Error> {
        None
    }
}

/// What a driver does with frames on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It takes super-frames: whoever receives them cuts them.
    pub segmentation: bool,
    /// It takes partial checksums: whoever receives them completes them.
    pub checksums: bool,
    /// It takes a frame that is longer than one of its buffers, in pieces.
    pub scatter: bool,
}

impl Capabilities {
    /// Everything: what speaks `virtio_net_hdr` to the kernel.
    pub const ALL: Self = Self {
        segmentation: true,
        checksums: true,
        scatter: true,
    };

    /// Whether a frame with these offloads can be handed over as it is.
    pub fn take(self, offload: &Offload) -> bool {
        let partial = matches!(offload.checksum, Checksum::Partial { .. });
        let super_frames = self.segmentation && self.scatter;
        (self.checksums || !partial) && (super_frames || offload.gso.is_none())
    }
}

/// What became of frames handed to a driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames taken.
    pub frames: u64,
    /// Their bytes, as on a wire.
    pub bytes: u64,
    /// Frames refused.
    pub refused: u64,
    /// Frames lost because the device is down or gone.
    pub down: u64,
    /// Frames the driver holds until their transmission is complete, earlier ones included.
    pub under_way: u64,
}

impl AddAssign for Sent {
    /// Adds what happened later.
    fn add_assign(&mut self, later: Self) {
        self.frames += later.frames;
        self.bytes += later.bytes;
        self.refused += later.refused;
        self.down += later.down;
        self.under_way = later.under_way;
    }
}

/// Frames received together, and room for those whose driver has no memory of its own.
#[derive(Debug)]
pub struct Batch<'a> {
    frames: ArrayVec<Frame<'a>, BATCH>,
    room: &'a mut [u8],
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub fn new(room: &'a mut [u8]) -> Self {
        Self {
            frames: ArrayVec::new(),
            room,
        }
    }

    /// Whether no frame can be added.
    pub fn is_full(&self) -> bool {
        self.frames.is_full()
    }

    /// Room for the longest frame, [`HEADROOM`] included. `None` when it is used up: the batch is
    /// at its end.
    pub fn spare(&mut self) -> Option<&mut [u8]> {
        self.room.get_mut(..SPARE)
    }

    /// Takes the first `length` bytes of the room.
    pub fn take(&mut self, length: usize) -> &'a mut [u8] {
        let room = std::mem::take(&mut self.room);
        let (taken, rest) = room.split_at_mut(length.min(room.len()));
        self.room = rest;
        taken
    }

    /// Adds a frame. Nothing happens when the batch is full.
    pub fn push(&mut self, frame: Frame<'a>) {
        if !self.frames.is_full() {
            self.frames.push(frame);
        }
    }

    /// The frames.
    pub fn frames(&mut self) -> &mut [Frame<'a>] {
        &mut self.frames
    }
}
