//! What must hold for every frame that leaves the router, whatever the test is about.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, NetSlice, SlicedPacket, TransportSlice,
};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::{Config, InterfaceKind};

use crate::packet::Arp;

/// What is wrong with an untagged `frame` that leaves by `port` in `vlan`. `None`: nothing.
///
/// X01: source MAC, VLAN and source address (or ARP sender) belong to one personality; on a
/// guest's port the MAC is the network's gateway. Header and transport checksums are right,
/// lengths agree, and no packet exceeds the port's MTU.
pub fn fault(config: &Config, port: &str, vlan: Option<u16>, frame: &[u8]) -> Option<String> {
    if frame.len() < 14 {
        return Some(format!("a frame of {} bytes", frame.len()));
    }
    let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
    let sender: IpAddr = match ethertype {
        0x0806 => match Arp::parse(frame) {
            Some(arp) if arp.sender.0 != arp.from => {
                return Some(format!(
                    "ARP sender {} in a frame of {}",
                    arp.sender.0, arp.from
                ));
            }
            Some(arp) => arp.sender.1.into(),
            None => return Some("malformed ARP".into()),
        },
        0x0800 => match Ipv4HeaderSlice::from_slice(&frame[14..]) {
            Ok(header) => header.source_addr().into(),
            Err(error) => return Some(format!("malformed IPv4: {error}")),
        },
        0x86dd => match Ipv6HeaderSlice::from_slice(&frame[14..]) {
            Ok(header) => header.source_addr().into(),
            Err(error) => return Some(format!("malformed IPv6: {error}")),
        },
        other => return Some(format!("ethertype {other:#06x}")),
    };
    let mac = MacAddr::from_slice(&frame[6..]);
    let to = MacAddr::from_slice(frame);
    let wrong = match segment(config, port, vlan) {
        Some((network, ports)) => bridged(config, (network, ports), (mac, to), (port, sender))
            .unwrap_or_else(|| wearer(config, port, vlan, mac, sender)),
        None => wearer(config, port, vlan, mac, sender),
    };
    wrong.or_else(|| match ethertype {
        0x0800 => ipv4_fault(config, port, frame),
        0x86dd => ipv6_fault(config, port, frame),
        _ => None,
    })
}

