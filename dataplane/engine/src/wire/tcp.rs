//! What a TCP header says of a connection (RFC 9293 §3.1).

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
}
