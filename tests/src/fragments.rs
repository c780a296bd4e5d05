//! Datagrams of either family, cut into fragments and put together again by a few lines of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder};
use tapgate_engine::addr::MacAddr;

use crate::flow::{ECHO, UDP};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// A piece of a datagram's payload: where it starts, whether more follow, and what it is.
type Piece = (usize, bool, Vec<u8>);

/// A datagram in one frame, of whatever length. `protocol` is [`UDP`], [`ECHO`] (a request if the source
/// has a port, which is the identifier, else a reply) or 6.
pub fn datagram(
    macs: (MacAddr, MacAddr),
    protocol: u8,
    (from, to): (SocketAddr, SocketAddr),
    payload: &[u8],
) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(macs.0.0, macs.1.0);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 60),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 60),
        mixed => panic!("{mixed:?}"),
    };
    let mut bytes = Vec::new();
    let echo = IcmpEchoHeader {
        id: from.port().max(to.port()),
        seq: 1,
    };
    let written = match (protocol, from.is_ipv4(), from.port()) {
        (UDP, ..) => ip.udp(from.port(), to.port()).write(&mut bytes, payload),
        (ECHO, true, 0) => ip
            .icmpv4(Icmpv4Type::EchoReply(echo))
            .write(&mut bytes, payload),
        (ECHO, true, _) => ip
            .icmpv4(Icmpv4Type::EchoRequest(echo))
            .write(&mut bytes, payload),
        (ECHO, false, 0) => ip
            .icmpv6(Icmpv6Type::EchoReply(echo))
            .write(&mut bytes, payload),
        (ECHO, false, _) => ip
            .icmpv6(Icmpv6Type::EchoRequest(echo))
            .write(&mut bytes, payload),
        _ => ip
            .tcp(from.port(), to.port(), 1, 1_000)
            .syn()
            .write(&mut bytes, payload),
    };
    written.expect("to memory");
    bytes
}

/// A piece of what a frame's IP packet carries: from this byte to that one, and whether more follows.
pub fn piece(frame: &[u8], id: u32, (from, to): (usize, usize), more: bool) -> Vec<u8> {
    let (header, protocol) = match frame[12..14] {
        [8, 0] => (20, frame[23]),
        _ => (40, frame[20]),
    };
    let data = &frame[ETHERNET + header..][from..to];
    fragment(frame, protocol, id, from as u16, more, data)
}

/// A fragment with the addresses of a frame, of whatever data.
pub fn fragment(
    like: &[u8],
    protocol: u8,
    id: u32,
    start: u16,
    more: bool,
    data: &[u8],
) -> Vec<u8> {
    if like[12..14] == [8, 0] {
        let mut bytes = like[..ETHERNET + 20].to_vec();
        bytes[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
        bytes[18..20].copy_from_slice(&(id as u16).to_be_bytes());
        let place = (start / 8) | if more { 0x2000 } else { 0 };
        bytes[20..22].copy_from_slice(&place.to_be_bytes());
        bytes[23] = protocol;
        seal(&mut bytes);
        bytes.extend(data);
        return bytes;
    }
    let mut bytes = like[..ETHERNET + 40].to_vec();
    bytes[18..20].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    bytes[20] = 44;
    bytes.extend([protocol, 0]);
    bytes.extend((start | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Fills in an IPv4 header's checksum.
fn seal(bytes: &mut [u8]) {
    bytes[24..26].fill(0);
    let sum: u32 = bytes[ETHERNET..ETHERNET + 20]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let check = !((folded & 0xffff) + (folded >> 16)) as u16;
    bytes[24..26].copy_from_slice(&check.to_be_bytes());
}

/// All of a frame's IP packet in pieces of so many bytes, the last of what is left.
pub fn cut(frame: &[u8], id: u32, size: usize) -> Vec<Vec<u8>> {
    let header = if frame[12..14] == [8, 0] { 20 } else { 40 };
    let length = frame.len() - ETHERNET - header;
    let starts = (0..length).step_by(size);
    let pieces = starts.map(|from| {
        let to = (from + size).min(length);
        piece(frame, id, (from, to), to < length)
    });
    pieces.collect()
}

/// What came out, put together: whole packets in frames as they would be if nobody had cut them, with
/// identification 0. Whatever is not whole is left out.
pub fn join(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts: BTreeMap<Vec<u8>, Vec<Piece>> = BTreeMap::new();
    for frame in frames {
        let Some((key, piece)) = read(&frame) else {
            whole.push(frame);
            continue;
        };
        parts.entry(key).or_default().push(piece);
    }
    for (mut head, mut pieces) in parts {
        pieces.sort();
        pieces.dedup();
        let mut data: Vec<u8> = Vec::new();
        let in_row = pieces.iter().all(|(start, _, piece)| {
            let fits = *start == data.len();
            data.extend(piece);
            fits
        });
        if !in_row || pieces.last().is_none_or(|(_, more, _)| *more) {
            continue;
        }
        head.truncate(head.len() - 4);
        let length = data.len() as u16;
        if head[12..14] == [8, 0] {
            head[16..18].copy_from_slice(&(20 + length).to_be_bytes());
            seal(&mut head);
        } else {
            head[18..20].copy_from_slice(&length.to_be_bytes());
        }
        head.extend(data);
        whole.push(head);
    }
    whole
}

/// What a fragment has in common with the others of its datagram, and its piece.
fn read(frame: &[u8]) -> Option<(Vec<u8>, Piece)> {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if frame[12..14] == [8, 0] {
        let place = word(20);
        if place & 0x3fff == 0 {
            return None;
        }
        let mut key = frame[..34].to_vec();
        for at in [16, 17, 18, 19, 20, 21, 24, 25] {
            key[at] = 0;
        }
        key.extend([0, 0, frame[18], frame[19]]);
        let start = usize::from(place & 0x1fff) * 8;
        return Some((key, (start, place & 0x2000 != 0, frame[34..].to_vec())));
    }
    if frame[12..14] != [0x86, 0xdd] || frame[20] != 44 {
        return None;
    }
    let mut key = frame[..54].to_vec();
    key[18..20].fill(0);
    key[20] = frame[54];
    key.extend(&frame[58..62]);
    let place = word(56);
    let start = usize::from(place & !7);
    Some((key, (start, place & 1 == 1, frame[62..].to_vec())))
}
