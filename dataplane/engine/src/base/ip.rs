//! What differs between IPv4 and IPv6 addresses, so that the rest is written once.

use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addr::MacAddr;
use super::checksum::Delta;

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
    /// Feeds `self`, `other` and `rest` to a hash in as few steps as there can be.
    fn write_with(self, other: Self, rest: u64, hasher: &mut impl Hasher);
}

/// Whether `address` is an IPv6 link-local one: it belongs to a link, so that several links may have
/// it (RFC 4007 §6).
#[inline]
pub fn is_of_a_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The link-local address that is made of a MAC (RFC 4291 §2.5.6, appendix A).
pub fn link_local_of(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = u16::from_be_bytes;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        pair([a ^ 0x02, b]),
        pair([c, 0xff]),
        pair([0xfe, d]),
        pair([e, f]),
    )
}

/// The MAC that a link-local address was made of, if it was.
pub fn mac_of_link_local(address: Ipv6Addr) -> Option<MacAddr> {
    let [.., a, b, c, _, _, d, e, f] = address.octets();
    let mac = MacAddr([a ^ 0x02, b, c, d, e, f]);
    (link_local_of(mac) == address).then_some(mac)
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
    fn write_with(self, other: Self, rest: u64, hasher: &mut impl Hasher) {
        let addresses = u64::from(self.to_bits()) << 32 | u64::from(other.to_bits());
        hasher.write_u128(u128::from(rest) << 64 | u128::from(addresses));
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
    fn write_with(self, other: Self, rest: u64, hasher: &mut impl Hasher) {
        hasher.write_u128(self.to_bits());
        hasher.write_u128(other.to_bits());
        hasher.write_u64(rest);
    }
}
