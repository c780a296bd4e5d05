//! ICMP messages: making them, and the packets that errors quote.

use super::error::IcmpError;
use super::flow::Flow;
use super::frame::{Checksum, ETHERNET, Frame, OwnedFrame};
use super::packet::{Family, Packet, TCP, TTL, Transport, UDP};
use crate::base::checksum::{self, Delta};
use crate::base::drops::DropReason;

/// Bytes of an ICMP header before what it carries.
const HEADER: usize = 8;

/// An ICMP message of `parts` as a frame whose MACs are still to be set. The message's checksum,
/// its third and fourth byte, is filled in here; `parts` have zeroes there.
pub fn frame<A: Family>((source, destination): (A, A), ttl: u8, parts: &[&[u8]]) -> OwnedFrame {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut bytes = A::icmp_frame(source, destination, ttl, length);
    let at = bytes.len();
    for part in parts {
        bytes.extend_from_slice(part);
    }
    seal((source, destination), &mut bytes[at..]);
    OwnedFrame {
        bytes,
        ..OwnedFrame::default()
    }
}

/// Fills in the checksum of an ICMP message that has zeroes there.
pub fn seal<A: Family>((source, destination): (A, A), message: &mut [u8]) {
    let seed = if A::ICMP_HAS_PSEUDO_HEADER {
        let (source, destination) = (source.octets(), destination.octets());
        checksum::pseudo_header(
            source.as_ref(),
            destination.as_ref(),
            A::ICMP,
            message.len(),
        )
    } else {
        0
    };
    let check = !checksum::fold(checksum::sum(message, seed));
    message[2..4].copy_from_slice(&check.to_be_bytes());
}

/// An ICMP error that quotes as much of a packet as fits, as a frame whose MACs are still to be
/// set.
pub fn error<A: Family>(ends: (A, A), error: IcmpError, quoted: &[u8]) -> OwnedFrame {
    let headers = A::SOURCE_AT - ETHERNET + 2 * size_of::<A::Bytes>() + HEADER;
    let quoted = &quoted[..quoted.len().min(A::LARGEST_ERROR - headers)];
    let (kind, code, rest) = A::error_header(error);
    frame(
        ends,
        TTL,
        &[&[kind, code, 0, 0], &rest.to_be_bytes(), quoted],
    )
}

/// The flow of the packet that an ICMP error quotes, if `packet` is one.
pub fn quoted_flow<A: Family>(bytes: &[u8], packet: &Packet<A>) -> Option<Flow<A>> {
    let quoted = (packet.transport == Transport::IcmpError).then(|| Quoted::parse(bytes, packet));
    quoted.flatten().map(|quoted| quoted.flow)
}

/// The packet that an ICMP error quotes; offsets are from the start of the frame.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<A> {
    /// Its flow, as the error quotes it.
    pub flow: Flow<A>,
    header: usize,
    l4: usize,
    end: usize,
    /// An ICMP echo request rather than a reply.
    request: bool,
}

impl<A: Family> Quoted<A> {
    /// Reads the quoted packet; `None` if there is too little of it to tell its flow.
    pub fn parse(bytes: &[u8], packet: &Packet<A>) -> Option<Self> {
        let header = packet.l4 + 8;
        let quote = bytes.get(header..packet.end)?;
        let (mut flow, length) = A::quoted_header(quote)?;
        let l4 = quote.get(length..).filter(|l4| l4.len() >= 8)?;
        let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        let mut request = false;
        match flow.protocol {
            TCP | UDP => (flow.source_port, flow.destination_port) = (word(0), word(2)),
            icmp if icmp == A::ICMP && l4[0] == A::ECHO_REQUEST => {
                (flow.source_port, request) = (word(4), true);
            }
            icmp if icmp == A::ICMP && l4[0] == A::ECHO_REPLY => flow.destination_port = word(4),
            icmp if icmp == A::ICMP => return None,
            _ => {}
        }
        Some(Self {
            flow,
            header,
            l4: header + length,
            end: packet.end,
            request,
        })
    }

    /// Puts `to` in place of the quoted flow, with the quoted checksums following where they are
    /// quoted at all.
    pub fn restore(&self, bytes: &mut [u8], to: &Flow<A>) {
        let from = &self.flow;
        if from == to {
            return;
        }
        let addresses = from
            .source
            .replaced_by(to.source)
            .and(from.destination.replaced_by(to.destination));
        A::rewrite_quoted_header(&mut bytes[self.header..self.l4], to, addresses);

        let ports = Delta::default()
            .word(from.source_port, to.source_port)
            .word(from.destination_port, to.destination_port);
        let l4 = &mut bytes[self.l4..self.end];
        match from.protocol {
            TCP | UDP => {
                l4[0..2].copy_from_slice(&to.source_port.to_be_bytes());
                l4[2..4].copy_from_slice(&to.destination_port.to_be_bytes());
                if from.protocol == TCP {
                    adjust(l4, 16, addresses.and(ports));
                } else if l4[6..8] != [0, 0] {
                    adjust(l4, 6, addresses.and(ports));
                }
            }
            icmp if icmp == A::ICMP => {
                let identifier = if self.request {
                    to.source_port
                } else {
                    to.destination_port
                };
                l4[4..6].copy_from_slice(&identifier.to_be_bytes());
                let pseudo_header = if A::ICMP_HAS_PSEUDO_HEADER {
                    addresses
                } else {
                    Delta::default()
                };
                adjust(l4, 2, ports.and(pseudo_header));
            }
            _ => {}
        }
    }
}

/// Updates the checksum at `at`, if it lies within `bytes`.
fn adjust(bytes: &mut [u8], at: usize, delta: Delta) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        let check = u16::from_be_bytes([field[0], field[1]]);
        field.copy_from_slice(&delta.apply(check).to_be_bytes());
    }
}

/// The ICMP checksum must be right (RFC 5508 REQ-3).
///
/// # Errors
/// It is not.
pub fn verify<A: Family>(frame: &Frame<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let message = &frame.bytes[packet.l4..packet.end];
    let right = frame.offload.checksum == Checksum::Verified
        || checksum::fold(checksum::sum(message, A::icmp_sum(packet))) == 0xffff;
    if right {
        Ok(())
    } else {
        Err(DropReason::IcmpMalformed)
    }
}
