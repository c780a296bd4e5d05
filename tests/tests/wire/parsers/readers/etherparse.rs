//! etherparse, the first reader.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Ipv6ExtensionSlice, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use tapgate_engine::addr::MacAddr;

use super::super::{Arp, Ip, Reading, Transport};
use super::{flags, icmp4, icmp6, offset};

/// etherparse reads everything at once; the IPv4 header's checksum is asked for.
pub(crate) fn etherparse(frame: &[u8]) -> Reading {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return Reading::Refused;
    };
    let fragment = |later, fragmented| (fragmented, fragmented && later);
    let (source, destination, payload, ttl, dont_fragment, (fragment, later_fragment)) =
        match &packet.net {
            None => {
                let ethertype = packet.ether_payload().map(|payload| payload.ether_type.0);
                return ethertype.map_or(Reading::NoOpinion, Reading::Other);
            }
            Some(NetSlice::Arp(arp)) => {
                let Ok(arp) = arp.to_packet().try_eth_ipv4() else {
                    return Reading::Refused;
                };
                return Reading::Arp(Arp {
                    operation: Some(arp.operation.0),
                    sender: Some((
                        MacAddr(arp.sender_mac),
                        Ipv4Addr::from(arp.sender_ipv4).into(),
                    )),
                    target: Some(Ipv4Addr::from(arp.target_ipv4).into()),
                });
            }
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header().to_header();
                if header.calc_header_checksum() != header.header_checksum {
                    return Reading::Refused;
                }
                let later = header.fragment_offset.value() != 0;
                (
                    IpAddr::from(header.source),
                    IpAddr::from(header.destination),
                    ip.payload(),
                    header.time_to_live,
                    header.dont_fragment,
                    fragment(later, header.is_fragmenting_payload()),
                )
            }
            Some(NetSlice::Ipv6(ip)) => {
                let offset = ip.extensions().clone().into_iter().find_map(|extension| {
                    let Ipv6ExtensionSlice::Fragment(header) = extension else {
                        return None;
                    };
                    header
                        .is_fragmenting_payload()
                        .then(|| header.fragment_offset().value())
                });
                (
                    IpAddr::from(ip.header().source()),
                    IpAddr::from(ip.header().destination()),
                    ip.payload(),
                    ip.header().hop_limit(),
                    true,
                    fragment(offset != Some(0), ip.is_payload_fragmented()),
                )
            }
        };
    let protocol = payload.ip_number.0;
    let transport = match &packet.transport {
        _ if fragment => Transport::Fragment,
        Some(TransportSlice::Tcp(tcp)) => Transport::Tcp {
            ports: (tcp.source_port(), tcp.destination_port()),
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
        },
        Some(TransportSlice::Udp(udp)) => Transport::Udp {
            ports: (udp.source_port(), udp.destination_port()),
        },
        Some(TransportSlice::Icmpv4(icmp)) if source.is_ipv4() => {
            icmp4(icmp.type_u8(), echo(icmp.bytes5to8()))
        }
        Some(TransportSlice::Icmpv6(icmp)) if source.is_ipv6() => {
            icmp6(icmp.type_u8(), echo(icmp.bytes5to8()))
        }
        _ => Transport::Other,
    };
    let tags = packet
        .link_exts
        .iter()
        .filter(|extension| matches!(extension, LinkExtSlice::Vlan(_)));
    let start = offset(frame, payload.payload) - 4 * tags.count();
    Reading::Ip(Ip {
        source,
        destination,
        protocol,
        ttl,
        dont_fragment,
        fragment,
        later_fragment,
        l4: start,
        end: start + payload.payload.len(),
        transport,
    })
}

fn echo(rest: [u8; 4]) -> u16 {
    u16::from_be_bytes([rest[0], rest[1]])
}