/// Whether the transport checksum of a frame is right; `None` when there is none: a fragment,
/// another protocol, UDP over IPv4 without.
pub fn transport_checksum(frame: &[u8]) -> Option<bool> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (sent, right) = match (&sliced.net, &sliced.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(transport)) => {
            let (from, to) = (ip.header().source(), ip.header().destination());
            match transport {
                TransportSlice::Tcp(tcp) => (tcp.checksum(), tcp.calc_checksum_ipv4(from, to)),
                TransportSlice::Udp(udp) if udp.checksum() == 0 => return None,
                TransportSlice::Udp(udp) => {
                    let header = udp.to_header();
                    (
                        udp.checksum(),
                        header.calc_checksum_ipv4_raw(from, to, udp.payload()),
                    )
                }
                TransportSlice::Icmpv4(icmp) => {
                    let right = icmp.header().icmp_type.calc_checksum(icmp.payload());
                    (icmp.checksum(), Ok(right))
                }
                _ => return None,
            }
        }
        (Some(NetSlice::Ipv6(ip)), Some(transport)) => {
            let (from, to) = (ip.header().source(), ip.header().destination());
            match transport {
                TransportSlice::Tcp(tcp) => (tcp.checksum(), tcp.calc_checksum_ipv6(from, to)),
                TransportSlice::Udp(udp) => {
                    let header = udp.to_header();
                    (
                        udp.checksum(),
                        header.calc_checksum_ipv6_raw(from, to, udp.payload()),
                    )
                }
                TransportSlice::Icmpv6(icmp) => {
                    return Some(icmp.is_checksum_valid(from, to));
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    // 0 and 0xffff are the same number in one's complement, and TCP may send either.
    let right = right.ok()?;
    Some(sent == right || (sent ^ right == 0xffff && (sent == 0 || right == 0)))
}

/// Whether an IPv4 header's checksum is right (RFC 1071 §1), reserved bits and all.
pub fn header_checksum(header: &[u8]) -> bool {
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}

/// Whether a guest has `sender` outside, on the personality called `name`.
fn has_a_guest(config: &Config, name: &str, sender: IpAddr) -> bool {
    config.guests().iter().any(|guest| {
        let answers = guest
            .personality
            .map(|index| &config.interfaces()[index].name);
        answers.is_some_and(|answers| answers == name)
            && guest.outside().any(|prefix| prefix.contains(&sender))
    })
}

/// Whether `sender` may be alive in a network for which the personality called `name` answers.
fn may_be_alive(config: &Config, name: &str, sender: IpAddr) -> bool {
    let mut proxies = config.interfaces().iter().filter_map(|interface| {
        let InterfaceKind::Network { proxy, .. } = &interface.kind else {
            return None;
        };
        proxy.as_ref()
    });
    proxies.any(|proxy| {
        config.interfaces()[proxy.personality].name == name
            && proxy.alive.iter().any(|prefix| prefix.contains(&sender))
    })
}

fn wearer(
    config: &Config,
    port: &str,
    vlan: Option<u16>,
    mac: MacAddr,
    sender: IpAddr,
) -> Option<String> {
    let index = config.ports().iter().position(|known| known.name == port)?;
    let mut on_port = config
        .interfaces()
        .iter()
        .filter(|interface| match &interface.kind {
            InterfaceKind::Personality {
                port, vlan: tag, ..
            } => *port == index && *tag == vlan,
            InterfaceKind::Network { ports, .. } => ports.contains(&index) && vlan.is_none(),
        });
    let Some(interface) = on_port.find(|interface| interface.mac == mac) else {
        return Some(format!(
            "X01: no interface wears {mac} on {port} in VLAN {vlan:?}"
        ));
    };
    let owns = interface
        .addresses
        .iter()
        .any(|prefix| prefix.addr() == sender)
        || sender == link_local(mac)
        || sender.is_unspecified() // probes; what is forwarded is checked elsewhere
        || has_a_guest(config, &interface.name, sender)
        || may_be_alive(config, &interface.name, sender)
        || interface.sources.iter().any(|from| from.contains(&sender));
    (interface.kind.is_personality() && !owns).then(|| {
        format!(
            "X01: {sender} is not an address of personality {}",
            interface.name
        )
    })
}

/// The bridged network that a port is on in a VLAN, and its guests' ports.
fn segment(config: &Config, port: &str, vlan: Option<u16>) -> Option<(usize, Vec<usize>)> {
    let index = config.ports().iter().position(|known| known.name == port)?;
    let interfaces = config.interfaces().iter().enumerate();
    let mut networks = interfaces.filter_map(|(n, interface)| match &interface.kind {
        InterfaceKind::Network {
            ports,
            bridged: Some(at),
            ..
        } => Some((n, ports, at)),
        _ => None,
    });
    let found = networks.find(|(_, ports, at)| {
        (at.port, at.vlan) == (index, vlan) || ports.contains(&index) && vlan.is_none()
    });
    found.map(|(n, ports, _)| (n, ports.clone()))
}

/// What is wrong with a frame on a bridged network's segment: whatever a guest's MAC is on has an
/// address of that guest, everywhere; a guest hears only what is for it or a group, and nobody but a
/// personality or a guest has an address of theirs. `None`: a personality wears the MAC, or should.
fn bridged(
    config: &Config,
    (network, ports): (usize, Vec<usize>),
    (mac, to): (MacAddr, MacAddr),
    (port, sender): (&str, IpAddr),
) -> Option<Option<String>> {
    let guests = || {
        config
            .guests()
            .iter()
            .filter(|guest| guest.network == network)
    };
    let owns = |public: &[ipnet::IpNet], mac| {
        sender == link_local(mac) || public.iter().any(|prefix| prefix.contains(&sender))
    };
    let wrong = |what: String| Some(Some(format!("X01: {what}")));
    if let Some(guest) = guests().find(|guest| guest.mac == Some(mac)) {
        let nobodys = sender.is_unspecified() && to.is_group();
        if !nobodys && !owns(&guest.public, mac) {
            return wrong(format!("{sender} is not bridged guest {}'s", guest.name));
        }
    }
    let is_guests = ports
        .iter()
        .any(|index| config.ports()[*index].name == port);
    if !is_guests {
        return guests().any(|guest| guest.mac == Some(mac)).then_some(None);
    }
    let here = |guest: &&tapgate_engine::config::Guest| config.ports()[guest.port].name == port;
    if !to.is_group() && !guests().filter(here).any(|guest| guest.mac == Some(to)) {
        return wrong(format!("nobody behind {port} is {to}"));
    }
    let personality = config
        .interfaces()
        .iter()
        .any(|interface| interface.kind.is_personality() && interface.mac == mac);
    let somebodys = guests().any(|guest| guest.mac != Some(mac) && owns(&guest.public, mac));
    if personality {
        return Some(None);
    }
    if somebodys && guests().all(|guest| guest.mac != Some(mac)) {
        return wrong(format!("{mac} says it is {sender}, which is a guest's"));
    }
    Some(None)
}

/// The link-local address that goes with a MAC (RFC 4291 §2.5.6, appendix A).
fn link_local(mac: MacAddr) -> IpAddr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
    .into()
}

fn ipv4_fault(config: &Config, port: &str, frame: &[u8]) -> Option<String> {
    let header = Ipv4HeaderSlice::from_slice(&frame[14..]).ok()?;
    let owned = header.to_header();
    if !header_checksum(header.slice()) {
        return Some(format!(
            "IPv4 header checksum {:#06x}",
            header.header_checksum()
        ));
    }
    let total = usize::from(header.total_len());
    if total != frame.len() - 14 {
        return Some(format!(
            "IPv4 total length {total} in {} bytes",
            frame.len() - 14
        ));
    }
    let mtu = config.ports().iter().find(|known| known.name == port)?.mtu;
    if total > mtu as usize {
        return Some(format!(
            "a packet of {total} bytes on {port}, whose MTU is {mtu}"
        ));
    }
    let error = header.protocol() == IpNumber::ICMP
        && header.fragments_offset().value() == 0
        && matches!(frame.get(14 + owned.header_len()), Some(3 | 11 | 12));
    if error && total > 576 {
        // A forwarded error may be longer, but none of the tests sends one.
        return Some(format!("F09: an ICMP error of {total} bytes"));
    }
    None
}

fn ipv6_fault(config: &Config, port: &str, frame: &[u8]) -> Option<String> {
    let header = Ipv6HeaderSlice::from_slice(&frame[14..]).ok()?;
    let total = 40 + usize::from(header.payload_length());
    if total != frame.len() - 14 {
        return Some(format!("IPv6 length {total} in {} bytes", frame.len() - 14));
    }
    too_large(config, port, total)
}

fn too_large(config: &Config, port: &str, total: usize) -> Option<String> {
    let mtu = config.ports().iter().find(|known| known.name == port)?.mtu;
    (total > mtu as usize)
        .then(|| format!("a packet of {total} bytes on {port}, whose MTU is {mtu}"))
}
