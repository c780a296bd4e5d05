//! Router advertisements: when they are sent, and to whom (RFC 4861 §6.2).

mod message;

use std::net::Ipv6Addr;
use std::time::Duration;

use super::Link;
use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::config::services::{Ra, RaPrefix};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::frame::Verdict;
use crate::interface::GATEWAY;
use crate::nat::Random;
use crate::nd::{self, ALL_NODES, SOURCE_LINK_LAYER, multicast_mac};
use crate::packet::Packet;
use crate::process::Router;
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;
use message::Gone;

/// RFC 4861 §10.
const MAX_INITIAL_INTERVAL: u64 = 16_000;
const MAX_INITIAL: u8 = 3;
const MAX_FINAL: u8 = 3;
const MIN_DELAY_BETWEEN: Duration = Duration::from_secs(3);
const MAX_ANSWER_DELAY: u64 = 500;
/// How long to wait for the gateway's own address to be free.
const PUT_OFF: Duration = Duration::from_secs(1);

/// Every guest's port that is advertised to, and what is due there.
#[derive(Debug, Clone)]
pub(crate) struct Advertisers {
    list: Vec<Advertiser>,
    random: Random,
}

/// One port's schedule. States: advertising with `initial` more soon, advertising every
/// Min..Max, farewell with `farewells` left and nothing else; a farewell ends it.
#[derive(Debug, Clone)]
struct Advertiser {
    interface: InterfaceId,
    port: PortId,
    /// When the next one goes to all.
    next: Instant,
    /// How many more come at initial intervals.
    initial: u8,
    /// `Some`: it is no longer configured, and this many are left to say so.
    farewells: Option<u8>,
    /// When the last one went to all.
    last: Option<Instant>,
    /// Who is answered alone, and when.
    answer: Option<(Instant, Ipv6Addr, MacAddr)>,
    /// What was advertised under the last configuration,
    known: Ra,
    /// and what of it guests must be told to forget.
    gone: Gone,
}

