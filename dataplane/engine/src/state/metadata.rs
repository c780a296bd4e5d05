//! Guests' connections to the metadata service: each guest has an endpoint of its own, so that
//! nothing of one can reach another's, whatever it writes into its packets.
//!
//! Everything has a bound: connections of one guest and of all, their buffers, how long one lasts, how
//! many a guest opens in a second and how many segments it sends.

mod endpoint;
mod link;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::bucket::Buckets;
use crate::base::deadlines::Deadlines;
use crate::base::drops::DropReason;
use crate::base::random::Random;
use crate::base::shares::Shares;
use crate::base::time::Instant;
use crate::wire::tcp::{self, ACK, RST, SYN};
pub(crate) use endpoint::{Asker, BUFFER, Endpoint, Ends, Heard, PORT, Reply, Segment};

/// Most connections of a guest.
const CONNECTIONS: u32 = 4;
/// Most of all guests: 4 MiB of buffers.
const ALL_CONNECTIONS: u32 = 512;
/// Connections that a guest may open in a second; half as many at once. cloud-init opens fifty.
const OPENED_PER_SECOND: u32 = 200;
/// Segments that a guest may send in a second; half as many at once.
const SEGMENTS_PER_SECOND: u32 = 4_000;
/// How long a connection lasts at most, from its SYN: 16 KiB take a moment.
const LASTS: Duration = Duration::from_secs(15);

/// All guests' connections to the metadata service.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// By guest, as long as it has connections.
    endpoints: BTreeMap<u16, Endpoint>,
    due: Deadlines<u16>,
    budgets: Budgets,
    random: Random,
}

/// What guests may use.
#[derive(Debug, Clone)]
struct Budgets {
    /// How many connections they have, by guest.
    connections: Shares,
    /// All connections.
    open: BTreeSet<(u16, Ends)>,
    opened: Buckets,
    segments: Buckets,
}

impl Metadata {
    /// Nobody is connected.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            endpoints: BTreeMap::new(),
            due: Deadlines::default(),
            budgets: Budgets {
                connections: Shares::new(ALL_CONNECTIONS),
                open: BTreeSet::new(),
                opened: Buckets::default(),
                segments: Buckets::default(),
            },
            random: Random::new(seed),
        }
    }

    /// Without what the connections say; for trying things out.
    pub(crate) fn budgets(&self) -> Self {
        Self {
            endpoints: BTreeMap::new(),
            due: Deadlines::default(),
            budgets: self.budgets.clone(),
            random: self.random.clone(),
        }
    }

    /// When the next endpoint is to be looked at.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    /// A guest's segment. It is answered when its endpoint is looked at, which is due at once. Whether
    /// it opens a connection.
    ///
    /// # Errors
    /// The guest has as much as it may.
    pub(crate) fn receive(
        &mut self,
        asker: Asker,
        segment: &Segment<'_>,
        now: Instant,
    ) -> Result<bool, DropReason> {
        let (guest, who) = (asker.guest, usize::from(asker.guest));
        let budgets = &mut self.budgets;
        let is_new = !budgets.open.contains(&(guest, segment.ends));
        let header = tcp::Segment::parse(segment.bytes);
        let opens = is_new && header.is_some_and(|header| header.flags & (SYN | ACK | RST) == SYN);
        let may = budgets.segments.take(who, SEGMENTS_PER_SECOND, now)
            && (!opens
                || budgets.connections.used(who) < CONNECTIONS
                    && budgets.connections.may_take(who, 1)
                    && budgets.opened.take(who, OPENED_PER_SECOND, now));
        if !may {
            return Err(DropReason::MetadataLimited);
        }
        let seed = self.random.draw();
        let endpoint = self
            .endpoints
            .entry(guest)
            .or_insert_with(|| Endpoint::new(asker.mtu, seed, now));
        if opens {
            budgets.connections.take(who, 1);
            budgets.open.insert((guest, segment.ends));
            endpoint.open(segment, now + LASTS);
        }
        endpoint.receive(asker, segment, now);
        self.due.set(guest, now);
        Ok(opens)
    }

    /// Takes the next endpoint that is to be looked at, with its guest. It is given back by
    /// [`Self::put`] or [`Self::end`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(u16, Endpoint)> {
        let guest = self.due.pop(now)?;
        Some((guest, self.endpoints.remove(&guest)?))
    }

    /// Gives an endpoint back that was looked at. One without connections is forgotten.
    pub(crate) fn put(&mut self, guest: u16, mut endpoint: Endpoint, now: Instant) {
        for ends in endpoint.take_ended() {
            self.budgets.open.remove(&(guest, ends));
            self.budgets.connections.give_back(guest.into(), 1);
        }
        if let Some(due) = endpoint.next_deadline(now) {
            self.due.set(guest, due);
            self.endpoints.insert(guest, endpoint);
        }
    }

    /// Ends all connections of an endpoint whose guest is elsewhere or gone.
    pub(crate) fn end(&mut self, guest: u16) {
        let Budgets {
            connections, open, ..
        } = &mut self.budgets;
        open.retain(|(other, _)| *other != guest);
        connections.give_back(guest.into(), connections.used(guest.into()));
    }
}
