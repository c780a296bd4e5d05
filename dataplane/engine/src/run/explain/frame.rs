//! The frame that stands for a packet somebody asks about.

use std::net::IpAddr;

use etherparse::{
    IpDscp, IpEcn, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header,
    PacketBuilder,
};

use crate::base::addr::MacAddr;
use crate::config::{Config, Guest, Interface, InterfaceKind};

/// The source MAC of an explained packet where no guest's is known: never one of ours.
const SENDER: MacAddr = MacAddr([0x02, 0x65, 0x78, 0x70, 0x6c, 0x61]);
/// The TTL most systems start with, so that only a real loop uses it up.
const TTL: u8 = 64;

/// A packet that enters by a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The port it comes in by, by name.
    pub port: &'a str,
    /// Its source address.
    pub from: IpAddr,
    /// Its destination address.
    pub to: IpAddr,
    /// Its type of service or traffic class, the whole byte.
    pub tos: u8,
    /// Its IP protocol number: 1 or 58 is an echo request, 6 a TCP SYN.
    pub protocol: u8,
    /// Source port; the identifier for an echo request.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// The frame that carries `packet` into its port, and the 802.1Q identifier it wears, as
/// [`crate::wire::frame::Frame`] wants them. It is sent to the MAC that a neighbour on that port would
/// use: the network's gateway, or the personality or bridged guest that owns the destination. A bridged
/// guest's other neighbours are the provider's: a MAC of nobody stands for theirs.
///
/// # Errors
/// There is no such port, no interface is on it, or the two addresses are of different families.
pub fn frame(config: &Config, packet: &Packet<'_>) -> Result<(Vec<u8>, Option<u16>), String> {
    let (mac, vlan) = match beside(config, packet) {
        Some(station) => station,
        None => {
            let interface = receiver(config, packet)?;
            let vlan = match interface.kind {
                InterfaceKind::Personality { vlan, .. } => vlan,
                InterfaceKind::Network { .. } => None,
            };
            (interface.mac, vlan)
        }
    };
    let bytes = bytes((sender(config, packet), mac), packet, Echo::Request)?;
    Ok((bytes, vlan))
}

/// Which of the two ICMP messages.
pub(super) enum Echo {
    Request,
    Reply,
}

/// `packet` in a frame from one MAC to another.
pub(super) fn bytes(
    (sender, receiver): (MacAddr, MacAddr),
    packet: &Packet<'_>,
    echo: Echo,
) -> Result<Vec<u8>, String> {
    let ethernet = PacketBuilder::ethernet2(sender.0, receiver.0);
    let ip = match (packet.from, packet.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (ends, protocol) = ((from.octets(), to.octets()), IpNumber(packet.protocol));
            let header = Ipv4Header::new(0, TTL, protocol, ends.0, ends.1);
            let mut header = header.map_err(|error| error.to_string())?;
            header.dscp = IpDscp::try_new(packet.tos >> 2).unwrap_or_default();
            header.ecn = IpEcn::try_new(packet.tos & 3).unwrap_or_default();
            ethernet.ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: packet.tos,
                hop_limit: TTL,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            ethernet.ip(IpHeaders::Ipv6(header, Ipv6Extensions::default()))
        }
        (from, to) => {
            return Err(format!(
                "{from} and {to} are of different families: give two IPv4 or two IPv6 addresses"
            ));
        }
    };
    let (source, destination) = (packet.source_port, packet.destination_port);
    let mut bytes = Vec::with_capacity(128);
    match (IpNumber(packet.protocol), packet.from.is_ipv4()) {
        (IpNumber::TCP, _) => ip
            .tcp(source, destination, 1, 65_535)
            .syn()
            .write(&mut bytes, &[])
            .map_err(|e| e.to_string())?,
        (IpNumber::UDP, _) => ip
            .udp(source, destination)
            .write(&mut bytes, &datagram(packet, sender))
            .map_err(|e| e.to_string())?,
        (IpNumber::ICMP, true) => match echo {
            Echo::Request => ip.icmpv4_echo_request(source, 1),
            Echo::Reply => ip.icmpv4_echo_reply(source, 1),
        }
        .write(&mut bytes, &[0; 8])
        .map_err(|e| e.to_string())?,
        (IpNumber::IPV6_ICMP, false) => match echo {
            Echo::Request => ip.icmpv6_echo_request(source, 1),
            Echo::Reply => ip.icmpv6_echo_reply(source, 1),
        }
        .write(&mut bytes, &[0; 8])
        .map_err(|e| e.to_string())?,
        (other, _) => ip
            .write(&mut bytes, other, &[0; 8])
            .map_err(|e| e.to_string())?,
    }
    Ok(bytes)
}

