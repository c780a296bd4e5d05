//! What the tools of the side-by-side harness share: how they end, and a socket to send frames by.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use serde::Serialize;
use tapgate_engine::addr::MacAddr;

/// Prints what a tool found as JSON, or why it found nothing; `about` says about what.
pub fn end<R: Serialize>(
    tool: &str,
    about: impl std::fmt::Display,
    result: io::Result<R>,
) -> ExitCode {
    match result {
        Ok(found) => {
            println!("{}", serde_json::json!(found));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{tool}: {about}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The MAC of a network device.
///
/// # Errors
/// No such device, or one without a MAC.
pub fn mac_of(dev: &str) -> io::Result<MacAddr> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{dev}/address"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// Sends frames, up to 64, in one system call; returns how many the kernel took. None: it has no room.
///
/// # Errors
/// The kernel's, but for that.
pub fn send(socket: &OwnedFd, frames: &mut [Vec<u8>]) -> io::Result<usize> {
    // SAFETY: all zeroes is an iovec that names nothing, and a msghdr without name, data and control data.
    let (mut vectors, mut messages): ([libc::iovec; 64], [libc::mmsghdr; 64]) =
        unsafe { std::mem::zeroed() };
    let places = vectors.iter_mut().zip(&mut messages);
    let mut count = 0;
    for (frame, (vector, message)) in frames.iter_mut().zip(places) {
        vector.iov_base = frame.as_mut_ptr().cast();
        vector.iov_len = frame.len();
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` messages name one vector each, which names one frame; all outlive the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(0),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}

/// A packet socket bound to `dev` that only sends.
///
/// # Errors
/// No such device, no CAP_NET_RAW.
pub fn sender(dev: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(dev)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a sockaddr_ll without protocol: nothing is received.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    // SAFETY: `address` is a whole sockaddr_ll that outlives the call, passed with its size.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}
