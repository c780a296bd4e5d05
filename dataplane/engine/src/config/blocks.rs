//! Deterministic ports: which external address and ports an inside address has, and whose a port is,
//! by arithmetic alone (RFC 7422 §2; T18).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use ipnet::IpNet;

use super::value::PortRange;

/// The blocks that an entry of `nat.snat` gives out: to the first address of a prefix the first block
/// of the first external address, and so on.
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a> {
    from: IpNet,
    to: &'a [IpAddr],
    ports: PortRange,
    size: NonZeroU16,
}

impl<'a> Blocks<'a> {
    /// Blocks of `size` ports of each address of `to` for the addresses of `from`. `None`: there is no
    /// size.
    pub fn new(
        (from, to): (IpNet, &'a [IpAddr]),
        ports: PortRange,
        size: Option<NonZeroU16>,
    ) -> Option<Self> {
        let size = size?;
        Some(Self {
            from,
            to,
            ports,
            size,
        })
    }

    /// How many blocks one external address has.
    pub fn of_an_address(&self) -> u32 {
        self.ports.size() / u32::from(self.size.get())
    }

    /// How many inside addresses want one. `None`: more than can be counted.
    pub fn wanted(&self) -> Option<u128> {
        1_u128.checked_shl(u32::from(
            self.from.max_prefix_len() - self.from.prefix_len(),
        ))
    }

    /// The external address and ports of an inside address. `None`: it has none.
    pub fn of(&self, inside: IpAddr) -> Option<(IpAddr, PortRange)> {
        if !self.from.contains(&inside) {
            return None;
        }
        let index = bits(inside) - bits(self.from.network());
        let each = u128::from(self.of_an_address());
        let external = self
            .to
            .get(usize::try_from(index.checked_div(each)?).ok()?)?;
        let size = self.size.get();
        let first = self.ports.first + (index % each) as u16 * size;
        let last = first + (size - 1);
        Some((*external, PortRange { first, last }))
    }

    /// All inside addresses, each with what it has.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, IpAddr, PortRange)> {
        let first = bits(self.from.network());
        let count = self.wanted().unwrap_or(0);
        (0..count).map_while(move |index| {
            let inside = address(self.from, first + index)?;
            let (external, ports) = self.of(inside)?;
            Some((inside, external, ports))
        })
    }

    /// The inside address that an external address and port are of. `None`: nobody's.
    pub fn holder(&self, external: IpAddr, port: u16) -> Option<IpAddr> {
        let place = self.to.iter().position(|address| *address == external)? as u128;
        let each = u128::from(self.of_an_address());
        let block = u128::from(port.checked_sub(self.ports.first)? / self.size.get());
        let index = (block < each).then_some(place * each + block)?;
        let inside = bits(self.from.network()).checked_add(index)?;
        let inside = address(self.from, inside)?;
        self.from.contains(&inside).then_some(inside)
    }
}

/// An address of the family of `like`.
fn address(like: IpNet, bits: u128) -> Option<IpAddr> {
    match like {
        IpNet::V4(_) => Some(Ipv4Addr::from_bits(u32::try_from(bits).ok()?).into()),
        IpNet::V6(_) => Some(Ipv6Addr::from_bits(bits).into()),
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t18_the_address_has_a_block_and_the_block_an_address() {
        let to = ["203.0.113.10", "203.0.113.11"].map(|text| text.parse().expect("an address"));
        let ports = PortRange {
            first: 1024,
            last: 65_535,
        };
        let from = "10.0.1.0/25".parse().expect("a prefix");
        let blocks = Blocks::new((from, &to), ports, NonZeroU16::new(1000)).expect("a size");
        assert_eq!((blocks.of_an_address(), blocks.wanted()), (64, Some(128)));
        let mut seen = std::collections::HashSet::new();
        for host in 0..128 {
            let inside = IpAddr::from([10, 0, 1, host]);
            let (external, ports) = blocks.of(inside).expect("a block");
            assert_eq!((ports.size(), ports.first >= 1024), (1000, true));
            for port in [ports.first, ports.first + 500, ports.last] {
                assert_eq!(blocks.holder(external, port), Some(inside));
                assert!(seen.insert((external, port)), "{external}:{port}");
            }
        }
        assert_eq!(blocks.of([10, 0, 1, 128].into()), None);
        for port in [1, 1023, 65_024, 65_535] {
            assert_eq!(blocks.holder(to[0], port), None, "{port}");
        }
    }
}
