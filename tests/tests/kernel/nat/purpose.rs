//! What differs on purpose.
//!
//! Not differences at all are the port that a side gives a conversation, as long as it stays the same, into
//! how many fragments a datagram is cut on its way out, and what the router itself tells senders: the
//! rules of nft refuse in silence.

use super::flow::Stage;
use super::pieces::Pieces;
use super::step::{Act, Step, Wrong};

/// A reason, and whether a step differs for it.
type Purpose = (&'static str, fn(&Step) -> bool);

/// All of them; the first that holds counts.
const ON_PURPOSE: [Purpose; 4] = [
    (
        "After a reset or both FINs the kernel refuses or forgets the connection by its state table; \
         tapgate lets both ends speak until the session ends by time, and drops nothing for its numbers",
        |step| step.protocol == 6 && step.stage == Stage::Over,
    ),
    (
        "A segment that no order of RFC 9293 has is INVALID to the kernel's state table, or opens nothing; \
         tapgate believes the ends",
        |step| step.unruly && step.seen[1].is_empty(),
    ),
    (
        "An ICMP error that quotes less than 8 bytes of transport (RFC 792) is not believed; the kernel \
         is content with the ports",
        |step| step.act == Act::Error(Wrong::Short) && step.seen[0].is_empty(),
    ),
    (
        "Any overlap of fragments refuses the datagram (RFC 5722); the kernel ignores a piece that lies \
         within what came before",
        |step| step.pieces == Some(Pieces::Overlapping) && step.seen[0].is_empty(),
    ),
];

/// Why a step may differ, if it may.
pub fn reason(step: &Step) -> Option<&'static str> {
    let mut all = ON_PURPOSE.iter();
    all.find(|(_, holds)| holds(step))
        .map(|(reason, _)| *reason)
}
