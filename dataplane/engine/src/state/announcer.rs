//! Which addresses are still to be announced, and when.
//!
//! A burst of three for what is new (start, link up, a reload that changed it, a claim that was won, a
//! guest that came or moved), then every address once in `announce_interval` (RFC 5227 §3, RFC 4861
//! §7.2.6; N17). Many addresses go out 64 at a time, so that they do not hold up the guests' traffic.
//!
//! An address is in one burst at most. Several causes at once share it:
//!
//! | the address is | another cause |
//! |---|---|
//! | in no burst | begins one now |
//! | in a burst with two announcements left, or more | changes nothing: they serve both |
//! | in a burst with fewer left | begins anew when the next was due |
//! | in a burst that is over, for two seconds more | begins anew when these are over |

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::base::addr::InterfaceId;
use crate::base::deadlines::Deadlines;
use crate::base::time::Instant;

/// Announcements in a burst: RFC 4861 §10 MAX_NEIGHBOR_ADVERTISEMENT.
const ROUNDS: u8 = 3;
/// Announcements that are enough for a cause: RFC 5227 §1.1 ANNOUNCE_NUM.
const ENOUGH: u8 = 2;
/// The time between two: RFC 5227 §1.1 ANNOUNCE_INTERVAL; RFC 4861 §7.2.6 wants one second at least
/// (A04, N17).
const BETWEEN_ROUNDS: Duration = Duration::from_secs(2);
/// Addresses announced in one go, and the pause after it.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// Addresses, which only the configuration chooses. Of ten thousand a tree takes a millisecond.
type Set = HashSet<IpAddr, FixedState>;

/// What is still to be announced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcer {
    bursts: BTreeMap<(InterfaceId, u32), Burst>,
    /// By number, so that who began first goes first.
    due: Deadlines<(u32, InterfaceId)>,
    /// The number of the next burst.
    next: u32,
    /// The slow repetition of everything.
    repeat: Option<Instant>,
    /// Under way: from this interface on it is still to be repeated.
    repeating: Option<InterfaceId>,
}

#[derive(Debug, Clone)]
struct Burst {
    addresses: Vec<IpAddr>,
    /// The next of `addresses`.
    at: usize,
    /// How many are left; with none, it only keeps its addresses from beginning anew too soon.
    rounds: u8,
    /// When this round began.
    began: Instant,
    /// The addresses have just come here, so others may have cached another MAC for them: the
    /// announcement overrides that (decision 5).
    takeover: bool,
}

/// Addresses to be announced now.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) interface: InterfaceId,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) takeover: bool,
}

impl Announcer {
    /// Announces `addresses` on `interface` in a burst that begins now.
    pub(crate) fn add(&mut self, interface: InterfaceId, addresses: Vec<IpAddr>, now: Instant) {
        self.push(interface, addresses, (ROUNDS, true), now);
    }

    /// Announces `addresses` on `interface` in a burst, and nothing else there any more.
    pub(crate) fn add_all(&mut self, interface: InterfaceId, addresses: Vec<IpAddr>, now: Instant) {
        let numbers = self.numbers_on(interface);
        if !numbers.is_empty() {
            let all: Set = addresses.iter().copied().collect();
            for number in numbers {
                self.split(interface, number, |address| !all.contains(address));
            }
        }
        self.add(interface, addresses, now);
    }

    /// Announces `addresses` on `interface` once more.
    pub(crate) fn remind(&mut self, interface: InterfaceId, addresses: Vec<IpAddr>, now: Instant) {
        self.push(interface, addresses, (1, false), now);
    }

    /// Forgets what was to be announced on an interface that is gone.
    pub(crate) fn forget(&mut self, interface: InterfaceId) {
        for number in self.numbers_on(interface) {
            self.split(interface, number, |_| true);
        }
    }

    /// Repeats everything every `interval` seconds from now on; never if that is 0.
    pub(crate) fn repeat_every(&mut self, interval: u32, now: Instant) {
        let next = now + Duration::from_secs(interval.into());
        self.repeat = match interval {
            0 => None,
            _ => Some(self.repeat.map_or(next, |due| due.min(next))),
        };
    }

    /// Where the repetition of everything goes on by now, if it does: the first interface that it has
    /// not come to. It comes to one at a time.
    pub(crate) fn repeats_from(&mut self, interval: u32, now: Instant) -> Option<InterfaceId> {
        if self.repeat.is_some_and(|due| due <= now) {
            self.repeat = None;
            self.repeat_every(interval, now);
            self.repeating = Some(InterfaceId(0));
        }
        self.repeating
    }

