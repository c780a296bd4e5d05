//! IPv6: RFC 8200, RFC 4443.

use std::net::Ipv6Addr;

use super::{Family, Packet, Part, TTL, Transport, least_header};
use crate::base::checksum::{self, Delta};
use crate::base::drops::DropReason;
use crate::wire::error::{IcmpError, Problem};
use crate::wire::flow::Flow;
use crate::wire::fragment::fragment_own6;
use crate::wire::frame::{ETHERNET, ETHERTYPE_IPV6, Frame, OwnedFrame};
use crate::wire::piece::Piece;

/// Bytes of the fixed header.
const HEADER: usize = 40;
/// Extension headers of one packet at most; more is refused (RFC 8504 §5.3 lets us).
const EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

impl Family for Ipv6Addr {
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const ICMP: u8 = 58;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const ICMP_HAS_PSEUDO_HEADER: bool = true;
    const HEADER: usize = HEADER;
    const DHCP_SERVER: u16 = 547;
    const SOURCE_AT: usize = ETHERNET + 8;
    /// RFC 4443 §2.4 (c): as much as fits the minimum MTU (S03).
    const LARGEST_ERROR: usize = 1280;

    #[inline(always)]
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, DropReason> {
        let bytes = frame
            .bytes
            .get(ETHERNET..)
            .ok_or(DropReason::FrameTooShort)?;
        let header = bytes
            .first_chunk::<HEADER>()
            .ok_or(DropReason::IpMalformed)?;
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || HEADER + payload > bytes.len() {
            return Err(DropReason::IpMalformed);
        }
        let mut packet = Packet {
            flow: Flow {
                source: address(header, 8),
                destination: address(header, 24),
                source_port: 0,
                destination_port: 0,
                protocol: header[6],
            },
            transport: Transport::Other,
            ttl: header[7],
            dont_fragment: true,
            part: Part::Whole,
            problem: None,
            problem_at_end: None,
            l4: ETHERNET + HEADER,
            end: ETHERNET + HEADER + payload,
        };
        packet.walk_extensions(frame.bytes)?;
        if packet.transport != Transport::Fragment {
            packet.parse_transport(frame.bytes)?;
        }
        Ok(packet)
    }

    fn piece(frame: &Frame<'_>, packet: &Packet<Self>) -> Result<Piece, DropReason> {
        let header = &frame.bytes[packet.l4..packet.end];
        let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        Piece::new(
            identification,
            usize::from(fragment_offset(header)),
            header[3] & 1 == 1,
            (packet.l4 + 8, packet.end),
        )?
        .of(least_header(header[0]), packet.l4 - ETHERNET - HEADER)
    }

    /// RFC 7112 §5: all headers up to the transport's are in the first fragment.
    fn parse_first(frame: &Frame<'_>, packet: &Packet<Self>) -> Result<Packet<Self>, DropReason> {
        let mut first = *packet;
        first.flow.protocol = frame.bytes[packet.l4];
        first.l4 += 8;
        first.part = Part::Whole;
        first.transport = Transport::Other;
        let cut_short = |reason| match reason {
            DropReason::IpOptions => reason,
            _ => DropReason::FragmentTiny,
        };
        first.walk_extensions(frame.bytes).map_err(cut_short)?;
        if first.part != Part::Whole {
            return Err(DropReason::FragmentMalformed); // a fragment within a fragment
        }
        first.part = Part::First;
        first.parse_transport(frame.bytes).map_err(cut_short)?;
        Ok(first)
    }

    fn whole_header(first: &[u8], packet: &Packet<Self>, payload: usize) -> Vec<u8> {
        let mut bytes = first[..packet.l4].to_vec();
        let (mut next, mut at) = (ETHERNET + 6, ETHERNET + HEADER);
        while at < packet.l4 {
            (next, at) = (at, at + (usize::from(first[at + 1]) + 1) * 8);
        }
        bytes[next] = first[packet.l4];
        let length = packet.l4 - ETHERNET - HEADER + payload;
        bytes[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&(length as u16).to_be_bytes());
        bytes
    }