/// The MAC of the guest that sends it: the one that owns its source, else the first behind its
/// port.
fn sender(config: &Config, packet: &Packet<'_>) -> MacAddr {
    let behind = |guest: &&Guest| config.ports()[guest.port].name == packet.port;
    let mut guests = config.guests().iter().filter(behind);
    let owns = |guest: &&Guest| guest.owned().any(|prefix| prefix.contains(&packet.from));
    let owner = guests.clone().find(owns).or_else(|| guests.next());
    owner.and_then(|guest| guest.mac).unwrap_or(SENDER)
}

/// The MAC of who has the destination on a segment that guests are bridged to, and the VLAN there by
/// the packet's port.
fn beside(config: &Config, packet: &Packet<'_>) -> Option<(MacAddr, Option<u16>)> {
    let port = |index: usize| config.ports()[index].name == packet.port;
    config.interfaces().iter().enumerate().find_map(|(n, network)| {
        let InterfaceKind::Network { ports, bridged: Some(segment), .. } = &network.kind else {
            return None;
        };
        let from_guest = ports.iter().any(|index| port(*index));
        if !from_guest && !port(segment.port) {
            return None;
        }
        let owns = |guest: &&Guest| {
            let owned = |prefix: &ipnet::IpNet| prefix.contains(&packet.to);
            guest.network == n && guest.public.iter().any(owned)
        };
        let guest = config.guests().iter().find(owns).and_then(|guest| guest.mac);
        let owns = |i: &&Interface| {
            let is_there = matches!(i.kind, InterfaceKind::Personality { port, vlan, .. } if (port, vlan) == (segment.port, segment.vlan));
            is_there && i.addresses.iter().any(|prefix| prefix.addr() == packet.to)
        };
        let personality = || config.interfaces().iter().find(owns).map(|i| i.mac);
        let mac = guest.or_else(|| from_guest.then(personality).flatten())?;
        Some((mac, segment.vlan.filter(|_| !from_guest)))
    })
}

