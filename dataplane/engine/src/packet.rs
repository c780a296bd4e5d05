//! IPv4 packets inside Ethernet frames: parsed once, rewritten in place.

use std::net::Ipv4Addr;

use etherparse::Ipv4HeaderSlice;

use crate::checksum::{self, Delta};
use crate::drops::DropReason;
use crate::frame::{Checksum, Frame};
use crate::session::Flow;

/// Bytes of an Ethernet header: both MACs and the EtherType.
pub const ETHERNET: usize = 14;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;

/// Loose and strict source routing (RFC 791 §3.1), refused (RFC 7126 §4.3, §4.4).
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// What a packet carries, as far as the router cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, with its flags.
    Tcp(u8),
    /// UDP.
    Udp,
    /// ICMP echo request.
    EchoRequest,
    /// ICMP echo reply.
    EchoReply,
    /// An ICMP error, which quotes another packet.
    IcmpError,
    /// Another ICMP message.
    IcmpOther,
    /// A fragment, first or later.
    Fragment,
    /// Another protocol.
    Other,
}

/// A parsed IPv4 packet; offsets are from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Addresses, ports and protocol.
    pub flow: Flow<Ipv4Addr>,
    /// What it carries.
    pub transport: Transport,
    /// Time to live, as received.
    pub ttl: u8,
    /// Don't Fragment is set.
    pub dont_fragment: bool,
    /// A fragment other than the first.
    pub later_fragment: bool,
    /// Where the transport header starts.
    pub l4: usize,
    /// One past the packet's last byte; beyond it lies link padding (F02).
    pub end: usize,
}

