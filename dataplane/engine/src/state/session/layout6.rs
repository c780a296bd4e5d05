//! The layout before the present one, so that an upgrade drops no session.

use super::record::{DESTINATION_REWRITTEN, FREE, HOLDS_PORT, SOURCE_REWRITTEN};
use super::record::{SessionDetail, SessionRecord};
use crate::base::ip::Address;

/// A session as layout 5 had it in memory: everything in one record, 80 bytes for IPv4 and 128 for
/// IPv6, and one flag for "the source is translated and holds a port".
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct Record5<A> {
    protocol: u8,
    stage: u8,
    tcp: u8,
    flags: u8,
    generation: u32,
    seen: u32,
    ports: [[u16; 2]; 2],
    ends: [[A; 2]; 2],
    paths: [[u32; 2]; 2],
    packets: [u32; 2],
    admitted: [u16; 2],
    bytes: [u64; 2],
}

const _: () = assert!(size_of::<Record5<std::net::Ipv4Addr>>() == 80);
const _: () = assert!(size_of::<Record5<std::net::Ipv6Addr>>() == 128);

impl<A: Address> Record5<A> {
    /// Its number.
    pub const LAYOUT: u32 = 5;
    const TRANSLATED: u8 = 1;

    /// The session in the present layout; `None`: the record is free. Paths and generation are left
    /// out, because the dataplane that takes over finds them anew.
    pub fn convert(&self) -> Option<(SessionRecord<A>, SessionDetail)> {
        if self.stage == FREE {
            return None;
        }
        let [[_, to], [far, _]] = self.ends;
        let [[_, to_port], [far_port, _]] = self.ports;
        let mut flags = 0;
        if self.flags & Self::TRANSLATED != 0 {
            flags |= SOURCE_REWRITTEN | HOLDS_PORT;
        }
        if (to, to_port) != (far, far_port) {
            flags |= DESTINATION_REWRITTEN;
        }
        let counts = |way: usize| [u64::from(self.packets[way]), self.bytes[way]];
        let record = SessionRecord {
            protocol: self.protocol,
            stage: self.stage,
            tcp: self.tcp,
            flags,
            seen: self.seen,
            ports: self.ports,
            counts: [0, 1].map(|way| counts(way).map(|count| count as u16)),
            ends: self.ends,
            ..SessionRecord::default()
        };
        let detail = SessionDetail {
            counts: [0, 1].map(|way| counts(way).map(|count| (count >> 16) as u32)),
            ..SessionDetail::default()
        };
        Some((record, detail))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::state::session::{SessionMemory, Stage};
    use crate::wire::flow::Direction;

    fn old(stage: u8, port: u16) -> Record5<Ipv4Addr> {
        let [guest, remote, public] = [[10, 0, 0, 1], [198, 51, 100, 1], [203, 0, 113, 1]];
        let [guest, remote, public] = [guest, remote, public].map(Ipv4Addr::from);
        Record5 {
            protocol: 6,
            stage,
            tcp: 1,
            flags: 1,
            generation: 9,
            seen: 1234,
            ports: [[port, 443], [443, 2_000]],
            ends: [[guest, remote], [remote, public]],
            paths: [[1, 2]; 2],
            packets: [70_000, 3],
            admitted: [4; 2],
            bytes: [1 << 33, 99],
        }
    }

    #[test]
    fn sessions_of_the_layout_before_live_on() {
        let mut memory = SessionMemory::owned(3);
        assert_eq!(
            memory.convert(&[old(2, 1_000), old(0, 0), old(3, 1_001)]),
            2
        );
        let (first, detail) = (&memory.records[0], &memory.details[0]);
        assert_eq!(first.inside().source_port, 1_000);
        assert_eq!(first.outside().source_port, 2_000);
        assert!(first.source_rewritten() && first.holds_port() && !first.destination_rewritten());
        assert_eq!(first.stage(), Stage::Established);
        assert_eq!(first.traffic(detail, Direction::Forward), (70_000, 1 << 33));
        assert_eq!(first.traffic(detail, Direction::Reply), (3, 99));
        assert_eq!(
            (first.generation, first.path(Direction::Forward)),
            (0, None)
        );
        assert_eq!(memory.records[1].inside().source_port, 1_001);
        assert!(!memory.records[2].is_live());
    }

    #[test]
    fn what_does_not_fit_is_left() {
        let mut memory = SessionMemory::owned(1);
        assert_eq!(memory.convert(&[old(2, 1), old(2, 2)]), 1);
    }
}
