//! Flows of either family, as frames.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep,
    SlicedPacket, TransportSlice,
};
use tapgate_engine::addr::MacAddr;

/// What a packet says of its flow. An echo request has its identifier as source port, a reply as
/// destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol: [`UDP`], 6, [`ECHO`].
    pub protocol: u8,
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// Echo, of either family.
pub const ECHO: u8 = 1;
/// UDP.
pub const UDP: u8 = 17;

impl Flow {
    /// The other direction.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    /// A frame of it; over TCP one that opens a connection, or one in the midst.
    pub fn frame(self, from: MacAddr, to: MacAddr, syn: bool) -> Vec<u8> {
        let ip = self.ip(from, to);
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
                .ack(2)
                .write(&mut bytes, b"more"),
        }
        .unwrap();
        bytes
    }

    /// A frame that resets the TCP connection.
    pub fn reset(self, from: MacAddr, to: MacAddr) -> Vec<u8> {
        let segment = self.ip(from, to);
        let segment = segment.tcp(self.source.port(), self.destination.port(), 2, 0);
        let mut bytes = Vec::new();
        segment.rst().write(&mut bytes, b"").unwrap();
        bytes
    }

    fn ip(self, from: MacAddr, to: MacAddr) -> PacketBuilderStep<IpHeaders> {
        let link = PacketBuilder::ethernet2(from.0, to.0);
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                link.ipv4(source.octets(), destination.octets(), 60)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                link.ipv6(source.octets(), destination.octets(), 60)
            }
            mixed => panic!("{mixed:?}"),
        }
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

/// A frame in which `from` tells the sender of `about` (a frame) that its time was exceeded.
pub fn time_exceeded(macs: (MacAddr, MacAddr), from: IpAddr, about: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(macs.0.0, macs.1.0);
    let sender = Flow::of(about).expect("of a flow").source.ip();
    let mut bytes = Vec::new();
    match (from, sender) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link
            .ipv4(from.octets(), to.octets(), 60)
            .icmpv4(Icmpv4Type::TimeExceeded(
                etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit,
            ))
            .write(&mut bytes, &about[14..]),
        (IpAddr::V6(from), IpAddr::V6(to)) => link
            .ipv6(from.octets(), to.octets(), 60)
            .icmpv6(Icmpv6Type::TimeExceeded(
                etherparse::icmpv6::TimeExceededCode::HopLimitExceeded,
            ))
            .write(&mut bytes, &about[14..]),
        mixed => panic!("{mixed:?}"),
    }
    .expect("to memory");
    bytes
}

/// The flow of the packet that an ICMP error in a frame quotes, and to whom the error is sent.
pub fn quoted(bytes: &[u8]) -> Option<(Flow, IpAddr)> {
    let sliced = SlicedPacket::from_ethernet(bytes).ok()?;
    let to: IpAddr = match sliced.net? {
        NetSlice::Ipv4(ip) => ip.header().destination_addr().into(),
        NetSlice::Ipv6(ip) => ip.header().destination_addr().into(),
        NetSlice::Arp(_) => return None,
    };
    let about = match sliced.transport? {
        TransportSlice::Icmpv4(icmp) if icmp.type_u8() == 11 => icmp.payload(),
        TransportSlice::Icmpv6(icmp) if icmp.type_u8() == 3 => icmp.payload(),
        _ => return None,
    };
    let frame = [&bytes[..14], about].concat();
    Some((Flow::of(&frame)?, to))
}
