//! MACs, addresses and gateways, wherever they are written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::check::Check;
use crate::base::addr::MacAddr;
use crate::base::ip::is_of_a_link;
use crate::config::{Prefix, Segment};

/// A link: an uplink's port and VLAN, or a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    Uplink(String, Option<u16>),
    Network(String),
}

/// An address, and for a link-local one its link.
pub(super) type Place = (IpAddr, Option<Link>);

impl Link {
    /// `address` on this link.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        (address, is_of_a_link(address).then(|| self.clone()))
    }
}

impl Check {
    /// `mac` must be one that a station can wear.
    pub(super) fn station_mac(&mut self, at: Vec<Segment>, mac: MacAddr) {
        if !mac.is_unicast() {
            let kind = if mac.is_group() {
                "a multicast address"
            } else {
                "the zero address"
            };
            self.fault(
                at,
                format!("{mac} is {kind}, which no station can wear"),
                "write a unicast MAC: its first byte is even, such as 02:00:00:00:00:aa",
            );
        }
    }

    /// `prefixes`, an interface's addresses, must be hosts' and nobody else's.
    pub(super) fn addresses(
        &mut self,
        at: &[Segment],
        prefixes: &[Prefix],
        link: &Link,
        seen: &mut BTreeMap<Place, Vec<Segment>>,
    ) {
        if prefixes.is_empty() {
            self.fault(
                at.to_vec(),
                "there is no address",
                "write at least one, such as [\"10.0.1.254/24\"]",
            );
        }
        for (n, prefix) in prefixes.iter().enumerate() {
            let mut here = at.to_vec();
            here.push(Segment::Index(n));
            let address = prefix.0.addr();
            if let Some(why) = not_a_host_in(prefix.0) {
                self.fault(
                    here.clone(),
                    format!("{prefix} {why}"),
                    "write the interface's own address with its prefix length, such as \"10.0.1.254/24\"",
                );
            }
            self.unique(
                seen,
                link.place(address),
                here,
                &format!("address {address} is configured twice"),
                "an address belongs to exactly one interface, a link-local one to one of each link",
            );
        }
    }

    /// `gateway` must be another host, reached from the interface `name` with the addresses `own`.
    pub(super) fn gateway(
        &mut self,
        at: impl Into<Vec<Segment>>,
        gateway: IpAddr,
        own: &[IpNet],
        onlink: bool,
        name: &str,
    ) {
        if own.iter().any(|prefix| prefix.addr() == gateway) {
            self.fault(
                at,
                format!("gateway {gateway} is \"{name}\"'s own address"),
                "write the address of the next router",
            );
        } else if not_a_host(gateway).is_some() || own.iter().any(|net| is_broadcast(*net, gateway))
        {
            self.fault(
                at,
                format!("gateway {gateway} is not one host's address"),
                "write the address of the next router",
            );
        } else if !onlink
            && !own.iter().any(|prefix| prefix.contains(&gateway))
            && !is_of_a_link(gateway)
        {
            self.fault(
                at,
                format!("gateway {gateway} cannot be reached: no address of \"{name}\" has a prefix that covers it"),
                "add `onlink = true` if it is directly on the link all the same, or correct the address",
            );
        } else if !own
            .iter()
            .any(|prefix| prefix.addr().is_ipv4() == gateway.is_ipv4())
        {
            self.fault(
                at,
                format!(
                    "\"{name}\" has no address of gateway {gateway}'s family to ask for it with"
                ),
                "write a gateway of the addresses' family, or add an address of its family",
            );
        }
    }
}

/// Why `address` cannot be one host's, if it cannot.
pub(super) fn not_a_host(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => {
            Some("is in 0.0.0.0/8, \"this network\"")
        }
        IpAddr::V4(address) if address.is_loopback() => Some("is a loopback address"),
        IpAddr::V4(address) if address.is_multicast() || address.is_broadcast() => {
            Some("is a multicast or broadcast address")
        }
        IpAddr::V6(address) if address.is_unspecified() => Some("is the unspecified address"),
        IpAddr::V6(address) if address.is_loopback() => Some("is the loopback address"),
        IpAddr::V6(address) if address.is_multicast() => Some("is a multicast address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            Some("is an IPv4 address in the form of IPv6")
        }
        _ => None,
    }
}

/// Whether all hosts of a prefix are called so.
fn is_broadcast(prefix: IpNet, address: IpAddr) -> bool {
    let is_large = prefix.prefix_len() < 31;
    is_large && matches!(prefix, IpNet::V4(net) if address == IpAddr::V4(net.broadcast()))
}

/// Why `prefix`'s address cannot be one host's within the prefix, if it cannot.
fn not_a_host_in(prefix: IpNet) -> Option<&'static str> {
    let within = match prefix {
        // RFC 3021: both addresses of a /31 are hosts'.
        IpNet::V4(net) if net.prefix_len() >= 31 => None,
        IpNet::V4(net) if net.addr() == net.network() => {
            Some("is the prefix itself, not a host in it")
        }
        IpNet::V4(net) if net.addr() == net.broadcast() => {
            Some("is the prefix's broadcast address")
        }
        _ => None,
    };
    not_a_host(prefix.addr()).or(within)
}
