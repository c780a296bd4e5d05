//! Finishing offloads in software: partial checksums completed, super-frames cut.
//!
//! For ports that cannot take a frame's [`Offload`] along, and before IP fragmentation.

use super::frame::{Checksum, ETHERNET, Frame, Gso, GsoKind, Offload};
use super::packet::{TCP, UDP};
use crate::base::checksum::{checksum, fold, pseudo_header, sum};

/// Where the UDP checksum is in its header (RFC 768).
pub const UDP_CHECKSUM: usize = 6;
/// Where the TCP checksum is in its header (RFC 9293 §3.1).
pub const TCP_CHECKSUM: usize = 16;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Why a frame's offloads could not be finished. Whoever made the frame is broken or hostile:
/// drop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The partial checksum would not go into a transport header's checksum field. Storing it would
    /// change addresses or ports behind the router's back.
    #[error("the partial checksum's place is not a transport checksum's")]
    ChecksumPlace,
    /// The segment size is zero.
    #[error("a super-frame with segments of no bytes")]
    NoSize,
    /// The headers are not what the kind of super-frame promises, or cut short.
    #[error("the super-frame's headers do not fit its kind")]
    Headers,
}

/// Turns a [`Checksum::Partial`] into a finished checksum (RFC 1071); other frames stay as they
/// are. Bytes after the IP packet's end are link padding and not summed.
///
/// # Errors
/// It is not that of the packet's own TCP or UDP header; the frame is then unchanged.
pub fn complete_checksum(frame: &mut Frame<'_>) -> Result<(), SegmentError> {
    let Checksum::Partial { start, offset } = frame.offload.checksum else {
        return Ok(());
    };
    let end = packet_end(frame.bytes).ok_or(SegmentError::ChecksumPlace)?;
    if !checksum_place(frame.bytes, start, offset) {
        return Err(SegmentError::ChecksumPlace);
    }
    store_checksum(frame.bytes, (start.into(), offset.into()), end);
    frame.offload.checksum = Checksum::Present;
    Ok(())
}

/// Sums a packet that ends at `end` from `start` on, with the partial sum in it, and stores the
/// checksum at `offset` from there. All of it is within the packet.
pub fn store_checksum(bytes: &mut [u8], (start, offset): (usize, usize), end: usize) {
    let mut check = !fold(sum(&bytes[start..end], 0));
    if check == 0 && offset == UDP_CHECKSUM {
        check = 0xffff; // RFC 768: zero means that there is no checksum
    }
    put(bytes, start + offset, check);
}

/// Whether a partial checksum of an Ethernet frame sums from `start` and is stored at `start + offset`:
/// as that of the IP packet's own TCP or UDP header. Linux leaves no other one unfinished but in
/// tunnels: ICMP's is always whole.
fn checksum_place(bytes: &[u8], start: u16, offset: u16) -> bool {
    let Some(end) = packet_end(bytes) else {
        return false;
    };
    let (protocol, header) = transport(bytes);
    let field = match protocol {
        TCP => TCP_CHECKSUM,
        UDP => UDP_CHECKSUM,
        _ => return false,
    };
    (usize::from(start), usize::from(offset)) == (header, field) && header + field + 2 <= end
}

