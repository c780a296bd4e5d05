//! AF_PACKET sockets: a TPACKET_V2 receive ring, `virtio_net_hdr` both ways.
//!
//! Slots are as large as a packet of the port's MTU, which keeps a ring of small packets dense in
//! the cache. A super-frame does not fit one: the kernel then also queues it whole on the socket
//! (PACKET_COPY_THRESH), in the order of the slots, and it is read from there. Not TPACKET_V3,
//! which hands blocks over on a timer of milliseconds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use libc::c_int;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::Frame;

use super::filter;
use super::outgoing::Outgoing;
use super::ring::{Geometry, Ring, Slot};
use crate::offload::{self, HEADER};
use crate::port::{Batch, SPARE, Sent};
use crate::shared::Shared;

/// Slots of a receive ring: some milliseconds of small packets. 512 to 4096 are equally fast.
const SLOTS: usize = 2048;
/// Bytes of unread super-frames a socket may hold.
const RECEIVE_BUFFER: c_int = 32 << 20;
/// Bytes of frames on their way out a socket may hold.
const SEND_BUFFER: c_int = 8 << 20;
/// Room in a slot beyond the MTU: Ethernet header and a tag inside the bytes.
const LINK_HEADER: usize = 18;

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

/// Receives from a network device.
#[derive(Debug)]
pub struct PacketReceiver {
    socket: Arc<PacketSocket>,
    ring: Ring,
}

/// Sends to a network device, by a socket of its own: the kernel wakes whoever waits on a socket
/// for each frame that has left it, and nobody waits on this one.
#[derive(Debug)]
pub struct PacketSender {
    socket: OwnedFd,
    outgoing: Box<Outgoing>,
}

/// Opens the device with this index for IP packets of up to `mtu` bytes.
///
/// # Errors
/// No such device, no CAP_NET_RAW, no memory for the ring, a kernel without `virtio_net_hdr` on
/// rings.
pub fn open(ifindex: u32, mtu: u32) -> io::Result<(PacketReceiver, PacketSender)> {
    open_with(
        ifindex,
        Geometry::holding(mtu as usize + LINK_HEADER, SLOTS),
    )
}

/// Opens a device with a ring of the given shape.
///
/// # Errors
/// As [`open`].
pub fn open_with(ifindex: u32, geometry: Geometry) -> io::Result<(PacketReceiver, PacketSender)> {
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
    let receiver = PacketReceiver {
        socket: Arc::new(socket),
        ring,
    };
    let sender = PacketSender {
        socket: outgoing,
        outgoing: Box::default(),
    };
    Ok((receiver, sender))
}

impl PacketSocket {
    /// Has frames to `mac` received (or no longer received).
    ///
    /// # Errors
    /// The device's driver refuses.
    pub fn listen(&self, mac: MacAddr, join: bool) -> io::Result<()> {
        self.membership(libc::PACKET_MR_UNICAST, mac, join)
    }

    /// Has frames to other MACs than these, broadcasts and multicasts aside, kept from us whether
    /// or not the device receives them; of frames to the MACs of `shared`, the host's own traffic.
    /// `None` lets everything in.
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

impl PacketReceiver {
    /// The socket.
    pub fn socket(&self) -> &Arc<PacketSocket> {
        &self.socket
    }

    /// Appends waiting frames to `batch` until it is full or none waits. Super-frames are placed
    /// in `spare`; when that runs out the batch ends early.
    pub fn receive<'a>(
        &'a mut self,
        spare: &mut &'a mut [u8],
        batch: &mut Batch<'a>,
        lost: &mut DropCounters,
    ) {
        let socket = &self.socket.descriptor;
        let mut unread = self.ring.read();
        while !batch.is_full() {
            let Some(status) = unread.status() else {
                return;
            };
            if status & libc::TP_STATUS_COPY != 0 && spare.len() < SPARE {
                return;
            }
            let Some(slot) = unread.take() else { return };
            let vlan = match tag(&slot) {
                Ok(vlan) => vlan,
                Err(reason) => {
                    if slot.status & libc::TP_STATUS_COPY != 0 {
                        receive_whole(socket, spare);
                    }
                    lost.add(reason, 1);
                    continue;
                }
            };
            let received = if slot.status & libc::TP_STATUS_COPY != 0 {
                receive_whole(socket, spare)
            } else if slot.bytes.len() < slot.length {
                None
            } else {
                slot.before
                    .last_chunk()
                    .copied()
                    .map(|header| (header, slot.bytes))
            };
            match received {
                None => lost.add(DropReason::FrameTruncated, 1),
                Some((header, bytes)) => match offload::received(bytes, vlan, &header) {
                    Some(frame) => batch.push(frame),
                    None => lost.add(DropReason::OffloadMalformed, 1),
                },
            }
        }
    }

    /// Gives the slots of the last batch back to the kernel.
    pub fn release(&mut self) {
        self.ring.release();
    }
}

impl PacketSender {
    /// Sends frames, at most [`crate::port::BATCH`], in as few system calls as it takes. Never blocks.
    pub fn send<'f, 'b: 'f>(&mut self, frames: impl Iterator<Item = &'f Frame<'b>>) -> Sent {
        self.outgoing.send(self.socket.as_fd(), frames)
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

/// The 802.1Q tag the kernel took out of a frame. A tag of another kind (802.1ad) makes it a frame
/// we know nothing about.
fn tag(slot: &Slot<'_>) -> Result<Option<u16>, DropReason> {
    if slot.status & libc::TP_STATUS_VLAN_VALID == 0 {
        return Ok(None);
    }
    let known =
        slot.status & libc::TP_STATUS_VLAN_TPID_VALID == 0 || slot.tpid == libc::ETH_P_8021Q as u16;
    known
        .then_some(Some(slot.vlan))
        .ok_or(DropReason::UnknownEthertype)
}

/// Reads a frame that did not fit its slot from the socket's queue into the front of `spare`.
fn receive_whole<'a>(
    socket: &OwnedFd,
    spare: &mut &'a mut [u8],
) -> Option<([u8; HEADER], &'a mut [u8])> {
    let room: &mut [u8] = spare;
    // SAFETY: `room` is as long as the call is told. MSG_TRUNC has it return the whole length.
    let got = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            room.as_mut_ptr().cast(),
            room.len(),
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
        )
    };
    let got = usize::try_from(got).ok().filter(|&got| got <= room.len())?;
    let (whole, rest) = std::mem::take(spare).split_at_mut(got);
    *spare = rest;
    let (header, bytes) = whole.split_first_chunk_mut()?;
    Some((*header, bytes))
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
