//! IP packets inside Ethernet frames: parsed once, rewritten in place.

mod v4;
mod v6;

use super::error::{IcmpError, Problem};
use super::flow::Flow;
use super::frame::{Checksum, ETHERNET, Frame, OwnedFrame};
use super::piece::Piece;
use super::tcp::{SYN, Segment};
use crate::base::checksum::Delta;
use crate::base::drops::DropReason;
use crate::base::ip::Address;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;

/// TTL of what we originate (RFC 1700, as Linux).
pub const TTL: u8 = 64;

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
    /// Another ICMP message, with its type.
    IcmpOther(u8),
    /// A fragment, first or later.
    Fragment,
    /// Another protocol.
    Other,
}

/// How much of a datagram a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// A fragment: its beginning.
    First,
    /// A fragment other than the first.
    Later,
}

/// An IP version: its header, its ICMP, its rules about addresses.
pub trait Family: Address {
    /// EtherType of its packets.
    const ETHERTYPE: u16;
    /// Its ICMP's protocol number.
    const ICMP: u8;
    /// ICMP type of echo requests.
    const ECHO_REQUEST: u8;
    /// ICMP type of echo replies.
    const ECHO_REPLY: u8;
    /// Its ICMP's checksum covers a pseudo-header.
    const ICMP_HAS_PSEUDO_HEADER: bool;
    /// Bytes of the IP header without options.
    const HEADER: usize;
    /// The UDP port on which DHCP servers listen (RFC 2131 §4.1, RFC 8415 §7.2).
    const DHCP_SERVER: u16;
    /// Where the source address starts in a frame; the destination follows it.
    const SOURCE_AT: usize;
    /// Largest ICMP error, in bytes with its IP header.
    const LARGEST_ERROR: usize;

    /// Parses the packet in `frame`, whose EtherType is this family's.
    ///
    /// # Errors
    /// Why the packet must be dropped silently.
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, DropReason>;