    /// The repetition of everything has come to `interface`; `None`: to the end.
    pub(crate) fn repeated(&mut self, interface: Option<InterfaceId>) {
        self.repeating = interface.and_then(|InterfaceId(n)| n.checked_add(1).map(InterfaceId));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let at_once = self.repeating.map(|_| Instant::default());
        let due = self.due.next().into_iter().chain(self.repeat);
        due.chain(at_once).min()
    }

    /// The next addresses to be announced by now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Announcement> {
        while let Some((number, interface)) = self.due.pop(now) {
            let Some(burst) = self.bursts.get_mut(&(interface, number)) else {
                continue;
            };
            if burst.rounds == 0 {
                self.bursts.remove(&(interface, number));
                continue;
            }
            if burst.at == 0 {
                burst.began = now;
            }
            let end = burst.addresses.len().min(burst.at + AT_ONCE);
            let announcement = Announcement {
                interface,
                addresses: burst.addresses[burst.at..end].to_vec(),
                takeover: burst.takeover,
            };
            burst.at = end;
            let mut due = now + PAUSE;
            if end == burst.addresses.len() {
                burst.at = 0;
                burst.rounds -= 1;
                due = due.max(burst.began + BETWEEN_ROUNDS);
            }
            self.due.set((number, interface), due);
            return Some(announcement);
        }
        None
    }

    fn push(
        &mut self,
        interface: InterfaceId,
        mut addresses: Vec<IpAddr>,
        (rounds, takeover): (u8, bool),
        now: Instant,
    ) {
        let numbers = self.numbers_on(interface);
        if !numbers.is_empty() {
            let mut left: Set = addresses.iter().copied().collect();
            for number in numbers {
                if !left.is_empty() {
                    self.join(interface, number, &mut left, (rounds, takeover));
                }
            }
            addresses.retain(|address| left.contains(address));
        }
        let burst = Burst {
            addresses,
            at: 0,
            rounds,
            began: now,
            takeover,
        };
        self.begin(interface, burst, now);
    }

    /// Has a burst that is under way serve those of `left` that are in it too, which leave `left`.
    fn join(
        &mut self,
        interface: InterfaceId,
        number: u32,
        left: &mut Set,
        (rounds, takeover): (u8, bool),
    ) {
        let Some(burst) = self.bursts.get_mut(&(interface, number)) else {
            return;
        };
        if burst.rounds >= rounds.min(ENOUGH) {
            for address in &burst.addresses {
                burst.takeover |= left.remove(address) && takeover;
            }
            return;
        }
        let due = self.due.get((number, interface)).unwrap_or(burst.began);
        if let Some(burst) = self.split(interface, number, |address| left.remove(address)) {
            let anew = Burst {
                rounds,
                takeover,
                ..burst
            };
            self.begin(interface, anew, due);
        }
    }

    /// Takes the addresses that are `wanted` out of a burst; they are the result, as a burst of their
    /// own that is as far.
    fn split(
        &mut self,
        interface: InterfaceId,
        number: u32,
        mut wanted: impl FnMut(&IpAddr) -> bool,
    ) -> Option<Burst> {
        let burst = self.bursts.get_mut(&(interface, number))?;
        let mut taken = Burst {
            addresses: Vec::new(),
            at: 0,
            ..*burst
        };
        let at = std::mem::take(&mut burst.at);
        for (n, address) in std::mem::take(&mut burst.addresses).into_iter().enumerate() {
            let to = if wanted(&address) {
                &mut taken
            } else {
                &mut *burst
            };
            to.addresses.push(address);
            to.at += usize::from(n < at);
        }
        if burst.addresses.is_empty() {
            self.bursts.remove(&(interface, number));
            self.due.clear((number, interface));
        }
        (!taken.addresses.is_empty()).then_some(taken)
    }

    fn begin(&mut self, interface: InterfaceId, burst: Burst, due: Instant) {
        if burst.addresses.is_empty() {
            return;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.bursts.insert((interface, number), burst);
        self.due.set((number, interface), due);
    }

    /// The numbers of the bursts on `interface`.
    fn numbers_on(&self, interface: InterfaceId) -> Vec<u32> {
        let bursts = self.bursts.range((interface, 0)..=(interface, u32::MAX));
        bursts.map(|((_, number), _)| *number).collect()
    }
}
