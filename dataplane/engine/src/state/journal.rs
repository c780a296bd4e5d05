//! What rules with `log` have to say, until somebody writes it down.

use std::net::IpAddr;

use super::payer::Payer;
use crate::base::addr::InterfaceId;
use crate::base::bucket::{Bucket, Buckets};
use crate::base::time::Instant;
use crate::config::policy::{Action, Origin};

/// Entries a second of each guest, and of all strangers on an uplink together.
const PER_SECOND: u32 = 10;
/// Entries a second in all: to write them takes time of the forwarding thread.
const IN_ALL: u32 = 500;
/// Entries that wait at most.
const ROOM: usize = 256;

/// A rule with `log` decided about the first packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The rule.
    pub rule: Origin,
    /// What it does.
    pub action: Action,
    /// The guest that it is from, or else to, by the number of its name.
    pub guest: Option<u16>,
    /// The interface it came in by.
    pub interface: InterfaceId,
    /// The flow as it came in.
    pub protocol: u8,
    /// From where.
    pub source: (IpAddr, u16),
    /// To where.
    pub destination: (IpAddr, u16),
    /// Entries of the same guest or uplink that were left out before this one.
    pub left_out: u64,
}

/// Entries that wait.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    lately: Buckets,
    in_all: Bucket,
    /// By payer: entries left out since its last one.
    left_out: Vec<u64>,
}

impl Journal {
    /// One more of `payer`'s, if there were not too many.
    #[cold]
    pub(crate) fn write(&mut self, payer: Payer, entry: Entry, now: Instant) {
        let who = payer.index();
        if self.left_out.len() <= who {
            self.left_out.resize(who + 1, 0);
            self.entries.reserve(ROOM);
        }
        let left_out = &mut self.left_out[who];
        let fits = self.entries.len() < ROOM
            && self.lately.take(who, PER_SECOND, now)
            && self.in_all.take(IN_ALL, now);
        if !fits {
            *left_out += 1;
            return;
        }
        let left_out = std::mem::take(left_out);
        self.entries.push(Entry { left_out, ..entry });
    }

    /// Nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What waits.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::PortId;

    #[test]
    fn ten_a_second_of_each_and_how_many_were_left_out() {
        let mut journal = Journal::default();
        let entry = Entry {
            rule: Origin::Rule(0),
            action: Action::Drop,
            guest: None,
            interface: InterfaceId(0),
            protocol: 6,
            source: (IpAddr::from([10, 0, 0, 1]), 1),
            destination: (IpAddr::from([10, 0, 0, 2]), 2),
            left_out: 0,
        };
        let (one, two) = (Payer::By(1), Payer::Port(PortId(0)));
        (0..100).for_each(|_| journal.write(one, entry, Instant(0)));
        journal.write(two, entry, Instant(0));
        assert_eq!(
            journal.take().count(),
            5 + 1,
            "half a second's worth at once"
        );
        journal.write(one, entry, Instant(100));
        assert_eq!(journal.take().next().map(|entry| entry.left_out), Some(95));
        for second in 0..1_000 {
            journal.write(one, entry, Instant(second * 1_000));
        }
        assert_eq!(journal.take().count(), ROOM, "nobody took any");
    }
}