impl Advertisers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            list: Vec::new(),
            random: Random::new(seed),
        }
    }

    /// Follows a new configuration: new ports begin, changed ones begin anew, others say farewell.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut list = std::mem::take(&mut self.list);
        for interface in snapshot.interfaces() {
            let Some(ra) = &interface.services.ra else {
                continue;
            };
            for &port in &interface.ports {
                let place = list
                    .iter_mut()
                    .find(|entry| (entry.interface, entry.port) == (interface.id, port));
                match place {
                    Some(entry) if entry.farewells.is_none() && entry.known == *ra => {}
                    Some(entry) => {
                        entry.gone = entry.gone_with(ra);
                        entry.known = ra.clone();
                        entry.farewells = None;
                        self.begin(entry, now);
                    }
                    None => {
                        let mut entry = Advertiser {
                            interface: interface.id,
                            port,
                            next: now,
                            initial: 0,
                            farewells: None,
                            last: None,
                            answer: None,
                            known: ra.clone(),
                            gone: Gone::default(),
                        };
                        self.begin(&mut entry, now);
                        list.push(entry);
                    }
                }
            }
        }
        let serves = |entry: &Advertiser| {
            let interface = snapshot.interface(entry.interface)?;
            let here = interface.ports.contains(&entry.port);
            here.then_some(interface.services.ra.is_some())
        };
        // Nobody is left to say farewell to where the port is gone.
        list.retain(|entry| serves(entry).is_some());
        for entry in &mut list {
            if serves(entry) == Some(false) && entry.farewells.is_none() {
                entry.farewells = Some(MAX_FINAL);
                entry.answer = None;
                entry.next = entry.earliest(now);
            }
        }
        self.list = list;
    }

    /// A port's device came (back): its guest may just have booted.
    pub(crate) fn attached(&mut self, port: PortId, now: Instant) {
        let mut list = std::mem::take(&mut self.list);
        for entry in list.iter_mut().filter(|entry| entry.port == port) {
            if entry.farewells.is_none() {
                self.begin(entry, now);
            }
        }
        self.list = list;
    }

    /// A router solicitation came: from `asker`, or from the unspecified address, which is
    /// answered to all (RFC 4861 §6.2.6, N20). Many together get one answer.
    pub(crate) fn solicited(
        &mut self,
        (interface, port): (InterfaceId, PortId),
        asker: Option<(Ipv6Addr, MacAddr)>,
        now: Instant,
    ) {
        let delay = Duration::from_millis(self.below(MAX_ANSWER_DELAY + 1));
        let Some(entry) = self
            .list
            .iter_mut()
            .find(|entry| (entry.interface, entry.port) == (interface, port))
            .filter(|entry| entry.farewells.is_none())
        else {
            return;
        };
        match asker {
            Some((address, mac)) => {
                let due = entry.answer.map_or(now + delay, |(due, ..)| due);
                entry.answer = Some((due, address, mac));
            }
            None => entry.next = entry.next.min(entry.earliest(now + delay)),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = |entry: &Advertiser| {
            let answer = entry.answer.map(|(due, ..)| due);
            answer.map_or(entry.next, |due| due.min(entry.next))
        };
        self.list.iter().map(due).min()
    }

    /// The first of several soon: at once but for a little randomness (RFC 4861 §6.2.4).
    fn begin(&mut self, entry: &mut Advertiser, now: Instant) {
        let delay = Duration::from_millis(self.below(MAX_ANSWER_DELAY + 1));
        entry.initial = MAX_INITIAL;
        entry.next = entry.earliest(now + delay);
    }

    /// Uniform between the least and the largest interval (RFC 4861 §6.2.1, §6.2.4), in
    /// milliseconds.
    fn interval(&mut self, ra: &Ra) -> u64 {
        let most = u64::from(ra.interval) * 1000;
        let least = if ra.interval >= 9 {
            most / 3
        } else {
            most * 3 / 4
        };
        least + self.below(most - least + 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound.max(1)
    }
}

impl Advertiser {
    /// `wanted`, or as soon after it as the last one to all allows.
    fn earliest(&self, wanted: Instant) -> Instant {
        self.last
            .map_or(wanted, |last| wanted.max(last + MIN_DELAY_BETWEEN))
    }

    /// What is due is due later.
    fn put_off(&mut self, now: Instant) {
        let later = now + PUT_OFF;
        self.next = self.next.max(later);
        if let Some((due, ..)) = &mut self.answer {
            *due = later.max(*due);
        }
    }

    /// What `new` no longer says.
    fn gone_with(&self, new: &Ra) -> Gone {
        let routes = self.known.routes.iter().chain(&self.gone.routes);
        let prefixes = self.known.prefixes.iter().chain(&self.gone.prefixes);
        let same = |prefix: &RaPrefix| new.prefixes.iter().any(|p| p.prefix == prefix.prefix);
        Gone {
            prefixes: prefixes.filter(|p| !same(p)).cloned().collect(),
            routes: routes
                .filter(|route| !new.routes.iter().any(|r| r.prefix == route.prefix))
                .cloned()
                .collect(),
        }
    }
}

impl<T: Trace> Router<'_, T> {
    /// A router solicitation that passed the checks of all neighbour discovery; the others of
    /// RFC 4861 §6.1.1 are made here (N20).
    pub(crate) fn router_solicited(
        &mut self,
        packet: &Packet<Ipv6Addr>,
        body: &[u8],
        link: Link,
    ) -> Result<Verdict, DropReason> {
        let options = body.get(8..).ok_or(DropReason::NdMalformed)?;
        let (mac, _) = nd::link_layer(options, SOURCE_LINK_LAYER)?;
        let asker = packet.flow.source;
        if asker.is_unspecified() && mac.is_some() {
            return Err(DropReason::NdMalformed);
        }
        let serves = |interface: &&Interface| {
            !interface.personality
                && interface.services.ra.is_some()
                && (link.destination.is_group() || link.destination == interface.mac)
        };
        let snapshot = self.snapshot;
        let Some(network) = snapshot.on_port(link.port, link.vlan).find(serves) else {
            return Err(DropReason::NdIgnored);
        };
        self.may_answer(link.port)?;
        // The unspecified address is nobody's: it never touches the neighbours.
        let to = (!asker.is_unspecified()).then(|| (asker, mac.unwrap_or(link.source)));
        if let (Some((_, mac)), true) = (to, mac.is_some() && network.is_on_link(asker.into())) {
            let at = (mac, link.port);
            let held = self
                .shard
                .neighbors
                .learn(network.id, asker.into(), at, self.now);
            self.shard.release(snapshot, held, network, at);
        }
        self.trace.step("ra", || match to {
            Some(_) => format!("{asker} will be told that {} is its gateway", network.name),
            None => format!("all will be told that {} is their gateway", network.name),
        });
        self.shard.counters.router_solicitations_heard += 1;
        let place = (network.id, link.port);
        self.shard.advertisers.solicited(place, to, self.now);
        Ok(Verdict::Consumed)
    }
}

