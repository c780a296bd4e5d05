//! Neighbour discovery: answers for own addresses, what is learnt from others, solicitations of
//! our own (RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use crate::addr::{MacAddr, PortId};
use crate::checksum;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::packet::{ETHERNET, Packet};
use crate::process::Router;
use crate::shard::Shard;
use crate::snapshot::Interface;

const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// The ICMPv6 types of neighbour discovery.
pub(crate) const KINDS: std::ops::RangeInclusive<u8> = ROUTER_SOLICITATION..=REDIRECT;

/// Source and target link-layer address options (RFC 4861 §4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// Flags of an advertisement (RFC 4861 §4.4): from a router, solicited, override.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Hop limit of every neighbour-discovery message (RFC 4861 §11.2): it has passed no router.
const HOP_LIMIT: u8 = 255;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A solicitation or an advertisement that passed the checks of RFC 4861 §7.1.
struct Message {
    flags: u8,
    target: Ipv6Addr,
    /// Its link-layer address option: the source's for a solicitation, the target's for an
    /// advertisement.
    link_layer: Option<MacAddr>,
}

impl<T: Trace> Router<'_, T> {
    pub(crate) fn neighbor_discovery(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv6Addr>,
        ingress: PortId,
        vlan: Option<u16>,
        source: MacAddr,
        destination: MacAddr,
    ) -> Result<Verdict, DropReason> {
        let snapshot = self.snapshot;
        if snapshot.wearer(ingress, vlan, source).is_some() {
            return Err(DropReason::OwnFrame);
        }
        if !destination.is_group() && snapshot.wearer(ingress, vlan, destination).is_none() {
            return Err(DropReason::UnknownMac);
        }
        let body = &frame.bytes[packet.l4..packet.end];
        let sum = checksum::sum(body, Ipv6Addr::icmp_sum(packet));
        if packet.ttl != HOP_LIMIT || body[1] != 0 || checksum::fold(sum) != 0xffff {
            return Err(DropReason::NdMalformed);
        }
        let kind = body[0];
        let message = match kind {
            NEIGHBOR_SOLICITATION => parse(body, SOURCE_LINK_LAYER)?,
            NEIGHBOR_ADVERTISEMENT => parse(body, TARGET_LINK_LAYER)?,
            _ => return Err(DropReason::NdIgnored),
        };
        let sender: IpAddr = packet.flow.source.into();
        if snapshot
            .on_port(ingress, vlan)
            .any(|interface| interface.owns(sender))
        {
            return Err(DropReason::NdSenderIsUs);
        }
        let hears = |interface: &&Interface| destination.is_group() || interface.mac == destination;
        let mut hearing = snapshot.on_port(ingress, vlan).filter(hears);
        if kind == NEIGHBOR_ADVERTISEMENT {
            return self.advertised(packet, &message, ingress, hearing);
        }
        check_solicitation(packet, &message)?;
        let Some(interface) = hearing.find(|interface| interface.owns(message.target.into()))
        else {
            return Err(DropReason::NdNotForUs);
        };
        self.trace.step("nd", || {
            format!("{sender} asks for {}, which is ours", message.target)
        });
        self.answer(packet, &message, interface, (source, ingress));
        Ok(Verdict::Consumed)
    }

    /// Answers a solicitation for an address of `interface`'s own (N03, N04), and learns from it
    /// who asks (N08).
    fn answer(
        &mut self,
        packet: &Packet<Ipv6Addr>,
        message: &Message,
        interface: &Interface,
        (source, ingress): (MacAddr, PortId),
    ) {
        let asker = packet.flow.source;
        self.shard.counters.neighbor_solicitations_answered += 1;
        if asker.is_unspecified() {
            let to = (multicast_mac(ALL_NODES), ingress);
            self.shard
                .advertise(interface, message.target, ALL_NODES, ROUTER | OVERRIDE, to);
            return;
        }
        let mac = message.link_layer.unwrap_or(source);
        if message.link_layer.is_some() && interface.is_on_link(asker.into()) {
            let held =
                self.shard
                    .neighbors
                    .learn(interface.id, asker.into(), (mac, ingress), self.now);
            self.shard.release(held, interface, (mac, ingress));
        }
        let flags = ROUTER | SOLICITED | OVERRIDE;
        self.shard
            .advertise(interface, message.target, asker, flags, (mac, ingress));
    }

    fn advertised<'s>(
        &mut self,
        packet: &Packet<Ipv6Addr>,
        message: &Message,
        ingress: PortId,
        hearing: impl Iterator<Item = &'s Interface>,
    ) -> Result<Verdict, DropReason> {
        let solicited = message.flags & SOLICITED != 0;
        // RFC 4861 §7.1.2 (N02).
        if solicited && packet.flow.destination.is_multicast() {
            return Err(DropReason::NdMalformed);
        }
        let mut wanted = false;
        for interface in hearing {
            let target = message.target.into();
            if interface.owns(target) {
                return Err(DropReason::NdSenderIsUs);
            }
            let known = self.shard.neighbors.knows(interface.id, target);
            wanted |= known;
            let held = self.shard.neighbors.advertised(
                interface.id,
                target,
                (message.link_layer, ingress),
                (solicited, message.flags & OVERRIDE != 0),
                self.now,
            );
            if let Some(mac) = message.link_layer {
                self.shard.release(held, interface, (mac, ingress));
            }
        }
        if wanted {
            Ok(Verdict::Consumed)
        } else {
            Err(DropReason::NdUnsolicited)
        }
    }
}

