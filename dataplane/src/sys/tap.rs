//! TAP devices from their fd side.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::{c_int, c_uint, c_ulong};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

/// Makes a TAP of this name that lives as long as its descriptors, one for each queue.
///
/// # Errors
/// A device of this name exists, no CAP_NET_ADMIN, no /dev/net/tun.
pub fn create(name: &str, queues: u16) -> io::Result<Vec<OwnedFd>> {
    let multi = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
    (0..queues)
        .map(|queue| {
            let exclusive = if queue == 0 { libc::IFF_TUN_EXCL } else { 0 };
            let descriptor = open()?;
            attach(&descriptor, name, multi | exclusive)?;
            offer_offloads(&descriptor)?;
            Ok(descriptor)
        })
        .collect()
}

/// Makes a TAP of this name that stays without descriptors, for a virtual machine to open.
///
/// # Errors
/// As [`create`].
pub fn create_persistent(name: &str, owner: Option<u32>, multi_queue: bool) -> io::Result<()> {
    let multi = if multi_queue {
        libc::IFF_MULTI_QUEUE
    } else {
        0
    };
    let descriptor = open()?;
    attach(&descriptor, name, multi | libc::IFF_TUN_EXCL)?;
    if let Some(owner) = owner {
        // SAFETY: TUNSETOWNER takes a number.
        check(unsafe {
            libc::ioctl(
                descriptor.as_raw_fd(),
                libc::TUNSETOWNER,
                c_ulong::from(owner),
            )
        })?;
    }
    // SAFETY: TUNSETPERSIST takes a number.
    check(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETPERSIST, 1 as c_ulong) })?;
    Ok(())
}

/// The name of the TAP that a descriptor belongs to.
///
/// # Errors
/// It is no TAP's, or its netdev is gone.
pub fn name_of(descriptor: impl AsFd) -> io::Result<String> {
    let mut request = empty_request();
    // SAFETY: TUNGETIFF fills in an ifreq.
    check(unsafe {
        libc::ioctl(
            descriptor.as_fd().as_raw_fd(),
            libc::TUNGETIFF,
            &raw mut request,
        )
    })?;
    let name: Vec<u8> = request
        .ifr_name
        .iter()
        .map(|&c| c as u8)
        .take_while(|&c| c != 0)
        .collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Whether the queue's netdev is administratively up, in whatever namespace it is: then the kernel
/// takes frames.
pub fn is_up(queue: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(queue, PollFlags::OUT)];
    let polled = rustix::event::poll(&mut poll, Some(&Timespec::default()));
    polled.is_ok() && poll[0].revents().contains(PollFlags::OUT)
}

fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?)
}

fn attach(descriptor: &OwnedFd, name: &str, flags: c_int) -> io::Result<()> {
    let mut request = empty_request();
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = flags | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads an ifreq and writes the name back into it.
    check(unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// Tells the kernel which offloads we take: as many as it knows of.
fn offer_offloads(descriptor: &OwnedFd) -> io::Result<()> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let offer = |offloads: c_uint| {
        // SAFETY: TUNSETOFFLOAD takes a number.
        check(unsafe {
            libc::ioctl(
                descriptor.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                c_ulong::from(offloads),
            )
        })
    };
    // UDP came with Linux 6.2.
    offer(tcp | udp).or_else(|_| offer(tcp))
}

fn empty_request() -> libc::ifreq {
    // SAFETY: all zeroes is a valid ifreq.
    unsafe { std::mem::zeroed() }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
