//! Which multicast groups we belong to, and what is still to be said about it (RFC 3810, RFC 2710).
//!
//! A switch that snoops forwards a group's frames only to ports that reported it; so every address
//! we answer for, own or a guest's, has its group reported. Groups are kept as a set, so one that
//! two addresses share stays until both are gone (M03). ff02::1 is never reported.
//!
//! A querier on an uplink is the link's, and what is due because of it is said to the link. A guest is
//! nobody's querier: its question is answered on its own port, by one report a second (H08).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::base::addr::{InterfaceId, PortId};
use crate::base::deadlines::Deadlines;
use crate::base::drops::DropReason;
use crate::base::random::Random;
use crate::base::time::Instant;
use crate::wire::mld::Record;

/// RFC 3810 §9.1 and §9.11: a change is reported this often, with at most this time between.
const ROBUSTNESS: u8 = 2;
const UNSOLICITED_MS: u64 = 1_000;
/// RFC 3810 §9.12: how long a version-1 querier is remembered.
const OLDER_QUERIER: Duration = Duration::from_secs(260);
/// Reports in one go, and the pause after it.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(10);
/// Records of one report: what fits the smallest MTU (RFC 8200 §5), 20 bytes each.
pub(crate) const RECORDS: usize = 60;
/// The time between two reports to a guest's port that asked.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(1);
/// Most reports that wait, for each interface.
const MOST_WAITING: usize = 8;

/// A report that is to be made.
#[derive(Debug, Clone)]
struct Wanted {
    record: Record,
    groups: Vec<Ipv6Addr>,
    /// The next of `groups`.
    at: usize,
    times: u8,
    due: Instant,
}

/// One interface's groups.
#[derive(Debug, Clone, Default)]
struct Membership {
    groups: BTreeSet<Ipv6Addr>,
    wanted: VecDeque<Wanted>,
    /// Until then a version-1 querier is about.
    version_1_until: Instant,
}

/// What a guest's port that asked is still to be told. It is forgotten a while after the last report,
/// and until then the port is not heard.
#[derive(Debug, Clone)]
struct Asked {
    groups: VecDeque<Ipv6Addr>,
    version_1: bool,
}

/// A guest's port.
type Place = (InterfaceId, PortId);

/// All interfaces' groups.
#[derive(Debug, Clone)]
pub(crate) struct Memberships {
    by_interface: BTreeMap<InterfaceId, Membership>,
    due: Deadlines<InterfaceId>,
    asked: BTreeMap<Place, Asked>,
    answers: Deadlines<Place>,
    random: Random,
}

/// What is to be reported now.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) interface: InterfaceId,
    /// To this port alone; `None`: to the whole link.
    pub(crate) port: Option<PortId>,
    pub(crate) record: Record,
    pub(crate) groups: Vec<Ipv6Addr>,
    /// Whether it is to be said in messages of version 1.
    pub(crate) version_1: bool,
}

