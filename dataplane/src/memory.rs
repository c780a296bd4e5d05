//! Ports made of two bounded queues, for tests that run the dataplane without a kernel's devices.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, eventfd};
use tapgate_engine::frame::{Frame, Offload};

use crate::port::{Batch, SPARE, Sent};

/// Frames each queue holds.
const DEPTH: usize = 256;

/// A frame at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFrame {
    /// From the destination MAC on, without a tag.
    pub bytes: Vec<u8>,
    /// As [`Frame::vlan`].
    pub vlan: Option<u16>,
    /// As [`Frame::offload`].
    pub offload: Offload,
}

/// One end of a pair of queues: what one end sends the other receives.
#[derive(Debug)]
pub struct MemoryPort {
    from: Receiver<StoredFrame>,
    to: Sender<StoredFrame>,
    /// Readable while frames may wait for us.
    ready: Arc<OwnedFd>,
    peer_ready: Arc<OwnedFd>,
}

/// Two ends that lead to each other.
///
/// # Errors
/// No descriptor to be had.
pub fn pair() -> io::Result<(MemoryPort, MemoryPort)> {
    let ready = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new);
    let (near, far) = (ready()?, ready()?);
    let (to_far, from_near) = bounded(DEPTH);
    let (to_near, from_far) = bounded(DEPTH);
    Ok((
        MemoryPort {
            from: from_far,
            to: to_far,
            ready: near.clone(),
            peer_ready: far.clone(),
        },
        MemoryPort {
            from: from_near,
            to: to_near,
            ready: far,
            peer_ready: near,
        },
    ))
}

impl MemoryPort {
    /// Takes the next frame; `None` when none waits.
    pub fn take(&self) -> Option<StoredFrame> {
        self.from.try_recv().ok()
    }

    /// Puts one frame in the other end's queue. Whether it had room.
    pub fn put(&self, frame: StoredFrame) -> bool {
        let put = self.to.try_send(frame).is_ok();
        // An eventfd that cannot count further is readable already.
        let _ = rustix::io::write(&self.peer_ready, &1u64.to_ne_bytes());
        put
    }

    /// Appends waiting frames to `batch`, placed in `spare`, until either is full or none waits.
    pub fn receive<'a>(&self, spare: &mut &'a mut [u8], batch: &mut Batch<'a>) {
        let _ = rustix::io::read(&self.ready, &mut [0; 8]);
        while !batch.is_full() && spare.len() >= SPARE {
            let Some(frame) = self.take() else { return };
            let length = frame.bytes.len().min(SPARE);
            let (bytes, rest) = std::mem::take(spare).split_at_mut(length);
            *spare = rest;
            bytes.copy_from_slice(&frame.bytes[..length]);
            batch.push(Frame {
                bytes,
                vlan: frame.vlan,
                offload: frame.offload,
                headroom: &mut [],
            });
        }
        // The batch ended, not the queue: stay ready.
        let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
    }

    /// Sends frames; those the other end has no room for are refused.
    pub fn send<'f, 'b: 'f>(&self, frames: impl Iterator<Item = &'f Frame<'b>>) -> Sent {
        let mut sent = Sent::default();
        for frame in frames {
            let stored = StoredFrame {
                bytes: frame.bytes.to_vec(),
                vlan: frame.vlan,
                offload: frame.offload,
            };
            match self.to.try_send(stored) {
                Ok(()) => {
                    sent.frames += 1;
                    sent.bytes += frame.bytes.len() as u64;
                }
                Err(TrySendError::Full(_)) => sent.refused += 1,
                Err(TrySendError::Disconnected(_)) => sent.down += 1,
            }
        }
        let _ = rustix::io::write(&self.peer_ready, &1u64.to_ne_bytes());
        sent
    }
}

impl AsFd for MemoryPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
