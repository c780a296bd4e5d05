//! Frames for tests, written down the way one speaks of them.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, TcpHeader, TcpOptionElement,
    UdpHeader,
};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::checksum;
use tapgate_engine::frame::{Checksum, Gso, GsoKind, Offload, OwnedFrame};

/// An IPv4 packet in an Ethernet frame. The defaults are those of a plain host: TTL 64, no
/// options, DF clear, right checksums.
#[derive(Debug, Clone)]
pub struct Packet {
    source_mac: MacAddr,
    destination_mac: MacAddr,
    vlan: Option<u16>,
    ip: Ipv4Header,
    content: Content,
    padding: usize,
}

#[derive(Debug, Clone)]
enum Content {
    Tcp(Box<TcpHeader>, Vec<u8>),
    Udp(u16, u16, Vec<u8>),
    Icmp(Icmpv4Type, Vec<u8>),
    Raw(Vec<u8>),
}

/// A UDP datagram between two `address:port`.
pub fn udp(from: &str, to: &str, payload: &[u8]) -> Packet {
    let (from, to) = (socket(from), socket(to));
    let content = Content::Udp(from.port(), to.port(), payload.to_vec());
    Packet::new(*from.ip(), *to.ip(), IpNumber::UDP, content)
}

/// A TCP segment between two `address:port`; `flags` as tcpdump writes them, such as `"S"`,
/// `"S."`, `"."`, `"P."`, `"F."`, `"R"`.
pub fn tcp(from: &str, to: &str, flags: &str, payload: &[u8]) -> Packet {
    let (from, to) = (socket(from), socket(to));
    let mut header = TcpHeader::new(from.port(), to.port(), 1_000, 65_000);
    for flag in flags.chars() {
        match flag {
            // What follows it has the sequence number of all other segments.
            'S' => (header.syn, header.sequence_number) = (true, 999),
            'F' => header.fin = true,
            'R' => header.rst = true,
            'P' => header.psh = true,
            '.' => {
                header.ack = true;
                header.acknowledgment_number = 1_000;
            }
            other => panic!("no TCP flag {other}"),
        }
    }
    let content = Content::Tcp(Box::new(header), payload.to_vec());
    Packet::new(*from.ip(), *to.ip(), IpNumber::TCP, content)
}

/// An ICMP echo request.
pub fn ping(from: &str, to: &str, id: u16, seq: u16, payload: &[u8]) -> Packet {
    let kind = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq });
    Packet::new(
        address(from),
        address(to),
        IpNumber::ICMP,
        Content::Icmp(kind, payload.to_vec()),
    )
}

/// An ICMP echo reply.
pub fn pong(from: &str, to: &str, id: u16, seq: u16, payload: &[u8]) -> Packet {
    let kind = Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq });
    Packet::new(
        address(from),
        address(to),
        IpNumber::ICMP,
        Content::Icmp(kind, payload.to_vec()),
    )
}

/// Any ICMP message: type, code, the four bytes after the checksum, the rest.
pub fn icmp(from: &str, to: &str, kind: (u8, u8), rest: [u8; 4], payload: &[u8]) -> Packet {
    let kind = Icmpv4Type::Unknown {
        type_u8: kind.0,
        code_u8: kind.1,
        bytes5to8: rest,
    };
    Packet::new(
        address(from),
        address(to),
        IpNumber::ICMP,
        Content::Icmp(kind, payload.to_vec()),
    )
}

/// An ICMP error about the packet in the frame `about`, quoting its header and 8 bytes (RFC 792).
pub fn error(from: &str, to: &str, kind: (u8, u8), rest: [u8; 4], about: &[u8]) -> Packet {
    let start = if about[12..14] == [0x81, 0] { 18 } else { 14 };
    let header = usize::from(about[start] & 0xf) * 4;
    icmp(
        from,
        to,
        kind,
        rest,
        &about[start..(start + header + 8).min(about.len())],
    )
}