impl Shard {
    /// Asks for `target`'s MAC: one station, or its solicited-node group (N09, N11).
    pub(crate) fn neighbor_solicitation(
        &mut self,
        interface: &Interface,
        target: Ipv6Addr,
        to: Option<(MacAddr, PortId)>,
    ) {
        let Some(source) = interface.link_local else {
            return;
        };
        let destination = if to.is_some() {
            target
        } else {
            solicited_node(target)
        };
        let frame = build(
            (source, destination),
            (NEIGHBOR_SOLICITATION, 0),
            target,
            (SOURCE_LINK_LAYER, interface.mac),
        );
        self.counters.neighbor_solicitations_sent += 1;
        match to {
            Some(to) => self.send(frame, interface, to),
            None => {
                for &port in &interface.ports {
                    self.send(frame.clone(), interface, (multicast_mac(destination), port));
                }
            }
        }
    }

    fn advertise(
        &mut self,
        interface: &Interface,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        flags: u8,
        to: (MacAddr, PortId),
    ) {
        let frame = build(
            (target, destination),
            (NEIGHBOR_ADVERTISEMENT, flags),
            target,
            (TARGET_LINK_LAYER, interface.mac),
        );
        self.send(frame, interface, to);
    }
}

/// RFC 4861 §7.1.1 (N01), beyond what every message must satisfy.
fn check_solicitation(packet: &Packet<Ipv6Addr>, message: &Message) -> Result<(), DropReason> {
    let probe = packet.flow.source.is_unspecified();
    let wrong = probe
        && (message.link_layer.is_some()
            || packet.flow.destination != solicited_node(message.target));
    if wrong {
        Err(DropReason::NdMalformed)
    } else {
        Ok(())
    }
}

fn parse(body: &[u8], wanted: u8) -> Result<Message, DropReason> {
    let fixed = body.first_chunk::<24>().ok_or(DropReason::NdMalformed)?;
    let target = fixed[8..]
        .first_chunk::<16>()
        .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets));
    if target.is_multicast() {
        return Err(DropReason::NdMalformed);
    }
    let mut options = &body[24..];
    let mut link_layer = None;
    while !options.is_empty() {
        // In units of eight bytes; zero would never end (RFC 4861 §4.6).
        let length = options.get(1).map_or(0, |units| usize::from(*units) * 8);
        if length == 0 || length > options.len() {
            return Err(DropReason::NdMalformed);
        }
        if options[0] == wanted && length == 8 {
            link_layer = Some(MacAddr::from_slice(&options[2..8])).filter(|mac| mac.is_unicast());
        }
        options = &options[length..];
    }
    Ok(Message {
        flags: fixed[4],
        target,
        link_layer,
    })
}

fn build(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    (kind, flags): (u8, u8),
    target: Ipv6Addr,
    (option, mac): (u8, MacAddr),
) -> OwnedFrame {
    const LENGTH: usize = 32;
    let mut bytes = Ipv6Addr::icmp_frame(source, destination, LENGTH);
    bytes[ETHERNET + 7] = HOP_LIMIT;
    let at = bytes.len();
    bytes.extend_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
    bytes.extend_from_slice(&target.octets());
    bytes.extend_from_slice(&[option, 1]);
    bytes.extend_from_slice(&mac.0);
    let seed = checksum::pseudo_header(
        &source.octets(),
        &destination.octets(),
        Ipv6Addr::ICMP,
        LENGTH,
    );
    let check = !checksum::fold(checksum::sum(&bytes[at..], seed));
    bytes[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
    OwnedFrame {
        bytes,
        ..OwnedFrame::default()
    }
}

/// The solicited-node group of an address (RFC 4291 §2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
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
fn multicast_mac(address: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = address.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}