    fn cut_own(frame: &Frame<'_>, mtu: usize, identification: u32) -> Option<Vec<OwnedFrame>> {
        let pieces = fragment_own6(frame.bytes, mtu, identification)?;
        let owned = pieces.into_iter().map(|bytes| OwnedFrame {
            bytes,
            vlan: frame.vlan,
            ..OwnedFrame::default()
        });
        Some(owned.collect())
    }

    #[inline]
    fn flow_hint(bytes: &[u8]) -> Option<Flow<Self>> {
        let header = bytes.first_chunk::<58>()?;
        if header[12..14] != [0x86, 0xdd] {
            return None;
        }
        let address = |at: usize| header[at..].first_chunk().copied().map(Ipv6Addr::from);
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Flow {
            source: address(22)?,
            destination: address(38)?,
            source_port: port(54),
            destination_port: port(56),
            protocol: header[20],
        })
    }

    #[inline]
    fn finish_header(frame: &mut Frame<'_>, packet: &Packet<Self>, _addresses: Delta) {
        frame.bytes[ETHERNET + 7] = packet.ttl.wrapping_sub(1);
    }

    fn tos(frame: &Frame<'_>) -> u8 {
        frame.bytes[ETHERNET] << 4 | frame.bytes[ETHERNET + 1] >> 4
    }

    fn own_header(frame: &mut Frame<'_>, _packet: &Packet<Self>) {
        frame.bytes[ETHERNET + 7] = TTL;
    }

    fn icmp_frame(source: Self, destination: Self, ttl: u8, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ETHERNET + HEADER + length);
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        bytes.extend_from_slice(&[0x60, 0, 0, 0]);
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
        bytes.extend_from_slice(&[Self::ICMP, ttl]);
        bytes.extend_from_slice(&source.octets());
        bytes.extend_from_slice(&destination.octets());
        bytes
    }

    fn icmp_sum(packet: &Packet<Self>) -> u64 {
        let flow = &packet.flow;
        checksum::pseudo_header(
            &flow.source.octets(),
            &flow.destination.octets(),
            Self::ICMP,
            packet.end - packet.l4,
        )
    }

    /// RFC 4443 §2.1: the high bit is clear.
    fn is_error(kind: u8) -> bool {
        kind < 128
    }

    /// RFC 4443 §3 (S04).
    fn error_header(error: IcmpError) -> (u8, u8, u32) {
        match error {
            IcmpError::NoRoute => (1, 0, 0),
            IcmpError::Prohibited => (1, 1, 0),
            IcmpError::BeyondScope => (1, 2, 0),
            IcmpError::HostUnreachable => (1, 3, 0),
            IcmpError::PortUnreachable => (1, 4, 0),
            IcmpError::SourcePolicy => (1, 5, 0),
            IcmpError::RejectRoute => (1, 6, 0),
            IcmpError::TooBig { mtu } => (2, 0, mtu),
            IcmpError::TtlExceeded => (3, 0, 0),
            IcmpError::ReassemblyTimeout => (3, 1, 0),
            // RFC 4443 §3.4: code 1, pointing at the fixed header's next header field.
            IcmpError::ProtocolUnreachable => (4, 1, 6),
            IcmpError::ParameterProblem(problem) => (4, problem.code, problem.pointer as u32),
        }
    }

    /// Only a first fragment quotes ports.
    fn quoted_header(quote: &[u8]) -> Option<(Flow<Self>, usize)> {
        let header = quote.first_chunk::<HEADER>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let mut flow = Flow {
            source: address(header, 8),
            destination: address(header, 24),
            source_port: 0,
            destination_port: 0,
            protocol: header[6],
        };
        let mut at = HEADER;
        for _ in 0..EXTENSIONS {
            let length = match flow.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    (usize::from(*quote.get(at + 1)?) + 1) * 8
                }
                FRAGMENT if fragment_offset(quote.get(at..at + 8)?) == 0 => 8,
                FRAGMENT => return None,
                _ => return Some((flow, at)),
            };
            flow.protocol = *quote.get(at)?;
            at += length;
        }
        None
    }

    fn rewrite_quoted_header(header: &mut [u8], to: &Flow<Self>, _addresses: Delta) {
        header[8..24].copy_from_slice(&to.source.octets());
        header[24..40].copy_from_slice(&to.destination.octets());
    }

    fn is_group(self) -> bool {
        self.is_multicast()
    }

    /// RFC 4291 §2.5.2, §2.5.3, §2.5.6 (S09).
    fn may_be_source(self) -> bool {
        self.is_one_host() && !self.is_unicast_link_local()
    }

    fn may_be_destination(self) -> bool {
        self.is_one_host() && !self.is_unicast_link_local()
    }

    fn is_link_local(self) -> bool {
        self.is_unicast_link_local()
    }

    fn is_one_host(self) -> bool {
        !(self.is_unspecified() || self.is_loopback() || self.is_multicast())
    }
}