/// What a datagram carries: a guest's first message if it is to a DHCP server, else zeroes.
fn datagram(packet: &Packet<'_>, sender: MacAddr) -> Vec<u8> {
    match (packet.from.is_ipv4(), packet.destination_port) {
        (true, 67) => {
            let mut discover = vec![0; 240];
            discover[..3].copy_from_slice(&[1, 1, 6]);
            discover[28..34].copy_from_slice(&sender.0);
            discover[236..].copy_from_slice(&[99, 130, 83, 99]);
            discover.extend([53, 1, 1, 255]);
            discover
        }
        (false, 547) => {
            let identity = [&[0, 3, 0, 1][..], &sender.0].concat();
            let association = [0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            [&[1, 0, 0, 1, 0, 1, 0, 10][..], &identity, &association].concat()
        }
        _ => vec![0; 8],
    }
}

/// The interface on the packet's port that a neighbour would send it to.
fn receiver<'a>(config: &'a Config, packet: &Packet<'_>) -> Result<&'a Interface, String> {
    let ports = config.ports();
    let Some(port) = ports.iter().position(|port| port.name == packet.port) else {
        let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        return Err(format!(
            "there is no port \"{}\": give one of {}",
            packet.port,
            known.join(", ")
        ));
    };
    let mut on_port = config.interfaces().iter().filter(|i| match &i.kind {
        InterfaceKind::Personality { port: uplink, .. } => *uplink == port,
        InterfaceKind::Network { ports, .. } => ports.contains(&port),
    });
    let owns = |i: &&Interface| i.addresses.iter().any(|prefix| prefix.addr() == packet.to);
    on_port
        .clone()
        .find(owns)
        .or_else(|| on_port.next())
        .ok_or_else(|| {
            format!(
                "no personality and no network is on port \"{}\": nothing that comes in by it is ours",
                packet.port
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    fn config() -> Config {
        let text = r#"{
            "ports": {"uplink": {"device": "eth0"}, "guest": {"device": "veth0"}, "spare": {"device": "veth1"}},
            "personalities": {
                "A": {"port": "uplink", "mac": "02:00:00:00:00:aa", "addresses": ["203.0.113.10/32"]},
                "B": {"port": "uplink", "mac": "02:00:00:00:00:bb", "vlan": 7, "addresses": ["203.0.113.20/32"]}
            },
            "networks": {"a": {"ports": ["guest"], "addresses": ["10.0.1.254/24"], "mac": "02:00:00:00:00:01"}}
        }"#;
        serde_json::from_str(text).unwrap()
    }

    fn packet(port: &str, protocol: u8) -> Packet<'_> {
        Packet {
            port,
            from: "10.0.1.1".parse().unwrap(),
            to: "203.0.113.20".parse().unwrap(),
            tos: 0xb9,
            protocol,
            source_port: 40_000,
            destination_port: 443,
        }
    }

    #[test]
    fn goes_to_the_mac_a_neighbour_would_use() {
        let (bytes, vlan) = frame(&config(), &packet("guest", 6)).unwrap();
        assert_eq!(bytes[..6], [2, 0, 0, 0, 0, 1]);
        assert_eq!(vlan, None);
        let (bytes, vlan) = frame(&config(), &packet("uplink", 6)).unwrap();
        assert_eq!(bytes[..6], [2, 0, 0, 0, 0, 0xbb]);
        assert_eq!(vlan, Some(7));
    }

    #[test]
    fn is_a_valid_packet_of_its_protocol() {
        for protocol in [1, 6, 17, 47] {
            let (bytes, _) = frame(&config(), &packet("guest", protocol)).unwrap();
            let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
                panic!("{sliced:?}")
            };
            assert_eq!(ip.header().protocol().0, protocol);
            assert_eq!(
                (ip.header().dcp().value(), ip.header().ecn().value()),
                (46, 1)
            );
            assert_eq!(
                ip.header().to_header().calc_header_checksum(),
                ip.header().header_checksum()
            );
            match sliced.transport {
                Some(TransportSlice::Tcp(tcp)) => assert!(tcp.syn() && tcp.source_port() == 40_000),
                Some(TransportSlice::Udp(udp)) => assert_eq!(udp.destination_port(), 443),
                Some(TransportSlice::Icmpv4(icmp)) => assert_eq!(icmp.type_u8(), 8),
                _ => assert_eq!(protocol, 47),
            }
        }
    }

    /// As the guest whose source it is, so that it is not taken for a forged one.
    #[test]
    fn comes_from_the_guest_that_owns_the_source() {
        let text = r#"{
            "ports": {"g": {"device": "veth0"}},
            "networks": {"a": {"ports": ["g"], "addresses": ["10.0.1.254/24"]}},
            "guests": {
                "one": {"port": "g", "mac": "52:54:00:00:00:01", "addresses": ["10.0.1.1"]},
                "two": {"port": "g", "mac": "52:54:00:00:00:02", "addresses": ["10.0.1.2"]}
            }
        }"#;
        let config: Config = serde_json::from_str(text).unwrap();
        for (from, last) in [("10.0.1.1", 1), ("10.0.1.2", 2), ("0.0.0.0", 1)] {
            let packet = Packet {
                from: from.parse().unwrap(),
                ..packet("g", 17)
            };
            let (bytes, _) = frame(&config, &packet).unwrap();
            assert_eq!(bytes[6..12], [0x52, 0x54, 0, 0, 0, last]);
        }
    }

    #[test]
    fn goes_to_the_guest_that_is_bridged() {
        let text = r#"{
            "ports": {"uplink": {"device": "eth0"}, "g": {"device": "veth0"}, "h": {"device": "veth1"}},
            "personalities": {"A": {"port": "uplink", "mac": "02:00:00:00:00:aa", "vlan": 7, "addresses": ["203.0.113.10/32"]}},
            "networks": {"n": {"bridged": "uplink", "vlan": 7, "ports": ["g", "h"]}},
            "guests": {
                "one": {"port": "g", "mac": "52:54:00:00:00:01", "public": ["203.0.113.21"]},
                "two": {"port": "h", "mac": "52:54:00:00:00:02", "public": ["203.0.113.22"]}
            }
        }"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let one = [0x52, 0x54, 0, 0, 0, 1];
        for (port, to, mac, vlan) in [
            ("uplink", "203.0.113.21", one, Some(7)),
            ("h", "203.0.113.21", one, None),
            ("h", "203.0.113.10", [2, 0, 0, 0, 0, 0xaa], None),
            ("uplink", "203.0.113.10", [2, 0, 0, 0, 0, 0xaa], Some(7)),
        ] {
            let packet = Packet {
                to: to.parse().unwrap(),
                ..packet(port, 17)
            };
            let (bytes, tag) = frame(&config, &packet).unwrap();
            assert_eq!((&bytes[..6], tag), (&mac[..], vlan), "{port} {to}");
        }
    }

    #[test]
    fn says_why_there_is_no_such_packet() {
        let fault = |packet: &Packet<'_>| frame(&config(), packet).unwrap_err();
        assert!(fault(&packet("gest", 6)).contains("give one of guest, spare, uplink"));
        assert!(fault(&packet("spare", 6)).contains("no network is on port \"spare\""));
        let mixed = Packet {
            to: "2001:db8::1".parse().unwrap(),
            ..packet("guest", 6)
        };
        assert!(fault(&mixed).contains("different families"));
    }
}
