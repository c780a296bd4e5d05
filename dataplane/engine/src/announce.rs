//! Announcements: telling the link where addresses are, before anybody asks.
//!
//! A burst of [`ROUNDS`] for what is new (start, link up, a reload that changed it, a guest that
//! came or moved), then every address once in `announce_interval` (RFC 5227 §3, RFC 4861 §7.2.6;
//! N17). Many addresses go out [`AT_ONCE`] at a time, so that neither the link nor the guests'
//! traffic notices.

use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{GuestId, InterfaceId};
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

/// Announcements in a burst, and the time between them (RFC 4861 §10 MAX_NEIGHBOR_ADVERTISEMENT;
/// RFC 5227 §1.1 asks for two).
const ROUNDS: u8 = 3;
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);
/// Addresses announced in one go, and the pause after it.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);
/// Prefixes of at most so many addresses are announced address by address, larger ones not.
pub(crate) const FEW: u32 = 256;

/// What is still to be announced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announcer {
    bursts: Vec<Burst>,
    /// The slow repetition of everything.
    slow: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Burst {
    interface: InterfaceId,
    addresses: Vec<IpAddr>,
    /// The next of `addresses`.
    at: usize,
    rounds: u8,
    due: Instant,
    /// When this round began.
    began: Instant,
    /// These are new here: caches elsewhere may say something else (decision 5).
    takeover: bool,
}

impl Announcer {
    /// Announces `addresses` on `interface` in a burst that begins now.
    pub(crate) fn add(&mut self, interface: InterfaceId, addresses: Vec<IpAddr>, now: Instant) {
        self.push(interface, addresses, ROUNDS, true, now);
    }

    /// Forgets what was to be announced on interfaces that are gone.
    pub(crate) fn keep(&mut self, still_there: impl Fn(InterfaceId) -> bool) {
        self.bursts.retain(|burst| still_there(burst.interface));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let bursts = self.bursts.iter().map(|burst| burst.due);
        bursts.chain(self.slow).min()
    }

    fn push(
        &mut self,
        interface: InterfaceId,
        addresses: Vec<IpAddr>,
        rounds: u8,
        takeover: bool,
        now: Instant,
    ) {
        if addresses.is_empty() {
            return;
        }
        // A device that flaps begins the same burst over, no faster than a burst goes.
        let same = |burst: &Burst| burst.interface == interface && burst.addresses == addresses;
        let running = self.bursts.iter().find(|burst| same(burst));
        let due = running.map_or(now, |burst| burst.due);
        self.bursts.retain(|burst| !same(burst));
        self.bursts.push(Burst {
            interface,
            addresses,
            at: 0,
            rounds,
            due,
            began: due,
            takeover,
        });
    }
}

impl Shard {
    /// Announces everything that `interface` answers for, in a burst.
    pub(crate) fn announce_all(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        now: Instant,
    ) {
        let addresses = everything(snapshot, interface);
        self.announcer
            .bursts
            .retain(|burst| burst.interface != interface.id || burst.addresses == addresses);
        self.announcer.add(interface.id, addresses, now);
    }

    /// Announces what `guests` have outside, in a burst.
    pub(crate) fn announce_guests(
        &mut self,
        snapshot: &Snapshot,
        guests: &[GuestId],
        now: Instant,
    ) {
        for interface in snapshot
            .interfaces()
            .filter(|interface| interface.personality)
        {
            let theirs = snapshot.owners().public_addresses(interface.id, FEW);
            let theirs = theirs
                .filter(|(_, guest)| guests.contains(guest))
                .map(|(address, _)| address)
                .collect();
            self.announcer.add(interface.id, theirs, now);
        }
    }

    /// Sends what is due.
    pub(crate) fn poll_announcements(&mut self, snapshot: &Snapshot, now: Instant) {
        self.repeat_slowly(snapshot, now);
        let mut bursts = std::mem::take(&mut self.announcer.bursts);
        for burst in bursts.iter_mut().filter(|burst| burst.due <= now) {
            let Some(interface) = snapshot.interface(burst.interface) else {
                burst.rounds = 0;
                continue;
            };
            let end = burst.addresses.len().min(burst.at + AT_ONCE);
            for address in &burst.addresses[burst.at..end] {
                self.announce_once(snapshot, interface, *address, burst.takeover);
            }
            burst.at = end;
            burst.due = now + PAUSE;
            if end == burst.addresses.len() {
                burst.at = 0;
                burst.rounds -= 1;
                burst.due = burst.due.max(burst.began + BETWEEN_ROUNDS);
                burst.began = burst.due;
            }
        }
        bursts.retain(|burst| burst.rounds > 0);
        let added = std::mem::replace(&mut self.announcer.bursts, bursts);
        self.announcer.bursts.extend(added);
    }

    /// Announces one address, if it is ours by now.
    pub(crate) fn announce_once(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        address: IpAddr,
        takeover: bool,
    ) {
        if !self.claims.is_ours(interface.id, address) {
            return;
        }
        match address {
            IpAddr::V4(address) => self.announce(snapshot, interface, address),
            IpAddr::V6(address) => self.announce_neighbor(snapshot, interface, address, takeover),
        }
    }

    fn repeat_slowly(&mut self, snapshot: &Snapshot, now: Instant) {
        let interval = snapshot.config().router().announce_interval;
        if interval == 0 {
            self.announcer.slow = None;
            return;
        }
        let next = now + Duration::from_secs(interval.into());
        let due = *self.announcer.slow.get_or_insert(next);
        if due > now {
            return;
        }
        self.announcer.slow = Some(next);
        for interface in snapshot.interfaces() {
            let addresses = everything(snapshot, interface);
            self.announcer.push(interface.id, addresses, 1, false, now);
        }
    }
}

/// Every single address that `interface` answers for.
fn everything(snapshot: &Snapshot, interface: &Interface) -> Vec<IpAddr> {
    let own = interface.addresses.iter().map(|prefix| prefix.addr());
    let link_local = interface.link_local.map(IpAddr::V6);
    let own = own.chain(link_local).filter(|_| interface.shared.is_none());
    let guests = snapshot.owners().public_addresses(interface.id, FEW);
    own.chain(guests.map(|(address, _)| address)).collect()
}
