//! Many messages by one system call.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

use arrayvec::ArrayVec;

/// Most messages of one call.
const MOST: usize = 64;

/// Sends messages in order, each of two parts, and returns how many the kernel took: some may be
/// left. Never blocks.
///
/// # Errors
/// The kernel refuses the first.
pub fn sendmmsg(socket: &OwnedFd, messages: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
    let mut headers = ArrayVec::<libc::mmsghdr, MOST>::new();
    for parts in messages.iter().take(MOST) {
        // SAFETY: all zeroes is a valid mmsghdr: no name, no parts, no control data.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        // An IoSlice is laid out as an iovec (std says so). The kernel only reads what it sends,
        // whatever the type says.
        header.msg_hdr.msg_iov = parts.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_iovlen = parts.len();
        headers.push(header);
    }
    // SAFETY: `headers` is as long as the call is told; its parts point into `messages`, and those
    // into what they borrow, all of which lasts longer than the call.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as u32,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