impl Shard {
    /// Sends the advertisements that are due.
    pub(crate) fn send_advertisements(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut list = std::mem::take(&mut self.advertisers.list);
        list.retain_mut(|entry| {
            let Some(interface) = snapshot.interface(entry.interface) else {
                return false;
            };
            if !self.claims.is_ours(interface.id, GATEWAY.into()) {
                // Nothing is said from an address that may be another's (RFC 4862 §5.4).
                entry.put_off(now);
                return true;
            }
            if let Some((_, address, mac)) = entry.answer.take_if(|(due, ..)| *due <= now) {
                self.advertise_router(snapshot, interface, entry, (address, mac));
            }
            if entry.next > now {
                return true;
            }
            let all = (ALL_NODES, multicast_mac(ALL_NODES));
            self.advertise_router(snapshot, interface, entry, all);
            entry.last = Some(now);
            if let Some(left) = &mut entry.farewells {
                *left -= 1;
                entry.next = now + MIN_DELAY_BETWEEN;
                return *left > 0;
            }
            entry.initial = entry.initial.saturating_sub(1);
            let mut interval = self.advertisers.interval(&entry.known);
            if entry.initial > 0 {
                interval = interval.min(MAX_INITIAL_INTERVAL);
            } else {
                entry.gone = Gone::default();
            }
            entry.next = entry.earliest(now + Duration::from_millis(interval));
            true
        });
        self.advertisers.list = list;
    }

    /// Call when the router stops: guests are told that they lose their gateway (RFC 4861
    /// §6.2.5). Frames go to the outbox.
    pub fn stop(&mut self, snapshot: &Snapshot) {
        for mut entry in std::mem::take(&mut self.advertisers.list) {
            if let Some(interface) = snapshot.interface(entry.interface) {
                entry.farewells = Some(1);
                let all = (ALL_NODES, multicast_mac(ALL_NODES));
                self.advertise_router(snapshot, interface, &entry, all);
            }
        }
    }

    fn advertise_router(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        entry: &Advertiser,
        (to, mac): (Ipv6Addr, MacAddr),
    ) {
        let body = if entry.farewells.is_some() {
            message::farewell(&entry.known, interface)
        } else {
            let flags = message::flags(snapshot, interface, entry.port);
            message::message(&entry.known, &entry.gone, flags, interface)
        };
        // Also where it has just ceased to be the network's, to say so.
        let frame = message::build((GATEWAY, to), &body);
        self.counters.router_advertisements_sent += 1;
        self.send(snapshot, frame, interface, (mac, entry.port));
    }
}

#[cfg(test)]
#[path = "ra/tests.rs"]
mod tests;
