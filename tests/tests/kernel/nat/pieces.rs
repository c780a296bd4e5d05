//! Datagrams in fragments, and put together again.

use std::collections::BTreeMap;

use tapgate_tests::fragments::{cut, fragment, join};

use super::sides::At;
use crate::random::Random;

/// In which order fragments are sent, and which are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pieces {
    InOrder,
    Backwards,
    Shuffled,
    Doubled,
    Incomplete,
    Overlapping,
    Tiny,
    /// All in one (RFC 6946).
    Atomic,
}

impl Pieces {
    /// In order more often than not.
    pub fn random(random: &mut Random) -> Self {
        match random.below(15) {
            0..=3 => Self::InOrder,
            4..=6 => Self::Backwards,
            7..=9 => Self::Shuffled,
            10 => Self::Doubled,
            11 => Self::Incomplete,
            12 => Self::Overlapping,
            13 => Self::Tiny,
            _ => Self::Atomic,
        }
    }

    /// The fragments of a frame.
    pub fn of(self, whole: &[u8], id: u32, random: &mut Random) -> Vec<Vec<u8>> {
        // At least two: the payload has a hundred bytes or more.
        let most = (whole.len() / 16 * 8) as u64;
        let size = match self {
            Self::Tiny => 8,
            Self::Atomic => whole.len(),
            _ => (64 + 8 * random.below(most / 8)).min(most) as usize,
        };
        let mut pieces = cut(whole, id, size);
        let last = random.below(pieces.len() as u64) as usize;
        match self {
            Self::InOrder | Self::Atomic => {}
            // The first has the whole header, but nothing more.
            Self::Tiny => {}
            Self::Backwards => pieces.reverse(),
            Self::Shuffled => {
                for n in (1..pieces.len()).rev() {
                    pieces.swap(n, random.below(n as u64 + 1) as usize);
                }
            }
            Self::Doubled => pieces.insert(last, pieces[last].clone()),
            Self::Incomplete => {
                pieces.remove(last);
            }
            Self::Overlapping => {
                let (start, protocol) = match whole[12] {
                    8 => (34, whole[23]),
                    _ => (54, whole[20]),
                };
                let data = &whole[start + 16..start + 16 + 64];
                pieces.insert(last, fragment(whole, protocol, id, 16, true, data));
            }
        }
        pieces
    }
}

/// Frames that came out, fragments put together.
pub fn whole(frames: Vec<At>) -> Vec<At> {
    let mut by_port: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for (port, frame) in frames {
        by_port.entry(port).or_default().push(frame);
    }
    let joined = by_port.into_iter().flat_map(|(port, frames)| {
        let whole = join(frames).into_iter();
        whole.map(move |frame| (port, frame)).collect::<Vec<_>>()
    });
    joined.collect()
}
