//! TCP's state as a NAT sees it (RFC 5382 §5, RFC 7857 §2).
//!
//! | seen | state |
//! |---|---|
//! | SYN, or any segment of an unknown flow | new |
//! | an answer without RST, then an ACK of the opener | established |
//! | FIN both ways, or a RST | closing |
//! | SYN without ACK while closing | new: the ports are reused |
//! | an answer, then an ACK of the opener, after a RST | established: the RST was not for this flow (RFC 5961) |

use super::stage::Stage;
use crate::wire::flow::Direction;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What was seen of a flow.
const ANSWERED: u8 = 1;
const FIN_FORWARD: u8 = 2;
const FIN_REPLY: u8 = 4;
const BOTH_FINS: u8 = FIN_FORWARD | FIN_REPLY;

/// Whether nothing else was seen than what there is to be seen.
pub(super) fn is_known(seen: u8) -> bool {
    seen & !(ANSWERED | BOTH_FINS) == 0
}

/// The state and what was seen after a segment with `flags` in `direction`.
#[inline]
pub(super) fn follow(state: u8, seen: u8, direction: Direction, flags: u8) -> (u8, u8) {
    const ESTABLISHED: u8 = Stage::Established as u8;
    const CLOSING: u8 = Stage::Closing as u8;
    if state == ESTABLISHED && flags & (FIN | SYN | RST) == 0 {
        return (state, seen);
    }
    if flags & RST != 0 {
        return (CLOSING, 0);
    }
    if flags & (SYN | ACK) == SYN && direction == Direction::Forward && state == CLOSING {
        return (Stage::New as u8, 0);
    }
    let mut seen = seen;
    if flags & FIN != 0 {
        seen |= match direction {
            Direction::Forward => FIN_FORWARD,
            Direction::Reply => FIN_REPLY,
        };
    }
    if direction == Direction::Reply {
        seen |= ANSWERED;
    }
    if seen & BOTH_FINS == BOTH_FINS {
        return (CLOSING, seen);
    }
    if direction == Direction::Forward && flags & ACK != 0 && seen & ANSWERED != 0 {
        return (ESTABLISHED, seen);
    }
    (state, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::Direction::{Forward, Reply};

    fn run(segments: &[(Direction, u8)]) -> u8 {
        segments
            .iter()
            .fold(
                (Stage::New as u8, 0),
                |(state, seen), &(direction, flags)| follow(state, seen, direction, flags),
            )
            .0
    }

    const HANDSHAKE: [(Direction, u8); 3] = [(Forward, SYN), (Reply, SYN | ACK), (Forward, ACK)];

    #[test]
    fn a_handshake_establishes_and_a_lone_syn_does_not() {
        assert_eq!(run(&HANDSHAKE[..1]), Stage::New as u8);
        assert_eq!(run(&HANDSHAKE[..2]), Stage::New as u8);
        assert_eq!(run(&HANDSHAKE), Stage::Established as u8);
    }

    #[test]
    fn one_fin_is_half_closed_two_are_closing() {
        let mut segments = HANDSHAKE.to_vec();
        segments.push((Reply, FIN | ACK));
        segments.push((Forward, ACK));
        assert_eq!(run(&segments), Stage::Established as u8);
        segments.push((Forward, FIN | ACK));
        assert_eq!(run(&segments), Stage::Closing as u8);
        segments.push((Reply, ACK));
        assert_eq!(run(&segments), Stage::Closing as u8);
        segments.push((Forward, SYN));
        assert_eq!(run(&segments), Stage::New as u8, "the ports are reused");
    }

    #[test]
    fn a_reset_closes_and_later_data_both_ways_revives() {
        let mut segments = HANDSHAKE.to_vec();
        segments.push((Reply, RST));
        assert_eq!(run(&segments), Stage::Closing as u8);
        segments.push((Reply, ACK));
        segments.push((Forward, ACK));
        assert_eq!(run(&segments), Stage::Established as u8);
    }

    #[test]
    fn simultaneous_open_establishes() {
        assert_eq!(
            run(&[
                (Forward, SYN),
                (Reply, SYN),
                (Forward, SYN | ACK),
                (Reply, SYN | ACK)
            ]),
            Stage::Established as u8
        );
    }
}
