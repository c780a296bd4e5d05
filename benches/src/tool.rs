//! What the tools of the side-by-side harness share: how they end, a socket to send frames by, and headers.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use serde::Serialize;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::checksum::{checksum, fold, pseudo_header};

/// Length of the headers that [`write_headers`] writes.
pub const HEADERS: usize = 14 + 20 + 8;
/// Place of the UDP checksum in a frame with such.
pub const UDP_CHECKSUM: usize = 40;

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

/// Writes the headers of a frame that ends with a UDP datagram, for which it must have room; the first of
/// `ends` is the sender's address and port. The UDP checksum is the sum of the pseudo-header only, which
/// is what a device that completes it wants to find (RFC 768).
pub fn write_headers(frame: &mut [u8], macs: [MacAddr; 2], ends: [(Ipv4Addr, u16); 2]) {
    let [source, destination] = ends.map(|(address, _)| address.octets());
    let udp_length = frame.len() - (HEADERS - 8);
    frame[0..6].copy_from_slice(&macs[1].0);
    frame[6..12].copy_from_slice(&macs[0].0);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..];
    ip[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip[2..4].copy_from_slice(&((20 + udp_length) as u16).to_be_bytes());
    ip[12..16].copy_from_slice(&source);
    ip[16..20].copy_from_slice(&destination);
    let header = checksum(&ip[..20]);
    ip[10..12].copy_from_slice(&header.to_be_bytes());
    let udp = &mut ip[20..];
    udp[0..2].copy_from_slice(&ends[0].1.to_be_bytes());
    udp[2..4].copy_from_slice(&ends[1].1.to_be_bytes());
    udp[4..6].copy_from_slice(&(udp_length as u16).to_be_bytes());
    let partial = fold(pseudo_header(&source, &destination, 17, udp_length));
    udp[6..8].copy_from_slice(&partial.to_be_bytes());
}
