//! A TAP whose fd side we hold.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::Frame;

use super::driver::{Batch, Capabilities, Driver, HEADROOM, Sent};
use super::offload::{self, HEADER};

/// The queues of an opened TAP.
#[derive(Debug)]
pub struct Tap {
    queues: Vec<Arc<OwnedFd>>,
    /// The queue whose turn it is to be read first: a batch may end before the others are reached.
    turn: Cell<usize>,
}

impl Tap {
    /// The TAP of these queues, one or more.
    pub fn new(queues: Vec<Arc<OwnedFd>>) -> Self {
        Self {
            queues,
            turn: Cell::new(0),
        }
    }
}

impl Driver for Tap {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.queues.iter().map(|queue| queue.as_fd()).collect()
    }

    fn receive<'a>(&'a self, batch: &mut Batch<'a>, lost: &mut DropCounters) -> io::Result<()> {
        let (later, first) = self.queues.split_at(self.turn.get());
        self.turn.set((later.len() + 1) % self.queues.len().max(1));
        for queue in first.iter().chain(later) {
            receive(queue, batch, lost)?;
        }
        Ok(())
    }

    /// One system call for each frame. All go by one queue: the kernel spreads by flow what comes
    /// back.
    fn transmit<'f, 'b: 'f>(&self, frames: impl Iterator<Item = &'f mut Frame<'b>>) -> Sent {
        let mut sent = Sent::default();
        let Some(queue) = self.queues.first() else {
            sent.down = frames.count() as u64;
            return sent;
        };
        for frame in frames {
            let mut scratch = MaybeUninit::uninit();
            let (head, rest) = offload::outgoing(frame, &mut scratch);
            match rustix::io::writev(queue, &[IoSlice::new(head), IoSlice::new(rest)]) {
                Ok(written) => {
                    sent.frames += 1;
                    sent.bytes += written.saturating_sub(HEADER) as u64;
                }
                // The netdev is administratively down, or gone.
                Err(Errno::IO | Errno::BADFD) => sent.down += 1,
                Err(_) => sent.refused += 1,
            }
        }
        sent
    }

    /// Frames are copied by the kernel both ways.
    fn reclaim(&mut self) -> u64 {
        0
    }
}

/// Appends frames that wait in one queue.
fn receive(queue: &OwnedFd, batch: &mut Batch<'_>, lost: &mut DropCounters) -> io::Result<()> {
    while !batch.is_full() {
        let Some(spare) = batch.spare() else { break };
        let got = match rustix::io::read(queue, &mut spare[HEADROOM..]) {
            Ok(got) => got,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let room = batch.take(HEADROOM + got);
        match offload::received(room, HEADROOM + HEADER, None) {
            Some(frame) => batch.push(frame),
            None => lost.add(DropReason::OffloadMalformed, 1),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::super::driver::ROOM;
    use super::*;

    /// A TAP's queue, and what the kernel writes to. Sockets that keep messages apart serve.
    fn queue() -> (Arc<OwnedFd>, OwnedFd) {
        let flags = SocketFlags::NONBLOCK;
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Arc::new(near), far)
    }

    /// A frame that says by which queue it came, behind an empty `virtio_net_hdr`.
    fn message(queue: u8) -> Vec<u8> {
        [&[0; HEADER][..], &[queue; 60]].concat()
    }

    /// How many frames of each queue the next batch has.
    fn batch(tap: &Tap, room: &mut [u8]) -> [usize; 2] {
        let mut batch = Batch::new(room);
        tap.receive(&mut batch, &mut DropCounters::default())
            .unwrap();
        let mut of = |queue| {
            let its = |frame: &&Frame<'_>| frame.bytes[0] == queue;
            batch.frames().iter().filter(its).count()
        };
        [of(0), of(1)]
    }

    #[test]
    fn queues_are_served_in_turn() {
        let ((first, to_first), (second, to_second)) = (queue(), queue());
        let tap = Tap::new(vec![first, second]);
        for _ in 0..150 {
            rustix::io::write(&to_first, &message(0)).unwrap();
        }
        for _ in 0..100 {
            rustix::io::write(&to_second, &message(1)).unwrap();
        }
        let mut room = vec![0; ROOM];
        let mut next = || batch(&tap, &mut room);
        assert_eq!(next(), [64, 0]);
        assert_eq!(next(), [0, 64]);
        assert_eq!(next(), [64, 0]);
        // The second queue's turn; the batch has room for the rest of the first.
        assert_eq!(next(), [22, 36]);
        assert_eq!(next(), [0, 0]);
    }

    #[test]
    fn a_message_without_a_whole_header_is_counted_and_no_frame() {
        let (near, far) = queue();
        let tap = Tap::new(vec![near]);
        rustix::io::write(&far, &[0; HEADER - 1]).unwrap();
        let mut lost = DropCounters::default();
        let mut room = vec![0; ROOM];
        let mut batch = Batch::new(&mut room);
        tap.receive(&mut batch, &mut lost).unwrap();
        assert!(batch.frames().is_empty());
        assert_eq!(lost.get(DropReason::OffloadMalformed), 1);
    }
}
