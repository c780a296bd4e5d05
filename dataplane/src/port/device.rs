//! A network device, by packet sockets.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::Frame;

use super::driver::{BATCH, Batch, Capabilities, Driver, HEADROOM, Sent};
use super::offload::{self, HEADER};
use crate::sys::packet::{self, PacketSender, PacketSocket};
use crate::sys::ring::{Geometry, Ring, Slot};

/// Slots of a receive ring: some milliseconds of small packets. 512 to 4096 are equally fast.
const SLOTS: usize = 2048;
/// How many errors of a socket are passed over for one frame; a device leaves one each time it goes
/// down.
const ERRORS: usize = 8;
/// Room in a slot beyond the MTU: Ethernet header and a tag inside the bytes.
const LINK_HEADER: usize = 18;

/// An opened device.
#[derive(Debug)]
pub struct Device {
    socket: Arc<PacketSocket>,
    ring: Ring,
    sender: PacketSender,
}

impl Device {
    /// Opens the device with this index for IP packets of up to `mtu` bytes.
    ///
    /// # Errors
    /// No such device, no CAP_NET_RAW, no memory for the ring, a kernel without `virtio_net_hdr`
    /// on rings.
    pub fn open(ifindex: u32, mtu: u32) -> io::Result<Self> {
        let geometry = Geometry::holding(mtu as usize + LINK_HEADER, SLOTS);
        Self::open_with(ifindex, geometry)
    }

    /// Opens a device with a ring of the given shape.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_with(ifindex: u32, geometry: Geometry) -> io::Result<Self> {
        let (socket, ring, sender) = packet::open(ifindex, geometry)?;
        Ok(Self {
            socket: Arc::new(socket),
            ring,
            sender,
        })
    }

    /// The socket that receives.
    pub fn socket(&self) -> &Arc<PacketSocket> {
        &self.socket
    }

    /// A super-frame that did not fit its slot, from the socket's queue into the batch's room: the
    /// room, and where the frame starts in it. The batch has room for it.
    fn receive_whole<'a>(&self, batch: &mut Batch<'a>) -> Option<(&'a mut [u8], usize)> {
        let room = &mut batch.spare()?[HEADROOM..];
        let longest = room.len();
        let got = self.next_whole(room).filter(|&n| n <= longest)?;
        Some((batch.take(HEADROOM + got), HEADROOM + HEADER))
    }

    /// Reads the frame at the queue's head. A device that went down has left an error on the socket,
    /// which is told first, once; the frame is still there. Were it left, this slot's tag would go
    /// with no frame, and each later slot's with the frame of the slot before.
    fn next_whole(&self, room: &mut [u8]) -> Option<usize> {
        (0..ERRORS).find_map(|_| match self.socket.receive(room) {
            Ok(length) => Some(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(None),
            Err(_) => None,
        })?
    }
}

impl Driver for Device {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.as_fd()]
    }

    fn receive<'a>(&'a self, batch: &mut Batch<'a>, lost: &mut DropCounters) -> io::Result<()> {
        while !batch.is_full() {
            let Some(status) = self.ring.status() else {
                break;
            };
            let whole = status & libc::TP_STATUS_COPY != 0;
            if whole && batch.spare().is_none() {
                break;
            }
            let Some(slot) = self.ring.take() else { break };
            let vlan = tag(&slot);
            let received = if whole {
                self.receive_whole(batch)
            } else if slot.room.len() - slot.start < slot.length {
                None
            } else {
                Some((slot.room, slot.start))
            };
            let (vlan, room, start) = match (vlan, received) {
                (Ok(vlan), Some((room, start))) => (vlan, room, start),
                (Ok(_), None) => {
                    lost.add(DropReason::FrameTruncated, 1);
                    continue;
                }
                (Err(reason), _) => {
                    lost.add(reason, 1);
                    continue;
                }
            };
            match offload::received(room, start, vlan) {
                Some(frame) => batch.push(frame),
                None => lost.add(DropReason::OffloadMalformed, 1),
            }
        }
        // A device that is gone is told by whoever follows links.
        Ok(())
    }

    fn transmit<'f, 'b: 'f>(&self, frames: impl Iterator<Item = &'f mut Frame<'b>>) -> Sent {
        let mut heads = [const { MaybeUninit::uninit() }; BATCH];
        let messages: ArrayVec<[IoSlice<'_>; 2], BATCH> = heads
            .iter_mut()
            .zip(frames)
            .map(|(scratch, frame)| {
                let (head, rest) = offload::outgoing(frame, scratch);
                [IoSlice::new(head), IoSlice::new(rest)]
            })
            .collect();
        let mut sent = Sent::default();
        let mut left = &messages[..];
        while !left.is_empty() {
            match self.sender.send(left) {
                Ok(taken) => {
                    let (taken, rest) = left.split_at(taken.min(left.len()));
                    let length = |[head, rest]: &[IoSlice<'_>; 2]| head.len() - HEADER + rest.len();
                    sent.frames += taken.len() as u64;
                    sent.bytes += taken.iter().map(length).sum::<usize>() as u64;
                    left = rest;
                }
                // The error is that of the first frame. A full buffer or a dead device will refuse
                // the others too; anything else is that frame's own fault.
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                        sent.down += left.len() as u64;
                        break;
                    }
                    Some(libc::EAGAIN) => {
                        sent.refused += left.len() as u64;
                        break;
                    }
                    _ => {
                        sent.refused += 1;
                        left = &left[1..];
                    }
                },
            }
        }
        sent
    }

    fn reclaim(&mut self) -> u64 {
        self.ring.release();
        0
    }

    fn kernel_drops(&self) -> u64 {
        self.socket.kernel_drops().unwrap_or_default()
    }

    fn take_error(&self) -> Option<io::Error> {
        self.socket.take_error()
    }
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