impl Packet {
    /// Parses the packet in `frame`, whose EtherType says IPv4. Checks what RFC 1812 §5.2.2 wants
    /// checked (F01).
    #[inline]
    pub fn parse(frame: &Frame<'_>) -> Result<Self, DropReason> {
        let bytes = frame
            .bytes
            .get(ETHERNET..)
            .ok_or(DropReason::FrameTooShort)?;
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| DropReason::IpMalformed)?;
        let total = usize::from(header.total_len());
        let header_length = header.slice().len();
        if total < header_length || total > bytes.len() {
            return Err(DropReason::IpMalformed);
        }
        // A super-frame's header checksum may not be filled in yet; it never came over a wire.
        if frame.offload.gso.is_none() && checksum::fold(checksum::sum(header.slice(), 0)) != 0xffff
        {
            return Err(DropReason::IpChecksum);
        }
        if header_length > 20 && has_source_route(header.options()) {
            return Err(DropReason::IpOptions);
        }
        let mut packet = Self {
            flow: Flow {
                source: header.source_addr(),
                destination: header.destination_addr(),
                source_port: 0,
                destination_port: 0,
                protocol: header.protocol().0,
            },
            transport: Transport::Other,
            ttl: header.ttl(),
            dont_fragment: header.dont_fragment(),
            later_fragment: header.fragments_offset().value() != 0,
            l4: ETHERNET + header_length,
            end: ETHERNET + total,
        };
        if header.more_fragments() || packet.later_fragment {
            packet.transport = Transport::Fragment;
        } else {
            packet.parse_transport(frame.bytes)?;
        }
        Ok(packet)
    }

    /// The packet's length, in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        self.end - ETHERNET
    }

    /// The TCP flags, if it is TCP.
    #[inline]
    pub fn tcp_flags(&self) -> Option<u8> {
        match self.transport {
            Transport::Tcp(flags) => Some(flags),
            _ => None,
        }
    }

    /// Whether it may belong to a session: its flow is known.
    #[inline]
    pub fn has_flow(&self) -> bool {
        self.is_tracked() || self.transport == Transport::EchoReply
    }

    /// Whether sessions are made for such packets.
    #[inline]
    pub fn is_tracked(&self) -> bool {
        matches!(
            self.transport,
            Transport::Tcp(_) | Transport::Udp | Transport::EchoRequest | Transport::Other
        )
    }

    /// The size, in bytes, of the largest packet this becomes on a wire: for a super-frame that
    /// of its segments.
    #[inline]
    pub fn wire_len(&self, frame: &Frame<'_>) -> usize {
        let Some(gso) = frame.offload.gso else {
            return self.length();
        };
        let header = match self.flow.protocol {
            TCP => frame
                .bytes
                .get(self.l4 + 12)
                .map_or(20, |byte| usize::from(byte >> 4) * 4),
            _ => 8,
        };
        (self.l4 - ETHERNET + header + usize::from(gso.size)).min(self.length())
    }

    #[inline]
    fn parse_transport(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        let l4 = &bytes[self.l4..self.end];
        let port = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        match self.flow.protocol {
            TCP => {
                if l4.len() < 20 || l4[12] >> 4 < 5 || usize::from(l4[12] >> 4) * 4 > l4.len() {
                    return Err(DropReason::TransportMalformed);
                }
                (self.flow.source_port, self.flow.destination_port) = (port(0), port(2));
                self.transport = Transport::Tcp(l4[13]);
            }
            UDP => {
                if l4.len() < 8 {
                    return Err(DropReason::TransportMalformed);
                }
                (self.flow.source_port, self.flow.destination_port) = (port(0), port(2));
                self.transport = Transport::Udp;
            }
            ICMP => {
                if l4.len() < 8 {
                    return Err(DropReason::TransportMalformed);
                }
                self.transport = match l4[0] {
                    8 => {
                        self.flow.source_port = port(4);
                        Transport::EchoRequest
                    }
                    0 => {
                        self.flow.destination_port = port(4);
                        Transport::EchoReply
                    }
                    // Destination unreachable, source quench, redirect, time exceeded, parameter
                    // problem (RFC 792).
                    3 | 4 | 5 | 11 | 12 => Transport::IcmpError,
                    _ => Transport::IcmpOther,
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// The flow of an untagged TCP or UDP packet without IP options, taken without any check: enough
/// to guess which session a frame will want.
#[inline]
pub fn flow_hint(bytes: &[u8]) -> Option<Flow<Ipv4Addr>> {
    let header = bytes.first_chunk::<38>()?;
    if header[12..15] != [0x08, 0x00, 0x45] {
        return None;
    }
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some(Flow {
        source: address(26),
        destination: address(30),
        source_port: port(34),
        destination_port: port(36),
        protocol: header[23],
    })
}

fn has_source_route(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [] | [0, ..] => return false,
            [1, ref rest @ ..] => options = rest,
            [kind, ..] if SOURCE_ROUTES.contains(&kind) => return true,
            [_, length, ..] if usize::from(length) >= 2 => {
                options = options.get(usize::from(length)..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

/// Turns a received packet into a forwarded one: TTL less one, and `to` in place of its flow.
/// Checksums are updated, not recomputed (RFC 1624), so that an error in them stays one; a
/// super-frame's header checksum is computed.
#[inline]
pub fn rewrite(frame: &mut Frame<'_>, packet: &Packet, to: &Flow<Ipv4Addr>) {
    let bytes = &mut *frame.bytes;
    let from = &packet.flow;
    let ttl = u16::from_be_bytes([bytes[22], bytes[23]]);
    bytes[22] = packet.ttl.wrapping_sub(1);
    let mut header = Delta::default().word(ttl, ttl.wrapping_sub(0x100));
    if (from.source, from.destination) != (to.source, to.destination)
        || from.source_port != to.source_port
        || from.destination_port != to.destination_port
    {
        let addresses = Delta::default()
            .bytes(&from.source.octets(), &to.source.octets())
            .bytes(&from.destination.octets(), &to.destination.octets());
        header = header.and(addresses);
        bytes[26..30].copy_from_slice(&to.source.octets());
        bytes[30..34].copy_from_slice(&to.destination.octets());
        rewrite_transport(bytes, packet, to, addresses, frame.offload.checksum);
    }
    if frame.offload.gso.is_some() {
        fill_header_checksum(&mut bytes[ETHERNET..packet.l4]);
    } else {
        let check = u16::from_be_bytes([bytes[24], bytes[25]]);
        bytes[24..26].copy_from_slice(&header.apply(check).to_be_bytes());
    }
}

#[inline]
fn rewrite_transport(
    bytes: &mut [u8],
    packet: &Packet,
    to: &Flow<Ipv4Addr>,
    addresses: Delta,
    state: Checksum,
) {
    let from = &packet.flow;
    let l4 = &mut bytes[packet.l4..packet.end];
    let ports = Delta::default()
        .word(from.source_port, to.source_port)
        .word(from.destination_port, to.destination_port);
    let (field, delta) = match packet.transport {
        Transport::Tcp(_) | Transport::Udp => {
            l4[0..2].copy_from_slice(&to.source_port.to_be_bytes());
            l4[2..4].copy_from_slice(&to.destination_port.to_be_bytes());
            (
                if packet.flow.protocol == TCP { 16 } else { 6 },
                addresses.and(ports),
            )
        }
        // The identifier; ICMP has no pseudo-header.
        Transport::EchoRequest => {
            l4[4..6].copy_from_slice(&to.source_port.to_be_bytes());
            (2, ports)
        }
        Transport::EchoReply => {
            l4[4..6].copy_from_slice(&to.destination_port.to_be_bytes());
            (2, ports)
        }
        _ => return,
    };
    let check = u16::from_be_bytes([l4[field], l4[field + 1]]);
    let new = match state {
        // Only the pseudo-header is in the field: ports do not matter, and it is not complemented.
        Checksum::Partial { .. } => addresses.apply_partial(check),
        _ if packet.flow.protocol == UDP => match (check, delta.apply(check)) {
            // RFC 768: zero means none, and a sum of zero is sent as all ones (T19).
            (0, _) => 0,
            (_, 0) => 0xffff,
            (_, new) => new,
        },
        _ => delta.apply(check),
    };
    l4[field..field + 2].copy_from_slice(&new.to_be_bytes());
}

/// Computes an IPv4 header's checksum in place.
pub fn fill_header_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let check = checksum::checksum(header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_routes_are_found_behind_other_options() {
        assert!(has_source_route(&[1, 1, 131, 3, 4]));
        assert!(has_source_route(&[7, 3, 4, 137, 3, 4]));
        assert!(!has_source_route(&[7, 7, 4, 0, 0, 0, 0, 0, 131, 3, 4]));
        assert!(
            !has_source_route(&[7, 1, 131]),
            "a broken option ends the list"
        );
        assert!(!has_source_route(&[148, 4, 0, 0]));
    }
}
