//! Multicast listener: which solicited-node groups we belong to, and saying so (RFC 3810, RFC 2710).
//!
//! A switch that snoops forwards a group's frames only to ports that reported it; so every address
//! we answer for, own or a guest's, has its group reported. Groups are kept as a set, so one that
//! two addresses share stays until both are gone (M03). ff02::1 is never reported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::addr::{InterfaceId, PortId};
use crate::announce::FEW;
use crate::checksum;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::nat::Random;
use crate::nd::solicited_node;
use crate::packet::{ETHERNET, Packet};
use crate::process::Router;
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

/// ICMPv6 types (RFC 3810 §5, RFC 2710 §3).
pub(crate) const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const DONE_V1: u8 = 132;
const REPORT: u8 = 143;

/// Where reports go (RFC 3810 §5.2.14) and where a version-1 listener says that it leaves.
const ALL_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// RFC 3810 §9.1 and §9.11: a change is reported so often, within this time.
const ROBUSTNESS: u8 = 2;
const UNSOLICITED_MS: u64 = 1_000;
/// RFC 3810 §9.12: how long a version-1 querier is remembered.
const OLDER_QUERIER: Duration = Duration::from_secs(260);
/// Records of one report: what fits the smallest MTU (RFC 8200 §5), 20 bytes each.
const RECORDS: usize = 60;
/// Reports in one go, and the pause after it.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(10);
/// Reports that wait at most, of each interface.
const MOST_WAITING: usize = 8;

/// The kind of a record (RFC 3810 §5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    /// We listen: an answer.
    IsExclude = 2,
    /// We listen no longer.
    ToInclude = 3,
    /// We listen from now on.
    ToExclude = 4,
}

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

/// All interfaces' groups.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    memberships: BTreeMap<InterfaceId, Membership>,
    random: Random,
}

impl Listener {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            memberships: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// Reports everything of `interface` anew: it has another link or another source address.
    pub(crate) fn report_again(&mut self, interface: InterfaceId, now: Instant) {
        if let Some(membership) = self.memberships.get_mut(&interface) {
            let groups = membership.groups.iter().copied().collect();
            membership.want(Record::ToExclude, groups, ROBUSTNESS, now);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let all = self.memberships.values();
        all.flat_map(|membership| membership.wanted.iter().map(|wanted| wanted.due))
            .min()
    }

    /// The groups of `interface` are these now; what changed is reported.
    fn set(&mut self, interface: InterfaceId, groups: BTreeSet<Ipv6Addr>, now: Instant) {
        let membership = self.memberships.entry(interface).or_default();
        let new = groups.difference(&membership.groups).copied().collect();
        let gone = membership.groups.difference(&groups).copied().collect();
        membership.groups = groups;
        membership.want(Record::ToExclude, new, ROBUSTNESS, now);
        membership.want(Record::ToInclude, gone, ROBUSTNESS, now);
    }
}

impl Membership {
    fn want(&mut self, record: Record, groups: Vec<Ipv6Addr>, times: u8, due: Instant) {
        if groups.is_empty() {
            return;
        }
        // A full answer that waits says it all once more.
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

impl<T: Trace> Router<'_, T> {
    /// A querier asks who listens (RFC 3810 §6.2, RFC 2710 §4; M02).
    pub(crate) fn listener_query(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv6Addr>,
        (ingress, vlan): (PortId, Option<u16>),
    ) -> Result<Verdict, DropReason> {
        let body = &frame.bytes[packet.l4..packet.end];
        let sum = checksum::sum(body, Ipv6Addr::icmp_sum(packet));
        let from_link = packet.flow.source.is_unicast_link_local() && packet.ttl == 1;
        let right = body.len() == 24 || body.len() >= 28;
        if !from_link || !right || body[1] != 0 || checksum::fold(sum) != 0xffff {
            return Err(DropReason::MldMalformed);
        }
        let version_1 = body.len() == 24;
        let code = u16::from_be_bytes([body[4], body[5]]);
        let longest = match version_1 {
            true => u64::from(code),
            false => response_ms(code),
        };
        let group = body[8..]
            .first_chunk::<16>()
            .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets));
        let mut answered = false;
        for interface in self.snapshot.on_port(ingress, vlan) {
            let listener = &mut self.shard.listener;
            let wait = Duration::from_millis(listener.random.next() % longest.max(1));
            let Some(membership) = listener.memberships.get_mut(&interface.id) else {
                continue;
            };
            if version_1 {
                membership.version_1_until = self.now + OLDER_QUERIER;
            }
            let groups: Vec<Ipv6Addr> = match group.is_unspecified() {
                true => membership.groups.iter().copied().collect(),
                false => membership.groups.get(&group).copied().into_iter().collect(),
            };
            // One answer that waits is enough for any number of queries.
            let waits = membership.wanted.iter().any(|wanted| {
                wanted.record == Record::IsExclude && wanted.groups.len() >= groups.len()
            });
            if !groups.is_empty() && !waits {
                membership.want(Record::IsExclude, groups, 1, self.now + wait);
                answered = true;
            }
        }
        if answered {
            self.shard.counters.mld_queries_answered += 1;
        }
        Ok(Verdict::Consumed)
    }
}

