//! Which addresses are still to be announced, and when.
//!
//! A burst of three for what is new (start, link up, a reload that changed it, a guest that
//! came or moved), then every address once in `announce_interval` (RFC 5227 §3, RFC 4861 §7.2.6;
//! N17). Many addresses go out 64 at a time, so that they do not hold up the guests' traffic.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::addr::InterfaceId;
use crate::base::deadlines::Deadlines;
use crate::base::time::Instant;

/// Announcements in a burst, and the time between them (RFC 4861 §10 MAX_NEIGHBOR_ADVERTISEMENT;
/// RFC 5227 §1.1 asks for two).
const ROUNDS: u8 = 3;
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);
/// Addresses announced in one go, and the pause after it.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

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
}

#[derive(Debug, Clone)]
struct Burst {
    addresses: Vec<IpAddr>,
    /// The next of `addresses`.
    at: usize,
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

    /// Announces `addresses` on `interface` in a burst, instead of whatever else was to be announced
    /// there.
    pub(crate) fn add_all(&mut self, interface: InterfaceId, addresses: Vec<IpAddr>, now: Instant) {
        self.drop_bursts(interface, |burst| burst.addresses != addresses);
        self.add(interface, addresses, now);
    }

    /// Announces `addresses` on `interface` once more.
    pub(crate) fn remind(&mut self, interface: InterfaceId, addresses: Vec<IpAddr>, now: Instant) {
        self.push(interface, addresses, (1, false), now);
    }

    /// Forgets what was to be announced on an interface that is gone.
    pub(crate) fn forget(&mut self, interface: InterfaceId) {
        self.drop_bursts(interface, |_| true);
    }

    /// Repeats everything every `interval` seconds from now on; never if that is 0.
    pub(crate) fn repeat_every(&mut self, interval: u32, now: Instant) {
        let next = now + Duration::from_secs(interval.into());
        self.repeat = match interval {
            0 => None,
            _ => Some(self.repeat.map_or(next, |due| due.min(next))),
        };
    }

    /// Whether everything is to be repeated now.
    pub(crate) fn repeats(&mut self, interval: u32, now: Instant) -> bool {
        let due = self.repeat.is_some_and(|due| due <= now);
        if due {
            self.repeat = None;
            self.repeat_every(interval, now);
        }
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next().into_iter().chain(self.repeat).min()
    }

    /// The next addresses to be announced by now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Announcement> {
        let (number, interface) = self.due.pop(now)?;
        let burst = self.bursts.get_mut(&(interface, number))?;
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
            burst.began = due;
        }
        if burst.rounds == 0 {
            self.bursts.remove(&(interface, number));
        } else {
            self.due.set((number, interface), due);
        }
        Some(announcement)
    }

    fn push(
        &mut self,
        interface: InterfaceId,
        addresses: Vec<IpAddr>,
        (rounds, takeover): (u8, bool),
        now: Instant,
    ) {
        if addresses.is_empty() {
            return;
        }
        // A device that flaps begins its burst anew each time. It keeps the time that the burst was
        // due next, so that flapping sends no more than one burst would.
        let same = |burst: &Burst| burst.addresses == addresses;
        let running = self.bursts_on(interface).find(|(_, burst)| same(burst));
        let due = running
            .and_then(|(number, _)| self.due.get((number, interface)))
            .unwrap_or(now);
        self.drop_bursts(interface, same);
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.bursts.insert(
            (interface, number),
            Burst {
                addresses,
                at: 0,
                rounds,
                began: due,
                takeover,
            },
        );
        self.due.set((number, interface), due);
    }

    /// The bursts on `interface`, each with its number.
    fn bursts_on(&self, interface: InterfaceId) -> impl Iterator<Item = (u32, &Burst)> {
        let bursts = self.bursts.range((interface, 0)..=(interface, u32::MAX));
        bursts.map(|((_, number), burst)| (*number, burst))
    }

    fn drop_bursts(&mut self, interface: InterfaceId, gone: impl Fn(&Burst) -> bool) {
        let bursts = self.bursts_on(interface).filter(|(_, burst)| gone(burst));
        let numbers: Vec<u32> = bursts.map(|(number, _)| number).collect();
        for number in numbers {
            self.bursts.remove(&(interface, number));
            self.due.clear((number, interface));
        }
    }
}
