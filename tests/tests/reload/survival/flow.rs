//! Flows, as frames.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use tapgate_engine::addr::MacAddr;

/// What a packet says of its flow. An echo request has its identifier as source port, a reply as
/// destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// Echo, of either family.
pub const ECHO: u8 = 1;
const UDP: u8 = 17;

impl Flow {
    /// The other direction.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    /// A frame of it.
    pub fn frame(self, from: MacAddr, to: MacAddr, syn: bool) -> Vec<u8> {
        let link = PacketBuilder::ethernet2(from.0, to.0);
        let ip = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                link.ipv4(source.octets(), destination.octets(), 60)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                link.ipv6(source.octets(), destination.octets(), 60)
            }
            mixed => panic!("{mixed:?}"),
        };
        let (source, destination) = (self.source.port(), self.destination.port());
        let mut bytes = Vec::new();
        match self.protocol {
            UDP => ip.udp(source, destination).write(&mut bytes, b"datagram"),
            ECHO => {
                let request = source != 0;
                let header = IcmpEchoHeader {
                    id: source.max(destination),
                    seq: 1,
                };
                match (self.source.is_ipv4(), request) {
                    (true, true) => ip
                        .icmpv4(Icmpv4Type::EchoRequest(header))
                        .write(&mut bytes, b"echo"),
                    (true, false) => ip
                        .icmpv4(Icmpv4Type::EchoReply(header))
                        .write(&mut bytes, b"echo"),
                    (false, true) => ip
                        .icmpv6(Icmpv6Type::EchoRequest(header))
                        .write(&mut bytes, b"echo"),
                    (false, false) => ip
                        .icmpv6(Icmpv6Type::EchoReply(header))
                        .write(&mut bytes, b"echo"),
                }
            }
            _ if syn => ip
                .tcp(source, destination, 1, 1_000)
                .syn()
                .write(&mut bytes, b""),
            _ => ip
                .tcp(source, destination, 2, 1_000)
                .ack(1)
                .write(&mut bytes, b"more"),
        }
        .unwrap();
        bytes
    }

    /// The flow of a frame, if it is of one: not of errors, ARP, neighbour discovery.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ethernet(bytes).ok()?;
        let (source, destination): (IpAddr, IpAddr) = match sliced.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Arp(_) => return None,
        };
        let (protocol, ports) = match sliced.transport? {
            TransportSlice::Udp(udp) => (UDP, (udp.source_port(), udp.destination_port())),
            TransportSlice::Tcp(tcp) => (6, (tcp.source_port(), tcp.destination_port())),
            TransportSlice::Icmpv4(icmp) => match icmp.icmp_type() {
                Icmpv4Type::EchoRequest(header) => (ECHO, (header.id, 0)),
                Icmpv4Type::EchoReply(header) => (ECHO, (0, header.id)),
                _ => return None,
            },
            TransportSlice::Icmpv6(icmp) => match icmp.icmp_type() {
                Icmpv6Type::EchoRequest(header) => (ECHO, (header.id, 0)),
                Icmpv6Type::EchoReply(header) => (ECHO, (0, header.id)),
                _ => return None,
            },
            TransportSlice::Igmp(_) => return None,
        };
        Some(Self {
            protocol,
            source: SocketAddr::new(source, ports.0),
            destination: SocketAddr::new(destination, ports.1),
        })
    }
}