impl Shard {
    /// Belongs to the groups of everything that is answered for under `snapshot`.
    pub(crate) fn listen(&mut self, snapshot: &Snapshot, now: Instant) {
        for interface in snapshot.interfaces() {
            self.listener
                .set(interface.id, groups(snapshot, interface), now);
        }
        let there = |id: &InterfaceId| snapshot.interface(*id).is_some();
        self.listener.memberships.retain(|id, _| there(id));
    }

    /// Sends the reports that are due.
    pub(crate) fn poll_listener(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut listener = std::mem::replace(&mut self.listener, Listener::new(0));
        for (id, membership) in &mut listener.memberships {
            let Some(interface) = snapshot.interface(*id) else {
                continue;
            };
            let version_1 = now < membership.version_1_until;
            for wanted in membership
                .wanted
                .iter_mut()
                .filter(|wanted| wanted.due <= now)
            {
                self.report(snapshot, interface, wanted, version_1);
                wanted.due = now + PAUSE;
                if wanted.at >= wanted.groups.len() {
                    wanted.at = 0;
                    wanted.times -= 1;
                    wanted.due =
                        now + Duration::from_millis(listener.random.next() % UNSOLICITED_MS);
                }
            }
            membership.wanted.retain(|wanted| wanted.times > 0);
        }
        self.listener = listener;
    }

    /// Sends the next reports of `wanted`.
    fn report(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        wanted: &mut Wanted,
        version_1: bool,
    ) {
        // RFC 3810 §5.2.13: :: before there is a link-local address (RFC 3590).
        let ours = |address: &Ipv6Addr| self.claims.is_ours(interface.id, IpAddr::V6(*address));
        let source = interface
            .link_local
            .filter(ours)
            .unwrap_or(Ipv6Addr::UNSPECIFIED);
        let left = &wanted.groups[wanted.at..];
        let frames: Vec<(Ipv6Addr, OwnedFrame)> = if version_1 {
            let (kind, to) = match wanted.record {
                Record::ToInclude => (DONE_V1, Some(ALL_ROUTERS)),
                _ => (REPORT_V1, None),
            };
            let some = left.iter().take(AT_ONCE);
            wanted.at += some.len();
            some.map(|group| {
                let to = to.unwrap_or(*group);
                (to, build(source, to, &message_v1(kind, *group)))
            })
            .collect()
        } else {
            let some = &left[..left.len().min(AT_ONCE * RECORDS)];
            wanted.at += some.len();
            let reports = some.chunks(RECORDS);
            reports
                .map(|groups| {
                    let message = message(wanted.record, groups);
                    (ALL_V2_ROUTERS, build(source, ALL_V2_ROUTERS, &message))
                })
                .collect()
        };
        for (to, frame) in frames {
            self.counters.mld_reports_sent += 1;
            self.multicast(snapshot, &frame, interface, (to, &interface.ports));
        }
    }
}

/// The solicited-node groups of everything that `interface` answers for. Those of an address that
/// is shared with the host's kernel are the kernel's to report, but harmless twice.
fn groups(snapshot: &Snapshot, interface: &Interface) -> BTreeSet<Ipv6Addr> {
    let own = interface.own.v6.iter().copied();
    let guests = snapshot.owners().public_addresses(interface.id, FEW);
    let guests = guests.filter_map(|(address, _)| match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    });
    own.chain(guests).map(solicited_node).collect()
}

/// The maximum response delay that a code stands for, in milliseconds (RFC 3810 §5.1.3).
fn response_ms(code: u16) -> u64 {
    if code < 0x8000 {
        return u64::from(code);
    }
    let (exponent, mantissa) = (code >> 12 & 7, code & 0xfff);
    u64::from(mantissa | 0x1000) << (exponent + 3)
}

/// A version-2 report (RFC 3810 §5.2), its checksum still zero.
fn message(record: Record, groups: &[Ipv6Addr]) -> Vec<u8> {
    let mut bytes = vec![REPORT, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    for group in groups {
        bytes.extend_from_slice(&[record as u8, 0, 0, 0]);
        bytes.extend_from_slice(&group.octets());
    }
    bytes
}

/// A version-1 report or done (RFC 2710 §3), its checksum still zero.
fn message_v1(kind: u8, group: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&group.octets());
    bytes
}

/// A frame with `message` behind a Router Alert (RFC 2711; RFC 3810 §5), hop limit 1; its MACs are
/// still to be set.
fn build(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> OwnedFrame {
    const HOP_BY_HOP: u8 = 0;
    const ROUTER_ALERT: [u8; 6] = [5, 2, 0, 0, 1, 0];
    let mut bytes = Ipv6Addr::icmp_frame(source, destination, 8 + message.len());
    bytes[ETHERNET + 6] = HOP_BY_HOP;
    bytes[ETHERNET + 7] = 1;
    bytes.extend_from_slice(&[Ipv6Addr::ICMP, 0]);
    bytes.extend_from_slice(&ROUTER_ALERT);
    let at = bytes.len();
    bytes.extend_from_slice(message);
    let (from, to) = (source.octets(), destination.octets());
    let seed = checksum::pseudo_header(&from, &to, Ipv6Addr::ICMP, message.len());
    let check = !checksum::fold(checksum::sum(&bytes[at..], seed));
    bytes[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
    OwnedFrame {
        bytes,
        ..OwnedFrame::default()
    }
}
