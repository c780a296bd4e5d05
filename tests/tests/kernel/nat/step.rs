//! One packet of a sequence, and what each side made of it.

use tapgate_tests::decode;

use super::flow::{Both, Stage};
use super::model::PORTS;
use super::pieces::Pieces;
use super::seen::Seen;

/// What was sent, as far as what differs on purpose depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Opens,
    Answers,
    /// An ICMP error about what arrived.
    Error(Wrong),
    Stranger,
    /// From or to an address that is nobody's there.
    Forged,
    /// A ping to the router itself.
    Ping,
}

/// What is wrong with an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    Nothing,
    /// It quotes another source port.
    Port,
    /// It quotes less than the 8 bytes of RFC 792.
    Short,
    /// It quotes another destination.
    Destination,
    /// It is sent to an external address, whether that sent what it quotes or not.
    Elsewhere,
}

/// What one packet, or one datagram's fragments, came to.
#[derive(Debug)]
pub struct Step {
    pub act: Act,
    pub protocol: u8,
    pub flags: &'static str,
    pub stage: Stage,
    /// A segment of the connection was out of order.
    pub unruly: bool,
    /// Cut into fragments, and how.
    pub pieces: Option<Pieces>,
    pub port: usize,
    pub sent: Both<Vec<Vec<u8>>>,
    pub seen: Both<Vec<Seen>>,
    /// What the router itself said about it, which is not compared.
    pub told: Both<usize>,
}

impl Step {
    /// Whether both sides delivered the same.
    pub fn is_alike(&self) -> bool {
        self.seen[0] == self.seen[1]
    }

    /// Differences of one kind have one cause, mostly.
    pub fn kind(&self) -> String {
        let [ours, theirs] = [self.seen[0].len(), self.seen[1].len()];
        format!(
            "{:?} {} of protocol {}, {:?}, {:?}: tapgate delivered {ours}, the kernel {theirs}",
            self.act, self.flags, self.protocol, self.stage, self.pieces
        )
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:?} {} {:?} {:?} by {}",
            self.act, self.flags, self.stage, self.pieces, PORTS[self.port]
        )?;
        for (name, side) in [("tapgate", 0), ("kernel ", 1)] {
            for frame in &self.sent[side] {
                writeln!(f, "    {name} < {}", decode::line(frame))?;
            }
            for seen in &self.seen[side] {
                writeln!(f, "    {name} > {seen}")?;
            }
        }
        Ok(())
    }
}