impl Memberships {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            by_interface: BTreeMap::new(),
            due: Deadlines::default(),
            asked: BTreeMap::new(),
            answers: Deadlines::default(),
            random: Random::new(seed),
        }
    }

    /// The groups of `interface` change; that is reported.
    pub(crate) fn change(
        &mut self,
        interface: InterfaceId,
        joined: &[Ipv6Addr],
        left: &[Ipv6Addr],
        now: Instant,
    ) {
        let membership = self.by_interface.entry(interface).or_default();
        membership.groups.extend(joined);
        for group in left {
            membership.groups.remove(group);
        }
        membership.want(Record::ToExclude, joined.to_vec(), ROBUSTNESS, now);
        membership.want(Record::ToInclude, left.to_vec(), ROBUSTNESS, now);
        self.schedule(interface);
    }

    /// Forgets the groups of an interface that is gone.
    pub(crate) fn forget(&mut self, interface: InterfaceId) {
        self.by_interface.remove(&interface);
        self.asked.retain(|place, _| place.0 != interface);
        self.due.clear(interface);
    }

    /// Reports everything of `interface` anew: it has another link or another source address.
    pub(crate) fn report_again(&mut self, interface: InterfaceId, now: Instant) {
        if let Some(membership) = self.by_interface.get_mut(&interface) {
            let groups = membership.groups.iter().copied().collect();
            membership.want(Record::ToExclude, groups, ROBUSTNESS, now);
            self.schedule(interface);
        }
    }

    /// A querier asks on `interface` for `group`, or for all if that is unspecified, to be answered
    /// within `longest` milliseconds. Returns whether there is something to answer.
    pub(crate) fn queried(
        &mut self,
        interface: InterfaceId,
        group: Ipv6Addr,
        (longest, version_1): (u64, bool),
        now: Instant,
    ) -> bool {
        let wait = Duration::from_millis(self.random.below(longest));
        let Some(membership) = self.by_interface.get_mut(&interface) else {
            return false;
        };
        if version_1 {
            membership.version_1_until = now + OLDER_QUERIER;
        }
        let groups = membership.asked_for(group);
        if groups.is_empty() {
            return false;
        }
        // One answer that waits is enough for any number of queries, if it comes in time for all
        // (RFC 3810 §6.2).
        let waits = membership.wanted.iter_mut().find(|wanted| {
            wanted.record == Record::IsExclude
                && (wanted.groups.len() >= groups.len() && group.is_unspecified()
                    || wanted.groups.contains(&group))
        });
        if let Some(waits) = waits {
            waits.due = waits.due.min(now + wait);
            self.schedule(interface);
            return false;
        }
        membership.want(Record::IsExclude, groups, 1, now + wait);
        self.schedule(interface);
        true
    }

    /// A guest asks. Returns whether there is something to answer.
    ///
    /// # Errors
    /// It asks too often.
    pub(crate) fn queried_by_guest(
        &mut self,
        place: Place,
        group: Ipv6Addr,
        (longest, version_1): (u64, bool),
        now: Instant,
    ) -> Result<bool, DropReason> {
        if self.asked.contains_key(&place) {
            return Err(DropReason::AnswerLimited);
        }
        let membership = self.by_interface.get(&place.0);
        let groups = membership.map_or_else(Vec::new, |m| m.asked_for(group));
        if groups.is_empty() {
            return Ok(false);
        }
        let wait = self.random.below(longest.min(UNSOLICITED_MS));
        let groups = groups.into();
        self.asked.insert(place, Asked { groups, version_1 });
        self.answers.set(place, now + Duration::from_millis(wait));
        Ok(true)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next().into_iter().chain(self.answers.next()).min()
    }

    /// The next reports to be made by now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Report> {
        self.poll_answers(now).or_else(|| self.poll_link(now))
    }

    fn poll_answers(&mut self, now: Instant) -> Option<Report> {
        while let Some(place @ (interface, port)) = self.answers.pop(now) {
            let Some(asked) = self.asked.get_mut(&place) else {
                continue;
            };
            if asked.groups.is_empty() {
                self.asked.remove(&place);
                continue;
            }
            let version_1 = asked.version_1;
            let each = groups_each(version_1).min(asked.groups.len());
            let groups = asked.groups.drain(..each).collect();
            self.answers.set(place, now + BETWEEN_ANSWERS);
            return Some(Report {
                interface,
                port: Some(port),
                record: Record::IsExclude,
                groups,
                version_1,
            });
        }
        None
    }

    fn poll_link(&mut self, now: Instant) -> Option<Report> {
        let interface = self.due.pop(now)?;
        let membership = self.by_interface.get_mut(&interface)?;
        let version_1 = now < membership.version_1_until;
        let wanted = membership
            .wanted
            .iter_mut()
            .find(|wanted| wanted.due <= now)?;
        let left = &wanted.groups[wanted.at..];
        let groups = left[..left.len().min(AT_ONCE * groups_each(version_1))].to_vec();
        let record = wanted.record;
        wanted.at += groups.len();
        wanted.due = now + PAUSE;
        if wanted.at >= wanted.groups.len() {
            wanted.at = 0;
            wanted.times -= 1;
            wanted.due = now + Duration::from_millis(self.random.below(UNSOLICITED_MS));
        }
        membership.wanted.retain(|wanted| wanted.times > 0);
        self.schedule(interface);
        Some(Report {
            interface,
            port: None,
            record,
            groups,
            version_1,
        })
    }

    fn schedule(&mut self, interface: InterfaceId) {
        let membership = self.by_interface.get(&interface);
        let wanted = membership.and_then(|m| m.wanted.iter().map(|wanted| wanted.due).min());
        match wanted {
            Some(due) => self.due.set(interface, due),
            None => self.due.clear(interface),
        }
    }
}

/// The groups of one report: of version 1 it is about one.
fn groups_each(version_1: bool) -> usize {
    if version_1 { 1 } else { RECORDS }
}

impl Membership {
    /// What a query for `group` is about: all groups if that is unspecified.
    fn asked_for(&self, group: Ipv6Addr) -> Vec<Ipv6Addr> {
        match group.is_unspecified() {
            true => self.groups.iter().copied().collect(),
            false => self.groups.get(&group).copied().into_iter().collect(),
        }
    }

    fn want(&mut self, record: Record, groups: Vec<Ipv6Addr>, times: u8, due: Instant) {
        if groups.is_empty() {
            return;
        }
        // The oldest may go: the next answer to a querier names every group again.
        if self.wanted.len() >= MOST_WAITING {
            self.wanted.pop_front();
        }
        self.wanted.push_back(Wanted {
            record,
            groups,
            at: 0,
            times,
            due,
        });
    }
}
