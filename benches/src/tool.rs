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
