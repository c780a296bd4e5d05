//! ARP packets for Ethernet and IPv4 (RFC 826).

use std::net::Ipv4Addr;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use super::frame::{ETHERNET, ETHERTYPE_ARP, OwnedFrame};
use crate::base::addr::MacAddr;
use crate::base::drops::DropReason;

/// Bytes of an Ethernet/IPv4 ARP frame.
pub const FRAME: usize = ETHERNET + 28;

/// What an ARP packet for Ethernet and IPv4 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of RFC 826
pub struct Arp {
    pub reply: bool,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads the ARP packet in an Ethernet frame.
    ///
    /// # Errors
    /// It is not one for Ethernet and IPv4, or cut short.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        parse(bytes)
    }

    /// The reply to this request on behalf of `mac` (A01).
    pub fn answered_by(&self, mac: MacAddr) -> Self {
        Self {
            reply: true,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// Puts the packet in place of the one in a frame of at least [`FRAME`] bytes.
    pub fn write(&self, frame: &mut [u8]) {
        write(&mut frame[ETHERNET..FRAME], self);
    }

    /// The packet as a frame whose MACs are still to be set.
    pub fn frame(&self) -> OwnedFrame {
        let mut bytes = vec![0; FRAME];
        bytes[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
        self.write(&mut bytes);
        OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Arp, DropReason> {
    let body = bytes.get(ETHERNET..).unwrap_or_default();
    let slice = ArpPacketSlice::from_slice(body).map_err(|_| DropReason::ArpMalformed)?;
    let reply = match slice.operation() {
        ArpOperation::REQUEST => false,
        ArpOperation::REPLY => true,
        _ => return Err(DropReason::ArpMalformed),
    };
    let address = |bytes: &[u8]| {
        bytes
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets))
    };
    let right_kind = slice.hw_addr_type() == ArpHardwareId::ETHERNET
        && slice.proto_addr_type() == EtherType::IPV4
        && slice.hw_addr_size() == 6
        && slice.proto_addr_size() == 4;
    match (
        address(slice.sender_protocol_addr()),
        address(slice.target_protocol_addr()),
    ) {
        (Some(sender), Some(target)) if right_kind => Ok(Arp {
            reply,
            sender_mac: MacAddr::from_slice(slice.sender_hw_addr()),
            sender,
            target_mac: MacAddr::from_slice(slice.target_hw_addr()),
            target,
        }),
        _ => Err(DropReason::ArpMalformed),
    }
}

fn write(body: &mut [u8], arp: &Arp) {
    body[0..8].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, if arp.reply { 2 } else { 1 }]);
    body[8..14].copy_from_slice(&arp.sender_mac.0);
    body[14..18].copy_from_slice(&arp.sender.octets());
    body[18..24].copy_from_slice(&arp.target_mac.0);
    body[24..28].copy_from_slice(&arp.target.octets());
}
