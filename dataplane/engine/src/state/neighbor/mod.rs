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
//! | probe | 3 solicitations unanswered | (none) |
//! | any but incomplete | another MAC is heard of | stale, with that MAC |
//!
//! A guest whose MAC is configured is `permanent`: nothing that is heard changes it.

mod entry;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::deadlines::Deadlines;
use crate::base::hash::HashKey;
use crate::base::random::Random;
use crate::base::time::Instant;
pub use entry::{Event, Held, NeighborId, NeighborState, Resolution};

/// Time between solicitations (RFC 4861 §10 RETRANS_TIMER; RFC 1122 §2.3.2.1: at most one ARP
/// per second and destination).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Solicitations before giving up (RFC 4861 §10 MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
const SOLICITATIONS: u8 = 3;
/// Time in delay before probing (RFC 4861 §10 DELAY_FIRST_PROBE_TIME).
const DELAY: Duration = Duration::from_secs(5);
/// Base of the time an answer is trusted for (RFC 4861 §10 REACHABLE_TIME), in ms; half to one
/// and a half of it is used (MIN_RANDOM_FACTOR, MAX_RANDOM_FACTOR).
const REACHABLE_MS: u64 = 30_000;
/// Packets that wait for one neighbour at most; the oldest is replaced (RFC 1122 §2.3.2.2 wants
/// at least the latest kept).
const HELD_EACH: usize = 32;
/// Bytes that wait in all at most.
const HELD_BYTES: usize = 8 << 20;

/// One neighbour.
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// The interface it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC; zero while incomplete.
    pub mac: MacAddr,
    /// The port it was heard on.
    pub port: PortId,
    /// How sure we are.
    pub state: NeighborState,
    /// When it was last confirmed.
    pub confirmed: Instant,
    /// Frames waiting for it.
    pub held: VecDeque<Held>,
    /// The port whose packet needs it.
    asker: Option<PortId>,
    use_count: u32,
    live: bool,
    solicited: u8,
    reachable_until: Instant,
    used: Instant,
}

/// All neighbours, at most as many as it was made for.
#[derive(Debug, Clone)]
pub struct Neighbors {
    entries: Vec<Neighbor>,
    places: HashMap<(InterfaceId, IpAddr), u16, HashKey>,
    free: Vec<u16>,
    due: Deadlines<u16>,
    limit: usize,
    incomplete: usize,
    /// By port: how many incomplete ones its packets need.
    asked_by: Vec<u16>,
    held_bytes: usize,
    random: Random,
}

