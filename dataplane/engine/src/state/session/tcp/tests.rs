use super::*;
use crate::wire::flow::Direction::{Forward, Reply};

const START: Connection = Connection {
    stage: NEW,
    seen: 0,
    awaited: [UNKNOWN; 2],
};

/// Two ends that count: each sends what its flags and payload say, and acknowledges all it got.
#[derive(Clone, Copy)]
struct Ends {
    connection: Connection,
    next: [u32; 2],
}

impl Ends {
    fn new() -> Self {
        // The second one's numbers wrap.
        Self {
            connection: START,
            next: [1_000, u32::MAX - 3],
        }
    }

    fn segment(&self, direction: Direction, flags: u8, payload: u32) -> Segment {
        let (own, other) = (direction as usize, direction.reversed() as usize);
        Segment {
            flags,
            sequence: self.next[own],
            acknowledgment: if flags & ACK != 0 {
                self.next[other]
            } else {
                0
            },
            payload,
        }
    }

    /// Sends a segment that arrives.
    fn send(&mut self, direction: Direction, flags: u8, payload: u32) -> Stage {
        let segment = self.segment(direction, flags, payload);
        self.next[direction as usize] = segment.end();
        self.see(direction, &segment);
        self.stage()
    }

    /// Has the router see a segment; whether it is a sign of life.
    fn see(&mut self, direction: Direction, segment: &Segment) -> bool {
        let after = self.connection.follow(direction, segment);
        self.connection = after.unwrap_or(self.connection);
        after.is_some()
    }

    fn stage(&self) -> Stage {
        match self.connection.stage {
            NEW => Stage::New,
            ESTABLISHED => Stage::Established,
            _ => Stage::Closing,
        }
    }

    fn name(&self) -> &'static str {
        name(self.stage(), self.connection.seen)
    }
}

fn established() -> Ends {
    let mut ends = Ends::new();
    assert_eq!(ends.send(Forward, SYN, 0), Stage::New);
    assert_eq!(ends.send(Reply, SYN | ACK, 0), Stage::New);
    assert_eq!(ends.send(Forward, ACK, 0), Stage::Established);
    ends.send(Forward, ACK, 100);
    ends.send(Reply, ACK, 3_000);
    ends.send(Forward, ACK, 0);
    ends
}

#[test]
fn t09_simultaneous_open_establishes() {
    let mut ends = Ends::new();
    let (a, b) = (ends.segment(Forward, SYN, 0), ends.segment(Reply, SYN, 0));
    for (direction, segment) in [(Forward, a), (Reply, b)] {
        ends.see(direction, &segment);
        ends.next[direction as usize] = segment.end();
    }
    // Both acknowledge the other's SYN and send their own once more (RFC 9293 §3.5, figure 7).
    for (direction, syn) in [(Forward, a), (Reply, b)] {
        assert_eq!(ends.stage(), Stage::New);
        let both = Segment {
            flags: SYN | ACK,
            acknowledgment: ends.next[direction.reversed() as usize],
            ..syn
        };
        ends.see(direction, &both);
    }
    assert_eq!(ends.stage(), Stage::Established);
}

#[test]
fn t09_one_fin_is_half_closed_two_are_closing() {
    let mut ends = established();
    assert_eq!(ends.send(Reply, FIN | ACK, 0), Stage::Established);
    assert_eq!(ends.name(), "half-closed");
    for _ in 0..3 {
        assert_eq!(ends.send(Forward, ACK, 1_000), Stage::Established);
        assert_eq!(ends.send(Reply, ACK, 0), Stage::Established);
    }
    assert_eq!(ends.send(Forward, FIN | ACK, 70_000), Stage::Closing);
    assert_eq!(ends.send(Reply, ACK, 0), Stage::Closing);
    assert_eq!(ends.name(), "closing");
}

#[test]
fn t09_the_ports_are_used_anew_from_either_end() {
    for opener in [Forward, Reply] {
        for ending in [FIN | ACK, RST] {
            let mut ends = established();
            ends.send(Forward, ending, 0);
            ends.send(Reply, ending, 0);
            assert_eq!(ends.stage(), Stage::Closing);
            ends.next = [77, 88];
            assert_eq!(ends.send(opener, SYN, 0), Stage::New);
            assert_eq!(ends.name(), "opening");
            assert_eq!(ends.send(opener.reversed(), SYN | ACK, 0), Stage::New);
            assert_eq!(ends.send(opener, ACK, 0), Stage::Established);
            assert_eq!(ends.name(), "established");
        }
    }
}

#[test]
fn t09_an_end_that_forgot_a_half_closed_connection_opens_anew() {
    let mut ends = established();
    ends.send(Forward, FIN | ACK, 0);
    ends.next = [77, 88];
    for (direction, flags) in [(Forward, SYN), (Reply, SYN | ACK), (Forward, ACK)] {
        ends.send(direction, flags, 0);
    }
    assert_eq!(ends.send(Reply, FIN | ACK, 0), Stage::Established);
    assert_eq!(ends.send(Forward, FIN | ACK, 0), Stage::Closing);
}

