//! Many frames to one packet socket with few system calls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{iovec, mmsghdr};
use tapgate_engine::frame::Frame;

use crate::offload::{self, HEADER, Head};
use crate::port::{BATCH, Sent};

/// What one `sendmmsg` call points to, kept so that it need not be cleared for every batch.
pub struct Outgoing {
    messages: [mmsghdr; BATCH],
    parts: [[iovec; 2]; BATCH],
    heads: [Head; BATCH],
    lengths: [usize; BATCH],
}

// SAFETY: the pointers inside are written and used within one call of `send`.
unsafe impl Send for Outgoing {}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outgoing")
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            // SAFETY: all zeroes is a valid mmsghdr: no name, no parts, no control data.
            messages: unsafe { std::mem::zeroed() },
            parts: [[part(&[]); 2]; BATCH],
            heads: [[0; _]; BATCH],
            lengths: [0; BATCH],
        }
    }
}

impl Outgoing {
    /// Sends frames, at most [`BATCH`], in as few system calls as it takes. Never blocks.
    pub fn send<'f, 'b: 'f>(
        &mut self,
        socket: BorrowedFd<'_>,
        frames: impl Iterator<Item = &'f Frame<'b>>,
    ) -> Sent {
        let mut count = 0;
        for frame in frames.take(BATCH) {
            let (head, rest) = offload::outgoing(frame, &mut self.heads[count]);
            self.lengths[count] = head.len() - HEADER + rest.len();
            let parts = &mut self.parts[count];
            *parts = [part(head), part(rest)];
            let header = &mut self.messages[count].msg_hdr;
            header.msg_iov = parts.as_mut_ptr();
            header.msg_iovlen = parts.len();
            count += 1;
        }
        let mut sent = Sent::default();
        let mut first = 0;
        while first < count {
            // SAFETY: messages `first..count` were filled above; their parts point into `heads`
            // and into the frames, which are borrowed until this function returns.
            let done = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.messages[first..].as_mut_ptr(),
                    (count - first) as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            if let Ok(done) = usize::try_from(done) {
                sent.frames += done as u64;
                sent.bytes += self.lengths[first..first + done].iter().sum::<usize>() as u64;
                first += done;
                continue;
            }
            // The error is that of the first message. A full buffer or a dead device will refuse
            // the others too; anything else is that frame's own fault.
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                    sent.down += (count - first) as u64;
                    return sent;
                }
                Some(libc::EAGAIN) => {
                    sent.refused += (count - first) as u64;
                    return sent;
                }
                _ => {
                    sent.refused += 1;
                    first += 1;
                }
            }
        }
        sent
    }
}

/// A piece of a message. The kernel only reads what it sends, whatever the type says.
fn part(bytes: &[u8]) -> iovec {
    iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}
