//! Queues in memory, for tests that run the dataplane without a kernel's devices. A test has their
//! far end, and may give the driver the limits and the slowness of another kind of port.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, eventfd};
use tapgate_engine::drops::DropCounters;
use tapgate_engine::frame::{Frame, Offload};

use super::driver::{Batch, Capabilities, Driver, HEADROOM, Sent};

/// Frames each queue holds, and frames that may be under way.
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

impl From<&Frame<'_>> for StoredFrame {
    fn from(frame: &Frame<'_>) -> Self {
        Self {
            bytes: frame.bytes.to_vec(),
            vlan: frame.vlan,
            offload: frame.offload,
        }
    }
}

/// What kind of driver the near end acts as.
#[derive(Debug, Clone, Copy)]
pub struct Acts {
    /// What it says it can do.
    pub capabilities: Capabilities,
    /// How many calls of [`Driver::reclaim`] a frame stays under way; 0 is none at all.
    pub completes_after: u32,
}

/// The port.
#[derive(Debug)]
pub struct Memory {
    from: Receiver<StoredFrame>,
    to: Sender<StoredFrame>,
    /// Readable while frames may wait.
    bell: Arc<OwnedFd>,
    acts: Arc<Mutex<Acts>>,
    /// Copies of frames that wait for their completion, and how many reclaims are left to it.
    under_way: RefCell<VecDeque<(u32, StoredFrame)>>,
}

/// The other end of its queues.
#[derive(Debug)]
pub struct FarEnd {
    from: Receiver<StoredFrame>,
    to: Sender<StoredFrame>,
    bell: Arc<OwnedFd>,
    acts: Arc<Mutex<Acts>>,
}

/// A port and its far end.
///
/// # Errors
/// No descriptor to be had.
pub fn pair() -> io::Result<(Memory, FarEnd)> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let acts = Arc::new(Mutex::new(Acts {
        capabilities: Capabilities::ALL,
        completes_after: 0,
    }));
    let (to_far, from_near) = bounded(DEPTH);
    let (to_near, from_far) = bounded(DEPTH);
    let near = Memory {
        from: from_far,
        to: to_far,
        bell: bell.clone(),
        acts: acts.clone(),
        under_way: RefCell::default(),
    };
    let far = FarEnd {
        from: from_near,
        to: to_near,
        bell,
        acts,
    };
    Ok((near, far))
}

impl FarEnd {
    /// Takes the next frame; `None` when none waits.
    pub fn take(&self) -> Option<StoredFrame> {
        self.from.try_recv().ok()
    }

    /// Puts one frame in the port's queue. Whether it had room.
    pub fn put(&self, frame: StoredFrame) -> bool {
        let put = self.to.try_send(frame).is_ok();
        ring(&self.bell);
        put
    }

    /// Has the port act as another kind of driver from now on.
    pub fn act(&self, acts: Acts) {
        *lock(&self.acts) = acts;
    }
}

impl Driver for Memory {
    fn capabilities(&self) -> Capabilities {
        lock(&self.acts).capabilities
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.bell.as_fd()]
    }

    fn receive<'a>(&'a self, batch: &mut Batch<'a>, _: &mut DropCounters) -> io::Result<()> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        while !batch.is_full() {
            let Some(longest) = batch.spare().map(|spare| spare.len() - HEADROOM) else {
                break;
            };
            let Ok(frame) = self.from.try_recv() else {
                return Ok(());
            };
            let length = frame.bytes.len().min(longest);
            let (headroom, bytes) = batch.take(HEADROOM + length).split_at_mut(HEADROOM);
            bytes.copy_from_slice(&frame.bytes[..length]);
            batch.push(Frame {
                bytes,
                vlan: frame.vlan,
                offload: frame.offload,
                headroom,
            });
        }
        // The batch is full and the queue is not empty: stay readable.
        ring(&self.bell);
        Ok(())
    }

    fn transmit<'f, 'b: 'f>(&self, frames: impl Iterator<Item = &'f mut Frame<'b>>) -> Sent {
        let completes_after = lock(&self.acts).completes_after;
        let mut under_way = self.under_way.borrow_mut();
        let mut sent = Sent::default();
        for frame in frames {
            let stored = StoredFrame::from(&*frame);
            let length = stored.bytes.len() as u64;
            if completes_after > 0 && under_way.len() < DEPTH {
                under_way.push_back((completes_after, stored));
            } else if completes_after > 0 {
                sent.refused += 1;
                continue;
            } else if let Err(error) = self.to.try_send(stored) {
                match error {
                    TrySendError::Full(_) => sent.refused += 1,
                    TrySendError::Disconnected(_) => sent.down += 1,
                }
                continue;
            }
            sent.frames += 1;
            sent.bytes += length;
        }
        sent.under_way = under_way.len() as u64;
        sent
    }

    /// Completes frames under way for long enough: only then they are at the far end.
    fn reclaim(&mut self) -> u64 {
        let under_way = self.under_way.get_mut();
        for (left, _) in under_way.iter_mut() {
            *left = left.saturating_sub(1);
        }
        while under_way.front().is_some_and(|(left, _)| *left == 0) {
            if let Some((_, frame)) = under_way.pop_front() {
                // A queue without room loses it: its transmission is complete all the same.
                let _ = self.to.try_send(frame);
            }
        }
        under_way.len() as u64
    }
}

/// Makes a port readable.
fn ring(bell: &OwnedFd) {
    // One that cannot count further is readable already.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

fn lock(acts: &Mutex<Acts>) -> MutexGuard<'_, Acts> {
    acts.lock().unwrap_or_else(PoisonError::into_inner)
}