/// A packet of any protocol.
pub fn ip(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Packet {
    let content = Content::Raw(payload.to_vec());
    Packet::new(address(from), address(to), IpNumber(protocol), content)
}

impl Packet {
    fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: IpNumber, content: Content) -> Self {
        Self {
            source_mac: MacAddr::ZERO,
            destination_mac: MacAddr::ZERO,
            vlan: None,
            ip: Ipv4Header {
                time_to_live: 64,
                protocol,
                source: from.octets(),
                destination: to.octets(),
                identification: 0x1234,
                dont_fragment: false,
                ..Default::default()
            },
            content,
            padding: 0,
        }
    }

    /// From station to station.
    pub fn link(mut self, from: MacAddr, to: MacAddr) -> Self {
        (self.source_mac, self.destination_mac) = (from, to);
        self
    }

    /// In a VLAN.
    pub fn vlan(mut self, vlan: u16) -> Self {
        self.vlan = Some(vlan);
        self
    }

    /// With a TTL.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ip.time_to_live = ttl;
        self
    }

    /// With an identification.
    pub fn id(mut self, id: u16) -> Self {
        self.ip.identification = id;
        self
    }

    /// With DF set.
    pub fn df(mut self) -> Self {
        self.ip.dont_fragment = true;
        self
    }

    /// With a type of service: DSCP and ECN.
    pub fn tos(mut self, tos: u8) -> Self {
        self.ip.dscp = (tos >> 2).try_into().expect("six bits");
        self.ip.ecn = (tos & 3).try_into().expect("two bits");
        self
    }

    /// With IP options, a multiple of 4 bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.ip.options = options.try_into().expect("at most 40 bytes, by fours");
        self
    }

    /// As a fragment: offset in units of 8 bytes, and whether more follow. The whole content is
    /// this fragment's.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.ip.fragment_offset = offset.try_into().expect("13 bits");
        self.ip.more_fragments = more;
        self
    }

    /// A TCP segment with this sequence number.
    pub fn sequence(mut self, sequence: u32) -> Self {
        if let Content::Tcp(header, _) = &mut self.content {
            header.sequence_number = sequence;
        }
        self
    }

    /// A TCP segment with this acknowledgment number.
    pub fn acknowledges(mut self, number: u32) -> Self {
        if let Content::Tcp(header, _) = &mut self.content {
            header.acknowledgment_number = number;
        }
        self
    }

    /// A TCP segment that announces this maximum segment size, as its one option.
    pub fn announcing(mut self, size: u16) -> Self {
        if let Content::Tcp(header, _) = &mut self.content {
            let option = TcpOptionElement::MaximumSegmentSize(size);
            header.set_options(&[option]).expect("room");
        }
        self
    }

    /// With link padding: non-zero bytes, so that nobody takes them for part of the packet.
    pub fn padded(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// The packet without its Ethernet header.
    pub fn packet(&self) -> Vec<u8> {
        let start = if self.vlan.is_some() { 18 } else { 14 };
        let bytes = self.bytes();
        bytes[start..bytes.len() - self.padding].to_vec()
    }

    /// The whole frame as on the wire, with its VLAN tag.
    pub fn bytes(&self) -> Vec<u8> {
        let mut above = Vec::new();
        let (from, to) = (self.ip.source, self.ip.destination);
        match &self.content {
            Content::Tcp(header, payload) => {
                let mut header = (**header).clone();
                header.checksum = header
                    .calc_checksum_ipv4_raw(from, to, payload)
                    .expect("short");
                header.write(&mut above).expect("to memory");
                above.extend_from_slice(payload);
            }
            Content::Udp(source, destination, payload) => {
                let ip = (from, to);
                let header = UdpHeader {
                    source_port: *source,
                    destination_port: *destination,
                    length: 8 + payload.len() as u16,
                    checksum: 0,
                };
                let checksum = header
                    .calc_checksum_ipv4_raw(ip.0, ip.1, payload)
                    .expect("short");
                UdpHeader { checksum, ..header }
                    .write(&mut above)
                    .expect("to memory");
                above.extend_from_slice(payload);
            }
            Content::Icmp(kind, payload) => {
                let header = Icmpv4Header::with_checksum(kind.clone(), payload);
                header.write(&mut above).expect("to memory");
                above.extend_from_slice(payload);
            }
            Content::Raw(payload) => above.extend_from_slice(payload),
        }
        let mut ip = self.ip.clone();
        ip.set_payload_len(above.len()).expect("short");
        ip.header_checksum = ip.calc_header_checksum();
        let mut bytes = ethernet(self.source_mac, self.destination_mac, self.vlan, 0x0800);
        ip.write(&mut bytes).expect("to memory");
        bytes.extend_from_slice(&above);
        bytes.resize(bytes.len() + self.padding, 0xee);
        bytes
    }
}

/// An ARP packet's fields (RFC 826), and who it is sent to.
#[derive(Debug, Clone, Copy)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// The sender's MAC and address.
    pub sender: (MacAddr, Ipv4Addr),
    /// The target's MAC (zero in requests) and address.
    pub target: (MacAddr, Ipv4Addr),
    /// The frame's source.
    pub from: MacAddr,
    /// The frame's destination.
    pub to: MacAddr,
    /// The frame's VLAN.
    pub vlan: Option<u16>,
}

