//! Where neighbours are kept: found by address, and counted against a port, which has a share of all
//! places (H07). One that is known counts against the port it was heard on, one that is being asked for
//! against the port whose packet needs it; of those there may be half as many (N24, H11). When a port
//! has its share, the oldest of its own makes room that is not in use, or was asked for in vain a second
//! ago; at a cost that does not depend on how many there are.

use std::collections::HashMap;
use std::net::IpAddr;

use super::entry::{Link, NONE, Neighbor, NeighborState, RETRANSMIT, Taker};
use crate::base::addr::InterfaceId;
use crate::base::hash::HashKey;
use crate::base::shares::Shares;
use crate::base::time::Instant;

/// Most places there can be.
const MOST: usize = NONE as usize;
/// How many neighbours are looked at for one that makes room.
const LOOKS: usize = 8;

/// Neighbours by place.
#[derive(Debug, Clone)]
pub(super) struct Places {
    neighbors: Vec<Neighbor>,
    by_address: HashMap<(InterfaceId, IpAddr), u16, HashKey>,
    free: Vec<u16>,
    /// By taker: its neighbours.
    lists: Vec<List>,
    shares: Shares,
    /// The same for those that are being asked for.
    asked: Shares,
}

/// A taker's neighbours, linked by [`Link`].
#[derive(Debug, Clone, Copy)]
struct List {
    oldest: u16,
    newest: u16,
}

impl Places {
    /// Room for `limit` neighbours beside those that are configured.
    pub(super) fn new(limit: usize, seed: u64) -> Self {
        Self {
            neighbors: Vec::new(),
            by_address: HashMap::with_hasher(HashKey::new(seed)),
            free: Vec::new(),
            lists: Vec::new(),
            shares: Shares::new(limit.min(MOST) as u32),
            asked: Shares::new(limit.min(MOST).div_ceil(2) as u32),
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: u16) -> Option<&Neighbor> {
        self.neighbors.get(usize::from(slot))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u16) -> Option<&mut Neighbor> {
        self.neighbors.get_mut(usize::from(slot))
    }

    /// The neighbour at a place that is in use.
    #[inline]
    pub(super) fn at(&mut self, slot: u16) -> &mut Neighbor {
        &mut self.neighbors[usize::from(slot)]
    }

    pub(super) fn find(&self, interface: InterfaceId, address: IpAddr) -> Option<u16> {
        self.by_address.get(&(interface, address)).copied()
    }

    /// All places, whether in use or not.
    pub(super) fn slots(&self) -> std::ops::Range<u16> {
        0..self.neighbors.len() as u16
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Neighbor> {
        self.neighbors.iter().filter(|neighbor| neighbor.live)
    }

    /// How many places each port has, and may have.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Which neighbour must go so that `taker` may have one more; `Ok(None)`: none.
    ///
    /// # Errors
    /// All that were looked at are in use.
    pub(super) fn spare(&mut self, taker: Taker, now: Instant) -> Result<Option<u16>, ()> {
        let full = self.free.is_empty() && self.neighbors.len() >= MOST;
        let from = match taker {
            _ if taker != Taker::Pinned && !self.has_room(taker) => taker,
            // What is configured is found again without asking.
            _ if full => Taker::Pinned,
            _ => return Ok(None),
        };
        for _ in 0..LOOKS {
            let oldest = self
                .lists
                .get(from.index())
                .map_or(NONE, |list| list.oldest);
            let neighbor = self.get(oldest).ok_or(())?;
            if neighbor.may_go(now) {
                return Ok(Some(oldest));
            }
            self.take_out(oldest);
            self.append(oldest);
        }
        Err(())
    }

    /// Puts a neighbour in; its taker may have it.
    pub(super) fn insert(&mut self, mut neighbor: Neighbor) -> u16 {
        let slot = self.free.pop().unwrap_or(self.neighbors.len() as u16);
        let place = (neighbor.interface, neighbor.address);
        let taker = neighbor.link.taker;
        match self.neighbors.get_mut(usize::from(slot)) {
            Some(old) => {
                neighbor.use_count = old.use_count.wrapping_add(1);
                *old = neighbor;
            }
            None => self.neighbors.push(neighbor),
        }
        self.count(taker);
        self.append(slot);
        self.by_address.insert(place, slot);
        slot
    }

    /// Gives the place up.
    pub(super) fn remove(&mut self, slot: u16) {
        self.take_out(slot);
        let neighbor = &mut self.neighbors[usize::from(slot)];
        neighbor.live = false;
        let (place, taker) = ((neighbor.interface, neighbor.address), neighbor.link.taker);
        self.by_address.remove(&place);
        self.free.push(slot);
        self.discount(taker);
    }

    /// A neighbour counts against `taker` from now on, as its newest.
    pub(super) fn charge(&mut self, slot: u16, taker: Taker) {
        let before = self.at(slot).link.taker;
        self.take_out(slot);
        self.discount(before);
        self.at(slot).link.taker = taker;
        self.count(taker);
        self.append(slot);
    }

    /// What finding all neighbours costs, about: the map chooses a place by the lowest bits.
    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        use std::hash::BuildHasher;
        let mut places = HashMap::<u64, usize>::new();
        for place in self.by_address.keys() {
            let hash = self.by_address.hasher().hash_one(place);
            *places.entry(hash & 0x7fff).or_default() += 1;
        }
        places.values().map(|keys| keys * keys).sum()
    }

    fn has_room(&self, taker: Taker) -> bool {
        let is_asked = matches!(taker, Taker::Asked(_));
        self.shares.may_take(taker.share(), 1)
            && (!is_asked || self.asked.may_take(taker.share(), 1))
    }

    fn count(&mut self, taker: Taker) {
        if taker != Taker::Pinned {
            self.shares.take(taker.share(), 1);
        }
        if let Taker::Asked(_) = taker {
            self.asked.take(taker.share(), 1);
        }
    }

    fn discount(&mut self, taker: Taker) {
        if taker != Taker::Pinned {
            self.shares.give_back(taker.share(), 1);
        }
        if let Taker::Asked(_) = taker {
            self.asked.give_back(taker.share(), 1);
        }
    }

    fn append(&mut self, slot: u16) {
        let taker = self.at(slot).link.taker.index();
        if self.lists.len() <= taker {
            let empty = List {
                oldest: NONE,
                newest: NONE,
            };
            self.lists.resize(taker + 1, empty);
        }
        let older = std::mem::replace(&mut self.lists[taker].newest, slot);
        match self.get_mut(older) {
            Some(older) => older.link.newer = slot,
            None => self.lists[taker].oldest = slot,
        }
        let link = &mut self.at(slot).link;
        (link.older, link.newer) = (older, NONE);
    }

    fn take_out(&mut self, slot: u16) {
        let Link {
            taker,
            older,
            newer,
        } = self.at(slot).link;
        match self.get_mut(older) {
            Some(older) => older.link.newer = newer,
            None => self.lists[taker.index()].oldest = newer,
        }
        match self.get_mut(newer) {
            Some(newer) => newer.link.older = older,
            None => self.lists[taker.index()].newest = older,
        }
    }
}

impl Neighbor {
    /// Its place may be given to another: it is not in use, or was asked for and did not answer at once.
    /// What is configured is found again without asking.
    fn may_go(&self, now: Instant) -> bool {
        match self.state {
            NeighborState::Stale | NeighborState::Permanent => true,
            NeighborState::Incomplete => now.since(self.confirmed) >= RETRANSMIT,
            NeighborState::Reachable | NeighborState::Delay | NeighborState::Probe => false,
        }
    }
}
