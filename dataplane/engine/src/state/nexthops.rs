//! Next hops of routes: which are in use, and how one is found to be gone or back.
//!
//! | state | event | next |
//! |---|---|---|
//! | up | neighbour discovery of a packet's next hop fails (RFC 4861 §7.3.3) | down |
//! | up, with `probe` | so many probes in a row are not answered | down |
//! | new, with `probe` | it is asked as often within one interval, and answers none of it | down until it answers |
//! | up | its link goes down | down |
//! | down, the link up | asked once an interval; what is learned of it says how far from use it is | |
//! | down | answered every time for as long as it must | up |
//!
//! How long it must answer is damped: [`STEADY`] at first, and twice as long as before for one that was lost
//! again within [`FORGIVEN`] of its return, up to [`LONGEST`] (as RFC 2439 damps routes).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::addr::{InterfaceId, PortId};
use crate::base::deadlines::Deadlines;
use crate::base::time::Instant;
use crate::config::Probe;
use crate::model::health::{Health, Outage};
use crate::model::snapshot::{Probed, Snapshot};

/// How long one that was lost answers before it is used again.
pub const STEADY: Duration = Duration::from_secs(2);
/// The most that this becomes.
pub const LONGEST: Duration = Duration::from_secs(64);
/// For so long one that is out of use is known to be nearer to use before it is taken for that: each change has
/// all sessions looked at anew, and a next hop that answers every other time must not bring that about.
pub const NEARER: Duration = Duration::from_secs(10);
/// One that was up for so long is damped no more.
pub const FORGIVEN: Duration = Duration::from_secs(120);
/// Most changes that wait to be reported.
const NOTICES: usize = 64;

/// A next hop: an address on an interface.
pub type Place = (InterfaceId, IpAddr);

/// What is known of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Why it is out of use; `None`: it is in use.
    pub down: Option<Outage>,
    /// What it is taken for, which is that or further from use.
    taken_for: Option<Outage>,
    /// Since when it has been nearer to use than that.
    nearer_since: Option<Instant>,
    /// Since when it has been in or out of use.
    pub since: Instant,
    /// How often that has changed.
    pub changes: u32,
    probe: Option<Probe>,
    /// It has a probe, and has not answered yet.
    is_new: bool,
    /// When it was asked last, and has not been looked at since.
    asked: Option<Instant>,
    /// The sequence number of a ping that is not answered yet.
    pinged: Option<u16>,
    /// Probes in a row without an answer.
    unanswered: u32,
    /// Since when it has answered every time.
    steady_since: Option<Instant>,
    /// How long it must before it is used again.
    must: Duration,
}

impl NextHop {
    fn interval(&self) -> Duration {
        let asked = self.probe.unwrap_or_default();
        Duration::from_secs(asked.interval.into())
    }

    /// It is asked for the first time, several times in one interval: a dataplane that is started anew does not
    /// know that a next hop has been gone for long.
    fn is_first_asked(&self) -> bool {
        self.is_new && self.down.is_none()
    }

    /// From now to when it is asked next.
    fn pause(&self) -> Duration {
        match self.probe.filter(|_| self.is_first_asked()) {
            Some(probe) => self.interval() / u32::from(probe.count.max(1)),
            None => self.interval(),
        }
    }
}

/// How a next hop is to be asked whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// By ARP or a neighbour solicitation.
    Neighbor,
    /// By a ping of a host beyond (RFC 792, RFC 4443 §4.1).
    Ping {
        /// That host.
        target: IpAddr,
        /// The echo request's identifier and sequence number.
        number: (u16, u16),
    },
}

/// One that came into use or went out of it, to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Which.
    pub place: Place,
    /// Why it is out of use; `None`: it is in use again.
    pub down: Option<Outage>,
}