/// Who has `target`, asks `sender`.
pub fn who_has(target: &str, sender: (MacAddr, &str)) -> Arp {
    Arp {
        operation: 1,
        sender: (sender.0, address(sender.1)),
        target: (MacAddr::ZERO, address(target)),
        from: sender.0,
        to: MacAddr::BROADCAST,
        vlan: None,
    }
}

/// `sender` answers `target`.
pub fn is_at(sender: (MacAddr, &str), target: (MacAddr, &str)) -> Arp {
    Arp {
        operation: 2,
        sender: (sender.0, address(sender.1)),
        target: (target.0, address(target.1)),
        from: sender.0,
        to: target.0,
        vlan: None,
    }
}

impl Arp {
    /// The whole frame as on the wire, padded to Ethernet's minimum, with its VLAN tag.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = ethernet(self.from, self.to, self.vlan, 0x0806);
        bytes.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
        bytes.extend_from_slice(&self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend_from_slice(&mac.0);
            bytes.extend_from_slice(&address.octets());
        }
        bytes.resize(60, 0);
        bytes
    }

    /// The ARP packet in an untagged frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if frame.len() < 42 || frame[12..20] != [8, 6, 0, 1, 8, 0, 6, 4] {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
        Some(Self {
            operation: u16::from_be_bytes([frame[20], frame[21]]),
            sender: (MacAddr::from_slice(&frame[22..]), address(28)),
            target: (MacAddr::from_slice(&frame[32..]), address(38)),
            from: MacAddr::from_slice(&frame[6..]),
            to: MacAddr::from_slice(frame),
            vlan: None,
        })
    }
}

/// The frame without its VLAN tag, and the tag.
pub fn untag(frame: &[u8]) -> (Vec<u8>, Option<u16>) {
    if frame.len() < 18 || frame[12..14] != [0x81, 0] {
        return (frame.to_vec(), None);
    }
    let tag = u16::from_be_bytes([frame[14], frame[15]]);
    ([&frame[..12], &frame[16..]].concat(), Some(tag))
}

/// The frame with a VLAN tag put in.
pub fn tagged(frame: &[u8], vlan: Option<u16>) -> Vec<u8> {
    match vlan {
        None => frame.to_vec(),
        Some(tag) => [
            &frame[..12],
            &[0x81, 0],
            &tag.to_be_bytes()[..],
            &frame[12..],
        ]
        .concat(),
    }
}

/// The untagged frame as a kernel hands it over whose device sums for it: the transport checksum
/// holds only the sum over the pseudo-header; `None` if it is neither TCP nor UDP over IPv4. With
/// `size`, it is a super-frame to be cut into segments of that many bytes.
pub fn unfinished(bytes: &[u8], size: Option<u16>) -> Option<OwnedFrame> {
    let mut bytes = bytes.to_vec();
    let start = 14 + usize::from(bytes[14] & 0xf) * 4;
    let (offset, kind) = match bytes[23] {
        6 => (16, GsoKind::Tcp4),
        17 => (6, GsoKind::Udp),
        _ => return None,
    };
    let (from, to) = bytes[26..34].split_at(4);
    let sum = checksum::pseudo_header(from, to, bytes[23], bytes.len() - start);
    bytes[start + offset..start + offset + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    let checksum = Checksum::Partial {
        start: start as u16,
        offset: offset as u16,
    };
    let gso = size.map(|size| Gso {
        kind,
        size,
        ecn: false,
    });
    Some(OwnedFrame {
        bytes,
        vlan: None,
        offload: Offload { checksum, gso },
    })
}

/// A MAC from its text.
pub fn mac(text: &str) -> MacAddr {
    text.parse().expect("a MAC")
}

/// An address from its text.
pub fn address(text: &str) -> Ipv4Addr {
    text.parse()
        .unwrap_or_else(|_| panic!("\"{text}\" is not an IPv4 address"))
}

fn socket(text: &str) -> SocketAddrV4 {
    text.parse()
        .unwrap_or_else(|_| panic!("\"{text}\" is not an address:port"))
}

fn ethernet(from: MacAddr, to: MacAddr, vlan: Option<u16>, ethertype: u16) -> Vec<u8> {
    let untagged = [&to.0[..], &from.0, &ethertype.to_be_bytes()].concat();
    tagged(&untagged, vlan)
}
