//! A frame on its way through the router, with what the kernel or the VM told us about it.

use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;

/// Bytes of an Ethernet header: both MACs and the EtherType.
pub const ETHERNET: usize = 14;

/// An Ethernet frame that is rewritten in place, and its metadata.
///
/// `bytes` starts with the destination MAC and holds no 802.1Q tag: ports strip it into `vlan`
/// on receipt and put it back on transmission. It may be a super-frame of up to 64 KiB.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The frame from its destination MAC to its last byte, without FCS.
    pub bytes: &'a mut [u8],
    /// 802.1Q tag control information (priority, DEI, VLAN identifier); `None` when untagged.
    pub vlan: Option<u16>,
    /// What is left to do to the frame, and what is known of it.
    pub offload: Offload,
    /// The room directly before `bytes`, for what is put before the frame on its way out. Often
    /// there is none.
    pub headroom: &'a mut [u8],
}

impl<'a> Frame<'a> {
    /// An untagged frame with nothing left to do to it, and without headroom.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            bytes,
            vlan: None,
            offload: Offload::default(),
            headroom: &mut [],
        }
    }

    /// Takes off what follows the first `length` bytes: link padding.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        if length < self.bytes.len() {
            self.bytes = &mut std::mem::take(&mut self.bytes)[..length];
        }
    }
}

/// Where a frame came in, and what its Ethernet header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The port it came in by.
    pub port: PortId,
    /// The VLAN it is in; a priority tag (VLAN 0) is as good as none (A09).
    pub vlan: Option<u16>,
    /// Who sent it.
    pub source: MacAddr,
    /// To whom it is sent.
    pub destination: MacAddr,
}

impl Link {
    /// The MAC and the port of who sent the frame.
    pub fn station(&self) -> (MacAddr, PortId) {
        (self.source, self.port)
    }
}

/// The VLAN identifier of a tag; a priority tag (VLAN 0) is as good as none (A09).
pub fn vlan_id(tag: Option<u16>) -> Option<u16> {
    tag.map(|tag| tag & 0xfff).filter(|id| *id != 0)
}

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The metadata of a `virtio_net_hdr` (VIRTIO 1.2 §5.1.6), in terms of what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// The transport checksum's state.
    pub checksum: Checksum,
    /// Set for a super-frame: how to cut it into wire-sized segments.
    pub gso: Option<Gso>,
}

/// The state of a frame's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// In the frame; nobody has verified it.
    #[default]
    Present,
    /// In the frame and known to be right (`VIRTIO_NET_HDR_F_DATA_VALID`).
    Verified,
    /// The field holds only the pseudo-header's sum (`VIRTIO_NET_HDR_F_NEEDS_CSUM`); whoever puts
    /// the frame on a wire sums from `start` and stores at `start + offset`.
    Partial {
        /// First byte to be summed, from the start of [`Frame::bytes`].
        start: u16,
        /// Where the checksum goes, from `start`.
        offset: u16,
    },
}

/// How a super-frame is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// What is cut.
    pub kind: GsoKind,
    /// Payload bytes of each segment, above the transport header.
    pub size: u16,
    /// TCP: the CWR flag is for the first segment only (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
}

/// What a super-frame consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams of equal size merged into one (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// What became of a frame: exactly one per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten in place: put it out on this port.
    Emit(PortId),
    /// A copy waits for its next hop's MAC.
    Hold,
    /// It was for the router itself and has been dealt with.
    Consumed,
    /// Other frames, now in the outbox, take its place (fragments).
    Replaced,
    /// Dropped, and counted.
    Drop(DropReason),
}

/// A frame that owns its bytes: one that waits, or one of our own making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnedFrame {
    /// As [`Frame::bytes`].
    pub bytes: Vec<u8>,
    /// As [`Frame::vlan`].
    pub vlan: Option<u16>,
    /// As [`Frame::offload`].
    pub offload: Offload,
}

impl OwnedFrame {
    /// The frame, to be rewritten.
    pub fn as_frame(&mut self) -> Frame<'_> {
        Frame {
            bytes: &mut self.bytes,
            vlan: self.vlan,
            offload: self.offload,
            headroom: &mut [],
        }
    }
}

impl From<&Frame<'_>> for OwnedFrame {
    fn from(frame: &Frame<'_>) -> Self {
        Self {
            bytes: frame.bytes.to_vec(),
            vlan: frame.vlan,
            offload: frame.offload,
        }
    }
}
