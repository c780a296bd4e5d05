//! Frames as one line of text, for people who compare them.

use std::fmt::Write;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, NetSlice, SlicedPacket, TransportSlice};

use crate::packet::{Arp, untag};
use crate::wire;
use tapgate_engine::addr::MacAddr;

/// One line about a frame as on the wire.
pub fn line(frame: &[u8]) -> String {
    let (frame, tag) = untag(frame);
    if frame.len() < 14 {
        return format!("{} bytes: {}", frame.len(), hex(&frame));
    }
    let mut text = format!(
        "{} > {}",
        MacAddr::from_slice(&frame[6..]),
        MacAddr::from_slice(&frame)
    );
    if let Some(tag) = tag {
        let _ = write!(text, " vlan {}", tag & 0xfff);
        if tag >> 12 != 0 {
            let _ = write!(text, " priority {}", tag >> 12);
        }
    }
    match (frame[12], frame[13]) {
        (8, 6) => arp(&mut text, &frame),
        (8, 0) => ipv4(&mut text, &frame),
        (0x86, 0xdd) => ipv6(&mut text, &frame),
        (a, b) => {
            let _ = write!(text, " ethertype {a:02x}{b:02x} {} bytes", frame.len() - 14);
        }
    }
    text
}

/// Bytes in hexadecimal, in groups of four.
pub fn hex(bytes: &[u8]) -> String {
    let group = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    bytes.chunks(4).map(group).collect::<Vec<_>>().join(" ")
}

fn arp(text: &mut String, frame: &[u8]) {
    let Some(arp) = Arp::parse(frame) else {
        let _ = write!(text, " ARP malformed: {}", hex(&frame[14..]));
        return;
    };
    let what = match arp.operation {
        1 => "who-has",
        2 => "is-at",
        _ => "operation?",
    };
    let ((sha, spa), (tha, tpa)) = (arp.sender, arp.target);
    let _ = write!(text, " ARP {what} sender {sha} {spa} target {tha} {tpa}");
}

fn ipv4(text: &mut String, frame: &[u8]) {
    let header = match Ipv4HeaderSlice::from_slice(&frame[14..]) {
        Ok(header) => header,
        Err(error) => {
            let _ = write!(text, " IPv4 malformed ({error}): {}", hex(&frame[14..]));
            return;
        }
    };
    let (from, to) = (header.source_addr(), header.destination_addr());
    let _ = write!(
        text,
        " IPv4 {from} > {to} ttl {} len {}",
        header.ttl(),
        header.total_len()
    );
    let _ = write!(text, " id {:#06x}", header.identification());
    if header.dont_fragment() {
        text.push_str(" DF");
    }
    let (offset, more) = (header.fragments_offset().value(), header.more_fragments());
    if offset != 0 || more {
        let _ = write!(
            text,
            " fragment {}{}",
            offset * 8,
            if more { "+" } else { "." }
        );
    }
    let tos = frame[15];
    if tos != 0 {
        let _ = write!(text, " tos {tos:#04x}");
    }
    if !header.options().is_empty() {
        let _ = write!(text, " options {}", hex(header.options()));
    }
    if !wire::header_checksum(header.slice()) {
        text.push_str(" BAD-HEADER-CHECKSUM");
    }
    let padding = (frame.len() - 14).saturating_sub(header.total_len().into());
    if padding > 0 {
        let _ = write!(text, " padding {padding}");
    }
    transport(text, frame, header.protocol().0);
    if wire::transport_checksum(frame) == Some(false) {
        text.push_str(" BAD-CHECKSUM");
    }
}

fn ipv6(text: &mut String, frame: &[u8]) {
    let header = match Ipv6HeaderSlice::from_slice(&frame[14..]) {
        Ok(header) => header,
        Err(error) => {
            let _ = write!(text, " IPv6 malformed ({error}): {}", hex(&frame[14..]));
            return;
        }
    };
    let (from, to) = (header.source_addr(), header.destination_addr());
    let _ = write!(text, " IPv6 {from} > {to} hop limit {}", header.hop_limit());
    let _ = write!(text, " len {}", header.payload_length());
    transport(text, frame, header.next_header().0);
    if wire::transport_checksum(frame) == Some(false) {
        text.push_str(" BAD-CHECKSUM");
    }
}

fn transport(text: &mut String, frame: &[u8], protocol: u8) {
    let sliced = SlicedPacket::from_ethernet(frame);
    let transport = sliced
        .as_ref()
        .ok()
        .and_then(|sliced| sliced.transport.as_ref());
    let _ = match transport {
        Some(TransportSlice::Udp(udp)) => write!(
            text,
            " UDP {} > {} len {}",
            udp.source_port(),
            udp.destination_port(),
            udp.length()
        ),
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.ack(), '.'),
            ];
            let flags: String = flags
                .iter()
                .filter(|flag| flag.0)
                .map(|flag| flag.1)
                .collect();
            write!(
                text,
                " TCP {} > {} [{flags}] seq {} ack {} len {}",
                tcp.source_port(),
                tcp.destination_port(),
                tcp.sequence_number(),
                tcp.acknowledgment_number(),
                tcp.payload().len()
            )
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let rest = icmp.bytes5to8();
            let _ = write!(
                text,
                " ICMP {}/{} {} + {} bytes",
                icmp.type_u8(),
                icmp.code_u8(),
                hex(&rest),
                icmp.payload().len()
            );
            match icmp.type_u8() {
                3 | 11 | 12 => write!(text, " about {}", hex(icmp.payload())),
                _ => Ok(()),
            }
        }
        Some(TransportSlice::Icmpv6(icmp)) => write!(
            text,
            " ICMPv6 {}/{} {} + {} bytes: {}",
            icmp.type_u8(),
            icmp.code_u8(),
            hex(&icmp.bytes5to8()),
            icmp.payload().len(),
            hex(icmp.payload())
        ),
        _ => {
            let payload = sliced.as_ref().ok().and_then(|sliced| match &sliced.net {
                Some(NetSlice::Ipv4(ip)) => Some(ip.payload().payload),
                Some(NetSlice::Ipv6(ip)) => Some(ip.payload().payload),
                _ => None,
            });
            write!(
                text,
                " protocol {protocol} + {} bytes",
                payload.map_or(0, <[u8]>::len)
            )
        }
    };
}
