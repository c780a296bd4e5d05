//! Fragmentation: of IPv4 packets on the way (RFC 791 §3.2), of our own over IPv6 (RFC 8200 §4.5).

use super::frame::{Checksum, ETHERNET, Frame, Offload};
use crate::base::checksum::checksum;

/// An IPv4 header without options, in bytes.
const MIN_HEADER: usize = 20;
/// Most bytes an IPv4 header can have.
const MAX_HEADER: usize = 60;
/// Most bytes an IPv4 packet can have once it is reassembled.
const MAX_PACKET: usize = 65_535;
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments follow.
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset within the flags' word, in units of 8 bytes.
pub(super) const OFFSET: u16 = 0x1fff;
/// An option with this bit goes into every fragment (RFC 791 §3.1).
const COPIED: u8 = 0x80;

/// Why a frame could not be fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Its checksum or segmentation is unfinished: finish that first.
    #[error("the frame's offloads must be finished before it is fragmented")]
    Unfinished,
    /// It is not an IPv4 packet, or one with contradictory lengths.
    #[error("not a well-formed IPv4 packet")]
    Malformed,
    /// It is larger than the MTU and must not be fragmented.
    #[error("the packet must not be fragmented")]
    DontFragment,
    /// Not even 8 bytes fit beside the header.
    #[error("no payload fits the MTU")]
    MtuTooSmall,
}

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes (without Ethernet header) and hands
/// each to `sink`; one that fits goes to `sink` whole, without link padding. A fragment is cut
/// further like any packet. `scratch` holds the frame being made and is worth keeping for the next
/// call. Returns how many frames `sink` got.
///
/// # Errors
/// See [`FragmentError`]; `sink` has not been called then.
pub fn fragment(
    frame: &Frame<'_>,
    mtu: usize,
    scratch: &mut Vec<u8>,
    sink: &mut dyn FnMut(&mut Frame<'_>),
) -> Result<usize, FragmentError> {
    if frame.offload.gso.is_some() || matches!(frame.offload.checksum, Checksum::Partial { .. }) {
        return Err(FragmentError::Unfinished);
    }
    let (header, payload) = packet(frame.bytes).ok_or(FragmentError::Malformed)?;
    if header.len() + payload.len() <= mtu {
        scratch.clear();
        scratch.extend_from_slice(&frame.bytes[..ETHERNET + header.len() + payload.len()]);
        sink(&mut Frame {
            bytes: scratch,
            vlan: frame.vlan,
            offload: frame.offload,
            headroom: &mut [],
        });
        return Ok(1);
    }
    let flags = u16::from_be_bytes([header[6], header[7]]);
    if flags & DONT_FRAGMENT != 0 {
        return Err(FragmentError::DontFragment);
    }
    let offset = usize::from(flags & OFFSET) * 8;
    if header.len() + offset + payload.len() > MAX_PACKET {
        return Err(FragmentError::Malformed);
    }
    let mut copied = [0; MAX_HEADER];
    let later = later_header(header, &mut copied).ok_or(FragmentError::Malformed)?;
    // The first fragment's header is the longest: if 8 bytes fit beside it, they do everywhere.
    if room(header, mtu) == 0 {
        return Err(FragmentError::MtuTooSmall);
    }

    let (mut done, mut count) = (0, 0);
    while done < payload.len() {
        let header = if done == 0 { header } else { later };
        let rest = &payload[done..];
        let take = match rest.len() {
            all if header.len() + all <= mtu => all,
            _ => room(header, mtu),
        };
        let more = if done + take < payload.len() {
            MORE_FRAGMENTS
        } else {
            0 // the last keeps the original's own
        };
        scratch.clear();
        scratch.extend_from_slice(&frame.bytes[..ETHERNET]);
        scratch.extend_from_slice(header);
        scratch.extend_from_slice(&rest[..take]);
        let place = (flags & !OFFSET) | more | ((offset + done) / 8) as u16;
        finish(&mut scratch[ETHERNET..], header.len(), place);
        sink(&mut Frame {
            bytes: scratch,
            vlan: frame.vlan,
            offload: Offload::default(),
            headroom: &mut [],
        });
        done += take;
        count += 1;
    }
    Ok(count)
}

/// Cuts an IPv6 packet of our own into fragments of at most `mtu` bytes (without Ethernet header), which
/// are identified by a number of its own. `None`: no packet, or no room for 8 bytes of it. Hop-by-hop
/// options are in each fragment, all that follows them only in the first.
pub fn fragment_own6(bytes: &[u8], mtu: usize, identification: u32) -> Option<Vec<Vec<u8>>> {
    const HEADER: usize = 40;
    const FRAGMENT: u8 = 44;
    let mut at = ETHERNET + HEADER;
    let mut next = ETHERNET + 6;
    if *bytes.get(next)? == 0 {
        next = at;
        at += (usize::from(*bytes.get(at + 1)?) + 1) * 8;
    }
    let (header, payload) = bytes.split_at_checked(at)?;
    let room = (mtu + ETHERNET).checked_sub(at + 8)? & !7;
    if room == 0 || at - ETHERNET + payload.len() > HEADER + MAX_PACKET {
        return None;
    }
    let pieces = payload.chunks(room).enumerate().map(|(number, part)| {
        let last = (number + 1) * room >= payload.len();
        let place = (number * room) as u16 | u16::from(!last);
        let mut piece = header.to_vec();
        piece.extend([bytes[next], 0]);
        piece.extend(place.to_be_bytes());
        piece.extend(identification.to_be_bytes());
        piece.extend(part);
        piece[next] = FRAGMENT;
        let length = (piece.len() - ETHERNET - HEADER) as u16;
        piece[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
        piece
    });
    Some(pieces.collect())
}

/// The IPv4 header and the payload in an Ethernet frame, without link padding.
fn packet(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if *bytes.get(12..ETHERNET)? != [0x08, 0x00] {
        return None;
    }
    let ip = &bytes[ETHERNET..];
    let length = usize::from(ip.first()? & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    if ip[0] >> 4 != 4 || length < MIN_HEADER || total < length {
        return None;
    }
    Some(ip.get(..total)?.split_at(length))
}

/// How many payload bytes, a multiple of 8, fit beside `header`.
fn room(header: &[u8], mtu: usize) -> usize {
    mtu.saturating_sub(header.len()) & !7
}

/// The header of all fragments but the first: only options with the copied bit, filled up with
/// end-of-list to a multiple of 4. `None` if the options are malformed.
fn later_header<'a>(header: &[u8], buffer: &'a mut [u8; MAX_HEADER]) -> Option<&'a [u8]> {
    let (fixed, mut options) = header.split_at(MIN_HEADER);
    buffer[..MIN_HEADER].copy_from_slice(fixed);
    let mut end = MIN_HEADER;
    while let Some(&kind) = options.first() {
        let length = match kind {
            0 => break, // end of list
            1 => 1,     // no operation
            _ => usize::from(*options.get(1)?),
        };
        // Both have no length byte; every other option has at least its two first bytes.
        if length == 0 || (kind != 1 && length < 2) || length > options.len() {
            return None;
        }
        if kind & COPIED != 0 {
            buffer[end..end + length].copy_from_slice(&options[..length]);
            end += length;
        }
        options = &options[length..];
    }
    let length = end.next_multiple_of(4);
    buffer[0] = 0x40 | (length / 4) as u8;
    Some(&buffer[..length])
}

/// Fills in what differs between fragments: total length, flags and offset, checksum.
fn finish(packet: &mut [u8], header: usize, place: u16) {
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[6..8].copy_from_slice(&place.to_be_bytes());
    packet[10..12].fill(0);
    let check = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
}

#[cfg(test)]
mod tests;
