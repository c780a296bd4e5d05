//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Adds up `bytes` as big-endian 16-bit words onto `seed`; an odd last byte is the high half of a
/// word. The result may be added to and must be [`fold`]ed.
pub fn sum(bytes: &[u8], seed: u64) -> u64 {
    let mut total = seed;
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        if let Some(word) = chunk.first_chunk::<4>() {
            total += u64::from(u32::from_be_bytes(*word));
        }
    }
    match *chunks.remainder() {
        [a] => total += u64::from(a) << 24,
        [a, b] => total += u64::from(u32::from_be_bytes([a, b, 0, 0])),
        [a, b, c] => total += u64::from(u32::from_be_bytes([a, b, c, 0])),
        _ => {}
    }
    total
}

/// Folds a [`sum`] into 16 bits, in one's complement.
pub const fn fold(mut total: u64) -> u16 {
    total = (total >> 32) + (total & 0xffff_ffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total as u16
}

/// The checksum of `bytes`: what belongs into the field when the field's bytes are zero, and zero
/// when the field is filled in rightly.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// The sum of a pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) over two addresses.
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: usize) -> u64 {
    sum(
        destination,
        sum(source, u64::from(protocol) + length as u64),
    )
}

/// The difference that changed words make to a checksum: RFC 1624 §3's `~m + m'`, added up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delta(u64);

impl Delta {
    /// Some word changes from `old` to `new`.
    #[inline]
    pub fn word(mut self, old: u16, new: u16) -> Self {
        self.0 += u64::from(!old) + u64::from(new);
        self
    }

    /// Both changes.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Two adjacent words change from `old` to `new`.
    #[inline]
    pub fn long(mut self, old: u32, new: u32) -> Self {
        self.0 += u64::from(!old) + u64::from(new);
        self
    }

    /// What `check` becomes by the change: RFC 1624 §3, equation 3.
    #[inline]
    pub const fn apply(self, check: u16) -> u16 {
        !fold(!check as u64 + self.0)
    }

    /// The same for a partial checksum, where the field holds a sum that is not complemented yet.
    #[inline]
    pub const fn apply_partial(self, partial: u16) -> u16 {
        fold(partial as u64 + self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F21: the vector of RFC 1624 §4, which equation 2 of RFC 1141 gets wrong.
    #[test]
    fn f21_rfc1624_vector() {
        assert_eq!(Delta::default().word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn odd_lengths_pad_with_zero() {
        assert_eq!(fold(sum(&[0x12], 0)), 0x1200);
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56], 0)), 0x1234 + 0x5600);
        assert_eq!(fold(sum(&[0xff; 65_536], 0)), 0xffff);
    }
}
