//! Which piece of a datagram a fragment is.

use crate::base::drops::DropReason;

/// Most bytes of a datagram: an IPv4 packet's, or what follows an IPv6 packet's fixed header.
const LARGEST: usize = 65_535;

/// A piece of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// What all pieces of the datagram are told by, beside their addresses.
    pub identification: u32,
    /// Where it begins in the datagram's payload, in bytes.
    pub start: u16,
    /// One past where it ends there.
    pub end: u16,
    /// It is not the last.
    pub more: bool,
}

impl Piece {
    /// The piece that begins at byte `start` of its datagram's payload and lies in a frame between
    /// two places.
    pub(super) fn new(
        identification: u32,
        start: usize,
        more: bool,
        (from, to): (usize, usize),
    ) -> Result<Self, DropReason> {
        let length = to.saturating_sub(from);
        if length == 0 || more && length % 8 != 0 || start + length > LARGEST {
            return Err(DropReason::FragmentMalformed);
        }
        Ok(Self {
            identification,
            start: start as u16,
            end: (start + length) as u16,
            more,
        })
    }

    /// The same, if it can be one of a datagram whose transport header has `least` bytes, with `before`
    /// bytes of headers that count towards its length.
    pub(super) fn of(self, least: u16, before: usize) -> Result<Self, DropReason> {
        if before + usize::from(self.end) > LARGEST {
            return Err(DropReason::FragmentMalformed);
        }
        // It would overwrite what the first said of ports or flags (RFC 1858 §2.2, RFC 3128).
        if !self.is_first() && self.start < least {
            return Err(DropReason::FragmentTiny);
        }
        Ok(self)
    }

    /// Whether the datagram begins with it.
    pub fn is_first(&self) -> bool {
        self.start == 0
    }
}