/// All next hops of routes.
#[derive(Debug, Clone)]
pub struct NextHops {
    /// Of all pings: nobody on the way knows it beforehand.
    identifier: u16,
    /// Of the last ping.
    sequence: u16,
    known: BTreeMap<Place, NextHop>,
    /// What was adopted last.
    adopted: Arc<Probed>,
    due: Deadlines<Place>,
    ports_down: BTreeSet<PortId>,
    links_down: BTreeSet<InterfaceId>,
    notices: Vec<Notice>,
    /// What is published as health is not so any more.
    changed: bool,
}

impl NextHops {
    /// There are none. `seed` is random per start.
    pub fn new(seed: u64) -> Self {
        Self {
            identifier: (seed >> 16) as u16,
            sequence: seed as u16,
            known: BTreeMap::new(),
            adopted: Arc::default(),
            due: Deadlines::default(),
            ports_down: BTreeSet::new(),
            links_down: BTreeSet::new(),
            notices: Vec::new(),
            changed: false,
        }
    }

    /// Keeps an eye on the next hops of a snapshot's routes; what is known of the others is forgotten.
    pub fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        if !Arc::ptr_eq(&self.adopted, snapshot.next_hops()) {
            self.adopted = Arc::clone(snapshot.next_hops());
            self.follow(now);
        }
        self.look_at_links(snapshot, now);
    }

    fn follow(&mut self, now: Instant) {
        let wanted = Arc::clone(&self.adopted);
        let known = self.known.len();
        self.known.retain(|place, _| wanted.contains_key(place));
        let places = self.due.keys().filter(|place| !wanted.contains_key(place));
        for place in places.collect::<Vec<_>>() {
            self.due.clear(place);
        }
        self.changed |= self.known.len() < known;
        for (&place, &probe) in &*wanted {
            let is_down = self.links_down.contains(&place.0);
            let is_added = !self.known.contains_key(&place);
            let hop = self.known.entry(place).or_insert(NextHop {
                down: is_down.then_some(Outage::LinkDown),
                taken_for: is_down.then_some(Outage::LinkDown),
                nearer_since: None,
                since: now,
                changes: 0,
                probe,
                is_new: probe.is_some(),
                asked: None,
                pinged: None,
                unanswered: 0,
                steady_since: None,
                must: STEADY,
            });
            let interval = hop.interval();
            let target = |probe: Option<Probe>| probe.and_then(|probe| probe.target);
            if target(hop.probe) != target(probe) {
                // What was asked of another is no answer of this one.
                (hop.asked, hop.pinged, hop.steady_since) = (None, None, None);
                hop.unanswered = 0;
            }
            hop.probe = probe;
            if is_added && hop.is_first_asked() {
                self.due.set(place, now);
            } else if self.due.get(place).is_none() || interval != hop.interval() {
                self.schedule(place, now);
            }
        }
    }

    /// The ports that are without a link, all of them.
    pub fn set_ports_down(&mut self, ports: BTreeSet<PortId>, snapshot: &Snapshot, now: Instant) {
        if ports != self.ports_down {
            self.ports_down = ports;
            self.look_at_links(snapshot, now);
        }
    }

    /// Of personalities alone: behind a network's ports are guests, and their packets must not leave by an
    /// uplink because their port is down.
    fn look_at_links(&mut self, snapshot: &Snapshot, now: Instant) {
        if self.ports_down.is_empty() && self.links_down.is_empty() {
            return;
        }
        let is_down = |port: &PortId| self.ports_down.contains(port);
        let down: BTreeSet<InterfaceId> = snapshot
            .interfaces()
            .filter(|interface| interface.personality && interface.ports.iter().all(is_down))
            .map(|interface| interface.id)
            .collect();
        if down == self.links_down {
            return;
        }
        let before = std::mem::replace(&mut self.links_down, down);
        self.changed = true;
        let places: Vec<Place> = self.known.keys().copied().collect();
        for place in places {
            match (
                before.contains(&place.0),
                self.links_down.contains(&place.0),
            ) {
                (false, true) => self.lost(place, Outage::LinkDown, now),
                (true, false) => {
                    if let Some(hop) = self.known.get_mut(&place) {
                        (hop.asked, hop.steady_since) = (None, None);
                        hop.down = hop.down.map(|_| Outage::Silent);
                        (hop.taken_for, hop.nearer_since) = (hop.down, None);
                    }
                    self.due.set(place, now);
                }
                _ => {}
            }
        }
    }

    /// Who has waited for `address` on `interface` has waited in vain.
    pub fn failed(&mut self, place: Place, now: Instant) {
        match self.known.get(&place).map(|hop| hop.down) {
            Some(None) => self.lost(place, Outage::Silent, now),
            Some(Some(Outage::Damped | Outage::TargetSilent)) => {
                self.is_out(place, Outage::Silent, now)
            }
            _ => {}
        }
    }

    /// A host answered a ping that came to an interface. Whether it is one of ours.
    pub fn pong(&mut self, interface: InterfaceId, source: IpAddr, number: (u16, u16)) -> bool {
        let ours = |(place, hop): &(&Place, &mut NextHop)| {
            place.0 == interface
                && number.0 == self.identifier
                && hop.pinged == Some(number.1)
                && hop.probe.is_some_and(|probe| probe.target == Some(source))
        };
        let found = self.known.iter_mut().find(ours);
        found.map(|(_, hop)| hop.pinged = None).is_some()
    }

    /// The device of an interface's port came: what new ones were asked before that, nobody heard.
    pub fn attached(&mut self, interface: InterfaceId, now: Instant) {
        for (place, hop) in &mut self.known {
            if place.0 == interface && hop.is_first_asked() {
                (hop.asked, hop.pinged, hop.unanswered) = (None, None, 0);
                self.due.set(*place, now);
            }
        }
    }

    /// The next one to be asked whether it is there, and how. `answered`: whether one was heard of since.
    /// `waits`: whether it cannot be asked yet, because the address to ask from is still being claimed.
    pub fn poll(
        &mut self,
        now: Instant,
        answered: impl Fn(Place, Instant) -> bool,
        waits: impl Fn(Place) -> bool,
    ) -> Option<(Place, Ask)> {
        let place = self.next_due(now, waits)?;
        let hop = self.known.get_mut(&place)?;
        let target = hop.probe.and_then(|probe| probe.target);
        let target = target.filter(|target| target.is_ipv4() == place.1.is_ipv4());
        let asked = hop.asked.take();
        let is_heard = asked.is_some_and(|asked| answered(place, asked));
        let heard = asked.map(|_| match target {
            Some(_) => hop.pinged.is_none(),
            None => is_heard,
        });
        match heard {
            Some(true) => {
                hop.unanswered = 0;
                let was_new = std::mem::take(&mut hop.is_new);
                let steady = *hop.steady_since.get_or_insert(now);
                match hop.down {
                    Some(_) if was_new || now.since(steady) >= hop.must => self.back(place, now),
                    Some(_) => self.is_out(place, Outage::Damped, now),
                    None => {}
                }
            }
            Some(false) => {
                hop.unanswered = hop.unanswered.saturating_add(1);
                hop.steady_since = None;
                // Who is known to be silent itself is, until it is heard.
                let outage = match (target, hop.down) {
                    (None, _) => Outage::Silent,
                    (_, Some(Outage::Silent)) if !is_heard => Outage::Silent,
                    _ => Outage::TargetSilent,
                };
                let most = hop.probe.map(|probe| u32::from(probe.count));
                match hop.down {
                    Some(_) => self.is_out(place, outage, now),
                    None if most.is_some_and(|most| hop.unanswered >= most) => {
                        self.lost(place, outage, now);
                    }
                    None => {}
                }
            }
            None => {}
        }
        let hop = self.known.get_mut(&place)?;
        hop.asked = Some(now);
        let ask = match target {
            None => Ask::Neighbor,
            Some(target) => {
                // An answer to any of the first ones is one.
                let repeated = hop.pinged.filter(|_| hop.is_first_asked());
                let sequence = repeated.unwrap_or_else(|| {
                    self.sequence = self.sequence.wrapping_add(1);
                    self.sequence
                });
                hop.pinged = Some(sequence);
                let number = (self.identifier, sequence);
                Ask::Ping { target, number }
            }
        };
        self.schedule(place, now);
        Some((place, ask))
    }

    fn next_due(&mut self, now: Instant, waits: impl Fn(Place) -> bool) -> Option<Place> {
        loop {
            let place = self.due.pop(now)?;
            let hop = self.known.get(&place)?;
            if !hop.is_first_asked() || !waits(place) {
                return Some(place);
            }
            self.due.set(place, now + hop.pause());
        }
    }

    /// When [`Self::poll`] has something to do next.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    /// What is out of use now, if it is other than when this was asked last.
    pub fn take_health(&mut self) -> Option<Health> {
        std::mem::take(&mut self.changed).then(|| {
            let all = self.known.iter();
            let out = all.filter_map(|(place, hop)| Some((*place, hop.taken_for?)));
            Health::new(out, self.links_down.clone())
        })
    }

    /// It was not published.
    pub fn put_back_health(&mut self) {
        self.changed = true;
    }

    /// Which came into use and which went out of it, since this was asked last.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &NextHop)> {
        self.known.iter().map(|(place, hop)| (*place, hop))
    }

    /// Who is to be asked: one with `probe`, and one that is gone while its link is up.
    fn schedule(&mut self, place: Place, now: Instant) {
        let Some(hop) = self.known.get(&place) else {
            return;
        };
        let asked = match hop.down {
            Some(Outage::LinkDown) => false,
            Some(_) => true,
            None => hop.probe.is_some(),
        };
        match asked {
            true => self.due.set(place, now + hop.pause()),
            false => self.due.clear(place),
        }
    }

    fn lost(&mut self, place: Place, why: Outage, now: Instant) {
        let Some(hop) = self.known.get_mut(&place) else {
            return;
        };
        (hop.asked, hop.steady_since) = (None, None);
        (hop.taken_for, hop.nearer_since) = (Some(why), None);
        if hop.down.replace(why).is_none() {
            let again = hop.changes > 0 && now.since(hop.since) < FORGIVEN;
            hop.must = if again {
                (hop.must * 2).min(LONGEST)
            } else {
                STEADY
            };
            hop.since = now;
            hop.changes = hop.changes.saturating_add(1);
            self.report(place, Some(why));
        }
        self.schedule(place, now);
    }

    /// It is out of use, and known to be for this reason now.
    fn is_out(&mut self, place: Place, outage: Outage, now: Instant) {
        let Some(hop) = self.known.get_mut(&place) else {
            return;
        };
        hop.down = Some(outage);
        let is_nearer = hop.down < hop.taken_for;
        let nearer_since = hop.nearer_since.filter(|_| is_nearer);
        let since = nearer_since.unwrap_or(now);
        hop.nearer_since = is_nearer.then_some(since);
        if hop.down > hop.taken_for || (is_nearer && now.since(since) >= NEARER) {
            (hop.taken_for, hop.nearer_since) = (hop.down, None);
            self.changed = true;
        }
    }

    fn back(&mut self, place: Place, now: Instant) {
        if let Some(hop) = self.known.get_mut(&place) {
            (hop.down, hop.since) = (None, now);
            (hop.taken_for, hop.nearer_since) = (None, None);
            hop.changes = hop.changes.saturating_add(1);
            self.report(place, None);
        }
    }

    fn report(&mut self, place: Place, down: Option<Outage>) {
        self.changed = true;
        if self.notices.len() < NOTICES {
            self.notices.push(Notice { place, down });
        }
    }
}

#[cfg(test)]
mod tests;
