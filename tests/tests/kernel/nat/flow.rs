//! One conversation: what its two ends send, and what each side made of it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, PacketBuilder};
use tapgate_tests::packet::mac;

use super::model::{Model, OWNER, PLAIN, REMOTES, ROUTER, STATION};
use super::seen::Ends;
use crate::random::Random;

/// The engine's and the kernel's.
pub type Both<T> = [T; 2];

/// What a packet says, but for its ends.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub flags: &'static str,
    pub sequence: u32,
    pub acknowledges: u32,
    pub payload: Vec<u8>,
    pub reply: bool,
}

/// How far a TCP connection has come, as its ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    #[default]
    New,
    Opened,
    Accepted,
    Established,
    /// One end has sent its FIN; which.
    Half(usize),
    Over,
}

/// A conversation.
#[derive(Debug)]
pub struct Flow {
    pub family: usize,
    pub protocol: u8,
    /// The opener's port of the router.
    pub port: usize,
    pub from: Ends,
    /// Whom it speaks to, as it knows it.
    pub to: Ends,
    /// Where the other end is, once something arrived there.
    pub at: Option<usize>,
    /// What each side put in place of the opener's address and port.
    pub chosen: Both<Option<Ends>>,
    /// The latest that arrived at the other end, and at the opener.
    pub heard: [Both<Option<Vec<u8>>>; 2],
    pub stage: Stage,
    /// A segment was out of order.
    pub unruly: bool,
    next: [u32; 2],
    echoes: u16,
}

impl Flow {
    /// Somebody speaks to somebody; `base` makes the ports this sequence's.
    pub fn random(model: &Model, base: u16, random: &mut Random) -> Self {
        let family = random.below(2) as usize;
        let mut protocol = [6, 6, 6, 17, 17, 1, 1, PLAIN][random.below(8) as usize];
        let guest = 1 + random.below(3) as usize;
        let remote = Model::remote(family, 1 + random.below(REMOTES));
        let external = Model::external(family, random.below(3) as usize);
        let mut service = [80, 443, 5_005, 20_010][random.below(4) as usize];
        let (mut port, mut from) = (guest, Model::guest(family, guest));
        if guest == OWNER && random.chance(30) {
            from = Model::public(family);
        }
        let to = match random.below(10) {
            0..=3 => remote,
            4 => Model::guest(family, 1 + random.below(3) as usize),
            towards => {
                if towards <= 7 {
                    (port, from) = (0, remote);
                }
                let public = random.chance(20).then(|| Model::public(family));
                let forwards = model.forwards.iter();
                let forwards: Vec<_> = forwards.filter(|it| it.family == family).collect();
                let alone = model.alone(family).filter(|_| random.chance(35));
                match (public.or(alone), forwards.is_empty()) {
                    (Some(other), _) => other,
                    (None, true) => external,
                    (None, false) => {
                        let forward = forwards[random.below(forwards.len() as u64) as usize];
                        let (first, last) = forward.ports;
                        service = first + random.below(u64::from(last - first) + 2) as u16;
                        protocol = forward.protocol;
                        forward.address()
                    }
                }
            }
        };
        let own = base + random.below(2) as u16;
        let ports = match protocol {
            6 | 17 => (own, service),
            1 => (own, 0),
            _ => (0, 0),
        };
        let start = random.draw() as u32 & 0xffff_ff00;
        Self {
            family,
            protocol,
            port,
            from: (from, ports.0),
            to: (to, ports.1),
            at: None,
            chosen: [None; 2],
            heard: Default::default(),
            stage: Stage::New,
            unruly: false,
            next: [start, start ^ 0x5555_0000],
            echoes: 0,
        }
    }

    /// Whether two conversations would be one to the router. What a guest says to itself and what it says to
    /// its own external address are one to the kernel, which translates the destination first.
    pub fn meets(&self, other: &Self) -> bool {
        let same = self.protocol == other.protocol && self.family == other.family;
        let to_itself = |flow: &Self| flow.to.0 == flow.from.0;
        let same_end = self.to == other.to || to_itself(self) || to_itself(other);
        same && (self.protocol == PLAIN || self.from == other.from && same_end)
    }

