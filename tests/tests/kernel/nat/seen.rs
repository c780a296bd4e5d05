//! What came out, in a form in which both sides can be compared.

use std::net::IpAddr;

use tapgate_tests::wire;

use super::model::PORTS;
use super::sides::At;

/// An address and a port, or an identifier; 0 if there is none.
pub type Ends = (IpAddr, u16);

/// The port that stands for the one which a side chose for a flow.
const CHOSEN: u16 = 1;

/// A packet that came out, or one that an error quotes: all that must be the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Where.
    pub port: usize,
    /// An echo request has its identifier as source port, a reply as destination port.
    pub from: Ends,
    pub to: Ends,
    pub protocol: u8,
    /// Hop limit, type of service.
    header: [u8; 2],
    /// Checksums that are there are right.
    sound: bool,
    /// What follows the ports, without the checksum.
    rest: Vec<u8>,
    /// What an ICMP error quotes.
    pub quoted: Option<Box<Seen>>,
}

impl Seen {
    /// The packets in frames that came out. What routers say to their neighbours is left out.
    pub fn all(frames: &[At]) -> Vec<Self> {
        let mut all = Vec::new();
        for (port, frame) in frames {
            if frame[0] & 1 == 1 || !matches!(frame[12..14], [8, 0] | [0x86, 0xdd]) {
                continue;
            }
            let Some(mut seen) = Self::parse(&frame[14..], *port) else {
                continue;
            };
            seen.sound &= wire::transport_checksum(frame) != Some(false);
            all.push(seen);
        }
        all.sort();
        all
    }

    /// An IP packet, of which the end may be missing. `None`: neighbour discovery, or no packet.
    fn parse(packet: &[u8], port: usize) -> Option<Self> {
        let (source, destination, protocol, header, sound, start, end): (
            IpAddr,
            IpAddr,
            _,
            _,
            _,
            _,
            _,
        );
        match packet.first()? >> 4 {
            4 if packet.len() >= 20 => {
                let address = |at: usize| IpAddr::from(*packet[at..].first_chunk::<4>().unwrap());
                (source, destination) = (address(12), address(16));
                (protocol, header) = (packet[9], [packet[8], packet[1]]);
                start = usize::from(packet[0] & 15) * 4;
                sound = wire::header_checksum(&packet[..start.min(packet.len())]);
                end = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            }
            6 if packet.len() >= 40 => {
                let address = |at: usize| IpAddr::from(*packet[at..].first_chunk::<16>().unwrap());
                (source, destination) = (address(8), address(24));
                let class = packet[0] << 4 | packet[1] >> 4;
                (protocol, header, sound) = (packet[6], [packet[7], class], true);
                start = 40;
                end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            }
            _ => return None,
        }
        let above = packet.get(start..end.min(packet.len()))?;
        let word = |at: usize| {
            let bytes = above.get(at..at + 2);
            bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let mut rest = above.to_vec();
        let mut blank = |at: usize| {
            if let Some(checksum) = rest.get_mut(at..at + 2) {
                checksum.fill(0);
            }
        };
        let (mut ports, mut quoted) = ((0, 0), None);
        match (protocol, above.first()) {
            (6 | 17, _) => {
                ports = (word(0), word(2));
                blank(0);
                blank(2);
                blank(if protocol == 6 { 16 } else { 6 });
            }
            (1, Some(8)) | (58, Some(128)) => {
                ports = (word(4), 0);
                blank(2);
                blank(4);
            }
            (1, Some(0)) | (58, Some(129)) => {
                ports = (0, word(4));
                blank(2);
                blank(4);
            }
            (1, Some(3 | 11 | 12)) | (58, Some(1..=4)) => {
                quoted = Self::parse(above.get(8..)?, port).map(Box::new);
                rest.truncate(8);
                rest[2..4].fill(0);
            }
            (58, Some(133..=137 | 143)) => return None,
            _ => {}
        }
        Some(Self {
            port,
            from: (source, ports.0),
            to: (destination, ports.1),
            protocol,
            header,
            sound,
            rest,
            quoted,
        })
    }

    pub fn is_error(&self) -> bool {
        self.quoted.is_some()
    }

    /// The port that this side chose for a flow is written alike for both.
    pub fn with_chosen(mut self, chosen: Option<Ends>) -> Self {
        for ends in [&mut self.from, &mut self.to] {
            if Some(*ends) == chosen {
                ends.1 = CHOSEN;
            }
        }
        self.quoted = self
            .quoted
            .map(|quoted| Box::new(quoted.with_chosen(chosen)));
        self
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (port, protocol) = (PORTS[self.port], self.protocol);
        let (from, to) = (self.from, self.to);
        let sound = if self.sound { "" } else { " BAD CHECKSUM" };
        write!(
            f,
            "{port}: {} {} > {} {} protocol {protocol} ttl, tos {:?}{sound} {:02x?}",
            from.0,
            from.1,
            to.0,
            to.1,
            self.header,
            &self.rest[..self.rest.len().min(24)]
        )?;
        match &self.quoted {
            Some(quoted) => write!(f, " quotes [{quoted}]"),
            None => Ok(()),
        }
    }
}