    /// Which piece of its datagram a fragment is.
    ///
    /// # Errors
    /// It cannot be one, or one that starts within the transport's header (RFC 1858 §2.2, RFC 3128).
    fn piece(frame: &Frame<'_>, fragment: &Packet<Self>) -> Result<Piece, DropReason>;

    /// A first fragment, with what its transport's header says.
    ///
    /// # Errors
    /// That header is not whole (RFC 1858 §2.1, RFC 7112 §5), or says what must be refused.
    fn parse_first(frame: &Frame<'_>, fragment: &Packet<Self>) -> Result<Packet<Self>, DropReason>;

    /// What stands before the payload of the datagram that a frame is the first fragment of, as in a
    /// frame with all of it: `payload` bytes.
    fn whole_header(first: &[u8], fragment: &Packet<Self>, payload: usize) -> Vec<u8>;

    /// Cuts a packet of our own, larger than `mtu`, into fragments with this identification. `None`: it
    /// must not be cut.
    fn cut_own(frame: &Frame<'_>, mtu: usize, identification: u32) -> Option<Vec<OwnedFrame>>;

    /// The flow of an untagged TCP or UDP packet with nothing between its IP header and its ports,
    /// taken without any check: enough to guess which session a frame will want.
    fn flow_hint(bytes: &[u8]) -> Option<Flow<Self>>;

    /// Makes the header that of a forwarded packet: the TTL is one less, and the header checksum is
    /// updated for that and for the change of `addresses`.
    fn finish_header(frame: &mut Frame<'_>, packet: &Packet<Self>, addresses: Delta);

    /// The type of service or traffic class of a packet that was parsed.
    fn tos(frame: &Frame<'_>) -> u8;

    /// Makes the header that of a packet of our own: a fresh TTL and header checksum.
    fn own_header(frame: &mut Frame<'_>, packet: &Packet<Self>);

    /// A frame up to and without its ICMP message of `length` bytes; its MACs are still to be set.
    fn icmp_frame(source: Self, destination: Self, ttl: u8, length: usize) -> Vec<u8>;

    /// What the ICMP checksum of `packet` covers beside the message: the pseudo-header's sum.
    fn icmp_sum(packet: &Packet<Self>) -> u64;

    /// Whether ICMP messages of this type are errors, which quote a packet.
    fn is_error(kind: u8) -> bool;

    /// Type, code and the second word of an error's ICMP header.
    fn error_header(error: IcmpError) -> (u8, u8, u32);

    /// The addresses and protocol of a quoted packet, and the length of its IP header.
    fn quoted_header(quote: &[u8]) -> Option<(Flow<Self>, usize)>;

    /// Puts `to`'s addresses into a quoted packet's header; `addresses` is the change they make.
    fn rewrite_quoted_header(header: &mut [u8], to: &Flow<Self>, addresses: Delta);

    /// Many hosts may be reached by it: multicast, or broadcast on whatever link it is on. Whether it
    /// is a connected prefix's broadcast address, only the configuration knows.
    fn is_group(self) -> bool;

    /// Packets from this address may be forwarded.
    fn may_be_source(self) -> bool;

    /// Packets to this address may be forwarded.
    fn may_be_destination(self) -> bool;

    /// Valid on one link only: answered where it came from, never routed.
    fn is_link_local(self) -> bool;

    /// One host can be reached by it.
    fn is_one_host(self) -> bool;

    /// One host is known to have it, so that an ICMP error may be sent there.
    fn may_be_told(self) -> bool {
        self.is_one_host()
    }
}

/// A parsed IP packet; offsets are from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<A> {
    /// Addresses, ports and protocol.
    pub flow: Flow<A>,
    /// What it carries.
    pub transport: Transport,
    /// Time to live or hop limit, as received.
    pub ttl: u8,
    /// It may not be fragmented on the way: Don't Fragment is set, or it is IPv6.
    pub dont_fragment: bool,
    /// How much of a datagram it is.
    pub part: Part,
    /// An option that every router on the way must refuse (RFC 8200 §4.2).
    pub problem: Option<Problem>,
    /// A routing header or an option that its destination must refuse (RFC 5095 §3, RFC 8200 §4.2).
    pub problem_at_end: Option<Problem>,
    /// Where the transport header starts.
    pub l4: usize,
    /// One past the packet's last byte; beyond it lies link padding (F02).
    pub end: usize,
}

impl<A: Family> Packet<A> {
    /// The packet's length, in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        self.end - ETHERNET
    }

    /// It opens a TCP connection, or answers to that.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        matches!(self.transport, Transport::Tcp(flags) if flags & SYN != 0)
    }

    /// The TCP segment in `frame`, which this packet is of, if it is TCP.
    #[inline]
    pub fn segment(&self, frame: &Frame<'_>) -> Option<Segment> {
        match self.transport {
            Transport::Tcp(_) => Segment::parse(frame.bytes.get(self.l4..self.end)?),
            _ => None,
        }
    }

    /// Whether it may belong to a session: its flow is known.
    #[inline]
    pub fn has_flow(&self) -> bool {
        self.is_tracked() || self.transport == Transport::EchoReply
    }

    /// Whether it may be a request to a DHCP server.
    #[inline]
    pub fn is_dhcp_request(&self) -> bool {
        self.flow.destination_port == A::DHCP_SERVER && self.transport == Transport::Udp
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
    #[inline(always)]
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

    /// Reads ports, identifier and kind from the transport header.
    #[inline(always)]
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
            protocol if protocol == A::ICMP => {
                if l4.len() < 8 {
                    return Err(DropReason::TransportMalformed);
                }
                self.transport = if l4[0] == A::ECHO_REQUEST {
                    self.flow.source_port = port(4);
                    Transport::EchoRequest
                } else if l4[0] == A::ECHO_REPLY {
                    self.flow.destination_port = port(4);
                    Transport::EchoReply
                } else if A::is_error(l4[0]) {
                    Transport::IcmpError
                } else {
                    Transport::IcmpOther(l4[0])
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// The least bytes of a header of `protocol`.
fn least_header(protocol: u8) -> u16 {
    match protocol {
        TCP => 20,
        _ => 8,
    }
}

/// Turns a received packet into a forwarded one: the TTL is one less, and `to` takes the place of
/// its flow. Checksums are updated, not recomputed (RFC 1624), so that a wrong one stays wrong.
#[inline(always)]
pub fn rewrite<A: Family>(frame: &mut Frame<'_>, packet: &Packet<A>, to: &Flow<A>) {
    let mut addresses = Delta::default();
    if packet.flow != *to {
        let (from, at) = (&packet.flow, A::SOURCE_AT);
        let length = size_of::<A::Bytes>();
        addresses = from
            .source
            .replaced_by(to.source)
            .and(from.destination.replaced_by(to.destination));
        let (source, destination) = frame.bytes[at..at + 2 * length].split_at_mut(length);
        source.copy_from_slice(to.source.octets().as_ref());
        destination.copy_from_slice(to.destination.octets().as_ref());
        rewrite_transport(frame.bytes, packet, to, addresses, frame.offload.checksum);
    }
    A::finish_header(frame, packet, addresses);
}

#[inline]
fn rewrite_transport<A: Family>(
    bytes: &mut [u8],
    packet: &Packet<A>,
    to: &Flow<A>,
    addresses: Delta,
    state: Checksum,
) {
    let from = &packet.flow;
    let l4 = &mut bytes[packet.l4..packet.end];
    let ports = Delta::default()
        .word(from.source_port, to.source_port)
        .word(from.destination_port, to.destination_port);
    let identifier = if A::ICMP_HAS_PSEUDO_HEADER {
        addresses.and(ports)
    } else {
        ports
    };
    let (field, delta) = match packet.transport {
        Transport::Tcp(_) | Transport::Udp => {
            l4[0..2].copy_from_slice(&to.source_port.to_be_bytes());
            l4[2..4].copy_from_slice(&to.destination_port.to_be_bytes());
            (
                if from.protocol == TCP { 16 } else { 6 },
                addresses.and(ports),
            )
        }
        Transport::EchoRequest => {
            l4[4..6].copy_from_slice(&to.source_port.to_be_bytes());
            (2, identifier)
        }
        Transport::EchoReply => {
            l4[4..6].copy_from_slice(&to.destination_port.to_be_bytes());
            (2, identifier)
        }
        // Only the pseudo-header changes.
        Transport::IcmpError if A::ICMP_HAS_PSEUDO_HEADER => (2, addresses),
        _ => return,
    };
    let check = u16::from_be_bytes([l4[field], l4[field + 1]]);
    let new = match state {
        // Only the pseudo-header is in the field: ports do not matter, and it is not complemented.
        Checksum::Partial { .. } => addresses.apply_partial(check),
        _ if from.protocol == UDP => match (check, delta.apply(check)) {
            // RFC 768: zero means none, and a sum of zero is sent as all ones (T19).
            (0, _) => 0,
            (_, 0) => 0xffff,
            (_, new) => new,
        },
        _ => delta.apply(check),
    };
    l4[field..field + 2].copy_from_slice(&new.to_be_bytes());
}
