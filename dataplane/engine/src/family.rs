//! What differs between IPv4 and IPv6, so that the rest is written once.

use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Delta;
use crate::drops::DropReason;
use crate::flows::Flows;
use crate::frame::Frame;
use crate::icmp::IcmpError;
use crate::packet::Packet;
use crate::session::Flow;
use crate::shard::Shard;
use crate::snapshot::Snapshot;

/// An IP address of one family, as a key of sessions and mappings. Any bit pattern is a value.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Display + Into<IpAddr> + 'static {
    /// The address as bytes in network order.
    type Bytes: AsRef<[u8]> + AsMut<[u8]> + Copy;
    /// The all-zero address.
    const UNSPECIFIED: Self;

    /// The address in network order.
    fn octets(self) -> Self::Bytes;
    /// `address` if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;
    /// The change that putting `to` in place of `self` makes to a checksum.
    fn replaced_by(self, to: Self) -> Delta;
    /// The first address of the prefix of `length` bits that `self` is in.
    fn network(self, length: u8) -> Self;
    /// Feeds `self` and `other` to a hash as few whole words.
    fn write_pair(self, other: Self, hasher: &mut impl Hasher);
}

impl Address for Ipv4Addr {
    type Bytes = [u8; 4];
    const UNSPECIFIED: Self = Ipv4Addr::UNSPECIFIED;

    #[inline]
    fn octets(self) -> [u8; 4] {
        Ipv4Addr::octets(&self)
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    #[inline]
    fn replaced_by(self, to: Self) -> Delta {
        Delta::default().long(self.to_bits(), to.to_bits())
    }

    #[inline]
    fn network(self, length: u8) -> Self {
        let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        Self::from_bits(self.to_bits() & !host)
    }

    #[inline]
    fn write_pair(self, other: Self, hasher: &mut impl Hasher) {
        hasher.write_u64(u64::from(self.to_bits()) << 32 | u64::from(other.to_bits()));
    }
}

impl Address for Ipv6Addr {
    type Bytes = [u8; 16];
    const UNSPECIFIED: Self = Ipv6Addr::UNSPECIFIED;

    #[inline]
    fn octets(self) -> [u8; 16] {
        Ipv6Addr::octets(&self)
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }
    }

    fn replaced_by(self, to: Self) -> Delta {
        let longs = |address: Self| {
            let bits = address.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        };
        let (old, new) = (longs(self), longs(to));
        let changes = old.into_iter().zip(new);
        changes.fold(Delta::default(), |delta, (old, new)| delta.long(old, new))
    }

    #[inline]
    fn network(self, length: u8) -> Self {
        let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        Self::from_bits(self.to_bits() & !host)
    }

    #[inline]
    fn write_pair(self, other: Self, hasher: &mut impl Hasher) {
        hasher.write_u128(self.to_bits());
        hasher.write_u128(other.to_bits());
    }
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
    /// Where the source address starts in a frame; the destination follows it.
    const SOURCE_AT: usize;
    /// Largest ICMP error, in bytes with its IP header.
    const LARGEST_ERROR: usize;

    /// Parses the packet in `frame`, whose EtherType is this family's.
    ///
    /// # Errors
    /// Why the packet must be dropped silently.
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, DropReason>;

    /// The flow of an untagged TCP or UDP packet with nothing between its IP header and its ports,
    /// taken without any check: enough to guess which session a frame will want.
    fn flow_hint(bytes: &[u8]) -> Option<Flow<Self>>;

    /// Makes the header that of a forwarded packet: TTL less one, and a header checksum that
    /// follows it and the change of `addresses`.
    fn finish_header(frame: &mut Frame<'_>, packet: &Packet<Self>, addresses: Delta);

    /// Makes the header that of a packet of our own: a fresh TTL and header checksum.
    fn own_header(frame: &mut Frame<'_>, packet: &Packet<Self>);

    /// A frame up to and without its ICMP message of `length` bytes; its MACs are still to be set.
    fn icmp_frame(source: Self, destination: Self, length: usize) -> Vec<u8>;

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

    /// A multicast or broadcast address.
    fn is_group(self, snapshot: &Snapshot) -> bool;

    /// Packets from this address may be forwarded.
    fn may_be_source(self) -> bool;

    /// Packets to this address may be forwarded.
    fn may_be_destination(self) -> bool;

    /// Valid on one link only: answered where it came from, never routed.
    fn is_link_local(self) -> bool;

    /// One host can be reached by it: an ICMP error may be sent there.
    fn is_one_host(self) -> bool;

    /// This family's sessions and mappings.
    fn flows(shard: &Shard) -> &Flows<Self>;

    /// This family's sessions and mappings, to change them.
    fn flows_mut(shard: &mut Shard) -> &mut Flows<Self>;
}
