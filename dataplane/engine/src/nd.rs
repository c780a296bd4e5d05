//! Neighbour discovery: answers for own and guests' addresses, what is learnt from others,
//! solicitations of our own (RFC 4861).

use std::net::Ipv6Addr;

use crate::addr::{MacAddr, PortId};
use crate::answers::Answer;
use crate::checksum;
use crate::claims::Nonce;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::packet::{ETHERNET, Packet};
use crate::process::Router;
use crate::service::Link;
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// The ICMPv6 types of neighbour discovery.
pub(crate) const KINDS: std::ops::RangeInclusive<u8> = ROUTER_SOLICITATION..=REDIRECT;

/// Source and target link-layer address options (RFC 4861 §4.6.1).
pub(crate) const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// The nonce option of enhanced duplicate-address detection (RFC 3971 §5.3.2, RFC 7527 §4).
const NONCE: u8 = 14;

/// Flags of an advertisement (RFC 4861 §4.4): from a router, solicited, override.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Hop limit of every neighbour-discovery message (RFC 4861 §11.2): it has passed no router.
pub(crate) const HOP_LIMIT: u8 = 255;

pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A solicitation or an advertisement that passed the checks of RFC 4861 §7.1.
struct Message {
    flags: u8,
    target: Ipv6Addr,
    /// Its link-layer address option: the source's for a solicitation, the target's for an
    /// advertisement.
    link_layer: Option<MacAddr>,
    nonce: Option<Nonce>,
}