impl Packet<Ipv6Addr> {
    /// Whether there is a fragment header before the transport's, be it of a whole packet.
    pub fn has_fragment_header(&self, bytes: &[u8]) -> bool {
        let (mut next, mut at) = (bytes[ETHERNET + 6], ETHERNET + HEADER);
        while at < self.l4 {
            if next == FRAGMENT {
                return true;
            }
            (next, at) = (bytes[at], at + (usize::from(bytes[at + 1]) + 1) * 8);
        }
        false
    }

    /// Finds the transport header behind the extension headers (RFC 8200 §4), and in them what
    /// must be refused (S10).
    #[inline(always)]
    fn walk_extensions(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        for _ in 0..EXTENSIONS {
            let next = self.flow.protocol;
            if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
                return Ok(());
            }
            let rest = &bytes[self.l4..self.end];
            if rest.len() < 8 {
                return Err(DropReason::IpMalformed);
            }
            if next == FRAGMENT {
                // An atomic fragment is a whole packet (RFC 6946).
                match (fragment_offset(rest), rest[3] & 1) {
                    (0, 0) => {}
                    (0, _) => self.part = Part::First,
                    _ => self.part = Part::Later,
                }
                if self.part != Part::Whole {
                    self.transport = Transport::Fragment;
                    return Ok(());
                }
            }
            let length = if next == FRAGMENT {
                8
            } else {
                (usize::from(rest[1]) + 1) * 8
            };
            let header = rest.get(..length).ok_or(DropReason::IpMalformed)?;
            let at = (self.l4 - ETHERNET) as u16;
            match next {
                HOP_BY_HOP if self.l4 == ETHERNET + HEADER => {
                    self.problem = refused_option(&header[2..], at + 2);
                }
                // RFC 8200 §4.1: only right behind the fixed header.
                HOP_BY_HOP => return Err(DropReason::IpMalformed),
                // Type 0 with segments left: its destination answers with code 0 (RFC 5095 §3).
                ROUTING if header[2] == 0 && header[3] > 0 && self.problem_at_end.is_none() => {
                    self.problem_at_end = Some(Problem {
                        code: 0,
                        pointer: at + 2,
                        told: true,
                    });
                }
                DESTINATION_OPTIONS if self.problem_at_end.is_none() => {
                    self.problem_at_end = refused_option(&header[2..], at + 2);
                }
                _ => {}
            }
            self.flow.protocol = header[0];
            self.l4 += length;
        }
        Err(DropReason::IpOptions)
    }
}

/// The first option whose type says that who does not know it must discard the packet:
/// high bits not 00; with 10, or 11 for unicast, the sender is told (RFC 8200 §4.2). Known: padding and router alert.
fn refused_option(mut options: &[u8], mut at: u16) -> Option<Problem> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    const ROUTER_ALERT: u8 = 5;
    loop {
        let (kind, length) = match *options {
            [] => return None,
            [PAD1, ..] => (PAD1, 1),
            [kind, length, ..] => (kind, usize::from(length) + 2),
            [_] => return None,
        };
        if kind & 0xc0 != 0 && !matches!(kind, PADN | ROUTER_ALERT) {
            return Some(Problem {
                code: 2,
                pointer: at,
                told: kind & 0x80 != 0,
            });
        }
        options = options.get(length..)?;
        at += length as u16;
    }
}

/// A fragment header's offset in bytes.
fn fragment_offset(header: &[u8]) -> u16 {
    u16::from_be_bytes([header[2], header[3]]) & 0xfff8
}

fn address(header: &[u8; HEADER], at: usize) -> Ipv6Addr {
    header[at..]
        .first_chunk::<16>()
        .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
}
