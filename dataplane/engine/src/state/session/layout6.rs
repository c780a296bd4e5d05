//! The layout before the present one, so that an upgrade drops no session.

use super::record::SessionDetail;

/// A session's detail as layout 6 had it in memory. Its record was as it is now; TCP established a
/// session by an answer and an ACK of the opener, which is the same two bits' worth.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Detail6 {
    counts: [[u32; 2]; 2],
    mark: u32,
    guest: u16,
    rule: u16,
}

const _: () = assert!(size_of::<Detail6>() == 24);

impl Detail6 {
    /// Its number.
    pub const LAYOUT: u32 = 6;

    /// The detail in the present layout. TCP's numbers are not known: they are learnt from the next
    /// packets.
    pub(super) fn convert(&self) -> SessionDetail {
        SessionDetail {
            counts: self.counts,
            mark: self.mark,
            guest: self.guest,
            rule: self.rule,
            ..SessionDetail::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::state::session::{SessionMemory, SessionRecord, Stage};
    use crate::wire::flow::{Direction, Flow};

    fn old(port: u16) -> (SessionRecord<Ipv4Addr>, Detail6) {
        let flow = |source: [u8; 4], source_port| Flow {
            source: source.into(),
            destination: [198, 51, 100, 1].into(),
            source_port,
            destination_port: 443,
            protocol: 6,
        };
        let (inside, outside) = (flow([10, 0, 0, 1], port), flow([203, 0, 113, 1], 2_000));
        let record = SessionRecord {
            stage: Stage::Established as u8,
            tcp: 1,
            counts: [[70_000_u32 as u16, 0], [3, 99]],
            ..SessionRecord::new(inside, outside, true, 9)
        };
        let detail = Detail6 {
            counts: [[1, 1 << 17], [0, 0]],
            guest: 3,
            ..Detail6::default()
        };
        (record, detail)
    }

    #[test]
    fn sessions_of_the_layout_before_live_on() {
        let mut memory = SessionMemory::owned(3);
        let free = (SessionRecord::default(), Detail6::default());
        let (records, details): (Vec<_>, Vec<_>) =
            [old(1_000), free, old(1_001)].into_iter().unzip();
        assert_eq!(memory.convert(&records, &details), 2);
        let (first, detail) = (&memory.records[0], &memory.details[0]);
        assert_eq!(first.inside().source_port, 1_000);
        assert_eq!(first.outside().source_port, 2_000);
        assert!(first.source_rewritten() && first.holds_port() && !first.destination_rewritten());
        assert_eq!(
            (first.stage(), first.state()),
            (Stage::Established, "established")
        );
        assert_eq!(first.traffic(detail, Direction::Forward), (70_000, 1 << 33));
        assert_eq!(first.traffic(detail, Direction::Reply), (3, 99));
        assert_eq!(memory.records[1].inside().source_port, 1_001);
        assert!(!memory.records[2].is_live());
    }

    #[test]
    fn what_does_not_fit_is_left() {
        let mut memory = SessionMemory::owned(1);
        let (records, details): (Vec<_>, Vec<_>) = [old(1), old(2)].into_iter().unzip();
        assert_eq!(memory.convert(&records, &details), 1);
    }
}
