//! IPv4: RFC 791, RFC 792, RFC 1812.

use std::net::Ipv4Addr;

use super::{Family, Packet, Part, TTL, Transport, least_header};
use crate::base::checksum::{self, Delta};
use crate::base::drops::DropReason;
use crate::wire::error::IcmpError;
use crate::wire::flow::Flow;
use crate::wire::fragment::{MORE_FRAGMENTS, OFFSET, fragment};
use crate::wire::frame::{ETHERNET, ETHERTYPE_IPV4, Frame, OwnedFrame};
use crate::wire::piece::Piece;

/// Loose and strict source routing (RFC 791 §3.1), refused (RFC 7126 §4.3, §4.4).
const SOURCE_ROUTES: [u8; 2] = [131, 137];
/// Type of service of ICMP errors: precedence "internetwork control" (RFC 1812 §4.3.2.5).
const TOS: u8 = 0xc0;

impl Family for Ipv4Addr {
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const ICMP: u8 = 1;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const ICMP_HAS_PSEUDO_HEADER: bool = false;
    const HEADER: usize = 20;
    const DHCP_SERVER: u16 = 67;
    const SOURCE_AT: usize = ETHERNET + 12;
    /// RFC 1812 §4.3.2.3 (F09).
    const LARGEST_ERROR: usize = 576;

    /// Checks what RFC 1812 §5.2.2 wants checked (F01).
    #[inline(always)]
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, DropReason> {
        let bytes = frame.bytes.get(ETHERNET..).unwrap_or_default();
        let fixed = bytes.first_chunk::<20>().ok_or(DropReason::IpMalformed)?;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let header_length = usize::from(fixed[0] & 0xf) * 4;
        if fixed[0] >> 4 != 4 || header_length < 20 || total < header_length || total > bytes.len()
        {
            return Err(DropReason::IpMalformed);
        }
        let options = &bytes[20..header_length];
        // A super-frame's header checksum may not be filled in yet; it never came over a wire.
        if frame.offload.gso.is_none()
            && checksum::fold(checksum::sum(options, sum(fixed))) != 0xffff
        {
            return Err(DropReason::IpChecksum);
        }
        if !options.is_empty() && has_source_route(options) {
            return Err(DropReason::IpOptions);
        }
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        let mut packet = Packet {
            flow: Flow {
                source: address(fixed, 12),
                destination: address(fixed, 16),
                source_port: 0,
                destination_port: 0,
                protocol: fixed[9],
            },
            transport: Transport::Other,
            ttl: fixed[8],
            dont_fragment: fragment & 0x4000 != 0,
            part: match fragment & OFFSET {
                0 => Part::Whole,
                _ => Part::Later,
            },
            problem: None,
            problem_at_end: None,
            l4: ETHERNET + header_length,
            end: ETHERNET + total,
        };
        // More fragments follow, or it is one that follows.
        if fragment & (OFFSET | MORE_FRAGMENTS) != 0 {
            packet.transport = Transport::Fragment;
            if packet.part == Part::Whole {
                packet.part = Part::First;
            }
        } else {
            packet.parse_transport(frame.bytes)?;
        }
        Ok(packet)
    }

