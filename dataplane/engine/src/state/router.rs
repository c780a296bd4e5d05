//! What the router has once, however many workers it has.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use super::advertisers::Advertisers;
use super::announcer::Announcer;
use super::answers::Delayed;
use super::claims::Claims;
use super::memberships::Memberships;
use super::metadata::Metadata;
use super::neighbor::{Held, Neighbors};
use super::nexthops::NextHops;
use super::virtuals::Virtuals;
use crate::base::bucket::Buckets;
use crate::base::time::Instant;
use crate::config::RouterSection;

/// Addresses that guests declined, and until when they are not offered; at most one each guest.
pub(crate) type Declined = BTreeMap<Ipv4Addr, Instant>;

/// Neighbours, and what the router says about itself and its guests.
#[derive(Debug)]
pub struct Router {
    pub(crate) neighbors: Neighbors,
    pub(crate) next_hops: NextHops,
    pub(crate) virtuals: Virtuals,
    /// What waited for a neighbour that is known now. Each worker takes what is its own.
    pub(crate) released: VecDeque<Held>,
    pub(crate) claims: Claims,
    pub(crate) announcer: Announcer,
    pub(crate) memberships: Memberships,
    pub(crate) advertisers: Advertisers,
    pub(crate) declined: Declined,
    /// How often each guest's port was answered.
    pub(crate) answered: Buckets,
    pub(crate) delayed: Delayed,
    pub(crate) metadata: Metadata,
    /// The generation of the snapshot it adopted last; 0: none.
    pub(crate) generation: u32,
    /// Until then nothing is claimed: an earlier dataplane had the addresses already.
    pub(crate) claims_from: Instant,
    pub(crate) seed: u64,
}

impl Router {
    /// A router that knows nobody and has said nothing.
    pub(crate) fn empty(section: &RouterSection, seed: u64, claims_from: Instant) -> Self {
        Self {
            neighbors: Neighbors::new(section.neighbors as usize, seed.rotate_left(23)),
            next_hops: NextHops::new(seed.rotate_left(43)),
            virtuals: Virtuals::default(),
            released: VecDeque::new(),
            claims: Claims::new(seed.rotate_left(37)),
            announcer: Announcer::default(),
            memberships: Memberships::new(seed.rotate_left(41)),
            advertisers: Advertisers::new(seed.rotate_left(29)),
            declined: Declined::new(),
            answered: Buckets::default(),
            delayed: Delayed::new(seed.rotate_left(47)),
            metadata: Metadata::new(seed.rotate_left(31)),
            generation: 0,
            claims_from,
            seed,
        }
    }

    /// When the next thing is due.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        [
            self.neighbors.next_deadline(),
            self.next_hops.next_deadline(),
            self.virtuals.next_deadline(),
            self.delayed.next_deadline(),
            self.claims.next_deadline(),
            self.announcer.next_deadline(),
            self.memberships.next_deadline(),
            self.advertisers.next_deadline(),
            self.metadata.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
