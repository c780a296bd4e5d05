//! Neighbours: the MAC of each next hop, and how sure we are of it.
//!
//! One state machine for ARP and NDP (RFC 4861 §7.3.2; times of §10, which ARP borrows as Linux
//! does):
//!
//! | state | event | next |
//! |---|---|---|
//! | (none) | a packet needs the MAC | incomplete: solicit to all, 1 s apart, 3 times |
//! | incomplete | an answer | reachable; held packets leave |
//! | incomplete | 3 solicitations unanswered | (none); held packets get "host unreachable" |
//! | reachable | 15–45 s without confirmation, then a packet | delay |
//! | stale | a packet | delay |
//! | delay | 5 s | probe: solicit the known MAC, 1 s apart, 3 times |
//! | delay, probe | an answer | reachable |
//! | reachable (for a second), stale, delay | another port claims the address ([`Neighbors::doubt`]) | probe |
//! | probe | 3 solicitations unanswered | (none) |
//! | any but incomplete | another MAC is heard of | stale, with that MAC |
//!
//! A guest whose MAC is configured is `permanent`: nothing that is heard changes it.

mod entry;
mod places;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::deadlines::Deadlines;
use crate::base::ip::is_of_a_link;
use crate::base::random::Random;
use crate::base::shares::Shares;
use crate::base::time::Instant;
pub use entry::{Event, Held, Neighbor, NeighborId, NeighborState, Resolution};
use entry::{Link, RETRANSMIT, Taker};
use places::Places;

/// Solicitations before giving up (RFC 4861 §10 MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
const SOLICITATIONS: u8 = 3;
/// Time in delay before probing (RFC 4861 §10 DELAY_FIRST_PROBE_TIME).
const DELAY: Duration = Duration::from_secs(5);
/// Base of the time an answer is trusted for (RFC 4861 §10 REACHABLE_TIME), in ms; half to one
/// and a half of it is used (MIN_RANDOM_FACTOR, MAX_RANDOM_FACTOR).
const REACHABLE_MS: u64 = 30_000;
/// Packets of one port that wait for one neighbour at most; the oldest is replaced (RFC 1122 §2.3.2.2
/// wants at least the latest kept).
const HELD_EACH: usize = 32;
/// Bytes that wait in all at most; each port has a share of them (H10).
const HELD_BYTES: u32 = 8 << 20;
/// What a packet that waits takes beside its bytes, about.
const HELD_BESIDE: usize = 256;

/// All neighbours, at most as many as it was made for.
#[derive(Debug, Clone)]
pub struct Neighbors {
    places: Places,
    due: Deadlines<u16>,
    held_bytes: Shares,
    /// Packets that waited for neighbours that made room for others.
    displaced: u64,
    random: Random,
}

