//! What a TCP header says of a connection (RFC 9293 §3.1).

use crate::base::checksum::Delta;

/// The option that says how large segments may be.
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// The sequence number is the first one of a connection.
pub const SYN: u8 = 0x02;
/// The connection is over.
pub const RST: u8 = 0x04;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;

/// A TCP segment; of a super-frame, all its segments as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// [`FIN`], [`SYN`], [`RST`], [`ACK`] and others.
    pub flags: u8,
    /// The number of its first byte.
    pub sequence: u32,
    /// The number that its sender waits for next, if [`ACK`] is set.
    pub acknowledgment: u32,
    /// Bytes of data.
    pub payload: u32,
}

impl Segment {
    /// Reads the header at the start of `l4`, which ends with the packet. `None`: it is too short.
    #[inline]
    pub fn parse(l4: &[u8]) -> Option<Self> {
        let header = l4.first_chunk::<20>()?;
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        Some(Self {
            flags: header[13],
            sequence: number(4),
            acknowledgment: number(8),
            payload: (l4.len() as u32).saturating_sub(u32::from(header[12] >> 4) * 4),
        })
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// It acknowledges, and neither begins nor ends anything.
    #[inline]
    pub const fn is_plain(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == ACK
    }

    /// The number after its last byte; SYN and FIN count as one (RFC 9293 §3.4).
    pub const fn end(&self) -> u32 {
        let marks = self.has(SYN) as u32 + self.has(FIN) as u32;
        self.sequence.wrapping_add(self.payload).wrapping_add(marks)
    }
}

/// Has the SYN at the start of `l4` announce segments of at most `most` bytes (RFC 9293 §3.7.1); its checksum
/// is updated if it is `complete`. Returns what it announced, if that was more.
pub fn clamp_mss(l4: &mut [u8], most: u16, complete: bool) -> Option<u16> {
    let header = usize::from(l4.get(12)? >> 4) * 4;
    let mut at = 20;
    while at + 1 < header.min(l4.len()) {
        let (kind, length) = (l4[at], usize::from(l4[at + 1]));
        match kind {
            0 => return None,
            1 => at += 1,
            MAXIMUM_SEGMENT_SIZE if length == 4 && at + 4 <= header.min(l4.len()) => {
                let announced = u16::from_be_bytes([l4[at + 2], l4[at + 3]]);
                if announced <= most {
                    return None;
                }
                l4[at + 2..at + 4].copy_from_slice(&most.to_be_bytes());
                let change = match at % 2 {
                    0 => Delta::default().word(announced, most),
                    _ => Delta::default().word(announced.swap_bytes(), most.swap_bytes()),
                };
                if complete {
                    let check = u16::from_be_bytes([l4[16], l4[17]]);
                    l4[16..18].copy_from_slice(&change.apply(check).to_be_bytes());
                }
                return Some(announced);
            }
            _ if length < 2 => return None,
            _ => at += length,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_behind_options() {
        let mut bytes = [0; 30];
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        bytes[8..12].copy_from_slice(&7_u32.to_be_bytes());
        (bytes[12], bytes[13]) = (0x60, FIN | ACK);
        let segment = Segment::parse(&bytes).unwrap();
        assert_eq!((segment.sequence, segment.acknowledgment), (u32::MAX, 7));
        assert_eq!(
            (segment.payload, segment.end()),
            (6, 6),
            "30 bytes, 24 of them header"
        );
        assert!(!segment.is_plain() && segment.has(FIN | ACK));
        assert_eq!(Segment::parse(&bytes[..19]), None);
    }

    #[test]
    fn options_that_lead_nowhere_are_left_alone() {
        for options in [
            [2, 4, 5, 180, 0, 0, 0, 0], // 1,460
            [1, 2, 4, 5, 180, 0, 0, 0],
        ] {
            let mut bytes = [&[0; 12][..], &[0x70, SYN], &[0; 6], &options].concat();
            assert_eq!(clamp_mss(&mut bytes, 1_000, true), Some(1_460));
            assert_eq!(clamp_mss(&mut bytes, 1_000, true), None, "done already");
        }
        for options in [
            [0, 2, 4, 5, 180, 0, 0, 0], // behind the end
            [9, 0, 2, 4, 5, 180, 0, 0], // without a length
            [9, 1, 2, 4, 5, 180, 0, 0],
            [2, 3, 5, 0, 2, 4, 5, 180], // of another length
            [1, 1, 1, 1, 1, 1, 2, 4],   // cut off
            [9, 200, 2, 4, 5, 180, 0, 0],
        ] {
            let bytes = [&[0; 12][..], &[0x70, SYN], &[0; 6], &options].concat();
            let mut clamped = bytes.clone();
            assert_eq!(clamp_mss(&mut clamped, 1_000, true), None);
            assert_eq!(clamped, bytes);
        }
        for length in 0..28 {
            let mut bytes = vec![0xff; length];
            clamp_mss(&mut bytes, 1_000, true);
        }
    }
}
