//! The ports of one external address and protocol: who holds which, and which one the next gets.

use super::cooling::{Cooling, Patience, Period};
use super::holders::{Holder, Holders, PORTS};
use crate::base::index::Index;
use crate::base::ip::Address;
use crate::base::random::Random;
use crate::base::shares::Shares;
use crate::config::PortRange;
use crate::state::payer::Payer;

/// A pool's index is in so many parts: each is made when it is used first, in some microseconds, where a
/// whole one would keep a packet waiting for a millisecond.
const PARTS: usize = 16;

/// Ports tried for an endpoint-dependent flow in one manner, of at most nine.
const TRIES: u32 = 32;

/// Why there is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPort {
    /// Nobody can have one.
    Exhausted,
    /// Whoever wants it has as many as it may have.
    Limited,
}

/// Who wants a port, and which would do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<A> {
    /// The external address.
    pub external: A,
    /// The protocol.
    pub protocol: u8,
    /// The inside address and port.
    pub inside: (A, u16),
    /// The external ports that would do.
    pub range: PortRange,
    /// Whom it counts against.
    pub payer: Payer,
    /// How many ports of the external address and protocol that one may have, or towards one
    /// destination where the mapping depends on that; `None`: its share.
    pub limit: Option<u32>,
    /// The range is the inside address's alone: there is nobody to leave something to.
    pub alone: bool,
}

/// The external ports of one address and protocol, and who holds them.
#[derive(Debug, Clone)]
pub(super) struct Pool<A> {
    /// One bit per port: held, or reserved.
    pub(super) held: Box<[u64]>,
    /// One bit per port: held by endpoint-dependent flows.
    pub(super) shared: Box<[u64]>,
    /// How many are held alone are held, and by whom.
    pub(super) shares: Shares,
    pub(super) holders: Holders<A>,
    /// Of the holders' inside addresses and ports, by the hash: see [`part_of`].
    pub(super) index: [Index; PARTS],
    pub(super) cooling: Cooling,
}

impl<A: Address> Pool<A> {
    pub(super) fn new(reserved: &[(A, u8, PortRange)], external: A, protocol: u8) -> Self {
        let mut pool = Self {
            held: vec![0; PORTS / 64].into(),
            shared: vec![0; PORTS / 64].into(),
            shares: Shares::new(PORTS as u32),
            holders: Holders::new(),
            // An index has room for a third more than that: no part is ever full, as the hash is secret.
            index: std::array::from_fn(|_| Index::new(PORTS / PARTS)),
            cooling: Cooling::new(PORTS),
        };
        let here = |entry: &&(A, u8, PortRange)| (entry.0, entry.1) == (external, protocol);
        for (_, _, ports) in reserved.iter().filter(here) {
            pool.reserve(*ports);
        }
        pool
    }

    pub(super) fn reserve(&mut self, ports: PortRange) {
        for port in ports.first..=ports.last {
            self.held[port as usize / 64] |= 1 << (port % 64);
        }
    }

    pub(super) fn unreserve(&mut self, ports: PortRange) {
        for port in ports.first..=ports.last {
            if self.holders.get(port).uses == 0 {
                self.held[port as usize / 64] &= !(1 << (port % 64));
            }
        }
    }

    pub(super) fn find(
        &self,
        hash: u64,
        inside: (A, u16),
        suits: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let found = self.index[part_of(hash)].find(hash, |port| {
            let holder = self.holders.get(port as u16);
            (holder.address, holder.port) == inside && suits(port as u16)
        });
        found.map(|port| port as u16)
    }

    pub(super) fn is_held(&self, port: u16) -> bool {
        self.held[port as usize / 64] >> (port % 64) & 1 == 1
    }

    pub(super) fn is_shared(&self, port: u16) -> bool {
        self.shared[port as usize / 64] >> (port % 64) & 1 == 1
    }

    /// One more endpoint-dependent flow has `port`.
    pub(super) fn share(&mut self, port: u16) {
        let (word, bit) = (port as usize / 64, 1 << (port % 64));
        self.held[word] |= bit;
        self.shared[word] |= bit;
        let holder = self.holders.get_mut(port);
        *holder = Holder {
            address: A::UNSPECIFIED,
            port: 0,
            uses: holder.uses + 1,
            payer: 0,
        };
    }

    pub(super) fn take(&mut self, port: u16, hash: u64, (address, inside): (A, u16), payer: Payer) {
        self.shares.take(payer.index(), 1);
        self.held[port as usize / 64] |= 1 << (port % 64);
        *self.holders.get_mut(port) = Holder {
            address,
            port: inside,
            uses: 1,
            payer: payer.index() as u32,
        };
        self.index[part_of(hash)].insert(hash, u32::from(port));
    }

