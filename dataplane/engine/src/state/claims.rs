//! Own addresses on their way from wanted to used, and their defence afterwards.
//!
//! | state | event | next |
//! |---|---|---|
//! | (new IPv6 address of a personality) | | probing: one solicitation with a nonce, 1 s (RFC 4862 §5.4; N12, N14) |
//! | (new IPv4 address of one, `acd`) | | probing: 0–1 s, three probes 1–2 s apart, 2 s (RFC 5227 §2.1.1; A04) |
//! | probing | nobody objects | ours: announced |
//! | probing | somebody has it, or wants it too | duplicate: not used, reported, tried again after 60 s |
//! | ours | somebody claims it | ours: defended, at most once in 10 s (RFC 5227 §2.4 (c); A05) |
//!
//! An address that is not in the table is ours. So is a network's gateway from the start: whether
//! guests object is not asked (H06).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::base::addr::{InterfaceId, MacAddr};
use crate::base::deadlines::Deadlines;
use crate::base::random::Random;
use crate::base::time::Instant;
use crate::model::interface::Interface;
use crate::wire::nd::Nonce;

/// RFC 4861 §10 RETRANS_TIMER: how long an IPv6 probe waits for an objection.
const DAD_WAIT: Duration = Duration::from_secs(1);
/// RFC 5227 §1.1: PROBE_WAIT, PROBE_NUM, PROBE_MIN and the spread to PROBE_MAX, ANNOUNCE_WAIT.
const PROBE_WAIT_MS: u64 = 1_000;
const PROBE_NUM: u8 = 3;
const PROBE_MIN_MS: u64 = 1_000;
const PROBE_SPREAD_MS: u64 = 1_000;
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// RFC 5227 §1.1 RATE_LIMIT_INTERVAL: the time between attempts after a conflict.
const RETRY: Duration = Duration::from_secs(60);
/// RFC 5227 §1.1 DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Most addresses whose last defence is remembered. While there are that many, no other address is
/// defended.
const DEFENCES: usize = 1_024;
/// Most notices that wait to be reported.
const NOTICES: usize = 64;

/// Something an operator must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The address.
    pub address: IpAddr,
    /// Where it was heard of.
    pub interface: InterfaceId,
    /// Who claims it.
    pub mac: MacAddr,
    /// It is not used because of that.
    pub given_up: bool,
}

/// How far the claim of an own address has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Being asked whether anybody has it.
    Probing,
    /// Somebody else has it.
    Duplicate,
}

impl ClaimState {
    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probing => "tentative",
            Self::Duplicate => "duplicate",
        }
    }
}

#[derive(Debug, Clone)]
struct Claim {
    state: ClaimState,
    probes: u8,
    nonce: Nonce,
}

/// Claims that are not settled, defences, and what is to be reported.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    open: BTreeMap<(InterfaceId, IpAddr), Claim>,
    due: Deadlines<(InterfaceId, IpAddr)>,
    defended: BTreeMap<(InterfaceId, IpAddr), Instant>,
    notices: Vec<Notice>,
    random: Random,
}

/// What a claim wants done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Probe(InterfaceId, IpAddr, Nonce),
    Won(InterfaceId, IpAddr),
}