impl Neighbors {
    /// An empty table for at most `limit` neighbours beside those that are configured. One port may
    /// have as many as it leaves to others.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            places: Places::new(limit, seed),
            due: Deadlines::default(),
            held_bytes: Shares::new(HELD_BYTES),
            displaced: 0,
            random: Random::new(seed),
        }
    }

    /// The MAC and port behind `id`, if it is still that neighbour's; it is about to be used.
    #[inline]
    pub fn follow(&mut self, id: NeighborId, now: Instant) -> Option<(MacAddr, PortId)> {
        let neighbor = self.places.get_mut(id.slot)?;
        if neighbor.use_count != id.use_count || !neighbor.live {
            return None;
        }
        neighbor.used = now;
        match neighbor.state {
            NeighborState::Reachable if now < neighbor.reachable_until => {}
            NeighborState::Incomplete => return None,
            NeighborState::Reachable | NeighborState::Stale => self.delay(id.slot, now),
            NeighborState::Delay | NeighborState::Probe | NeighborState::Permanent => {}
        }
        let neighbor = self.places.get(id.slot)?;
        Some((neighbor.mac, neighbor.port))
    }

    /// The MAC of `address` on `interface`. If it is not known, it is asked for, on behalf of a
    /// packet from `asker`, against which it is counted until it answers (N24, H11).
    pub fn resolve(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        asker: Option<PortId>,
        now: Instant,
    ) -> Resolution {
        if let Some(slot) = self.places.find(interface, address) {
            let id = NeighborId {
                slot,
                use_count: self.places.at(slot).use_count,
            };
            return match self.follow(id, now) {
                Some((mac, port)) => Resolution::Known(id, mac, port),
                None => Resolution::Pending(id),
            };
        }
        let Some(slot) = self.place(interface, address, Taker::Asked(asker), now) else {
            return Resolution::Full;
        };
        let neighbor = self.places.at(slot);
        neighbor.state = NeighborState::Incomplete;
        let use_count = neighbor.use_count;
        self.due.set(slot, now);
        Resolution::Pending(NeighborId { slot, use_count })
    }

    /// The neighbour `address` is known by configuration. `None`: no room.
    pub fn pin(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        station: (MacAddr, PortId),
        now: Instant,
    ) -> Option<NeighborId> {
        let slot = match self.places.find(interface, address) {
            Some(slot) => slot,
            None => self.place(interface, address, Taker::Pinned, now)?,
        };
        if self.places.at(slot).link.taker != Taker::Pinned {
            self.places.charge(slot, Taker::Pinned);
        }
        let neighbor = self.places.at(slot);
        neighbor.state = NeighborState::Permanent;
        (neighbor.mac, neighbor.port) = station;
        neighbor.used = now;
        let use_count = neighbor.use_count;
        self.due.clear(slot);
        Some(NeighborId { slot, use_count })
    }

    /// Forgets the neighbour `address` if it is known by configuration, with what waited for it.
    pub fn unpin(&mut self, interface: InterfaceId, address: IpAddr) -> usize {
        let slot = self.places.find(interface, address);
        let is_pinned = |slot: &u16| {
            let neighbor = self.places.get(*slot);
            neighbor.is_some_and(|neighbor| neighbor.state == NeighborState::Permanent)
        };
        slot.filter(is_pinned)
            .map_or(0, |slot| self.remove(slot).len())
    }

    /// Forgets the neighbour `address`, which lives elsewhere now. Who is being asked for stays: it is asked
    /// for there.
    pub fn moved(&mut self, interface: InterfaceId, address: IpAddr) {
        let slot = self.places.find(interface, address);
        let is_known = |slot: &u16| {
            let neighbor = self.places.get(*slot);
            neighbor.is_some_and(|neighbor| neighbor.state != NeighborState::Incomplete)
        };
        if let Some(slot) = slot.filter(is_known) {
            self.remove(slot);
        }
    }

    /// Keeps a frame until `id` is resolved. Returns how many had to go for it, or 1 if it is not kept:
    /// only frames of the port it came in by, of which a share of the room may wait.
    pub fn hold(&mut self, id: NeighborId, held: Held) -> usize {
        let Some(neighbor) = self.places.get_mut(id.slot) else {
            return 1;
        };
        let taker = Taker::from(held.origin).index();
        let same = |other: &Held| other.origin == held.origin;
        let mut gone = 0;
        if neighbor.held.iter().filter(|held| same(held)).count() >= HELD_EACH
            && let Some(oldest) = neighbor.held.iter().position(same)
            && let Some(oldest) = neighbor.held.remove(oldest)
        {
            self.held_bytes.give_back(taker, room(&oldest));
            gone = 1;
        }
        if !self.held_bytes.may_take(taker, room(&held)) {
            return gone + 1;
        }
        self.held_bytes.take(taker, room(&held));
        neighbor.held.push_back(held);
        gone
    }

    /// The neighbour answered a solicitation of ours: it is there, with this MAC. Returns what
    /// waited for it. Ignored if it was never asked for.
    pub fn confirm(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        (mac, port): (MacAddr, PortId),
        now: Instant,
    ) -> VecDeque<Held> {
        let Some(slot) = self.places.find(interface, address) else {
            return VecDeque::new();
        };
        let trusted = REACHABLE_MS / 2 + self.random.draw() % REACHABLE_MS;
        if self.places.at(slot).state == NeighborState::Permanent || self.is_namesake(slot, port) {
            return VecDeque::new();
        }
        self.settle(slot, port, now);
        let neighbor = self.places.at(slot);
        neighbor.state = NeighborState::Reachable;
        (neighbor.mac, neighbor.port) = (mac, port);
        neighbor.confirmed = now;
        neighbor.reachable_until = now + Duration::from_millis(trusted);
        self.due.clear(slot);
        self.take_held(slot)
    }

    /// The neighbour said its MAC unasked (RFC 826's merge): a known one's is updated. Returns
    /// what waited for it, and whether it is known at all.
    pub fn hear(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        (mac, port): (MacAddr, PortId),
        now: Instant,
    ) -> (VecDeque<Held>, bool) {
        let Some(slot) = self.places.find(interface, address) else {
            return (VecDeque::new(), false);
        };
        let neighbor = self.places.at(slot);
        let incomplete = neighbor.state == NeighborState::Incomplete;
        let same = (neighbor.mac, neighbor.port) == (mac, port);
        if neighbor.state == NeighborState::Permanent || !incomplete && same {
            return (VecDeque::new(), true);
        }
        if self.is_namesake(slot, port) {
            self.doubt(interface, address, now);
            return (VecDeque::new(), true);
        }
        self.settle(slot, port, now);
        let neighbor = self.places.at(slot);
        neighbor.state = NeighborState::Stale;
        (neighbor.mac, neighbor.port) = (mac, port);
        self.due.clear(slot);
        (self.take_held(slot), true)
    }

    /// The neighbour sent a neighbour advertisement (RFC 4861 §7.2.5, N10): `mac` is its target
    /// link-layer address option. Returns what waited for it.
    pub fn advertised(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        (mac, port): (Option<MacAddr>, PortId),
        (solicited, overrides): (bool, bool),
        now: Instant,
    ) -> VecDeque<Held> {
        let Some(slot) = self.places.find(interface, address) else {
            return VecDeque::new();
        };
        let neighbor = self.places.at(slot);
        let incomplete = neighbor.state == NeighborState::Incomplete;
        let mac = match mac {
            None if incomplete => return VecDeque::new(),
            None => neighbor.mac,
            Some(mac) => mac,
        };
        let changed = incomplete || mac != neighbor.mac;
        if changed && !incomplete && !overrides {
            if neighbor.state == NeighborState::Reachable {
                neighbor.state = NeighborState::Stale;
                self.due.clear(slot);
            }
            return VecDeque::new();
        }
        if solicited {
            self.confirm(interface, address, (mac, port), now)
        } else if changed {
            self.hear(interface, address, (mac, port), now).0
        } else {
            VecDeque::new()
        }
    }

    /// The neighbour asked for an address of ours, so that an answer to it is likely to follow:
    /// remembered as stale. Returns what waited for it.
    pub fn learn(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        (mac, port): (MacAddr, PortId),
        now: Instant,
    ) -> VecDeque<Held> {
        let (held, known) = self.hear(interface, address, (mac, port), now);
        if !known && let Some(slot) = self.place(interface, address, Taker::Port(port), now) {
            let neighbor = self.places.at(slot);
            neighbor.state = NeighborState::Stale;
            (neighbor.mac, neighbor.port) = (mac, port);
        }
        held
    }

    /// Copies one neighbour from `other`, without the packets that wait for it.
    pub(crate) fn take_over(&mut self, other: &Self, place: (InterfaceId, IpAddr)) {
        let slot = other.places.find(place.0, place.1);
        let Some(known) = slot.and_then(|slot| other.places.get(slot)) else {
            return;
        };
        if known.state == NeighborState::Incomplete {
            return;
        }
        if let Some(slot) = self.place(place.0, place.1, Taker::Ours, known.used) {
            let entry = self.places.at(slot);
            entry.state = known.state;
            (entry.mac, entry.port) = (known.mac, known.port);
            entry.confirmed = known.confirmed;
            entry.reachable_until = known.reachable_until;
        }
    }

    /// Whether it was confirmed at `since` or later.
    pub fn was_heard(&self, (interface, address): (InterfaceId, IpAddr), since: Instant) -> bool {
        let slot = self.places.find(interface, address);
        let neighbor = slot.and_then(|slot| self.places.get(slot));
        neighbor.is_some_and(|neighbor| match neighbor.state {
            NeighborState::Incomplete => false,
            NeighborState::Permanent => true,
            _ => neighbor.confirmed >= since,
        })
    }

    /// Whether `address` on `interface` is in the table.
    pub fn knows(&self, interface: InterfaceId, address: IpAddr) -> bool {
        self.places.find(interface, address).is_some()
    }

    /// The port that `address` was heard on.
    pub fn port_of(&self, interface: InterfaceId, address: IpAddr) -> Option<PortId> {
        let neighbor = self.places.get(self.places.find(interface, address)?)?;
        (neighbor.state != NeighborState::Incomplete).then_some(neighbor.port)
    }

    /// Somebody else says that `address` is its own: the neighbour is asked whether it is still there,
    /// at most once a second.
    pub fn doubt(&mut self, interface: InterfaceId, address: IpAddr, now: Instant) {
        let Some(slot) = self.places.find(interface, address) else {
            return;
        };
        let neighbor = self.places.at(slot);
        match neighbor.state {
            NeighborState::Reachable if now.since(neighbor.confirmed) < RETRANSMIT => {}
            NeighborState::Reachable | NeighborState::Stale | NeighborState::Delay => {
                neighbor.state = NeighborState::Probe;
                neighbor.solicited = 0;
                self.due.set(slot, now);
            }
            NeighborState::Incomplete | NeighborState::Probe | NeighborState::Permanent => {}
        }
    }

    /// Forgets all neighbours for which `gone` holds, with what waited for them.
    pub fn forget(&mut self, gone: impl Fn(&Neighbor) -> bool) -> usize {
        let mut held = 0;
        for slot in self.places.slots() {
            if self
                .places
                .get(slot)
                .is_some_and(|neighbor| neighbor.live && gone(neighbor))
            {
                held += self.remove(slot).len();
            }
        }
        held
    }

    /// Those on `interface` that are asked for are asked for anew: nobody heard it so far.
    pub fn ask_again(&mut self, interface: InterfaceId, now: Instant) {
        for slot in self.places.slots() {
            let neighbor = self.places.at(slot);
            let is_asked = neighbor.live && neighbor.state == NeighborState::Incomplete;
            if is_asked && neighbor.interface == interface {
                neighbor.solicited = 0;
                self.due.set(slot, now);
            }
        }
    }

    /// The next thing to do by now.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        while let Some(slot) = self.due.pop(now) {
            let neighbor = self.places.at(slot);
            let (interface, target) = (neighbor.interface, neighbor.address);
            let to = match neighbor.state {
                NeighborState::Incomplete => None,
                NeighborState::Delay => {
                    neighbor.state = NeighborState::Probe;
                    neighbor.solicited = 0;
                    Some((neighbor.mac, neighbor.port))
                }
                NeighborState::Probe => Some((neighbor.mac, neighbor.port)),
                NeighborState::Reachable | NeighborState::Stale | NeighborState::Permanent => {
                    continue;
                }
            };
            if neighbor.solicited >= SOLICITATIONS {
                let held = self.remove(slot);
                return Some(Event::Failed {
                    interface,
                    target,
                    held,
                });
            }
            neighbor.solicited += 1;
            self.due.set(slot, now + RETRANSMIT);
            return Some(Event::Solicit {
                interface,
                target,
                to,
            });
        }
        None
    }

    /// When [`Self::poll`] has something to do next.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    /// All neighbours.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbor> {
        self.places.iter()
    }

    /// How many neighbours are counted against `port`, and how many could be.
    pub fn share(&self, port: PortId) -> (u32, u32) {
        let (shares, share) = (self.places.shares(), Taker::Port(port).share());
        (shares.used(share), shares.most(share))
    }

    /// Packets that waited for neighbours that made room for others, since it was asked last.
    pub fn take_displaced(&mut self) -> u64 {
        std::mem::take(&mut self.displaced)
    }

    /// What finding all neighbours costs, about.
    #[cfg(test)]
    pub(crate) fn cost(&self) -> usize {
        self.places.cost()
    }

    /// Whether it is somebody else's on `port`: a link-local address may be the same on many ports of a
    /// network, and the first that was heard stays in the table.
    fn is_namesake(&mut self, slot: u16, port: PortId) -> bool {
        let neighbor = self.places.at(slot);
        is_of_a_link(neighbor.address)
            && neighbor.state != NeighborState::Incomplete
            && neighbor.port != port
    }

    /// A neighbour is known to be on `port` and is counted against it from now on, unless the port has
    /// its share and all of it is in use.
    fn settle(&mut self, slot: u16, port: PortId, now: Instant) {
        let taker = Taker::Port(port);
        if self.places.at(slot).link.taker == taker || !self.make_room(taker, now) {
            return;
        }
        self.places.charge(slot, taker);
    }

    fn delay(&mut self, slot: u16, now: Instant) {
        self.places.at(slot).state = NeighborState::Delay;
        self.due.set(slot, now + DELAY);
    }

    fn take_held(&mut self, slot: u16) -> VecDeque<Held> {
        let held = std::mem::take(&mut self.places.at(slot).held);
        for held in &held {
            let taker = Taker::from(held.origin).index();
            self.held_bytes.give_back(taker, room(held));
        }
        held
    }

    /// A place for a new neighbour. `None`: `taker` has its share, and all of it is in use.
    fn place(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        taker: Taker,
        now: Instant,
    ) -> Option<u16> {
        if !self.make_room(taker, now) {
            return None;
        }
        Some(self.places.insert(Neighbor {
            interface,
            address,
            mac: MacAddr::ZERO,
            port: PortId(0),
            state: NeighborState::Stale,
            confirmed: now,
            held: VecDeque::new(),
            use_count: 0,
            link: Link::of(taker),
            live: true,
            solicited: 0,
            reachable_until: Instant::default(),
            used: now,
        }))
    }

    /// Sees to it that `taker` may have one more neighbour.
    fn make_room(&mut self, taker: Taker, now: Instant) -> bool {
        match self.places.spare(taker, now) {
            Ok(None) => true,
            Ok(Some(slot)) => {
                self.displaced += self.remove(slot).len() as u64;
                true
            }
            Err(()) => false,
        }
    }

    fn remove(&mut self, slot: u16) -> VecDeque<Held> {
        self.due.clear(slot);
        let held = self.take_held(slot);
        self.places.remove(slot);
        held
    }
}

/// What a packet that waits takes, in bytes.
fn room(held: &Held) -> u32 {
    (held.frame.bytes.len() + HELD_BESIDE) as u32
}

#[cfg(test)]
mod tests;
