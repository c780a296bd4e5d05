//! Who met a limit, and when that is to be said.

use std::collections::BTreeMap;
use std::time::Duration;

use super::payer::Payer;
use crate::base::drops::DropReason;
use crate::base::time::Instant;

/// How often at most it is said that somebody meets a limit.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Somebody has all that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitMet {
    /// Who.
    pub payer: Payer,
    /// Of what.
    pub reason: DropReason,
    /// Packets that this concerned so far.
    pub packets: u64,
}

/// By whom and of what: packets for which there was no more.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    by: BTreeMap<(Payer, DropReason), Met>,
    notices: Vec<LimitMet>,
}

#[derive(Debug)]
struct Met {
    packets: u64,
    said: Instant,
}

impl Refused {
    /// One more packet.
    #[cold]
    pub(crate) fn count(&mut self, payer: Payer, reason: DropReason, now: Instant) {
        let first = || Met {
            packets: 0,
            said: Instant::default(),
        };
        let met = self.by.entry((payer, reason)).or_insert_with(first);
        met.packets += 1;
        if met.packets == 1 || now.since(met.said) >= SAID_EVERY {
            met.said = now;
            self.notices.push(LimitMet {
                payer,
                reason,
                packets: met.packets,
            });
        }
    }

    /// What is to be said.
    pub(crate) fn take_notices(&mut self) -> Vec<LimitMet> {
        std::mem::take(&mut self.notices)
    }

    /// What `payer` was refused: reason, packets.
    pub(crate) fn of(&self, payer: Payer) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        let range = self.by.range((payer, DropReason::ALL[0])..);
        range
            .take_while(move |((other, _), _)| *other == payer)
            .map(|((_, reason), met)| (*reason, met.packets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_said_at_once_and_then_once_a_minute() {
        let mut refused = Refused::default();
        let at = |second: u64| Instant::from_millis(second * 1_000);
        for second in 1..=125 {
            refused.count(Payer::By(7), DropReason::GuestPorts, at(second));
        }
        refused.count(Payer::By(8), DropReason::GuestSessions, at(125));
        let said: Vec<u64> = refused
            .take_notices()
            .iter()
            .map(|met| met.packets)
            .collect();
        assert_eq!(said, [1, 61, 121, 1]);
        let of: Vec<_> = refused.of(Payer::By(7)).collect();
        assert_eq!(of, [(DropReason::GuestPorts, 125)]);
        assert_eq!(refused.of(Payer::By(6)).count(), 0);
    }
}