    fn piece(frame: &Frame<'_>, packet: &Packet<Self>) -> Result<Piece, DropReason> {
        let word = |at: usize| u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]]);
        let place = word(ETHERNET + 6);
        Piece::new(
            u32::from(word(ETHERNET + 4)),
            usize::from(place & OFFSET) * 8,
            place & MORE_FRAGMENTS != 0,
            (packet.l4, packet.end),
        )?
        .of(least_header(packet.flow.protocol), packet.l4 - ETHERNET)
    }

    fn parse_first(frame: &Frame<'_>, packet: &Packet<Self>) -> Result<Packet<Self>, DropReason> {
        let mut first = Packet {
            transport: Transport::Other,
            ..*packet
        };
        let read = first.parse_transport(frame.bytes);
        read.map_err(|_| DropReason::FragmentTiny)?;
        Ok(first)
    }

    fn whole_header(first: &[u8], packet: &Packet<Self>, payload: usize) -> Vec<u8> {
        let mut bytes = first[..packet.l4].to_vec();
        let total = packet.l4 - ETHERNET + payload;
        bytes[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(total as u16).to_be_bytes());
        bytes[ETHERNET + 6..ETHERNET + 8].fill(0);
        fill_header_checksum(&mut bytes[ETHERNET..]);
        bytes
    }

    fn cut_own(frame: &Frame<'_>, mtu: usize, _identification: u32) -> Option<Vec<OwnedFrame>> {
        let (mut scratch, mut pieces) = (Vec::new(), Vec::new());
        let mut keep = |piece: &mut Frame<'_>| pieces.push(OwnedFrame::from(&*piece));
        fragment(frame, mtu, &mut scratch, &mut keep).ok()?;
        Some(pieces)
    }

    #[inline]
    fn flow_hint(bytes: &[u8]) -> Option<Flow<Self>> {
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

    #[inline]
    fn finish_header(frame: &mut Frame<'_>, packet: &Packet<Self>, addresses: Delta) {
        let bytes = &mut *frame.bytes;
        let ttl = u16::from_be_bytes([bytes[22], bytes[23]]);
        bytes[22] = packet.ttl.wrapping_sub(1);
        if frame.offload.gso.is_some() {
            fill_header_checksum(&mut bytes[ETHERNET..packet.l4]);
        } else {
            let delta = addresses.word(ttl, ttl.wrapping_sub(0x100));
            let check = u16::from_be_bytes([bytes[24], bytes[25]]);
            bytes[24..26].copy_from_slice(&delta.apply(check).to_be_bytes());
        }
    }

    fn tos(frame: &Frame<'_>) -> u8 {
        frame.bytes[ETHERNET + 1]
    }

    fn own_header(frame: &mut Frame<'_>, packet: &Packet<Self>) {
        frame.bytes[22] = TTL;
        fill_header_checksum(&mut frame.bytes[ETHERNET..packet.l4]);
    }

    fn icmp_frame(source: Self, destination: Self, ttl: u8, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ETHERNET + 20 + length);
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        bytes.extend_from_slice(&[0x45, TOS]);
        bytes.extend_from_slice(&((20 + length) as u16).to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, ttl, Self::ICMP, 0, 0]);
        bytes.extend_from_slice(&source.octets());
        bytes.extend_from_slice(&destination.octets());
        fill_header_checksum(&mut bytes[ETHERNET..]);
        bytes
    }

    fn icmp_sum(_packet: &Packet<Self>) -> u64 {
        0
    }

    /// Destination unreachable, source quench, redirect, time exceeded, parameter problem
    /// (RFC 792).
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    }

    fn error_header(error: IcmpError) -> (u8, u8, u32) {
        match error {
            IcmpError::NoRoute => (3, 0, 0),
            IcmpError::RejectRoute | IcmpError::HostUnreachable => (3, 1, 0),
            IcmpError::ProtocolUnreachable => (3, 2, 0),
            IcmpError::PortUnreachable => (3, 3, 0),
            IcmpError::TooBig { mtu } => (3, 4, mtu.min(0xffff)),
            IcmpError::Prohibited | IcmpError::SourcePolicy | IcmpError::BeyondScope => (3, 13, 0),
            IcmpError::TtlExceeded => (11, 0, 0),
            IcmpError::ReassemblyTimeout => (11, 1, 0),
            IcmpError::ParameterProblem(problem) => (12, 0, (problem.pointer as u32) << 24),
        }
    }

    /// RFC 5508 REQ-3: the quoted header's checksum must be right. Only a first fragment quotes
    /// ports.
    fn quoted_header(quote: &[u8]) -> Option<(Flow<Self>, usize)> {
        let length = usize::from(*quote.first()? & 0xf) * 4;
        if quote[0] >> 4 != 4 || length < 20 || quote.len() < length {
            return None;
        }
        let later_fragment = u16::from_be_bytes([quote[6], quote[7]]) & 0x1fff != 0;
        if later_fragment || checksum::fold(checksum::sum(&quote[..length], 0)) != 0xffff {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::new(quote[at], quote[at + 1], quote[at + 2], quote[at + 3]);
        let flow = Flow {
            source: address(12),
            destination: address(16),
            source_port: 0,
            destination_port: 0,
            protocol: quote[9],
        };
        Some((flow, length))
    }

    fn rewrite_quoted_header(header: &mut [u8], to: &Flow<Self>, addresses: Delta) {
        header[12..16].copy_from_slice(&to.source.octets());
        header[16..20].copy_from_slice(&to.destination.octets());
        let check = u16::from_be_bytes([header[10], header[11]]);
        header[10..12].copy_from_slice(&addresses.apply(check).to_be_bytes());
    }

    fn is_group(self) -> bool {
        self.is_broadcast() || self.is_multicast()
    }

    /// RFC 1812 §5.3.7 (F14), RFC 3927 §7 (F16).
    fn may_be_source(self) -> bool {
        !(self.octets()[0] == 0
            || self.is_loopback()
            || self.is_multicast()
            || self.is_broadcast()
            || Family::is_link_local(self))
    }

    fn may_be_destination(self) -> bool {
        !(self.octets()[0] == 0 || self.is_loopback() || Family::is_link_local(self))
    }

    /// RFC 3927 §2.7.
    fn is_link_local(self) -> bool {
        Ipv4Addr::is_link_local(&self)
    }

    fn is_one_host(self) -> bool {
        !(self.octets()[0] == 0 || self.is_loopback() || self.is_multicast() || self.is_broadcast())
    }

    /// RFC 1812 §4.3.2.7: nor class E, 240/4 (F11).
    fn may_be_told(self) -> bool {
        self.is_one_host() && self.octets()[0] < 240
    }
}

/// The sum of a header without options, for [`checksum::fold`].
#[inline]
fn sum(header: &[u8; 20]) -> u64 {
    let long = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u64::from(u32::from_be_bytes(bytes))
    };
    long(0) + long(4) + long(8) + long(12) + long(16)
}

#[inline]
fn address(header: &[u8; 20], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

/// Computes an IPv4 header's checksum in place.
fn fill_header_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let check = checksum::checksum(header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
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