impl<T: Trace> Router<'_, T> {
    pub(crate) fn neighbor_discovery(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv6Addr>,
        (ingress, vlan): (PortId, Option<u16>),
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
        let network = snapshot.network_on(ingress);
        let kind = body[0];
        if kind == ROUTER_SOLICITATION {
            let link = Link {
                port: ingress,
                vlan,
                source,
                destination,
            };
            return self.router_solicited(packet, body, link);
        }
        let message = match kind {
            NEIGHBOR_SOLICITATION => parse(body, SOURCE_LINK_LAYER)?,
            NEIGHBOR_ADVERTISEMENT => parse(body, TARGET_LINK_LAYER)?,
            ROUTER_ADVERTISEMENT | REDIRECT if self.is_checked(ingress) => {
                return Err(self.violation(ingress, DropReason::RogueServer, || {
                    "a guest must not advertise routes".to_owned()
                }));
            }
            _ => return Err(DropReason::NdIgnored),
        };
        let sender = packet.flow.source;
        if let Some(network) = network {
            self.admit(ingress, network, sender, DropReason::SpoofedSource)?;
        }
        let hears = |interface: &&Interface| destination.is_group() || interface.mac == destination;
        if kind == NEIGHBOR_ADVERTISEMENT {
            if let Some(network) = network {
                let target = message.target;
                self.admit(ingress, network, target, DropReason::SpoofedAdvertisement)?;
            }
            let hearing = snapshot.on_port(ingress, vlan).filter(hears);
            return self.advertised(packet, &message, (ingress, vlan), source, hearing);
        }
        if let Some(interface) = self.claimant(sender.into(), ingress, vlan) {
            self.conflict(interface, sender.into(), source);
            return Err(DropReason::NdSenderIsUs);
        }
        check_solicitation(packet, &message)?;
        if sender.is_unspecified() && self.is_rival(&message, (ingress, vlan), source) {
            return Err(DropReason::NdSenderIsUs);
        }
        let asked = (ingress, vlan);
        let nobody = DropReason::NdNotForUs;
        let target = message.target.into();
        let (interface, flags, delay) = match self.answer_for(target, asked, destination, nobody) {
            Answer::Own(interface) => (interface, ROUTER | OVERRIDE, None),
            // RFC 4861 §7.2.8: a proxy does not override (N05).
            Answer::Proxied(interface) => (interface, ROUTER, self.proxy_delay(destination)),
            Answer::Wait(id) => return Ok(self.hold(frame, ingress, id)),
            Answer::Silence(reason) => return Err(reason),
        };
        self.may_answer(ingress)?;
        self.trace.step("nd", || {
            let whose = if flags & OVERRIDE == 0 {
                "another's"
            } else {
                "ours"
            };
            format!("{sender} asks for {}, which is {whose}", message.target)
        });
        let begin = self.shard.outbox.len();
        self.answer(packet, &message, interface, flags, (source, ingress));
        if let Some(longest) = delay {
            self.delay_answers(begin, longest);
        }
        Ok(Verdict::Consumed)
    }

    /// Answers a solicitation (N03, N04, N05), and learns from it who asks (N08).
    fn answer(
        &mut self,
        packet: &Packet<Ipv6Addr>,
        message: &Message,
        interface: &Interface,
        flags: u8,
        (source, ingress): (MacAddr, PortId),
    ) {
        let asker = packet.flow.source;
        let snapshot = self.snapshot;
        self.shard.counters.neighbor_solicitations_answered += 1;
        if asker.is_unspecified() {
            let to = (multicast_mac(ALL_NODES), ingress);
            let about = (message.target, flags);
            self.shard
                .advertise(snapshot, interface, about, ALL_NODES, to);
            return;
        }
        let mac = message.link_layer.unwrap_or(source);
        let on_link = snapshot.is_on_link(interface, ingress, asker.into());
        if message.link_layer.is_some() && on_link {
            let station = (mac, ingress);
            let neighbors = &mut self.shard.neighbors;
            let held = neighbors.learn(interface.id, asker.into(), station, self.now);
            self.shard.release(snapshot, held, interface, station);
        }
        let about = (message.target, flags | SOLICITED);
        self.shard
            .advertise(snapshot, interface, about, asker, (mac, ingress));
    }

    /// Whether the sender of a duplicate-address probe wants what we are claiming ourselves: then
    /// neither may have it (RFC 4862 §5.4.3; N13). A probe of our own that comes back is none
    /// (RFC 7527 §4.1; N14).
    fn is_rival(
        &mut self,
        message: &Message,
        (ingress, vlan): (PortId, Option<u16>),
        mac: MacAddr,
    ) -> bool {
        let target = message.target.into();
        let Some(interface) = self.claiming(target, ingress, vlan) else {
            return false;
        };
        if !self
            .shard
            .claims
            .is_mine(interface.id, target, message.nonce)
        {
            self.conflict(interface, target, mac);
        }
        true
    }

    fn advertised<'s>(
        &mut self,
        packet: &Packet<Ipv6Addr>,
        message: &Message,
        (ingress, vlan): (PortId, Option<u16>),
        source: MacAddr,
        hearing: impl Iterator<Item = &'s Interface>,
    ) -> Result<Verdict, DropReason> {
        let solicited = message.flags & SOLICITED != 0;
        // RFC 4861 §7.1.2 (N02).
        if solicited && packet.flow.destination.is_multicast() {
            return Err(DropReason::NdMalformed);
        }
        let target = message.target.into();
        if let Some(interface) = self.claimant(target, ingress, vlan) {
            self.conflict(interface, target, source);
            return Err(DropReason::NdSenderIsUs);
        }
        let mut wanted = false;
        for interface in hearing {
            let known = self.shard.neighbors.knows(interface.id, target);
            wanted |= known;
            let station = (message.link_layer, ingress);
            // RFC 9131 §6.1: what a guest says of itself unasked saves the first packet's wait
            // (N17). It may only speak of what it owns, or what is on its link.
            if !known
                && !interface.personality
                && let Some(mac) = message.link_layer
                && self.snapshot.is_on_link(interface, ingress, target)
            {
                let station = (mac, ingress);
                self.shard
                    .neighbors
                    .learn(interface.id, target, station, self.now);
                wanted = true;
                continue;
            }
            let held = self.shard.neighbors.advertised(
                interface.id,
                target,
                station,
                (solicited, message.flags & OVERRIDE != 0),
                self.now,
            );
            if let Some(mac) = message.link_layer {
                self.shard
                    .release(self.snapshot, held, interface, (mac, ingress));
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
        snapshot: &Snapshot,
        interface: &Interface,
        target: Ipv6Addr,
        to: Option<(MacAddr, PortId)>,
    ) {
        // Before the link-local address is ours there is nothing to ask from; the neighbour table
        // comes again.
        let source = interface
            .link_local
            .filter(|address| self.claims.is_ours(interface.id, (*address).into()));
        let Some(source) = source else { return };
        let destination = if to.is_some() {
            target
        } else {
            solicited_node(target)
        };
        let option = link_layer_option(SOURCE_LINK_LAYER, interface.mac);
        let kind = (NEIGHBOR_SOLICITATION, 0);
        let frame = build((source, destination), kind, target, &option);
        self.counters.neighbor_solicitations_sent += 1;
        match to {
            Some(to) => self.send(snapshot, frame, interface, to),
            None => {
                let ports = snapshot.whereabouts(interface, target.into());
                self.multicast(snapshot, &frame, interface, (destination, ports));
            }
        }
    }

    /// Asks whether anybody has `address`, which we want (RFC 4862 §5.4.2, RFC 7527 §4; N12, N14).
    pub(crate) fn duplicate_probe(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        address: Ipv6Addr,
        nonce: Nonce,
    ) {
        let destination = solicited_node(address);
        let mut option = [NONCE, 1, 0, 0, 0, 0, 0, 0];
        option[2..].copy_from_slice(&nonce);
        let ends = (Ipv6Addr::UNSPECIFIED, destination);
        let frame = build(ends, (NEIGHBOR_SOLICITATION, 0), address, &option);
        self.counters.duplicate_probes_sent += 1;
        self.multicast(snapshot, &frame, interface, (destination, &interface.ports));
    }

    /// Tells everybody that `address` is here (RFC 4861 §7.2.6; N17).
    pub(crate) fn announce_neighbor(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        address: Ipv6Addr,
        takeover: bool,
    ) {
        let flags = if takeover { ROUTER | OVERRIDE } else { ROUTER };
        let option = link_layer_option(TARGET_LINK_LAYER, interface.mac);
        let source = advertiser(interface, address);
        let kind = (NEIGHBOR_ADVERTISEMENT, flags);
        let frame = build((source, ALL_NODES), kind, address, &option);
        self.counters.neighbor_announcements_sent += 1;
        self.multicast(snapshot, &frame, interface, (ALL_NODES, &interface.ports));
    }

    fn advertise(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        (target, flags): (Ipv6Addr, u8),
        destination: Ipv6Addr,
        to: (MacAddr, PortId),
    ) {
        let option = link_layer_option(TARGET_LINK_LAYER, interface.mac);
        let source = advertiser(interface, target);
        let kind = (NEIGHBOR_ADVERTISEMENT, flags);
        let frame = build((source, destination), kind, target, &option);
        self.send(snapshot, frame, interface, to);
    }

    pub(crate) fn multicast(
        &mut self,
        snapshot: &Snapshot,
        frame: &OwnedFrame,
        interface: &Interface,
        (group, ports): (Ipv6Addr, &[PortId]),
    ) {
        for &port in ports {
            self.send(
                snapshot,
                frame.clone(),
                interface,
                (multicast_mac(group), port),
            );
        }
    }
}

/// Who speaks about `target`: the address itself if it is the interface's own, else its link-local
/// address, since a proxy has no other to speak with.
fn advertiser(interface: &Interface, target: Ipv6Addr) -> Ipv6Addr {
    match interface.link_local {
        Some(link_local) if !interface.owns(target.into()) => link_local,
        _ => target,
    }
}

fn link_layer_option(kind: u8, mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
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
pub(crate) fn link_layer(
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

fn build(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    (kind, flags): (u8, u8),
    target: Ipv6Addr,
    option: &[u8; 8],
) -> OwnedFrame {
    const LENGTH: usize = 32;
    let mut bytes = Ipv6Addr::icmp_frame(source, destination, LENGTH);
    bytes[ETHERNET + 7] = HOP_LIMIT;
    let at = bytes.len();
    bytes.extend_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
    bytes.extend_from_slice(&target.octets());
    bytes.extend_from_slice(option);
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
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
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
pub(crate) fn multicast_mac(address: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = address.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}
