//! What a router advertisement says (RFC 4861 §4.2, RFC 4191, RFC 8106).

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use crate::base::addr::PortId;
use crate::config::services::{DomainName, Preference, Ra, RaPrefix, RaRoute};
use crate::model::interface::Interface;
use crate::model::snapshot::Snapshot;
use crate::state::advertisers::Gone;
use crate::wire::frame::OwnedFrame;
use crate::wire::icmp;
use crate::wire::nd::{self, SOURCE_LINK_LAYER};

pub(crate) const ADVERTISEMENT: u8 = 134;
/// What hosts are told to send with (RFC 4861 §4.2).
const CURRENT_HOP_LIMIT: u8 = 64;
/// Flags (RFC 4861 §4.2): DHCPv6 hands out addresses, or only other settings.
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
/// Flags of a prefix (RFC 4861 §4.6.2).
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// Options: RFC 4861 §4.6, RFC 4191 §2.3, RFC 8106 §5.
pub(crate) const PREFIX: u8 = 3;
pub(crate) const MTU: u8 = 5;
pub(crate) const ROUTE: u8 = 24;
pub(crate) const RDNSS: u8 = 25;
pub(crate) const DNSSL: u8 = 31;
/// Bytes of a prefix option, the largest option by which something is withdrawn.
const PREFIX_OPTION: usize = 32;
/// Bytes of the largest message within the smallest MTU (RFC 8200 §5).
const LARGEST: usize = 1280 - 40;

/// The flags: what DHCPv6 offers on this port.
pub(crate) fn flags(snapshot: &Snapshot, interface: &Interface, port: PortId) -> u8 {
    match &interface.services.dhcp6 {
        None => 0,
        Some(_) if snapshot.owners().hands_out_ipv6(port) => MANAGED | OTHER,
        Some(_) => OTHER,
    }
}

/// An advertisement (RFC 4861 §4.2).
pub(crate) fn message(ra: &Ra, gone: &Gone, flags: u8, interface: &Interface) -> Vec<u8> {
    let usual = ra.three_intervals();
    let lifetime = ra.lifetime.unwrap_or(usual as u16);
    let mut body = header(flags, lifetime, interface);
    body.extend_from_slice(&[MTU, 1, 0, 0]);
    body.extend_from_slice(&interface.mtu.to_be_bytes());
    for prefix in &ra.prefixes {
        put_prefix(&mut body, prefix, (prefix.valid, prefix.preferred));
    }
    for route in &ra.routes {
        put_route(&mut body, route, route.lifetime.unwrap_or(usual));
    }
    if !ra.dns.is_empty() {
        body.extend_from_slice(&[RDNSS, 1 + 2 * ra.dns.len() as u8, 0, 0]);
        body.extend_from_slice(&usual.to_be_bytes());
        for server in &ra.dns {
            body.extend_from_slice(&server.octets());
        }
    }
    if !ra.domains.is_empty() {
        let mut names: Vec<u8> = ra.domains.iter().flat_map(DomainName::wire).collect();
        names.resize(names.len().next_multiple_of(8), 0);
        body.extend_from_slice(&[DNSSL, 1 + (names.len() / 8) as u8, 0, 0]);
        body.extend_from_slice(&usual.to_be_bytes());
        body.extend_from_slice(&names);
    }
    // Guests are told what to forget as far as the smallest MTU has room for it.
    for prefix in &gone.prefixes {
        if body.len() + PREFIX_OPTION <= LARGEST {
            put_prefix(&mut body, prefix, (0, 0));
        }
    }
    for route in &gone.routes {
        if body.len() + PREFIX_OPTION <= LARGEST {
            put_route(&mut body, route, 0);
        }
    }
    body
}

/// The gateway, and every route through it, is no more.
pub(crate) fn farewell(ra: &Ra, interface: &Interface) -> Vec<u8> {
    let mut body = header(0, 0, interface);
    for route in &ra.routes {
        put_route(&mut body, route, 0);
    }
    body
}

fn header(flags: u8, lifetime: u16, interface: &Interface) -> Vec<u8> {
    let mut body = vec![ADVERTISEMENT, 0, 0, 0, CURRENT_HOP_LIMIT, flags];
    body.extend_from_slice(&lifetime.to_be_bytes());
    // Reachable time and retransmission timer: unspecified.
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(&[SOURCE_LINK_LAYER, 1]);
    body.extend_from_slice(&interface.mac.0);
    body
}

fn put_prefix(body: &mut Vec<u8>, entry: &RaPrefix, (valid, preferred): (u32, u32)) {
    let Some(net) = ipv6(&entry.prefix.0) else {
        return;
    };
    let on_link = if entry.on_link { ON_LINK } else { 0 };
    let autonomous = if entry.autonomous { AUTONOMOUS } else { 0 };
    body.extend_from_slice(&[PREFIX, 4, net.prefix_len(), on_link | autonomous]);
    body.extend_from_slice(&valid.to_be_bytes());
    body.extend_from_slice(&preferred.to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&net.network().octets());
}

/// A route information option, as long as its prefix needs (RFC 4191 §2.3, N23).
fn put_route(body: &mut Vec<u8>, route: &RaRoute, lifetime: u32) {
    let Some(net) = ipv6(&route.prefix.0) else {
        return;
    };
    let units = match net.prefix_len() {
        0 => 1,
        1..=64 => 2,
        _ => 3,
    };
    let preference = match route.preference {
        Preference::High => 0x08,
        Preference::Medium => 0x00,
        Preference::Low => 0x18,
    };
    body.extend_from_slice(&[ROUTE, units as u8, net.prefix_len(), preference]);
    body.extend_from_slice(&lifetime.to_be_bytes());
    body.extend_from_slice(&net.network().octets()[..8 * (units - 1)]);
}

fn ipv6(net: &IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V6(net) => Some(*net),
        IpNet::V4(_) => None,
    }
}

/// The advertisement as a frame whose MACs are still to be set.
pub(crate) fn frame(ends: (Ipv6Addr, Ipv6Addr), body: &[u8]) -> OwnedFrame {
    icmp::frame(ends, nd::HOP_LIMIT, &[body])
}
