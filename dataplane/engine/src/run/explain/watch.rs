//! Packets that somebody waits to see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::addr::PortId;
use crate::wire::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame};
use crate::wire::packet::Family;

/// What a packet must be, as it comes in; what is absent is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pattern {
    /// The port it comes in by.
    pub port: Option<PortId>,
    /// Its source.
    pub from: Option<IpAddr>,
    /// Its destination.
    pub to: Option<IpAddr>,
    /// Its protocol's number; that of ICMP is that of ICMPv6 as well.
    pub protocol: Option<u8>,
    /// Its source port; the identifier of an echo request.
    pub source_port: Option<u16>,
    /// Its destination port.
    pub destination_port: Option<u16>,
}

/// A packet as it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The port it came in by.
    pub port: PortId,
    /// Its source.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Its protocol's number.
    pub protocol: u8,
    /// Its source port; the identifier for ICMP.
    pub source_port: u16,
    /// Its destination port.
    pub destination_port: u16,
    /// Its length in bytes, from the IP header on; of a super-frame all of it.
    pub length: usize,
}

impl Pattern {
    /// What a frame carries, if that is so. Frames that are no valid IP packets are never.
    pub fn seen(&self, frame: &Frame<'_>, port: PortId) -> Option<Seen> {
        if self.port.is_some_and(|wanted| wanted != port) {
            return None;
        }
        let ethertype = frame.bytes.get(12..14)?;
        let seen = match u16::from_be_bytes([ethertype[0], ethertype[1]]) {
            ETHERTYPE_IPV4 => read::<Ipv4Addr>(frame, port),
            ETHERTYPE_IPV6 => read::<Ipv6Addr>(frame, port),
            _ => None,
        }?;
        self.fits(&seen).then_some(seen)
    }

    fn fits(&self, seen: &Seen) -> bool {
        let icmp = match seen.from {
            IpAddr::V4(_) => Ipv4Addr::ICMP,
            IpAddr::V6(_) => Ipv6Addr::ICMP,
        };
        let protocol = |wanted| match [Ipv4Addr::ICMP, Ipv6Addr::ICMP].contains(&wanted) {
            true => seen.protocol == icmp,
            false => seen.protocol == wanted,
        };
        self.from.is_none_or(|from| from == seen.from)
            && self.to.is_none_or(|to| to == seen.to)
            && self.protocol.is_none_or(protocol)
            && self.source_port.is_none_or(|port| port == seen.source_port)
            && self
                .destination_port
                .is_none_or(|port| port == seen.destination_port)
    }
}

fn read<A: Family>(frame: &Frame<'_>, port: PortId) -> Option<Seen> {
    let packet = A::parse(frame).ok()?;
    let flow = packet.flow;
    Some(Seen {
        port,
        from: flow.source.into(),
        to: flow.destination.into(),
        protocol: flow.protocol,
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        length: packet.length(),
    })
}
