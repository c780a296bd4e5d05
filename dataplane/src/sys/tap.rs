//! TAP devices from their fd side.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::{c_int, c_uint, c_ulong};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::Frame;

use crate::offload::{self, HEADER, Head};
use crate::port::{Batch, SPARE, Sent};

/// Whether an operation on a TAP that failed means that its netdev is gone.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

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

/// Appends frames that wait in one queue to `batch`, placed in `spare`, until either is full or
/// none waits.
///
/// # Errors
/// The TAP's netdev is gone ([`is_gone`]).
pub fn receive<'a>(
    queue: &OwnedFd,
    spare: &mut &'a mut [u8],
    batch: &mut Batch<'a>,
    lost: &mut DropCounters,
) -> io::Result<()> {
    while !batch.is_full() && spare.len() >= SPARE {
        let got = match rustix::io::read(queue, &mut **spare) {
            Ok(got) => got,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let (whole, rest) = std::mem::take(spare).split_at_mut(got);
        *spare = rest;
        let frame = whole
            .split_first_chunk_mut::<HEADER>()
            .and_then(|(header, bytes)| offload::received(bytes, None, header));
        match frame {
            Some(frame) => batch.push(frame),
            None => lost.add(DropReason::OffloadMalformed, 1),
        }
    }
    Ok(())
}

/// Sends frames by one queue, one system call for each. Never blocks.
pub fn send<'f, 'b: 'f>(queue: &OwnedFd, frames: impl Iterator<Item = &'f Frame<'b>>) -> Sent {
    let mut sent = Sent::default();
    let mut room: Head = [0; _];
    for frame in frames {
        let (head, rest) = offload::outgoing(frame, &mut room);
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

/// Tells the kernel what we take without being finished in software: as much as it knows of.
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
