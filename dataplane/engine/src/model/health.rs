//! Which next hops are out of use, and how far from use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::base::addr::InterfaceId;

/// Why a next hop is out of use: what is nearer to use comes first, and is tried first where there is nothing
/// better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outage {
    /// It answers again, but not for long enough yet.
    Damped,
    /// Its probe's target does not answer; nothing is known against itself.
    TargetSilent,
    /// It does not answer.
    Silent,
    /// Its link is down.
    LinkDown,
}

impl Outage {
    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damped => "answers again",
            Self::TargetSilent => "target silent",
            Self::Silent => "no answer",
            Self::LinkDown => "link down",
        }
    }
}

/// Next hops that are out of use. Routes by them are passed over, as if they were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    out: BTreeMap<(InterfaceId, IpAddr), Outage>,
    links: BTreeSet<InterfaceId>,
    /// The reasons for which any are out.
    reasons: BTreeSet<Outage>,
}

impl Health {
    /// These next hops are out of use, and whatever is on these interfaces, whose links are down.
    pub fn new(
        out: impl IntoIterator<Item = ((InterfaceId, IpAddr), Outage)>,
        links: BTreeSet<InterfaceId>,
    ) -> Self {
        let mut health = Self {
            out: out.into_iter().collect(),
            links,
            reasons: BTreeSet::new(),
        };
        health.sum_up();
        health
    }

    fn sum_up(&mut self) {
        self.reasons = self.out.values().copied().collect();
        if !self.links.is_empty() {
            self.reasons.insert(Outage::LinkDown);
        }
    }

    /// Takes a next hop out of use, or back into it.
    pub fn set(&mut self, interface: InterfaceId, next_hop: IpAddr, outage: Option<Outage>) {
        match outage {
            Some(outage) => self.out.insert((interface, next_hop), outage),
            None => self.out.remove(&(interface, next_hop)),
        };
        self.sum_up();
    }

    /// Nothing is out of use.
    #[inline]
    pub fn is_good(&self) -> bool {
        self.out.is_empty() && self.links.is_empty()
    }

    /// Why a next hop is out of use, if it is.
    #[inline]
    pub fn outage(&self, interface: InterfaceId, next_hop: IpAddr) -> Option<Outage> {
        if self.is_good() {
            return None;
        }
        match self.links.contains(&interface) {
            true => Some(Outage::LinkDown),
            false => self.out.get(&(interface, next_hop)).copied(),
        }
    }

    /// The reasons for which some are out of use, those nearest to use first.
    pub fn outages(&self) -> impl Iterator<Item = Outage> {
        self.reasons.iter().copied()
    }
}