impl Neighbors {
    /// An empty table for at most `limit` neighbours, of which a half may be unresolved.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            places: HashMap::with_hasher(HashKey::new(seed)),
            free: Vec::new(),
            due: Deadlines::default(),
            limit: limit.min(usize::from(u16::MAX)),
            incomplete: 0,
            asked_by: Vec::new(),
            held_bytes: 0,
            random: Random::new(seed),
        }
    }

    /// The MAC and port behind `id`, if it is still that neighbour's; it is about to be used.
    #[inline]
    pub fn follow(&mut self, id: NeighborId, now: Instant) -> Option<(MacAddr, PortId)> {
        let neighbor = self.entries.get_mut(usize::from(id.slot))?;
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
        let neighbor = &self.entries[usize::from(id.slot)];
        Some((neighbor.mac, neighbor.port))
    }

    /// The MAC of `address` on `interface`. If it is not known, it is asked for, on behalf of a
    /// packet from `asker`. At most a quarter of the places may be incomplete because of one port's
    /// packets, and half of them in all (N24).
    pub fn resolve(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        asker: Option<PortId>,
        now: Instant,
    ) -> Resolution {
        if let Some(&slot) = self.places.get(&(interface, address)) {
            let id = NeighborId {
                slot,
                use_count: self.entries[usize::from(slot)].use_count,
            };
            return match self.follow(id, now) {
                Some((mac, port)) => Resolution::Known(id, mac, port),
                None => Resolution::Pending(id),
            };
        }
        let asked = asker.map_or(0, |port| {
            self.asked_by.get(port.index()).copied().unwrap_or(0)
        });
        if self.incomplete >= self.limit.div_ceil(2) || usize::from(asked) >= self.limit.div_ceil(4)
        {
            return Resolution::Full;
        }
        let Some(slot) = self.place(interface, address, now) else {
            return Resolution::Full;
        };
        let neighbor = &mut self.entries[usize::from(slot)];
        neighbor.state = NeighborState::Incomplete;
        neighbor.asker = asker;
        neighbor.solicited = 0;
        let id = NeighborId {
            slot,
            use_count: neighbor.use_count,
        };
        self.incomplete += 1;
        if let Some(port) = asker {
            if self.asked_by.len() <= port.index() {
                self.asked_by.resize(port.index() + 1, 0);
            }
            self.asked_by[port.index()] += 1;
        }
        self.due.set(slot, now);
        Resolution::Pending(id)
    }

    /// The neighbour `address` is known by configuration. `None`: no room.
    pub fn pin(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        station: (MacAddr, PortId),
        now: Instant,
    ) -> Option<NeighborId> {
        let slot = match self.places.get(&(interface, address)) {
            Some(&slot) => slot,
            None => self.place(interface, address, now)?,
        };
        if self.entries[usize::from(slot)].state == NeighborState::Incomplete {
            self.settle(slot);
        }
        let neighbor = &mut self.entries[usize::from(slot)];
        neighbor.state = NeighborState::Permanent;
        (neighbor.mac, neighbor.port) = station;
        neighbor.used = now;
        let use_count = neighbor.use_count;
        self.due.clear(slot);
        Some(NeighborId { slot, use_count })
    }

    /// Forgets the neighbour `address` if it is known by configuration, with what waited for it.
    pub fn unpin(&mut self, interface: InterfaceId, address: IpAddr) -> usize {
        let slot = self.places.get(&(interface, address)).copied();
        let is_pinned =
            |slot: &u16| self.entries[usize::from(*slot)].state == NeighborState::Permanent;
        slot.filter(is_pinned)
            .map_or(0, |slot| self.remove(slot).len())
    }

    /// Keeps a frame until `id` is resolved. Returns how many older ones had to go for it.
    pub fn hold(&mut self, id: NeighborId, held: Held) -> usize {
        let Some(neighbor) = self.entries.get_mut(usize::from(id.slot)) else {
            return 1;
        };
        if self.held_bytes + held.frame.bytes.len() > HELD_BYTES {
            return 1;
        }
        self.held_bytes += held.frame.bytes.len();
        neighbor.held.push_back(held);
        let mut gone = 0;
        while neighbor.held.len() > HELD_EACH {
            if let Some(oldest) = neighbor.held.pop_front() {
                self.held_bytes -= oldest.frame.bytes.len();
                gone += 1;
            }
        }
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
        let Some(&slot) = self.places.get(&(interface, address)) else {
            return VecDeque::new();
        };
        let trusted = REACHABLE_MS / 2 + self.random.draw() % REACHABLE_MS;
        let neighbor = &mut self.entries[usize::from(slot)];
        if neighbor.state == NeighborState::Permanent {
            return VecDeque::new();
        }
        if neighbor.state == NeighborState::Incomplete {
            self.settle(slot);
        }
        let neighbor = &mut self.entries[usize::from(slot)];
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
    ) -> (VecDeque<Held>, bool) {
        let Some(&slot) = self.places.get(&(interface, address)) else {
            return (VecDeque::new(), false);
        };
        let neighbor = &mut self.entries[usize::from(slot)];
        let incomplete = neighbor.state == NeighborState::Incomplete;
        let same = (neighbor.mac, neighbor.port) == (mac, port);
        if neighbor.state == NeighborState::Permanent || !incomplete && same {
            return (VecDeque::new(), true);
        }
        if incomplete {
            self.settle(slot);
        }
        let neighbor = &mut self.entries[usize::from(slot)];
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
        let Some(&slot) = self.places.get(&(interface, address)) else {
            return VecDeque::new();
        };
        let neighbor = &mut self.entries[usize::from(slot)];
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
            self.hear(interface, address, (mac, port)).0
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
        let (held, known) = self.hear(interface, address, (mac, port));
        if !known && let Some(slot) = self.place(interface, address, now) {
            let neighbor = &mut self.entries[usize::from(slot)];
            neighbor.state = NeighborState::Stale;
            (neighbor.mac, neighbor.port) = (mac, port);
        }
        held
    }

    /// Copies one neighbour from `other`, without the packets that wait for it.
    pub(crate) fn take_over(&mut self, other: &Self, place: (InterfaceId, IpAddr)) {
        let Some(slot) = other.places.get(&place) else {
            return;
        };
        let known = &other.entries[usize::from(*slot)];
        if known.state == NeighborState::Incomplete {
            return;
        }
        if let Some(slot) = self.place(place.0, place.1, known.used) {
            let entry = &mut self.entries[usize::from(slot)];
            entry.state = known.state;
            (entry.mac, entry.port) = (known.mac, known.port);
            entry.confirmed = known.confirmed;
            entry.reachable_until = known.reachable_until;
        }
    }

    /// Whether `address` on `interface` is in the table.
    pub fn knows(&self, interface: InterfaceId, address: IpAddr) -> bool {
        self.places.contains_key(&(interface, address))
    }

    /// Forgets all neighbours for which `gone` holds, with what waited for them.
    pub fn forget(&mut self, gone: impl Fn(&Neighbor) -> bool) -> usize {
        let mut held = 0;
        for slot in 0..self.entries.len() {
            let neighbor = &self.entries[slot];
            if neighbor.live && gone(neighbor) {
                held += self.remove(slot as u16).len();
            }
        }
        held
    }

    /// The next thing to do by now.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        while let Some(slot) = self.due.pop(now) {
            let neighbor = &mut self.entries[usize::from(slot)];
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
                return Some(Event::Failed { target, held });
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
        self.entries.iter().filter(|neighbor| neighbor.live)
    }

    /// What finding all neighbours costs, about: the map chooses a place by the lowest bits.
    #[cfg(test)]
    pub(crate) fn cost(&self) -> usize {
        use std::hash::BuildHasher;
        let mut places = HashMap::<u64, usize>::new();
        for place in self.places.keys() {
            let hash = self.places.hasher().hash_one(place);
            *places.entry(hash & 0x7fff).or_default() += 1;
        }
        places.values().map(|keys| keys * keys).sum()
    }

    /// Counts a neighbour as incomplete no longer.
    fn settle(&mut self, slot: u16) {
        self.incomplete -= 1;
        if let Some(port) = self.entries[usize::from(slot)].asker.take()
            && let Some(asked) = self.asked_by.get_mut(port.index())
        {
            *asked -= 1;
        }
    }

    fn delay(&mut self, slot: u16, now: Instant) {
        self.entries[usize::from(slot)].state = NeighborState::Delay;
        self.due.set(slot, now + DELAY);
    }

    fn take_held(&mut self, slot: u16) -> VecDeque<Held> {
        let held = std::mem::take(&mut self.entries[usize::from(slot)].held);
        self.held_bytes -= held
            .iter()
            .map(|held| held.frame.bytes.len())
            .sum::<usize>();
        held
    }

    /// A place for a new neighbour; when all are taken, that of the one unused for longest, unless
    /// it is in use or unresolved.
    fn place(&mut self, interface: InterfaceId, address: IpAddr, now: Instant) -> Option<u16> {
        if self.places.len() >= self.limit {
            let (oldest, _) = self
                .entries
                .iter()
                .enumerate()
                .filter(|(_, neighbor)| neighbor.live && neighbor.state.may_go())
                .min_by_key(|(_, neighbor)| neighbor.used)?;
            self.remove(oldest as u16);
        }
        let slot = self.free.pop().unwrap_or(self.entries.len() as u16);
        let use_count = self
            .entries
            .get(usize::from(slot))
            .map_or(0, |old| old.use_count.wrapping_add(1));
        let neighbor = Neighbor {
            interface,
            address,
            mac: MacAddr::ZERO,
            port: PortId(0),
            state: NeighborState::Stale,
            confirmed: now,
            held: VecDeque::new(),
            use_count,
            asker: None,
            live: true,
            solicited: 0,
            reachable_until: Instant::default(),
            used: now,
        };
        match self.entries.get_mut(usize::from(slot)) {
            Some(entry) => *entry = neighbor,
            None => self.entries.push(neighbor),
        }
        self.places.insert((interface, address), slot);
        Some(slot)
    }

    fn remove(&mut self, slot: u16) -> VecDeque<Held> {
        self.due.clear(slot);
        let held = self.take_held(slot);
        if self.entries[usize::from(slot)].state == NeighborState::Incomplete {
            self.settle(slot);
        }
        let neighbor = &mut self.entries[usize::from(slot)];
        neighbor.live = false;
        self.places.remove(&(neighbor.interface, neighbor.address));
        self.free.push(slot);
        held
    }
}

#[cfg(test)]
mod tests;