impl Claims {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            open: BTreeMap::new(),
            due: Deadlines::default(),
            defended: BTreeMap::new(),
            notices: Vec::new(),
            random: Random::new(seed),
        }
    }

    /// Whether `address` is one to answer for, and to speak from.
    #[inline]
    pub(crate) fn is_ours(&self, interface: InterfaceId, address: IpAddr) -> bool {
        self.open.is_empty() || !self.open.contains_key(&(interface, address))
    }

    /// The address that `interface` speaks from to its link: its link-local one, or else another of
    /// its own. `None`: all of them are still being claimed, or somebody else's (N12).
    pub(crate) fn source_on(&self, interface: &Interface) -> Option<Ipv6Addr> {
        let ours = |address: &Ipv6Addr| self.is_ours(interface.id, IpAddr::V6(*address));
        let others = interface.own.v6.iter().copied();
        interface.link_local.into_iter().chain(others).find(ours)
    }

    /// Whether what `interface` would speak to `peer` from is still being claimed.
    pub(crate) fn is_claiming_for(&self, interface: &Interface, peer: IpAddr) -> bool {
        let is_probing = |own: IpAddr| self.state(interface.id, own) == Some(ClaimState::Probing);
        match peer {
            IpAddr::V4(peer) => interface
                .source_for(peer)
                .is_some_and(|own| is_probing(own.into())),
            IpAddr::V6(_) => {
                self.source_on(interface).is_none()
                    && interface.claimed().filter(IpAddr::is_ipv6).any(is_probing)
            }
        }
    }

    /// How far the claim is, if it is not settled.
    pub(crate) fn state(&self, interface: InterfaceId, address: IpAddr) -> Option<ClaimState> {
        self.open
            .get(&(interface, address))
            .map(|claim| claim.state)
    }

    /// Whether a probe with this nonce is one of our own.
    pub(crate) fn is_mine(
        &self,
        interface: InterfaceId,
        address: IpAddr,
        nonce: Option<Nonce>,
    ) -> bool {
        let claim = self.open.get(&(interface, address));
        claim.is_some_and(|claim| Some(claim.nonce) == nonce)
    }

    /// Begins to claim `address`.
    pub(crate) fn begin(&mut self, interface: InterfaceId, address: IpAddr, now: Instant) {
        let wait = match address {
            IpAddr::V4(_) => self.random.below(PROBE_WAIT_MS),
            IpAddr::V6(_) => 0,
        };
        let claim = self.claim();
        self.open.insert((interface, address), claim);
        self.due
            .set((interface, address), now + Duration::from_millis(wait));
    }

    /// Forgets all claims for which `gone` holds.
    pub(crate) fn forget(&mut self, gone: impl Fn(InterfaceId, IpAddr) -> bool) {
        let due = &mut self.due;
        self.open.retain(|&(interface, address), _| {
            let gone = gone(interface, address);
            if gone {
                due.clear((interface, address));
            }
            !gone
        });
    }

    /// Takes the notices that are to be reported.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    fn claim(&mut self) -> Claim {
        let mut nonce = [0; 6];
        nonce.copy_from_slice(&self.random.draw().to_be_bytes()[2..]);
        Claim {
            state: ClaimState::Probing,
            probes: 0,
            nonce,
        }
    }

    /// The next thing to do by now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Step> {
        let key @ (interface, address) = self.due.pop(now)?;
        if self.open.get(&key)?.state == ClaimState::Duplicate {
            let again = self.claim();
            self.open.insert(key, again);
        }
        let spread = self.random.below(PROBE_SPREAD_MS);
        let claim = self.open.get_mut(&key)?;
        let most = if address.is_ipv4() { PROBE_NUM } else { 1 };
        if claim.probes == most {
            self.open.remove(&key);
            return Some(Step::Won(interface, address));
        }
        claim.probes += 1;
        let wait = match address {
            IpAddr::V6(_) => DAD_WAIT,
            IpAddr::V4(_) if claim.probes == PROBE_NUM => ANNOUNCE_WAIT,
            IpAddr::V4(_) => Duration::from_millis(PROBE_MIN_MS + spread),
        };
        self.due.set(key, now + wait);
        Some(Step::Probe(interface, address, claim.nonce))
    }

    /// Somebody else claims `address`. Returns whether it is to be defended now.
    pub(crate) fn contested(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: MacAddr,
        now: Instant,
    ) -> bool {
        let key = (interface, address);
        let open = self.open.get_mut(&key);
        let given_up = open.is_some();
        let news = match open {
            Some(claim) => {
                self.due.set(key, now + RETRY);
                std::mem::replace(&mut claim.state, ClaimState::Duplicate) == ClaimState::Probing
            }
            None => {
                let old = |last: &Instant| now.since(*last) >= DEFEND_INTERVAL;
                if self.defended.len() >= DEFENCES {
                    self.defended.retain(|_, last| !old(last));
                }
                let due = self.defended.get(&key).is_none_or(old) && self.defended.len() < DEFENCES;
                if due {
                    self.defended.insert(key, now);
                }
                due
            }
        };
        if news && self.notices.len() < NOTICES {
            self.notices.push(Notice {
                address,
                interface,
                mac,
                given_up,
            });
        }
        news && !given_up
    }
}
