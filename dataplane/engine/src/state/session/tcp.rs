//! TCP's state as a NAT sees it (RFC 5382 §5, RFC 7857 §2), and whom it believes (RFC 5961).
//!
//! | seen | state |
//! |---|---|
//! | SYN, or any segment of an unknown flow | new |
//! | an ACK of what the other end sent, from both | established |
//! | a RST while new, or the awaited one | closing |
//! | FIN both ways | closing, until the ports are used anew |
//! | SYN without ACK while closing | new: a new connection (RFC 9293 §3.6.1, RFC 6191) |
//! | ACKs from both after a RST | established: the RST was not heeded |
//!
//! **Whom it believes.** All that is kept for each direction is the number that the receiver awaits
//! next: the acknowledgment number that it sent last. A RST is heeded by its receiver only if it has
//! exactly this number (RFC 5961 §3.2), or follows on data that was not yet acknowledged; so it counts
//! here only if it is at most [`UNACKNOWLEDGED`] ahead. Nobody but the receiver itself moves the
//! number, so a forger has nothing to move it with. Neither windows nor ends of data are followed: a
//! genuine RST that is too far ahead is followed by exact ones, since the receiver's next
//! acknowledgments meet an end that knows nothing any more. All segments are sent on, whatever they
//! are believed to mean.

use super::stage::Stage;
use crate::wire::flow::Direction;
use crate::wire::tcp::{ACK, FIN, RST, SYN, Segment};

/// An end acknowledged something of the other's. A bit each, by direction.
const ACKNOWLEDGED: [u8; 2] = [8, 1];
/// FIN was seen. A bit each, by direction.
const FINISHED: [u8; 2] = [2, 4];
const BOTH_ACKNOWLEDGED: u8 = ACKNOWLEDGED[0] | ACKNOWLEDGED[1];
const BOTH_FINISHED: u8 = FINISHED[0] | FINISHED[1];

/// Bytes that a receiver may leave unacknowledged while nothing is lost: a super-frame.
const UNACKNOWLEDGED: u32 = 1 << 16;
/// Bytes that may be under way: more than windows are on ordinary paths.
const UNDER_WAY: u32 = 1 << 24;
/// The awaited number of a direction of which nothing is known: everything is believed.
const UNKNOWN: u32 = 0;

const NEW: u8 = Stage::New as u8;
const ESTABLISHED: u8 = Stage::Established as u8;
const CLOSING: u8 = Stage::Closing as u8;

/// Whether nothing else was seen than what there is to be seen.
pub(super) fn is_known(seen: u8) -> bool {
    seen & !(BOTH_ACKNOWLEDGED | BOTH_FINISHED) == 0
}

/// The state in words.
pub(super) fn name(stage: Stage, seen: u8) -> &'static str {
    match (stage, seen & BOTH_FINISHED) {
        (Stage::New, _) => "opening",
        (Stage::Established, 0) => "established",
        (Stage::Established, _) => "half-closed",
        (Stage::Closing, BOTH_FINISHED) => "closing",
        (Stage::Closing, _) => "reset",
    }
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) stage: u8,
    /// What was seen of it, in bits.
    pub(super) seen: u8,
    /// By direction: the number that its receiver awaits next.
    pub(super) awaited: [u32; 2],
}

impl Connection {
    /// What is known after a segment in `direction`. `None`: it is no sign of life, and changes nothing.
    pub(super) fn follow(self, direction: Direction, segment: &Segment) -> Option<Self> {
        if segment.has(RST) {
            self.reset(direction, segment)
        } else if segment.has(SYN) && self.stage == ESTABLISHED {
            self.reopen(direction)
        } else if segment.has(SYN) && !segment.has(ACK) {
            Some(self.open(direction, segment))
        } else {
            Some(self.go_on(direction, segment))
        }
    }

    /// A RST. One that answers what came for a connection that is over keeps nothing alive
    /// (RFC 7857 §8).
    fn reset(self, direction: Direction, segment: &Segment) -> Option<Self> {
        let counts = match self.stage {
            ESTABLISHED => self.awaits(direction, segment.sequence, UNACKNOWLEDGED),
            stage => stage == NEW,
        };
        counts.then_some(Self {
            stage: CLOSING,
            seen: self.seen & BOTH_FINISHED,
            ..self
        })
    }

    /// A SYN without ACK: the first of a connection, or of another by the same ports.
    fn open(mut self, direction: Direction, segment: &Segment) -> Self {
        if self.stage == CLOSING {
            (self.stage, self.seen, self.awaited) = (NEW, 0, [UNKNOWN; 2]);
        }
        self.begin(direction, segment);
        self
    }

    /// A SYN for an established connection. It is answered by a challenge, and if it was meant, a RST
    /// follows that counts (RFC 5961 §4.2). But an end that opens anew has not finished: its connection
    /// was half-closed, and nobody but us knows of it any more.
    fn reopen(mut self, direction: Direction) -> Option<Self> {
        let finished = FINISHED[direction as usize];
        let was = self.seen & finished != 0;
        self.seen &= !finished;
        was.then_some(self)
    }

    /// A segment with SYN says where `direction` begins. If it said otherwise before, one of the two is
    /// wrong, and nothing is known.
    fn begin(&mut self, direction: Direction, segment: &Segment) {
        let (awaited, first) = (
            &mut self.awaited[direction as usize],
            segment.sequence.wrapping_add(1),
        );
        *awaited = match *awaited {
            UNKNOWN => first,
            known if known == first => first,
            _ => UNKNOWN,
        };
    }

    /// A segment that opens nothing and resets nothing: data, an acknowledgment, FIN, SYN with ACK.
    fn go_on(mut self, direction: Direction, segment: &Segment) -> Self {
        let (own, other) = (direction as usize, direction.reversed() as usize);
        let is_open = self.stage == ESTABLISHED;
        let acknowledged = segment.acknowledgment;
        if segment.has(ACK)
            && (is_open || self.awaits(direction.reversed(), acknowledged, UNDER_WAY))
        {
            self.awaited[other] = acknowledged;
            self.seen |= ACKNOWLEDGED[own];
            if segment.has(SYN) {
                self.begin(direction, segment);
            }
        }
        if segment.has(FIN) && self.awaits(direction, segment.end(), UNDER_WAY) {
            self.seen |= FINISHED[own];
        }
        if self.seen & BOTH_FINISHED == BOTH_FINISHED {
            self.stage = CLOSING;
        } else if self.seen & BOTH_ACKNOWLEDGED == BOTH_ACKNOWLEDGED {
            self.stage = ESTABLISHED;
        }
        self
    }

    /// Whether `number` in `direction` is the awaited one, or up to `ahead` bytes after it.
    fn awaits(&self, direction: Direction, number: u32, ahead: u32) -> bool {
        let awaited = self.awaited[direction as usize];
        awaited == UNKNOWN || number.wrapping_sub(awaited) < ahead
    }
}

#[cfg(test)]
mod tests;