/// Cuts a super-frame into wire-sized frames with finished checksums and hands each to `sink`; a
/// frame that is none goes to `sink` once, its checksum finished. `scratch` holds the frame being
/// made and is worth keeping for the next call. Returns how many frames `sink` got.
///
/// # Errors
/// The frame's metadata contradicts it; `sink` has not been called then.
pub fn segment(
    frame: &Frame<'_>,
    scratch: &mut Vec<u8>,
    sink: &mut dyn FnMut(&mut Frame<'_>),
) -> Result<usize, SegmentError> {
    let Some(gso) = frame.offload.gso else {
        scratch.clear();
        scratch.extend_from_slice(frame.bytes);
        let mut copy = Frame {
            bytes: scratch,
            vlan: frame.vlan,
            offload: frame.offload,
            headroom: &mut [],
        };
        complete_checksum(&mut copy)?;
        sink(&mut copy);
        return Ok(1);
    };
    let layout = Layout::of(frame.bytes, frame.offload.checksum, gso)?;
    let (headers, payload) = frame.bytes[..layout.end].split_at(layout.payload);
    // A super-frame without payload is one segment still.
    let count = payload.len().div_ceil(usize::from(gso.size)).max(1);
    let mut rest = payload.chunks(usize::from(gso.size));
    for index in 0..count {
        scratch.clear();
        scratch.extend_from_slice(headers);
        scratch.extend_from_slice(rest.next().unwrap_or_default());
        layout.finish(scratch, index, usize::from(gso.size), index + 1 == count);
        sink(&mut Frame {
            bytes: scratch,
            vlan: frame.vlan,
            offload: Offload::default(),
            headroom: &mut [],
        });
    }
    Ok(count)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    /// Whether the datagrams carry a checksum at all (RFC 768: not if the field is zero).
    Udp {
        checksum: bool,
    },
}

/// Where the parts of a super-frame are, all within its bytes.
struct Layout {
    ipv4: bool,
    transport: Transport,
    /// The transport header's first byte.
    header: usize,
    /// The first byte above the transport header.
    payload: usize,
    /// The first byte after the IP packet.
    end: usize,
}

impl Layout {
    fn of(bytes: &[u8], checksum: Checksum, gso: Gso) -> Result<Self, SegmentError> {
        if gso.size == 0 {
            return Err(SegmentError::NoSize);
        }
        let end = packet_end(bytes).ok_or(SegmentError::Headers)?;
        let ipv4 = ethertype(bytes) == Some(0x0800);
        // A fragment cannot be a super-frame (RFC 791 §3.1: MF and offset are zero).
        if ipv4 && (bytes[ETHERNET + 6] & 0x3f != 0 || bytes[ETHERNET + 7] != 0) {
            return Err(SegmentError::Headers);
        }
        let (protocol, header) = transport(bytes);
        let kind = match (gso.kind, ipv4, protocol) {
            (GsoKind::Tcp4, true, 6) | (GsoKind::Tcp6, false, 6) => Transport::Tcp,
            (GsoKind::Udp, _, 17) => {
                let partial = matches!(checksum, Checksum::Partial { .. });
                let field = get(bytes, header + UDP_CHECKSUM).ok_or(SegmentError::Headers)?;
                Transport::Udp {
                    checksum: partial || field != 0 || !ipv4,
                }
            }
            _ => return Err(SegmentError::Headers),
        };
        let (length, field) = match kind {
            Transport::Tcp => {
                let offset = bytes.get(header + 12).ok_or(SegmentError::Headers)?;
                (usize::from(offset >> 4) * 4, TCP_CHECKSUM)
            }
            Transport::Udp { .. } => (8, UDP_CHECKSUM),
        };
        let payload = header + length;
        let unlike = match checksum {
            Checksum::Partial { start, offset } => {
                usize::from(start) != header || usize::from(offset) != field
            }
            Checksum::Present | Checksum::Verified => false,
        };
        if (kind == Transport::Tcp && length < 20) || payload > end || unlike {
            return Err(SegmentError::Headers);
        }
        Ok(Self {
            ipv4,
            transport: kind,
            header,
            payload,
            end,
        })
    }

    /// Makes the copied headers right for segment `index`, which `bytes` ends with.
    fn finish(&self, bytes: &mut [u8], index: usize, size: usize, last: bool) {
        let packet = bytes.len() - ETHERNET;
        if self.ipv4 {
            let id = get(bytes, ETHERNET + 4).unwrap_or_default();
            put(bytes, ETHERNET + 2, packet as u16);
            // Each segment is a datagram of its own (RFC 6864 §4).
            put(bytes, ETHERNET + 4, id.wrapping_add(index as u16));
            put(bytes, ETHERNET + 10, 0);
            let check = checksum(&bytes[ETHERNET..self.header]);
            put(bytes, ETHERNET + 10, check);
        } else {
            put(bytes, ETHERNET + 4, (packet - 40) as u16);
        }
        let length = bytes.len() - self.header;
        match self.transport {
            Transport::Tcp => {
                let sequence = &mut bytes[self.header + 4..self.header + 8];
                let first = sequence
                    .iter()
                    .fold(0u32, |n, byte| n << 8 | u32::from(*byte));
                let mine = first.wrapping_add((index * size) as u32);
                sequence.copy_from_slice(&mine.to_be_bytes());
                let flags = &mut bytes[self.header + 13];
                if !last {
                    *flags &= !(FIN | PSH);
                }
                if index > 0 {
                    *flags &= !CWR; // RFC 3168 §6.1.2: once for each reduction of the window
                }
                self.sum_transport(bytes, length, 6, TCP_CHECKSUM);
            }
            Transport::Udp { checksum } => {
                put(bytes, self.header + 4, length as u16);
                if checksum {
                    self.sum_transport(bytes, length, 17, UDP_CHECKSUM);
                }
            }
        }
    }

    fn sum_transport(&self, bytes: &mut [u8], length: usize, protocol: u8, field: usize) {
        put(bytes, self.header + field, 0);
        let (addresses, width) = if self.ipv4 {
            (&bytes[ETHERNET + 12..ETHERNET + 20], 4)
        } else {
            (&bytes[ETHERNET + 8..ETHERNET + 40], 16)
        };
        let (source, destination) = addresses.split_at(width);
        let pseudo = pseudo_header(source, destination, protocol, length);
        let check = !fold(sum(&bytes[self.header..], pseudo));
        let none = check == 0 && field == UDP_CHECKSUM;
        put(
            bytes,
            self.header + field,
            if none { 0xffff } else { check },
        );
    }
}

/// The first byte after the IP packet in `bytes`; `None` unless its header is whole and its
/// lengths fit.
fn packet_end(bytes: &[u8]) -> Option<usize> {
    let version = bytes.get(ETHERNET)? >> 4;
    let (header, length) = match (ethertype(bytes)?, version) {
        (0x0800, 4) => (ipv4_header(bytes), get(bytes, ETHERNET + 2)?.into()),
        (0x86dd, 6) => (40, 40 + usize::from(get(bytes, ETHERNET + 4)?)),
        _ => return None,
    };
    let least = if version == 4 { 20 } else { 40 };
    let fits = least <= header && header <= length && ETHERNET + length <= bytes.len();
    fits.then_some(ETHERNET + length)
}

/// The protocol above IP and where it starts, in a frame that has a [`packet_end`]. IPv6 extension
/// headers are not looked behind.
fn transport(bytes: &[u8]) -> (u8, usize) {
    if ethertype(bytes) == Some(0x0800) {
        (bytes[ETHERNET + 9], ETHERNET + ipv4_header(bytes))
    } else {
        (bytes[ETHERNET + 6], ETHERNET + 40)
    }
}

/// Bytes of the IPv4 header that `bytes` has after the Ethernet header's; zero if there is none.
fn ipv4_header(bytes: &[u8]) -> usize {
    bytes
        .get(ETHERNET)
        .map_or(0, |byte| usize::from(byte & 0xf) * 4)
}

fn ethertype(bytes: &[u8]) -> Option<u16> {
    get(bytes, 12)
}

fn get(bytes: &[u8], at: usize) -> Option<u16> {
    let word: &[u8; 2] = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*word))
}

/// `at` is within bounds wherever this is called.
fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
