//! Two prefixes that stand for each other, address by address. IPv4 keeps the part behind the prefix; IPv6
//! is translated so that no checksum changes (RFC 6296).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::base::addr::InterfaceId;
use crate::base::checksum::{fold, sum};

/// The word behind the prefix that makes up for the change, in prefixes of up to 48 bits (RFC 6296 §3.4).
const SUBNET: usize = 3;

/// A prefix inside and one outside, of the same family and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixPair {
    /// The personality that has the one outside.
    pub interface: InterfaceId,
    /// The guests'.
    pub inside: IpNet,
    /// What it is outside.
    pub outside: IpNet,
}

impl PrefixPair {
    /// What an address of the prefix inside is outside. `None`: nothing (RFC 6296 §3.4: subnet 0xffff).
    pub fn outward(&self, address: IpAddr) -> Option<IpAddr> {
        translated(address, self.inside, self.outside)
    }

    /// What an address of the prefix outside is inside. `None`: nothing.
    pub fn inward(&self, address: IpAddr) -> Option<IpAddr> {
        translated(address, self.outside, self.inside)
    }
}

/// What an address of the prefix `from` is in `to`, which is of the same family and length. `None`: nothing.
pub fn translated(address: IpAddr, from: IpNet, to: IpNet) -> Option<IpAddr> {
    match (address, from, to) {
        (IpAddr::V4(address), IpNet::V4(from), IpNet::V4(to)) => {
            let rest = address.to_bits() & from.hostmask().to_bits();
            Some(Ipv4Addr::from_bits(to.network().to_bits() | rest).into())
        }
        (IpAddr::V6(address), IpNet::V6(from), IpNet::V6(to)) => {
            neutral(address, from, to).map(IpAddr::V6)
        }
        _ => None,
    }
}

/// RFC 6296 §3: the prefix is replaced, and a word behind it takes the difference.
fn neutral(address: Ipv6Addr, from: Ipv6Net, to: Ipv6Net) -> Option<Ipv6Addr> {
    let rest = address.to_bits() & from.hostmask().to_bits();
    let mut words = Ipv6Addr::from_bits(to.network().to_bits() | rest).segments();
    let candidates = match from.prefix_len() <= 48 {
        true => SUBNET..SUBNET + 1,
        false => SUBNET + 1..8,
    };
    // 0xffff is another zero: it could not be told from 0 on the way back.
    let word = candidates.into_iter().find(|n| words[*n] != 0xffff)?;
    let (before, after) = (sum_of(from), sum_of(to));
    let total = u64::from(words[word]) + u64::from(before) + u64::from(!after);
    words[word] = match fold(total) {
        0xffff => 0,
        other => other,
    };
    Some(Ipv6Addr::from(words))
}

fn sum_of(prefix: Ipv6Net) -> u16 {
    fold(sum(&prefix.network().octets(), 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(inside: &str, outside: &str) -> PrefixPair {
        PrefixPair {
            interface: InterfaceId(0),
            inside: inside.parse().unwrap(),
            outside: outside.parse().unwrap(),
        }
    }

    #[track_caller]
    fn are(pair: PrefixPair, inside: &str, outside: &str) {
        let (inside, outside) = (inside.parse().unwrap(), outside.parse().unwrap());
        assert_eq!(pair.outward(inside), Some(outside));
        assert_eq!(pair.inward(outside), Some(inside));
    }

    #[test]
    fn t23_the_example_of_rfc_6296_appendix_b() {
        let pair = pair("fd01:203:405::/48", "2001:db8:1::/48");
        are(pair, "fd01:203:405:1::1234", "2001:db8:1:d550::1234");
    }

    #[test]
    fn t23_subnet_ffff_has_no_address_on_the_other_side() {
        let pair = pair("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(pair.outward("fd01:203:405:ffff::1".parse().unwrap()), None);
        assert_eq!(pair.inward("2001:db8:1:ffff::1".parse().unwrap()), None);
    }

    #[test]
    fn of_ipv4_the_part_behind_the_prefix_stays() {
        let pair = pair("10.1.2.0/24", "203.0.113.0/24");
        are(pair, "10.1.2.77", "203.0.113.77");
    }

    proptest! {
        #[test]
        fn t23_there_and_back_and_the_sum_stays(
            length in 16_u8..=64,
            (inside, outside) in any::<(u128, u128)>(),
            address: u128,
        ) {
            let net = |bits| Ipv6Net::new(Ipv6Addr::from_bits(bits), length).unwrap().trunc();
            let (inside, outside) = (net(inside), net(outside));
            let pair = PrefixPair {
                interface: InterfaceId(0),
                inside: inside.into(),
                outside: outside.into(),
            };
            let bits = inside.network().to_bits() | address & inside.hostmask().to_bits();
            let address = Ipv6Addr::from_bits(bits);
            let Some(IpAddr::V6(seen)) = pair.outward(address.into()) else {
                prop_assert_eq!(address.segments()[SUBNET], 0xffff);
                return Ok(());
            };
            prop_assert!(outside.contains(&seen));
            prop_assert_eq!(pair.inward(seen.into()), Some(address.into()));
            let whole = |address: Ipv6Addr| fold(sum(&address.octets(), 0)) % 0xffff;
            prop_assert_eq!(whole(address), whole(seen));
        }
    }
}