    /// A free port for a payer that may have one more: one that rested enough if there is one.
    pub(super) fn choose(
        &self,
        wanted: &Wanted<A>,
        (ours, now): (u64, Period),
        random: u64,
    ) -> Result<u16, NoPort> {
        if self.shares.free() > 0 && !self.shares.may_take(wanted.payer.index(), 1) {
            return Err(NoPort::Limited);
        }
        let free = |patience: Patience| {
            move |word: usize| !(self.held[word] | self.cooling.resting(word, now, patience)) & ours
        };
        let (insider, port) = wanted.inside;
        let (word, bit) = (port as usize / 64, 1 << (port % 64));
        // Who had it last may have it again at once.
        if wanted.range.contains(port)
            && free(Patience::None)(word) & bit != 0
            && (free(Patience::Full)(word) & bit != 0 || self.holders.get(port).address == insider)
        {
            return Ok(port);
        }
        let mut patience = Patience::left(&self.cooling, now).iter();
        let found = patience.find_map(|patience| find_free(wanted, free(*patience), random));
        // In a range of its own nobody else has taken them.
        found.ok_or(match wanted.alone {
            true => NoPort::Limited,
            false => NoPort::Exhausted,
        })
    }

    /// A port for an endpoint-dependent flow, which is not `taken` towards where it goes: one that is
    /// free, or shared already.
    pub(super) fn choose_shared(
        &self,
        wanted: &Wanted<A>,
        (ours, now): (u64, Period),
        random: &mut Random,
        taken: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let free = |patience: Patience| {
            move |word: usize| {
                let held = self.held[word] & !self.shared[word];
                !(held | self.cooling.resting(word, now, patience)) & ours
            }
        };
        let port = wanted.inside.1;
        let (word, bit) = (port as usize / 64, 1 << (port % 64));
        if wanted.range.contains(port) && free(Patience::Full)(word) & bit != 0 && !taken(port) {
            return Some(port);
        }
        for patience in Patience::left(&self.cooling, now) {
            for (range, of) in manners(wanted) {
                let mut place = random.draw();
                for _ in 0..TRIES {
                    let port = free_in(range, |word| free(*patience)(word) & of, place);
                    let Some(port) = port else { break };
                    if !taken(port) {
                        return Some(port);
                    }
                    place = match range.size() <= TRIES {
                        true => u64::from(port - range.first) + 1,
                        false => random.draw(),
                    };
                }
            }
        }
        None
    }
}

impl<A> Wanted<A> {
    /// How many ports its payer may have; `None`: its share.
    pub(super) fn most(&self) -> Option<u32> {
        match self.alone {
            true => Some(self.limit.unwrap_or(PORTS as u32)),
            false => self.limit,
        }
    }
}

/// How many ports of a range are those of a worker whose ports `mask` says.
pub(super) fn part(range: PortRange, mask: u64) -> u32 {
    range.size() * mask.count_ones() / 64
}

/// A port among those whose bits `free` has set, by words of 64.
fn find_free<A>(
    wanted: &Wanted<A>,
    free: impl Fn(usize) -> u64 + Copy,
    random: u64,
) -> Option<u16> {
    manners(wanted).find_map(|(range, of)| free_in(range, |word| free(word) & of, random))
}

/// The ranges, and the bits of each word of 64 ports, in which a port is looked for, the most like the
/// inside port first.
fn manners<A>(wanted: &Wanted<A>) -> impl Iterator<Item = (PortRange, u64)> {
    let (range, port) = (wanted.range, wanted.inside.1);
    // Well-known ports stay well-known ones and others others, as far as the range has both.
    let class = if port < 1024 {
        (0, 1023)
    } else {
        (1024, u16::MAX)
    };
    let narrowed = PortRange {
        first: range.first.max(class.0),
        last: range.last.min(class.1),
    };
    let parity = 0x5555_5555_5555_5555 << (port & 1);
    let all = [(narrowed, parity), (narrowed, !0), (range, !0)];
    let has_class = narrowed.first <= narrowed.last;
    all.into_iter().skip(if has_class { 0 } else { 2 })
}

/// A port of `range` that is `free`, searched from a random place on: one pass over at most 1,024
/// words.
fn free_in(range: PortRange, free: impl Fn(usize) -> u64 + Copy, random: u64) -> Option<u16> {
    let start = u32::from(range.first) + (random % u64::from(range.size())) as u32;
    let (first, last) = (u32::from(range.first), u32::from(range.last));
    free_between(start, last, free).or_else(|| free_between(first, start, free))
}

fn free_between(from: u32, to: u32, free: impl Fn(usize) -> u64) -> Option<u16> {
    for word in from / 64..=to / 64 {
        let mut free = free(word as usize);
        if word == from / 64 {
            free &= !0 << (from % 64);
        }
        if word == to / 64 {
            free &= !0 >> (63 - to % 64);
        }
        if free != 0 {
            return Some((word * 64 + free.trailing_zeros()) as u16);
        }
    }
    None
}

/// The part of a pool's index that a hash is in, by bits that the index itself does not use.
pub(super) fn part_of(hash: u64) -> usize {
    (hash >> 16) as usize % PARTS
}
