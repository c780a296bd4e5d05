//! pnet, the third reader.

use std::net::Ipv6Addr;

use pnet::packet::ipv4::{self, Ipv4Flags, Ipv4Packet};
use pnet::packet::ipv6::{ExtensionPacket, FragmentPacket, Ipv6Packet};
use pnet::packet::{Packet as _, arp, ethernet, icmp, icmpv6, tcp, udp, vlan};
use tapgate_engine::addr::MacAddr;

use super::super::{Arp, Ip, Reading, Transport};
use super::{FRAGMENT, ICMP, ICMPV6, TCP, UDP, icmp4, icmp6, is_extension};

/// pnet gives accessors and checks nothing but that the fixed headers are there; the version and
/// the IPv4 header's checksum are asked for. `None` of a constructor is a refusal.
pub(crate) fn pnet(frame: &[u8]) -> Reading {
    read(frame).unwrap_or(Reading::Refused)
}

fn read(frame: &[u8]) -> Option<Reading> {
    let ethernet = ethernet::EthernetPacket::new(frame)?;
    let (mut ethertype, mut payload) = (ethernet.get_ethertype().0, ethernet.payload());
    let tagged;
    if ethertype == 0x8100 {
        tagged = vlan::VlanPacket::new(payload)?;
        (ethertype, payload) = (tagged.get_ethertype().0, tagged.payload());
    }
    match ethertype {
        0x0806 => read_arp(payload),
        0x0800 => read_ipv4(payload),
        0x86dd => read_ipv6(payload),
        other => Some(Reading::Other(other)),
    }
}

/// The accessors take the lengths for granted, so the caller must look at them.
fn read_arp(payload: &[u8]) -> Option<Reading> {
    let arp = arp::ArpPacket::new(payload)?;
    let kind = (
        arp.get_hardware_type().0,
        arp.get_protocol_type().0,
        arp.get_hw_addr_len(),
        arp.get_proto_addr_len(),
    );
    if kind != (1, 0x0800, 6, 4) {
        return None;
    }
    Some(Reading::Arp(Arp {
        operation: Some(arp.get_operation().0),
        sender: Some((
            MacAddr(arp.get_sender_hw_addr().octets()),
            arp.get_sender_proto_addr().octets().into(),
        )),
        target: Some(arp.get_target_proto_addr().octets().into()),
    }))
}

fn read_ipv4(payload: &[u8]) -> Option<Reading> {
    let ip = Ipv4Packet::new(payload)?;
    if ip.get_version() != 4 || ipv4::checksum(&ip) != ip.get_checksum() {
        return None;
    }
    let flags = ip.get_flags();
    let later_fragment = ip.get_fragment_offset() != 0;
    let more = flags & Ipv4Flags::MoreFragments != 0;
    let protocol = ip.get_next_level_protocol().0;
    let fragment = more || later_fragment;
    let start = 34 + ip.get_options_raw().len();
    Some(Reading::Ip(Ip {
        source: ip.get_source().octets().into(),
        destination: ip.get_destination().octets().into(),
        protocol,
        ttl: ip.get_ttl(),
        dont_fragment: flags & Ipv4Flags::DontFragment != 0,
        fragment,
        later_fragment,
        l4: start,
        end: start + ip.payload().len(),
        transport: transport(protocol, fragment, false, ip.payload())?,
    }))
}

fn read_ipv6(payload: &[u8]) -> Option<Reading> {
    let ip = Ipv6Packet::new(payload)?;
    if ip.get_version() != 6 {
        return None;
    }
    let (mut next, mut rest) = (ip.get_next_header().0, ip.payload());
    let (mut fragment, mut later_fragment) = (false, false);
    while is_extension(next) && !fragment {
        let header = ExtensionPacket::new(rest)?;
        let mut length = (usize::from(header.get_hdr_ext_len()) + 1) * 8;
        if next == FRAGMENT {
            let part = FragmentPacket::new(rest)?;
            later_fragment = part.get_fragment_offset() != 0;
            fragment = later_fragment || !part.is_last_fragment();
            length = 8;
        }
        next = header.get_next_header().0;
        rest = rest.get(length..)?;
    }
    // An empty payload is not a part of the frame, so that the lengths are added up.
    let start = 54 + ip.payload().len() - rest.len();
    Some(Reading::Ip(Ip {
        source: Ipv6Addr::from(ip.get_source().octets()).into(),
        destination: Ipv6Addr::from(ip.get_destination().octets()).into(),
        protocol: next,
        ttl: ip.get_hop_limit(),
        dont_fragment: true,
        fragment,
        later_fragment,
        l4: start,
        end: start + rest.len(),
        transport: transport(next, fragment, true, rest)?,
    }))
}

fn transport(protocol: u8, fragment: bool, v6: bool, bytes: &[u8]) -> Option<Transport> {
    Some(match protocol {
        _ if fragment => Transport::Fragment,
        TCP => {
            let tcp = tcp::TcpPacket::new(bytes)?;
            Transport::Tcp {
                ports: (tcp.get_source(), tcp.get_destination()),
                flags: tcp.get_flags(),
            }
        }
        UDP => {
            let udp = udp::UdpPacket::new(bytes)?;
            Transport::Udp {
                ports: (udp.get_source(), udp.get_destination()),
            }
        }
        ICMP if !v6 => {
            let kind = icmp::IcmpPacket::new(bytes)?.get_icmp_type().0;
            let id = match kind {
                0 | 8 => icmp::echo_request::EchoRequestPacket::new(bytes)?.get_identifier(),
                _ => 0,
            };
            icmp4(kind, id)
        }
        ICMPV6 if v6 => {
            let kind = icmpv6::Icmpv6Packet::new(bytes)?;
            let kind = kind.get_icmpv6_type().0;
            let id = match kind {
                128 | 129 => icmpv6::echo_request::EchoRequestPacket::new(bytes)?.get_identifier(),
                _ => 0,
            };
            icmp6(kind, id)
        }
        _ => Transport::Other,
    })
}