    /// What an end says next (0: the opener, 1: the other), and whether that is in order.
    pub fn says(&mut self, end: usize, random: &mut Random) -> Said {
        let mut said = Said {
            reply: end == 1,
            payload: format!("{}{}", random.draw(), random.draw()).into_bytes(),
            ..Said::default()
        };
        if self.protocol == 1 && end == 0 {
            self.echoes += 1;
        }
        said.sequence = u32::from(self.echoes);
        if self.protocol != 6 {
            return said;
        }
        said.payload.truncate(random.below(20) as usize);
        let last = random.below(10);
        let unruly = random.chance(4);
        let (flags, stage) = match (self.stage, end) {
            (stage, _) if unruly => {
                self.unruly = true;
                match ["S", "S.", ".", "F.", "R"][random.below(5) as usize] {
                    "R" => ("R", Stage::Over),
                    flags => (flags, stage),
                }
            }
            (Stage::New, _) => ("S", Stage::Opened),
            (Stage::Opened, 0) => ("S", Stage::Opened),
            (Stage::Opened, _) if last == 0 => ("R.", Stage::Over),
            (Stage::Opened, _) => ("S.", Stage::Accepted),
            (Stage::Accepted, 0) => (".", Stage::Established),
            (Stage::Accepted, _) => ("S.", Stage::Accepted),
            (Stage::Established, _) if last == 0 => ("R.", Stage::Over),
            (Stage::Established, _) if last <= 2 => ("F.", Stage::Half(end)),
            (Stage::Half(by), _) if by != end && last <= 5 => ("F.", Stage::Over),
            (stage, _) => (".", stage),
        };
        let closed =
            matches!(self.stage, Stage::Half(by) if by == end) || self.stage == Stage::Over;
        if flags.contains('S') || closed {
            said.payload.clear();
        }
        let again = flags.contains('S') && stage == self.stage && !unruly;
        said.flags = flags;
        said.sequence = self.next[end].wrapping_sub(u32::from(again));
        said.acknowledges = self.next[1 - end];
        let length = said.payload.len() as u32 + u32::from(flags.contains(['S', 'F']) && !again);
        self.next[end] = self.next[end].wrapping_add(length);
        self.stage = stage;
        said
    }
}

/// A frame from a port's station to the router.
pub fn frame(port: usize, protocol: u8, (from, to): (Ends, Ends), said: &Said) -> Vec<u8> {
    let ip = link(port, from.0, to.0);
    let mut bytes = Vec::new();
    let payload = &said.payload;
    let echo = IcmpEchoHeader {
        id: from.1.max(to.1),
        seq: said.sequence as u16,
    };
    match (protocol, from.0.is_ipv4(), said.reply) {
        (6, ..) => {
            let mut tcp = ip.tcp(from.1, to.1, said.sequence, 60_000);
            for flag in said.flags.chars() {
                tcp = match flag {
                    'S' => tcp.syn(),
                    'F' => tcp.fin(),
                    'R' => tcp.rst(),
                    _ => tcp.ack(said.acknowledges),
                };
            }
            tcp.write(&mut bytes, payload)
        }
        (17, ..) => ip.udp(from.1, to.1).write(&mut bytes, payload),
        (1, true, false) => ip
            .icmpv4(Icmpv4Type::EchoRequest(echo))
            .write(&mut bytes, payload),
        (1, true, true) => ip
            .icmpv4(Icmpv4Type::EchoReply(echo))
            .write(&mut bytes, payload),
        (1, false, false) => ip
            .icmpv6(Icmpv6Type::EchoRequest(echo))
            .write(&mut bytes, payload),
        (1, false, true) => ip
            .icmpv6(Icmpv6Type::EchoReply(echo))
            .write(&mut bytes, payload),
        _ => ip.write(&mut bytes, IpNumber(protocol), payload),
    }
    .expect("to memory");
    bytes
}

/// An ICMP error from a port's station to the router.
pub fn error(
    port: usize,
    (from, to): (IpAddr, IpAddr),
    (kind, code, rest): (u8, u8, [u8; 4]),
    quote: &[u8],
) -> Vec<u8> {
    let ip = link(port, from, to);
    let mut bytes = Vec::new();
    match from.is_ipv4() {
        true => ip.icmpv4_raw(kind, code, rest).write(&mut bytes, quote),
        false => ip.icmpv6_raw(kind, code, rest).write(&mut bytes, quote),
    }
    .expect("to memory");
    bytes
}

fn link(port: usize, from: IpAddr, to: IpAddr) -> etherparse::PacketBuilderStep<IpHeaders> {
    let link = PacketBuilder::ethernet2(mac(STATION[port]).0, mac(ROUTER[port]).0);
    match (SocketAddr::new(from, 0), SocketAddr::new(to, 0)) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            link.ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            link.ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        mixed => panic!("{mixed:?}"),
    }
}
