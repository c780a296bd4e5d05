//! What is tapgate's of the traffic to a MAC and to addresses that the host's kernel goes on using.

use std::net::IpAddr;

use ipnet::IpNet;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::{Config, Interface, InterfaceKind, PortKind, PortRange, Protocol};

/// A device that personalities share with the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Who shares what.
    pub shared: Vec<Shared>,
}

/// A MAC of the host's that a personality wears too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The personality's name.
    pub name: String,
    /// The MAC.
    pub mac: MacAddr,
    /// 802.1Q VLAN identifier; untagged when absent.
    pub vlan: Option<u16>,
    /// The addresses of both.
    pub addresses: Vec<SharedAddress>,
    /// The guests' addresses that are reached by this MAC, and prefixes that stand for theirs.
    pub guests: Vec<IpNet>,
    /// Prefixes of addresses that may be alive behind us. The host may have other addresses in
    /// them.
    pub alive: Vec<IpNet>,
}

/// An address of the host's that is tapgate's too, for some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedAddress {
    /// The address.
    pub address: IpAddr,
    /// The TCP ports that are tapgate's.
    pub tcp: Vec<PortRange>,
    /// The UDP ports that are tapgate's.
    pub udp: Vec<PortRange>,
}

impl SharedAddress {
    /// The ports of both protocols with their IP protocol numbers.
    pub fn ports(&self) -> [(u8, &[PortRange]); 2] {
        [
            (libc::IPPROTO_TCP as u8, &self.tcp),
            (libc::IPPROTO_UDP as u8, &self.udp),
        ]
    }
}

/// All devices that personalities of `config` share with the host.
pub fn devices(config: &Config) -> Vec<Device> {
    let ports = config.ports().iter().enumerate();
    let device = |(index, port): (usize, &tapgate_engine::config::Port)| match &port.kind {
        PortKind::Device { device, .. } => Some(Device {
            name: device.clone(),
            shared: on_port(config, index),
        }),
        _ => None,
    };
    let devices = ports.filter_map(device);
    devices.filter(|device| !device.shared.is_empty()).collect()
}

/// What personalities share with the host on the port with this index.
pub fn on_port(config: &Config, index: usize) -> Vec<Shared> {
    let personalities = config.interfaces().iter().enumerate();
    let shared = |(number, interface): (usize, &Interface)| match interface.kind {
        InterfaceKind::Personality {
            port,
            vlan,
            shared: Some(reserved),
            ..
        } if port == index => Some(Shared {
            name: interface.name.clone(),
            mac: interface.mac,
            vlan,
            addresses: addresses(config, number, interface, reserved),
            guests: guests(config, number),
            alive: alive(config, number),
        }),
        _ => None,
    };
    personalities.filter_map(shared).collect()
}

fn addresses(
    config: &Config,
    number: usize,
    interface: &Interface,
    reserved: PortRange,
) -> Vec<SharedAddress> {
    let own = |net: &IpNet| {
        let address = net.addr();
        let ports = |protocol: Protocol| {
            let redirects = config.redirects().iter().filter(|redirect| {
                (redirect.interface, redirect.address, redirect.protocol)
                    == (number, address, protocol)
            });
            let redirected = redirects.map(|redirect| redirect.ports);
            std::iter::once(reserved).chain(redirected).collect()
        };
        SharedAddress {
            address,
            tcp: ports(Protocol::Tcp),
            udp: ports(Protocol::Udp),
        }
    };
    interface.addresses.iter().map(own).collect()
}

fn guests(config: &Config, number: usize) -> Vec<IpNet> {
    let guests = config.guests().iter();
    let here = guests.filter(|guest| guest.personality == Some(number));
    let public = here.flat_map(tapgate_engine::config::Guest::outside);
    let pairs = config.one_to_one().iter();
    let pairs = pairs.filter(|pair| pair.interface == number && pair.is_of_prefixes());
    public.chain(pairs.map(|pair| pair.outside)).collect()
}

fn alive(config: &Config, number: usize) -> Vec<IpNet> {
    let proxy = |interface: &Interface| match &interface.kind {
        InterfaceKind::Network { proxy, .. } => proxy.clone(),
        InterfaceKind::Personality { .. } => None,
    };
    let proxies = config.interfaces().iter().filter_map(proxy);
    let here = proxies.filter(|proxy| proxy.personality == number);
    here.flat_map(|proxy| proxy.alive).collect()
}

/// First and last of a range, as numbers.
pub fn of_ports(range: &PortRange) -> (u128, u128) {
    (range.first.into(), range.last.into())
}

/// First and last address of a prefix, as numbers.
pub fn of_prefix(prefix: &IpNet) -> (u128, u128) {
    match prefix {
        IpNet::V4(net) => (
            net.network().to_bits().into(),
            net.broadcast().to_bits().into(),
        ),
        IpNet::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
    }
}

/// The same numbers in as few intervals as can be, in order: they neither overlap nor touch.
pub fn disjoint(intervals: impl Iterator<Item = (u128, u128)>) -> Vec<(u128, u128)> {
    let mut sorted: Vec<_> = intervals.collect();
    sorted.sort_unstable();
    let mut disjoint: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match disjoint.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => disjoint.push((first, last)),
        }
    }
    disjoint
}

/// `intervals`, which are [`disjoint`], without some numbers.
pub fn without(
    intervals: Vec<(u128, u128)>,
    numbers: impl Iterator<Item = u128>,
) -> Vec<(u128, u128)> {
    let mut left = intervals;
    for number in numbers {
        let next = left.partition_point(|interval| interval.1 < number);
        if let Some(&(first, last)) = left.get(next)
            && first <= number
        {
            let below = (first < number).then(|| (first, number - 1));
            let above = (number < last).then(|| (number + 1, last));
            left.splice(next..=next, below.into_iter().chain(above));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_overlap_or_touch_become_one() {
        let merged = |intervals: &[(u128, u128)]| disjoint(intervals.iter().copied());
        assert_eq!(merged(&[]), []);
        assert_eq!(
            merged(&[(30, 40), (1, 2), (3, 5), (10, 20), (12, 14)]),
            [(1, 5), (10, 20), (30, 40)]
        );
        assert_eq!(
            merged(&[(0, u128::MAX), (u128::MAX, u128::MAX)]),
            [(0, u128::MAX)]
        );
    }

    #[test]
    fn numbers_are_taken_out_of_intervals() {
        let left = |numbers: &[u128]| without(vec![(1, 3), (5, 5)], numbers.iter().copied());
        assert_eq!(left(&[0, 4, 6]), [(1, 3), (5, 5)]);
        assert_eq!(left(&[1, 3]), [(2, 2), (5, 5)]);
        assert_eq!(left(&[5, 2]), [(1, 1), (3, 3)]);
        assert_eq!(left(&[1, 2, 3, 5]), []);
    }

    #[test]
    fn prefixes_are_intervals() {
        let of = |text: &str| of_prefix(&text.parse().unwrap());
        assert_eq!(of("192.0.2.7/32"), (0xc000_0207, 0xc000_0207));
        assert_eq!(of("192.0.2.7/24"), (0xc000_0200, 0xc000_02ff));
        assert_eq!(of("2001:db8::/112").1 - of("2001:db8::/112").0, 0xffff);
    }
}
