//! AF_PACKET sockets: a TPACKET_V2 receive ring, `virtio_net_hdr` both ways.
//!
//! Slots are as large as a packet of the port's MTU, which keeps a ring of small packets dense in
//! the cache. A super-frame does not fit one: the kernel then also queues it whole on the socket
//! (PACKET_COPY_THRESH), in the order of the slots, and it is read from there. Not TPACKET_V3,
//! which hands blocks over on a timer of milliseconds.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;
use tapgate_engine::addr::MacAddr;

use super::filter;
use super::ring::{Geometry, Ring};
use super::sendmmsg::sendmmsg;
use crate::shared::Shared;

/// Bytes of unread super-frames a socket may hold.
const RECEIVE_BUFFER: c_int = 32 << 20;
/// Bytes of frames on their way out a socket may hold.
const SEND_BUFFER: c_int = 8 << 20;

/// How frames to the router's own MACs reach a device's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveMode {
    /// The device's unicast filter holds our MACs.
    UnicastFilter,
    /// The device refused a MAC and lets everything through.
    Promiscuous,
}

/// A socket that receives from one network device.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
    ifindex: c_int,
}

/// A socket that sends to one network device. It is not the one that receives: the kernel wakes
/// whoever waits on a socket for each frame that has left it, and nobody waits on this one.
#[derive(Debug)]
pub struct PacketSender(OwnedFd);

/// Opens the device with this index, with a receive ring of the given shape.
///
/// # Errors
/// No such device, no CAP_NET_RAW, no memory for the ring, a kernel without `virtio_net_hdr` on
/// rings.
pub fn open(ifindex: u32, geometry: Geometry) -> io::Result<(PacketSocket, Ring, PacketSender)> {
    let ifindex = c_int::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
    let incoming = socket()?;
    let option = |name, value: c_int| set_option(&incoming, libc::SOL_PACKET, name, &value);
    option(
        libc::PACKET_VERSION,
        libc::tpacket_versions::TPACKET_V2 as c_int,
    )?;
    option(libc::PACKET_IGNORE_OUTGOING, 1)?;
    option(libc::PACKET_COPY_THRESH, 1)?;
    let request = libc::tpacket_req {
        tp_block_size: geometry.block as u32,
        tp_block_nr: geometry.blocks as u32,
        tp_frame_size: geometry.slot as u32,
        tp_frame_nr: geometry.slots() as u32,
    };
    set_option(&incoming, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    set_option(
        &incoming,
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        &RECEIVE_BUFFER,
    )?;
    let ring = Ring::map(&incoming, geometry)?;
    bind(&incoming, ifindex, libc::ETH_P_ALL)?;

    let outgoing = socket()?;
    set_option(
        &outgoing,
        libc::SOL_SOCKET,
        libc::SO_SNDBUFFORCE,
        &SEND_BUFFER,
    )?;
    bind(&outgoing, ifindex, 0)?;

    let socket = PacketSocket {
        descriptor: incoming,
        ifindex,
    };
    // Solicited-node groups (RFC 4291 §2.7.1) are as many as addresses, more than filters hold.
    socket.membership(libc::PACKET_MR_ALLMULTI, MacAddr::ZERO, true)?;
    Ok((socket, ring, PacketSender(outgoing)))
}

impl PacketSocket {
    /// Has frames to `mac` received (or no longer received).
    ///
    /// # Errors
    /// The device's driver refuses.
    pub fn listen(&self, mac: MacAddr, join: bool) -> io::Result<()> {
        self.membership(libc::PACKET_MR_UNICAST, mac, join)
    }

    /// Keeps frames from us that the device receives but that cannot be ours: those that are
    /// neither broadcast, multicast nor to these MACs, and the host's own traffic to the MACs of
    /// `shared`. `None` lets everything in.
    ///
    /// # Errors
    /// The kernel refuses the filter.
    pub fn only(&self, macs: Option<&[MacAddr]>, shared: &[Shared]) -> io::Result<()> {
        filter::attach(&self.descriptor, macs, shared)
    }

    /// Has every frame on the link received.
    ///
    /// # Errors
    /// The device's driver refuses.
    pub fn listen_to_all(&self) -> io::Result<()> {
        self.membership(libc::PACKET_MR_PROMISC, MacAddr::ZERO, true)
    }

    fn membership(&self, kind: c_int, mac: MacAddr, join: bool) -> io::Result<()> {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&mac.0);
        let request = libc::packet_mreq {
            mr_ifindex: self.ifindex,
            mr_type: kind as u16,
            mr_alen: 6,
            mr_address: address,
        };
        let name = if join {
            libc::PACKET_ADD_MEMBERSHIP
        } else {
            libc::PACKET_DROP_MEMBERSHIP
        };
        set_option(&self.descriptor, libc::SOL_PACKET, name, &request)
    }

    /// Frames the kernel had to drop since the last call, for want of a free slot.
    ///
    /// # Errors
    /// Never on a live socket.
    pub fn kernel_drops(&self) -> io::Result<u64> {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: `statistics` has room for `length` bytes.
        check(unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        })?;
        Ok(statistics.tp_drops.into())
    }

    /// Reads a frame that did not fit its slot from the socket's queue. Returns its whole length;
    /// what is longer than `room` is cut.
    ///
    /// # Errors
    /// None is queued.
    pub fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        // SAFETY: `room` is as long as the call is told. MSG_TRUNC has it return the whole length.
        let got = unsafe {
            libc::recv(
                self.descriptor.as_raw_fd(),
                room.as_mut_ptr().cast(),
                room.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            )
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// Takes the socket's pending error, such as ENETDOWN after the device went down: until then
    /// it counts as ready.
    pub fn take_error(&self) -> Option<io::Error> {
        rustix::net::sockopt::socket_error(&self.descriptor)
            .ok()
            .and_then(Result::err)
            .map(Into::into)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl PacketSender {
    /// Sends frames in the order given, each of two parts, and returns how many the kernel took.
    /// Never blocks.
    ///
    /// # Errors
    /// The kernel refuses the first.
    pub fn send(&self, frames: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        sendmmsg(&self.0, frames)
    }
}

/// A packet socket that is bound to nothing and receives nothing.
fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let descriptor = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    set_option(&descriptor, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    Ok(descriptor)
}

/// Binds to a device, to receive frames of `protocol`; 0 is none.
fn bind(socket: &OwnedFd, ifindex: c_int, protocol: c_int) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = ifindex;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_ll of `length` bytes.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

fn set_option<T>(socket: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is `size_of::<T>()` readable bytes, and the kernel only reads them.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
