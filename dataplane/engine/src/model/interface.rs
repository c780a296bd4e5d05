//! L3 interfaces: personalities and networks' gateways, one type.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::bridge::Bridge;
use super::owners::Owners;
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::ip::{Address, is_of_a_link, link_local_of};
use crate::config::services::Services;
use crate::config::{self, PortRange, Probe};

/// The link-local address of a network's gateway, if no other is configured.
pub(crate) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A personality or a network's gateway, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub id: InterfaceId,
    /// Its name.
    pub name: String,
    /// Whether it is a personality: what leaves by one is guarded.
    pub personality: bool,
    /// The MAC it wears.
    pub mac: MacAddr,
    /// The VLAN it is on.
    pub vlan: Option<u16>,
    /// Its ports.
    pub ports: Vec<PortId>,
    /// `Some`: a network that is bridged. It has neither MAC nor address, and nothing is routed by it.
    pub bridge: Option<Bridge>,
    /// Its own addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Its own addresses alone, link-local ones among them.
    pub own: Own,
    /// The IPv6 link-local address it speaks from, if it has any IPv6 address: the first one
    /// configured, else fe80::1 for a network's gateway, and derived from the MAC for a personality
    /// (RFC 4291 §2.5.6, appendix A).
    pub link_local: Option<Ipv6Addr>,
    /// Next hops of configured routes that lead out by it; its gateways first.
    pub next_hops: Vec<IpAddr>,
    /// `Some`: the host's kernel has its MAC and addresses too, and answers for them. Only these
    /// ports (and ICMP identifiers) are ours.
    pub shared: Option<PortRange>,
    /// Whether its IPv4 addresses are claimed before use (RFC 5227); never a network's.
    pub claims_ipv4: bool,
    /// Largest IP packet that leaves by it, in bytes.
    pub mtu: u32,
    /// What a network tells its guests.
    pub services: Services,
    /// Sources that may leave by it beside its own and its guests': those that `nat.snat` leaves
    /// untranslated towards some destinations, and what prefixes are translated to.
    pub sources: Vec<IpNet>,
    /// Connections through it announce no larger segments than fit.
    pub clamps_mss: bool,
    /// How the next hops on it are probed.
    pub probe: Option<Probe>,
}

/// Where a packet came in: the port, and the interface there whose MAC it was sent to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'s> {
    pub(crate) port: PortId,
    pub(crate) interface: &'s Interface,
}

/// An interface's own addresses, by family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// IPv4.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6.
    pub v6: Vec<Ipv6Addr>,
}

impl Own {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4.iter().copied().map(IpAddr::V4);
        v4.chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}

impl FromIterator<IpAddr> for Own {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut own = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => own.v4.push(address),
                IpAddr::V6(address) => own.v6.push(address),
            }
        }
        own
    }
}

impl Interface {
    /// Whether `address` is one of the interface's own.
    #[inline]
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.own.v4.contains(&address),
            IpAddr::V6(address) => self.own.v6.contains(&address),
        }
    }

    /// The own addresses that are claimed before use: a personality's IPv6, and its IPv4 where that is
    /// wanted. A network's gateway asks no guest for leave (H06; RFC 4862 §5.1 with
    /// DupAddrDetectTransmits 0).
    pub(crate) fn claimed(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (v6, v4) = (self.personality, self.claims_ipv4);
        let is_claimed = move |address: &IpAddr| if address.is_ipv4() { v4 } else { v6 };
        self.own.iter().filter(is_claimed)
    }

    /// Whether this is a personality on the segment that guests are bridged to.
    pub(crate) fn is_on(&self, segment: Bridge) -> bool {
        self.personality && self.vlan == segment.vlan && self.ports == [segment.uplink]
    }

    /// Whether strangers come in there by `port`: it is an uplink.
    pub(crate) fn is_outside(&self, port: PortId) -> bool {
        match self.bridge {
            Some(segment) => segment.uplink == port,
            None => self.personality && self.ports == [port],
        }
    }

    /// Whether a frame may leave with this source address (the egress guard's question).
    #[inline]
    pub fn may_send(&self, source: IpAddr, owners: &Owners) -> bool {
        !self.personality
            || self.owns(source)
            || owners.is_public(source, self.id)
            || self.sources.iter().any(|from| from.contains(&source))
    }

    /// Whether `address` is directly on this link.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|prefix| prefix.contains(&address))
            || self.next_hops.contains(&address)
            || is_of_a_link(address)
    }

    /// The next hop to `destination` on this link: itself, or a gateway of its family.
    pub fn next_hop_for<A: Address>(&self, destination: A) -> Option<A> {
        let to: IpAddr = destination.into();
        if self.addresses.iter().any(|prefix| prefix.contains(&to)) {
            return Some(destination);
        }
        self.next_hops.iter().find_map(|hop| A::from_ip(*hop))
    }

    /// The address to speak to `peer` from: the link-local one to a link-local peer, else one whose
    /// prefix covers it, else the first of its family (RFC 6724 §5).
    pub fn source_for<A: Address>(&self, peer: A) -> Option<A> {
        let peer: IpAddr = peer.into();
        if is_of_a_link(peer) {
            return self.link_local.and_then(|own| A::from_ip(own.into()));
        }
        let covering = self.addresses.iter().find(|prefix| prefix.contains(&peer));
        covering
            .into_iter()
            .chain(&self.addresses)
            .filter(|prefix| !is_of_a_link(prefix.addr()))
            .find_map(|prefix| A::from_ip(prefix.addr()))
    }
}

/// The link-local address of an interface that has any IPv6 address.
pub(crate) fn link_local(spec: &config::Interface) -> Ipv6Addr {
    let configured = spec
        .addresses
        .iter()
        .map(IpNet::addr)
        .find(|address| is_of_a_link(*address));
    if let Some(IpAddr::V6(configured)) = configured {
        return configured;
    }
    if !spec.kind.is_personality() {
        return GATEWAY;
    }
    link_local_of(spec.mac)
}
