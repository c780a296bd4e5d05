//! Neighbour discovery as hosts around the router do it (RFC 4861).

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use tapgate_engine::addr::MacAddr;

/// Types of messages.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement: solicited, override.
const ANSWER: [u8; 4] = [0x60, 0, 0, 0];

/// Who asks whom in an untagged frame with a neighbour solicitation, and the asker's MAC.
pub fn solicited(frame: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr, MacAddr)> {
    let is_one = frame.len() >= 78
        && frame[12..14] == [0x86, 0xdd]
        && frame[20] == 58
        && frame[54] == SOLICITATION;
    let address = |at: usize| {
        frame[at..]
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets))
    };
    if is_one {
        Some((address(22)?, address(62)?, MacAddr::from_slice(&frame[6..])))
    } else {
        None
    }
}

/// The untagged frame in which `own`, a host with that MAC, answers `asker`.
pub fn advertisement(own: (Ipv6Addr, MacAddr), asker: (Ipv6Addr, MacAddr)) -> Vec<u8> {
    let mut frame = Vec::new();
    let body = [&own.0.octets()[..], &[2, 1], &own.1.0].concat();
    PacketBuilder::ethernet2(own.1.0, asker.1.0)
        .ipv6(own.0.octets(), asker.0.octets(), 255)
        .icmpv6_raw(ADVERTISEMENT, 0, ANSWER)
        .write(&mut frame, &body)
        .expect("to memory");
    frame
}
