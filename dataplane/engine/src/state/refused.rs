//! Who met a limit, and when that is to be said.

use std::collections::BTreeMap;
use std::time::Duration;

use super::payer::Payer;
use crate::base::drops::DropReason;
use crate::base::time::Instant;

/// How often at most it is said that somebody meets a limit.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Who meets a limit no more for this long has ceased to.
const QUIET: Duration = Duration::from_secs(10);
/// How often at most it is looked who has.
const LOOKED_EVERY: Duration = Duration::from_secs(1);

/// Somebody has all that it may have, or has ceased to want more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitMet {
    /// Who.
    pub payer: Payer,
    /// Of what.
    pub reason: DropReason,
    /// Packets that this concerned so far.
    pub packets: u64,
    /// It wants no more now.
    pub over: bool,
}

/// By whom and of what: packets for which there was no more.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    by: BTreeMap<(Payer, DropReason), Met>,
    /// When to look who has ceased to.
    look: Option<Instant>,
    notices: Vec<LimitMet>,
}

#[derive(Debug)]
struct Met {
    packets: u64,
    said: Instant,
    last: Instant,
    /// It was said, and that it is over was not.
    open: bool,
}

impl Refused {
    /// One more packet.
    #[cold]
    pub(crate) fn count(&mut self, payer: Payer, reason: DropReason, now: Instant) {
        let first = || Met {
            packets: 0,
            said: Instant::default(),
            last: now,
            open: false,
        };
        let met = self.by.entry((payer, reason)).or_insert_with(first);
        (met.packets, met.last) = (met.packets + 1, now);
        if met.packets == 1 || now.since(met.said) >= SAID_EVERY {
            (met.said, met.open) = (now, true);
            self.look.get_or_insert(now + QUIET);
            self.notices.push(LimitMet {
                payer,
                reason,
                packets: met.packets,
                over: false,
            });
        }
    }

    /// One more packet, of which nothing is said: that a guest is as fast as it may be is nothing to
    /// look into.
    #[cold]
    pub(crate) fn count_silently(&mut self, payer: Payer, reason: DropReason) {
        let first = || Met {
            packets: 0,
            said: Instant::default(),
            last: Instant::default(),
            open: false,
        };
        self.by.entry((payer, reason)).or_insert_with(first).packets += 1;
    }

    /// Says of those who have ceased to meet a limit that they have.
    pub(crate) fn poll(&mut self, now: Instant) {
        if self.look.is_none_or(|look| now < look) {
            return;
        }
        self.look = None;
        for (&(payer, reason), met) in self.by.iter_mut().filter(|(_, met)| met.open) {
            if now >= met.last + QUIET {
                met.open = false;
                self.notices.push(LimitMet {
                    payer,
                    reason,
                    packets: met.packets,
                    over: true,
                });
            } else {
                let next = (met.last + QUIET).max(now + LOOKED_EVERY);
                self.look = Some(self.look.map_or(next, |look| look.min(next)));
            }
        }
    }

    /// When [`Self::poll`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.look
    }

    /// There is something to be said.
    #[inline]
    pub(crate) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
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

    #[test]
    fn that_it_is_over_is_said_after_ten_quiet_seconds() {
        let mut refused = Refused::default();
        let at = |second: u64| Instant::from_millis(second * 1_000);
        assert_eq!(refused.next_deadline(), None);
        refused.count(Payer::By(7), DropReason::GuestDestinations, at(1));
        refused.count(Payer::By(7), DropReason::GuestDestinations, at(5));
        refused.count_silently(Payer::By(7), DropReason::GuestBandwidth);
        let mut over = Vec::new();
        for second in 2..30 {
            refused.poll(at(second));
            let said = refused.take_notices();
            over.extend(said.iter().map(|met| (second, met.packets, met.over)));
        }
        assert_eq!(over, [(2, 1, false), (15, 2, true)]);
        assert_eq!(refused.next_deadline(), None);
    }
}