#[test]
fn t11_a_reset_closes_and_data_both_ways_after_it_revives() {
    for direction in [Forward, Reply] {
        let mut ends = established();
        let reset = ends.segment(direction, RST, 0);
        assert!(ends.see(direction, &reset));
        assert_eq!((ends.stage(), ends.name()), (Stage::Closing, "reset"));
        assert!(
            !ends.see(direction, &reset),
            "another one keeps nothing alive"
        );
        assert_eq!(ends.send(Reply, ACK, 10), Stage::Closing);
        assert_eq!(ends.send(Forward, ACK, 0), Stage::Established);
    }
}

#[test]
fn p02_a_reset_out_of_the_window_is_no_more_than_a_packet() {
    for direction in [Forward, Reply] {
        let ends = established();
        let exact = ends.segment(direction, RST, 0);
        let at = |offset: u32| Segment {
            sequence: exact.sequence.wrapping_add(offset),
            ..exact
        };
        for offset in [
            -1_i32 as u32,
            1 << 16,
            1 << 20,
            1 << 31,
            -100_000_i32 as u32,
        ] {
            let mut ends = ends;
            assert!(!ends.see(direction, &at(offset)), "{offset:#x}");
            assert_eq!(ends.stage(), Stage::Established, "{offset:#x}");
        }
        // Data that is not acknowledged yet may be between.
        for offset in [0, 1_460, 65_535] {
            let mut ends = ends;
            ends.see(direction, &at(offset));
            assert_eq!(ends.stage(), Stage::Closing, "{offset:#x}");
        }
    }
}

/// Whatever one end forges, the other's word is what its resets are measured by.
#[test]
fn p02_a_forger_cannot_move_the_number_that_its_reset_must_have() {
    let mut ends = established();
    let forged = |flags, payload| Segment {
        flags,
        sequence: 0x7777_0000,
        acknowledgment: 0x8888_0000,
        payload,
    };
    for flags in [ACK, SYN, SYN | ACK, FIN | ACK, 0] {
        ends.see(Reply, &forged(flags, 1_000));
        ends.see(Reply, &forged(RST, 0));
        let after = Segment {
            sequence: forged(flags, 1_000).end(),
            ..forged(RST, 0)
        };
        ends.see(Reply, &after);
        assert_eq!(ends.name(), "established", "{flags:#x}");
    }
}

#[test]
fn p02_a_syn_out_of_the_window_changes_nothing_but_its_answers_may() {
    let mut ends = established();
    let before = ends.connection;
    for direction in [Forward, Reply] {
        let syn = Segment {
            sequence: 5,
            ..ends.segment(direction, SYN, 0)
        };
        assert!(!ends.see(direction, &syn));
    }
    assert_eq!(ends.connection, before);
    // An end that was restarted meets a challenge, and resets by its number (RFC 5961 §4.2).
    ends.send(Reply, ACK, 0);
    assert_eq!(ends.send(Forward, RST, 0), Stage::Closing);
    ends.next[0] = 5;
    assert_eq!(ends.send(Forward, SYN, 0), Stage::New);
}

#[test]
fn p02_a_forged_handshake_does_not_establish() {
    let mut ends = Ends::new();
    ends.send(Forward, SYN, 0);
    ends.send(Reply, SYN | ACK, 0);
    let blind = Segment {
        acknowledgment: 0x4000_0000,
        ..ends.segment(Forward, ACK, 0)
    };
    ends.see(Forward, &blind);
    assert_eq!(ends.stage(), Stage::New);
    // Nor does a forged SYN hinder the genuine one.
    let syn = Segment {
        sequence: 0x4000_0000,
        ..ends.segment(Reply, SYN, 0)
    };
    ends.see(Reply, &syn);
    assert_eq!(ends.send(Forward, ACK, 0), Stage::Established);
}

/// An opener's first attempt is lost, and it tries again with other numbers.
#[test]
fn t09_an_attempt_after_one_that_was_lost() {
    let mut ends = Ends::new();
    ends.send(Forward, SYN, 0);
    ends.next[0] = 0x1234_5678;
    for (direction, flags) in [(Forward, SYN), (Reply, SYN | ACK)] {
        assert_eq!(ends.send(direction, flags, 0), Stage::New);
    }
    assert_eq!(ends.send(Forward, ACK, 0), Stage::Established);
}

#[test]
fn what_is_picked_up_midstream_is_believed_until_its_numbers_are_known() {
    let mut ends = Ends::new();
    ends.next = [9_000, 70_000];
    assert_eq!(ends.send(Forward, ACK, 10), Stage::New);
    let mut reset = ends;
    assert_eq!(reset.send(Reply, RST | ACK, 0), Stage::Closing);
    assert_eq!(ends.send(Reply, ACK, 10), Stage::Established);
    let taken_over = Ends {
        connection: Connection {
            awaited: [UNKNOWN; 2],
            ..ends.connection
        },
        ..ends
    };
    for direction in [Forward, Reply] {
        let mut ends = taken_over;
        let far = Segment {
            sequence: 1 << 31,
            ..ends.segment(direction, RST, 0)
        };
        ends.see(direction, &far);
        assert_eq!(ends.stage(), Stage::Closing, "nothing is known of it");
    }
}
