//! smoltcp's wire formats, the second reader.

use smoltcp::wire as smol;
use tapgate_engine::addr::MacAddr;

use super::super::{Arp, Ip, Reading, Transport};
use super::{FRAGMENT, ICMP, ICMPV6, TCP, UDP, flags, icmp4, icmp6, is_extension, offset};

/// smoltcp knows no VLAN tags. It reads layer by layer; the IPv4 header's checksum is asked for.
pub(crate) fn smoltcp(frame: &[u8]) -> Reading {
    read(frame).unwrap_or(Reading::Refused)
}

fn read(frame: &[u8]) -> Result<Reading, smol::Error> {
    let ethernet = smol::EthernetFrame::new_checked(frame)?;
    match u16::from(ethernet.ethertype()) {
        0x8100 => Ok(Reading::NoOpinion),
        0x0806 => arp(ethernet.payload()),
        0x0800 => ipv4(frame, ethernet.payload()),
        0x86dd => ipv6(frame, ethernet.payload()),
        other => Ok(Reading::Other(other)),
    }
}

fn arp(payload: &[u8]) -> Result<Reading, smol::Error> {
    let packet = smol::ArpPacket::new_checked(payload)?;
    let smol::ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = smol::ArpRepr::parse(&packet)?
    else {
        return Err(smol::Error);
    };
    Ok(Reading::Arp(Arp {
        operation: Some(operation.into()),
        sender: Some((MacAddr(source_hardware_addr.0), source_protocol_addr.into())),
        target: Some(target_protocol_addr.into()),
    }))
}

fn ipv4(frame: &[u8], payload: &[u8]) -> Result<Reading, smol::Error> {
    let ip = smol::Ipv4Packet::new_checked(payload)?;
    if ip.version() != 4 || !ip.verify_checksum() {
        return Err(smol::Error);
    }
    let later_fragment = ip.frag_offset() != 0;
    let fragment = ip.more_frags() || later_fragment;
    let protocol = ip.next_header().into();
    let start = offset(frame, ip.payload());
    Ok(Reading::Ip(Ip {
        source: ip.src_addr().into(),
        destination: ip.dst_addr().into(),
        protocol,
        ttl: ip.hop_limit(),
        dont_fragment: ip.dont_frag(),
        fragment,
        later_fragment,
        l4: start,
        end: start + ip.payload().len(),
        transport: transport(protocol, fragment, false, ip.payload())?,
    }))
}

fn ipv6(frame: &[u8], payload: &[u8]) -> Result<Reading, smol::Error> {
    let ip = smol::Ipv6Packet::new_checked(payload)?;
    if ip.version() != 6 {
        return Err(smol::Error);
    }
    let (mut next, mut rest) = (u8::from(ip.next_header()), ip.payload());
    let (mut fragment, mut later_fragment) = (false, false);
    while is_extension(next) && !fragment {
        let header = smol::Ipv6ExtHeader::new_checked(rest)?;
        let mut length = (usize::from(header.header_len()) + 1) * 8;
        if next == FRAGMENT {
            let part = smol::Ipv6FragmentHeader::new_checked(header.payload())?;
            later_fragment = part.frag_offset() != 0;
            fragment = later_fragment || part.more_frags();
            length = 8; // what is a length elsewhere is reserved here
        }
        next = header.next_header().into();
        rest = &rest[length..];
    }
    let start = offset(frame, rest);
    Ok(Reading::Ip(Ip {
        source: ip.src_addr().into(),
        destination: ip.dst_addr().into(),
        protocol: next,
        ttl: ip.hop_limit(),
        dont_fragment: true,
        fragment,
        later_fragment,
        l4: start,
        end: start + rest.len(),
        transport: transport(next, fragment, true, rest)?,
    }))
}

fn transport(
    protocol: u8,
    fragment: bool,
    v6: bool,
    bytes: &[u8],
) -> Result<Transport, smol::Error> {
    Ok(match protocol {
        _ if fragment => Transport::Fragment,
        TCP => {
            let tcp = smol::TcpPacket::new_checked(bytes)?;
            Transport::Tcp {
                ports: (tcp.src_port(), tcp.dst_port()),
                flags: flags([
                    tcp.fin(),
                    tcp.syn(),
                    tcp.rst(),
                    tcp.psh(),
                    tcp.ack(),
                    tcp.urg(),
                    tcp.ece(),
                    tcp.cwr(),
                ]),
            }
        }
        UDP => {
            let udp = smol::UdpPacket::new_checked(bytes)?;
            Transport::Udp {
                ports: (udp.src_port(), udp.dst_port()),
            }
        }
        ICMP if !v6 => {
            let icmp = smol::Icmpv4Packet::new_checked(bytes)?;
            icmp4(icmp.msg_type().into(), icmp.echo_ident())
        }
        ICMPV6 if v6 => {
            let icmp = smol::Icmpv6Packet::new_checked(bytes)?;
            icmp6(icmp.msg_type().into(), icmp.echo_ident())
        }
        _ => Transport::Other,
    })
}
