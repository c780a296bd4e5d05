//! Neighbour-discovery messages (RFC 4861 §4).

use std::net::Ipv6Addr;

use super::frame::OwnedFrame;
use super::icmp;
use crate::base::addr::MacAddr;
use crate::base::drops::DropReason;

/// What a duplicate-address probe carries, so that it is known when it comes back (RFC 7527 §4).
pub type Nonce = [u8; 6];

/// Message types (RFC 4861 §4).
#[allow(missing_docs)]
pub const ROUTER_SOLICITATION: u8 = 133;
#[allow(missing_docs)]
pub const ROUTER_ADVERTISEMENT: u8 = 134;
#[allow(missing_docs)]
pub const NEIGHBOR_SOLICITATION: u8 = 135;
#[allow(missing_docs)]
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
#[allow(missing_docs)]
pub const REDIRECT: u8 = 137;
/// The ICMPv6 types of neighbour discovery.
pub const KINDS: std::ops::RangeInclusive<u8> = ROUTER_SOLICITATION..=REDIRECT;

/// Source and target link-layer address options (RFC 4861 §4.6.1).
pub const SOURCE_LINK_LAYER: u8 = 1;
#[allow(missing_docs)]
pub const TARGET_LINK_LAYER: u8 = 2;
/// The nonce option of enhanced duplicate-address detection (RFC 3971 §5.3.2, RFC 7527 §4).
pub const NONCE: u8 = 14;

/// Flags of an advertisement (RFC 4861 §4.4): from a router, solicited, override.
pub const ROUTER: u8 = 0x80;
#[allow(missing_docs)]
pub const SOLICITED: u8 = 0x40;
#[allow(missing_docs)]
pub const OVERRIDE: u8 = 0x20;

/// Hop limit of every neighbour-discovery message (RFC 4861 §11.2): it has passed no router.
pub const HOP_LIMIT: u8 = 255;

/// All nodes of the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A solicitation or an advertisement that passed the checks of RFC 4861 §7.1.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// An advertisement's.
    pub flags: u8,
    /// Whose MAC is asked for or told.
    pub target: Ipv6Addr,
    /// Its link-layer address option: the source's for a solicitation, the target's for an
    /// advertisement.
    pub link_layer: Option<MacAddr>,
    /// Its nonce option.
    pub nonce: Option<Nonce>,
}

/// A solicitation or advertisement (`kind` and flags) about `target`, as a frame whose MACs are still
/// to be set.
pub fn frame(
    ends: (Ipv6Addr, Ipv6Addr),
    (kind, flags): (u8, u8),
    target: Ipv6Addr,
    option: &[u8; 8],
) -> OwnedFrame {
    let head = [kind, 0, 0, 0, flags, 0, 0, 0];
    icmp::frame(ends, HOP_LIMIT, &[&head, &target.octets(), option])
}

/// A nonce option (RFC 3971 §5.3.2).
pub fn nonce_option(nonce: Nonce) -> [u8; 8] {
    let [a, b, c, d, e, f] = nonce;
    [NONCE, 1, a, b, c, d, e, f]
}

/// A link-layer address option (RFC 4861 §4.6.1).
pub fn link_layer_option(kind: u8, mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
}

/// Reads a solicitation or an advertisement with its link-layer address option of type `wanted`.
///
/// # Errors
/// It is cut short, its target is a multicast address, or an option is malformed.
pub fn parse(body: &[u8], wanted: u8) -> Result<Message, DropReason> {
    let fixed = body.first_chunk::<24>().ok_or(DropReason::NdMalformed)?;
    let target = fixed[8..]
        .first_chunk::<16>()
        .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets));
    if target.is_multicast() {
        return Err(DropReason::NdMalformed);
    }
    let (link_layer, nonce) = link_layer(&body[24..], wanted)?;
    Ok(Message {
        flags: fixed[4],
        target,
        link_layer,
        nonce,
    })
}

/// The MAC in the option `wanted` among `options`, and the nonce.
///
/// # Errors
/// One of them has no length, or too long a one.
pub fn link_layer(
    mut options: &[u8],
    wanted: u8,
) -> Result<(Option<MacAddr>, Option<Nonce>), DropReason> {
    let (mut link_layer, mut nonce) = (None, None);
    while !options.is_empty() {
        // In units of eight bytes; zero would never end (RFC 4861 §4.6).
        let length = options.get(1).map_or(0, |units| usize::from(*units) * 8);
        if length == 0 || length > options.len() {
            return Err(DropReason::NdMalformed);
        }
        if options[0] == wanted && length == 8 {
            link_layer = Some(MacAddr::from_slice(&options[2..8])).filter(|mac| mac.is_unicast());
        }
        if options[0] == NONCE {
            nonce = options[2..].first_chunk().copied();
        }
        options = &options[length..];
    }
    Ok((link_layer, nonce))
}

/// The solicited-node group of an address (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = (address.to_bits() & 0xff_ffff) as u32;
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | (low >> 16) as u16,
        low as u16,
    )
}

/// The MAC of a multicast address (RFC 2464 §7).
pub fn multicast_mac(address: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = address.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}
