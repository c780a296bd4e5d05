//! Who is answered, by ARP and neighbour discovery alike, about which address.
//!
//! For an address that guest G behind port P owns:
//!
//! | asked by | probe (DAD, ACD) | any other request, unicast or not |
//! |---|---|---|
//! | P itself, whatever the MAC | silent: G must not find its own address taken | silent |
//! | another guest's port | defended, with the network gateway's MAC | the gateway's MAC |
//! | the uplink of G's personality, a public address | defended, with the personality's MAC | the personality's MAC |
//! | any other uplink or VLAN, or an inside address | silent | silent |
//!
//! A guest that asks for a personality's gateway, which it cannot reach itself, is answered, and its
//! probe defended, with the network gateway's MAC: a guest that was set up for a bridge needs no
//! change. On an uplink the gateway answers for itself.
//!
//! A MAC that is not G's is stopped at P before it asks (`antispoof`). When a new configuration
//! moves G, its new port is P. Own addresses are answered for wherever they are, once they are ours
//! (`claims`); those shared with the host's kernel never, since it answers for them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{MacAddr, PortId};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::frame::OwnedFrame;
use crate::nat::Random;
use crate::neighbor::{NeighborId, Resolution};
use crate::process::Router;
use crate::shard::{Output, Shard};
use crate::snapshot::Interface;
use crate::time::Instant;

/// What is said to a request for an address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'s> {
    /// It is this interface's own.
    Own(&'s Interface),
    /// This interface answers on behalf of a guest.
    Proxied(&'s Interface),
    /// Whether it is alive behind a network is being asked; the request waits for that.
    Wait(NeighborId),
    /// Nothing, and why not.
    Silence(DropReason),
}

/// Answers that may wait for their time.
const DELAYED: usize = 4_096;

/// A token bucket: so many a second, half a second's worth at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    /// Thousandths of a token that are used up.
    used: u64,
    seen: Instant,
}

impl Bucket {
    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let passed: Duration = now.since(self.seen);
        self.seen = now;
        let back = passed.as_millis() as u64 * u64::from(per_second);
        self.used = self.used.saturating_sub(back);
        let enough = self.used + 1_000 <= (u64::from(per_second) * 500).max(1_000);
        if enough {
            self.used += 1_000;
        }
        enough
    }
}

/// Answers that wait for their time.
#[derive(Debug, Clone)]
pub(crate) struct Delayed {
    waiting: BTreeMap<(Instant, u64), (PortId, OwnedFrame)>,
    next: u64,
    random: Random,
}

impl Delayed {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            random: Random::new(seed),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }

    /// Keeps an answer for a random time of at most `longest` milliseconds. `false`: it is one too
    /// many, and lost; who asked asks again.
    fn keep(&mut self, port: PortId, frame: OwnedFrame, longest: u32, now: Instant) -> bool {
        if self.waiting.len() >= DELAYED {
            return false;
        }
        let wait = self.random.next() % (u64::from(longest) + 1);
        self.next += 1;
        let due = now + Duration::from_millis(wait);
        self.waiting.insert((due, self.next), (port, frame));
        true
    }
}

impl Shard {
    /// Sends the answers whose time has come.
    pub(crate) fn poll_delayed(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.waiting.first_entry()
            && entry.key().0 <= now
        {
            let (port, frame) = entry.remove();
            self.outbox.push(Output { port, frame });
        }
    }
}

impl<'a, T: Trace> Router<'a, T> {
    /// What is said to a request for `target` sent to `destination`; `nobody` if it is nobody's of
    /// ours.
    pub(crate) fn answer_for(
        &mut self,
        target: IpAddr,
        (ingress, vlan): (PortId, Option<u16>),
        destination: MacAddr,
        nobody: DropReason,
    ) -> Answer<'a> {
        let snapshot = self.snapshot;
        let hears = |interface: &&Interface| destination.is_group() || interface.mac == destination;
        let hearing = || snapshot.on_port(ingress, vlan).filter(hears);
        if let Some(interface) = hearing().find(|interface| interface.owns(target)) {
            return if interface.shared.is_some() {
                Answer::Silence(DropReason::LeftToHost)
            } else if !self.shard.claims.is_ours(interface.id, target) {
                Answer::Silence(DropReason::AddressTentative)
            } else {
                Answer::Own(interface)
            };
        }
        if let Some((owned, _)) = snapshot.owners().find(target) {
            let guest = snapshot.owners().guest(owned.guest);
            if guest.port == ingress {
                return Answer::Silence(DropReason::AskedByOwner);
            }
            let answers = |interface: &&Interface| match interface.personality {
                true => owned.public && guest.personality == Some(interface.id),
                false => true,
            };
            return match hearing().find(answers) {
                Some(interface) => {
                    self.trace.step("owner", || {
                        let port = snapshot.port_name(guest.port);
                        format!("{target} is guest {}'s, behind port {port}", guest.name)
                    });
                    Answer::Proxied(interface)
                }
                None => Answer::Silence(nobody),
            };
        }
        if snapshot.is_gateway(target)
            && let Some(interface) = hearing().find(|interface| !interface.personality)
        {
            self.trace.step("gateway", || {
                format!("the way to {target}, a provider's router, is by us")
            });
            return Answer::Proxied(interface);
        }
        for interface in hearing() {
            let Some(network) = snapshot.owners().alive_behind(target, interface.id) else {
                continue;
            };
            return match self
                .shard
                .neighbors
                .resolve(network, target, Some(ingress), self.now)
            {
                Resolution::Known(..) => Answer::Proxied(interface),
                Resolution::Pending(id) => Answer::Wait(id),
                Resolution::Full => Answer::Silence(DropReason::NeighborTableFull),
            };
        }
        Answer::Silence(nobody)
    }

    /// The longest time that an answer on behalf of a guest waits, if it does: only one to a request
    /// that others heard, who may answer too.
    pub(crate) fn proxy_delay(&self, destination: MacAddr) -> Option<u32> {
        let longest = self.snapshot.config().router().proxy_delay;
        (longest > 0 && destination.is_group()).then_some(longest)
    }

    /// Keeps the answers that were just put into the outbox, from `from` on, for a random time.
    pub(crate) fn delay_answers(&mut self, from: usize, longest: u32) {
        for Output { port, frame } in self.shard.outbox.drain(from..) {
            if !self.shard.delayed.keep(port, frame, longest, self.now) {
                self.shard.drops.add(DropReason::AnswerLimited, 1);
            }
        }
    }

    /// Whether the port may be answered once more; uplinks always.
    pub(crate) fn may_answer(&mut self, ingress: PortId) -> Result<(), DropReason> {
        if self.snapshot.is_uplink(ingress) {
            return Ok(());
        }
        let buckets = &mut self.shard.answers;
        if buckets.len() <= ingress.index() {
            buckets.resize(ingress.index() + 1, Bucket::default());
        }
        let rate = self.snapshot.config().router().answers_per_second;
        match buckets[ingress.index()].take(rate, self.now) {
            true => Ok(()),
            false => Err(DropReason::AnswerLimited),
        }
    }
}
