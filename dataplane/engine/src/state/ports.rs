//! Source translation: which external port stands for which inside address and port.
//!
//! Mappings are endpoint-independent (RFC 4787 REQ-1, T01): one inside (address, port) keeps one
//! external port for as long as any session uses it, whatever its destination. A port is never
//! given to two insiders at once (T03): translation is a bijection.
//!
//! Where the configuration asks for endpoint-dependent ones, a port may be several flows' as long as
//! they go elsewhere: that no two have the same answers, the session table says. A port is held in one
//! of these manners at a time.

mod cooling;
mod holders;
mod pool;
mod share;

use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use crate::base::hash::HashKey;
use crate::base::index::Index;
use crate::base::ip::Address;
use crate::base::random::Random;
use crate::base::time::Instant;
use crate::config::PortRange;
use crate::state::payer::Payer;
use crate::wire::flow::Flow;
use cooling::Period;
use holders::PORTS;
pub use pool::{NoPort, Wanted};
use pool::{Pool, part, part_of};
pub use share::Share;

/// All mappings of one worker and address family.
#[derive(Debug)]
pub struct ExternalPorts<A> {
    /// By external address and protocol: the configuration chooses them.
    pools: HashMap<(A, u8), Pool<A>, FixedState>,
    /// Address, protocol and ports of redirections: never given to anybody.
    reserved: Vec<(A, u8, PortRange)>,
    /// This worker's ports among 64 that begin at a multiple of 64.
    mask: u64,
    key: HashKey,
    random: Random,
    /// Now.
    period: Period,
    /// By inside address, see [`slot`]: what one such wanted last.
    lately: Box<[Option<Wanted<A>>; LATELY]>,
}

/// Inside addresses of which it is remembered what they wanted.
const LATELY: usize = 256;

/// The port that a flow will most likely get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foreseen<'s, A> {
    pool: &'s Pool<A>,
    hash: u64,
    /// The external address and the port.
    pub(crate) external: (A, u16),
}

impl<A: Address> Foreseen<'_, A> {
    /// Reads a word of what taking it will need, to have it in the cache.
    pub(crate) fn touch(&self) -> u32 {
        self.pool.index[part_of(self.hash)].touch(self.hash)
            ^ self.pool.holders.get(self.external.1).uses
    }
}

impl<A: Address> ExternalPorts<A> {
    /// No mappings yet. `seed` is random per start.
    pub fn new(seed: u64, share: Share) -> Self {
        Self {
            pools: HashMap::default(),
            reserved: Vec::new(),
            mask: share.mask(),
            key: HashKey::new(seed.rotate_left(17)),
            random: Random::new(seed),
            period: Period::default(),
            lately: Box::new([None; LATELY]),
        }
    }

    /// The ports that first packets of these flows will most likely get, if all of them get one: as if each
    /// wanted what its source did lately.
    pub(crate) fn foresee(
        &self,
        flows: impl Iterator<Item = Flow<A>>,
    ) -> impl Iterator<Item = (Flow<A>, Foreseen<'_, A>)> {
        let mut random = self.random.clone();
        flows.filter_map(move |flow| {
            let lately = self.lately[slot(flow.source)];
            let lately = lately.filter(|lately| lately.inside.0 == flow.source)?;
            let wanted = Wanted {
                protocol: flow.protocol,
                inside: (flow.source, flow.source_port),
                ..lately
            };
            let pool = self.pools.get(&(wanted.external, wanted.protocol))?;
            let port = pool.choose(&wanted, (self.mask, self.period), random.draw());
            let foreseen = Foreseen {
                pool,
                hash: hash(&self.key, wanted.inside),
                external: (wanted.external, port.ok()?),
            };
            Some((flow, foreseen))
        })
    }

    /// It is `now`; to be told every few seconds. A freed port is given to somebody else only after a
    /// while, or if nothing else is left (RFC 6888 REQ-8, T17).
    pub fn tick(&mut self, now: Instant) {
        self.period = Period::of(now);
    }

    /// These external ports, by address and protocol, are given to nobody from now on. Who has one
    /// already keeps it.
    pub fn reserve(&mut self, reserved: Vec<(A, u8, PortRange)>) {
        for &(external, protocol, ports) in &self.reserved {
            if let Some(pool) = self.pools.get_mut(&(external, protocol)) {
                pool.unreserve(ports);
            }
        }
        for &(external, protocol, ports) in &reserved {
            if let Some(pool) = self.pools.get_mut(&(external, protocol)) {
                pool.reserve(ports);
            }
        }
        self.reserved = reserved;
    }

    /// One more session uses the mapping of an inside address and port: the port it has, else a new
    /// one. The inside port itself when it is free, else one of the same class and parity at random
    /// (RFC 4787 REQ-3, REQ-4), else any.
    ///
    /// # Errors
    /// There is none to be had, for anybody or for this payer (RFC 6888 REQ-4, H04).
    pub fn acquire(&mut self, wanted: &Wanted<A>) -> Result<u16, NoPort> {
        let hash = hash(&self.key, wanted.inside);
        let (reserved, place) = (&self.reserved, (wanted.external, wanted.protocol));
        self.lately[slot(wanted.inside.0)] = Some(*wanted);
        let pool = self
            .pools
            .entry(place)
            .or_insert_with(|| Pool::new(reserved, place.0, place.1));
        // A reload may have narrowed the range: sessions from before may still hold another port.
        let range = wanted.range;
        if let Some(port) = pool.find(hash, wanted.inside, |port| range.contains(port)) {
            pool.holders.get_mut(port).uses += 1;
            return Ok(port);
        }
        // A worker has its part of the range only.
        pool.shares.divide(match wanted.alone {
            true => PORTS as u32,
            false => part(range, self.mask),
        });
        pool.shares.limit(wanted.payer.index(), wanted.most());
        let port = pool.choose(wanted, (self.mask, self.period), self.random.draw())?;
        pool.take(port, hash, wanted.inside, wanted.payer);
        Ok(port)
    }

    /// One more endpoint-dependent session has a port: the inside port itself where it can be had, else one
    /// of the same class and parity at random, else any. `taken`: another session has the port towards
    /// the same destination. A bounded number of ports is tried.
    ///
    /// # Errors
    /// None of these can be had.
    pub fn acquire_shared(
        &mut self,
        wanted: &Wanted<A>,
        taken: impl Fn(u16) -> bool,
    ) -> Result<u16, NoPort> {
        let mut random = self.random.clone();
        let port = self.choose_shared(wanted, &mut random, taken)?;
        self.random = random;
        self.pool(wanted.external, wanted.protocol).share(port);
        Ok(port)
    }

    /// The port that [`Self::acquire_shared`] would give, without giving it.
    ///
    /// # Errors
    /// As it would.
    pub fn peek_shared(
        &self,
        wanted: &Wanted<A>,
        taken: impl Fn(u16) -> bool,
    ) -> Result<u16, NoPort> {
        self.choose_shared(wanted, &mut self.random.clone(), taken)
    }

    fn choose_shared(
        &self,
        wanted: &Wanted<A>,
        random: &mut Random,
        taken: impl Fn(u16) -> bool,
    ) -> Result<u16, NoPort> {
        let place = (wanted.external, wanted.protocol);
        let fresh;
        let pool = match self.pools.get(&place) {
            Some(pool) => pool,
            None => {
                fresh = Pool::new(&self.reserved, place.0, place.1);
                &fresh
            }
        };
        // A port may have been reserved while some flows had it.
        let taken = |port| taken(port) || self.is_reserved(place, port);
        let found = pool.choose_shared(wanted, (self.mask, self.period), random, taken);
        found.ok_or(NoPort::Exhausted)
    }

    /// Who holds an external port, by inside address and port; `None`: nobody alone.
    pub fn holder(&self, (external, port): (A, u16), protocol: u8) -> Option<(A, u16)> {
        let pool = self.pools.get(&(external, protocol))?;
        let holder = pool.holders.get(port);
        (holder.uses > 0 && !pool.is_shared(port)).then_some((holder.address, holder.port))
    }

    /// One more session has a part in `port`, which somebody holds.
    pub fn join(&mut self, (external, port): (A, u16), protocol: u8) {
        self.pool(external, protocol).holders.get_mut(port).uses += 1;
    }

    /// How many of the ports of `range` this worker gives out.
    pub fn own_part(&self, range: PortRange) -> u32 {
        part(range, self.mask)
    }

    /// The port counts against `payer` from now on.
    pub fn charge(&mut self, place: (A, u8), port: u16, payer: Payer) {
        let Some(pool) = self.pools.get_mut(&place) else {
            return;
        };
        if pool.is_shared(port) {
            return;
        }
        let holder = pool.holders.get_mut(port);
        if holder.uses > 0 {
            pool.shares.give_back(holder.payer as usize, 1);
            pool.shares.take(payer.index(), 1);
            holder.payer = payer.index() as u32;
        }
    }

    /// How many ports `payer` has of the external address of which it has most, and how many it could
    /// have there.
    pub fn most_held(&self, payer: Payer) -> Option<(u32, u32)> {
        let of = |pool: &Pool<A>| {
            let shares = &pool.shares;
            (shares.used(payer.index()), shares.most(payer.index()))
        };
        self.pools.values().map(of).max_by_key(|(used, _)| *used)
    }

    /// One more session uses the mapping of `inside` to exactly `port`; for sessions that outlived
    /// a restart. False when somebody else holds it.
    pub fn restore(
        &mut self,
        external: A,
        protocol: u8,
        inside: (A, u16),
        port: u16,
        payer: Payer,
    ) -> bool {
        let hash = hash(&self.key, inside);
        let pool = self.pool(external, protocol);
        // An inside port may have two mappings, if a reload narrowed the range between them.
        match pool.find(hash, inside, |mapped| mapped == port) {
            Some(_) => pool.holders.get_mut(port).uses += 1,
            None if pool.is_held(port) => return false,
            None => pool.take(port, hash, inside, payer),
        }
        true
    }

    /// One more endpoint-dependent session has `port`; for sessions that outlived a restart. False when
    /// somebody holds it alone.
    pub fn restore_shared(&mut self, (external, port): (A, u16), protocol: u8) -> bool {
        let pool = self.pool(external, protocol);
        let free = pool.is_shared(port) || !pool.is_held(port);
        if free {
            pool.share(port);
        }
        free
    }

    /// No port of `external` is to be had any more; for trying things out.
    pub(crate) fn exhaust(&mut self, external: A, protocol: u8) {
        let mut pool = Pool::new(&self.reserved, external, protocol);
        pool.held.fill(!0);
        self.pools.insert((external, protocol), pool);
    }

    /// Whoever wants this has as many ports as it may have; for trying things out.
    pub(crate) fn limit(&mut self, wanted: &Wanted<A>) {
        let (external, protocol) = (wanted.external, wanted.protocol);
        if wanted.alone {
            return self.exhaust(external, protocol);
        }
        let mut pool = Pool::new(&self.reserved, external, protocol);
        let half = wanted.range.size().div_ceil(2);
        let all = half.max(wanted.most().unwrap_or(0));
        pool.shares.take(wanted.payer.index(), all);
        self.pools.insert((external, protocol), pool);
    }

    /// No other port than this is to be had for an endpoint-dependent flow; for trying things out.
    pub(crate) fn leave_only(&mut self, external: A, protocol: u8, port: u16) {
        self.exhaust(external, protocol);
        self.pool(external, protocol).held[port as usize / 64] &= !(1 << (port % 64));
    }

    /// One session less uses `port`; the last one frees it.
    pub fn release(&mut self, external: A, protocol: u8, port: u16) {
        let place = (external, protocol);
        let is_reserved = self.is_reserved(place, port);
        let Some(pool) = self.pools.get_mut(&place) else {
            return;
        };
        let holder = pool.holders.get_mut(port);
        let was = holder.uses;
        holder.uses = was.saturating_sub(1);
        if holder.uses > 0 || was == 0 {
            return;
        }
        let (word, bit) = (port as usize / 64, 1 << (port % 64));
        if !is_reserved {
            pool.held[word] &= !bit;
        }
        if pool.shared[word] & bit != 0 {
            pool.shared[word] &= !bit;
        } else {
            let hash = hash(&self.key, (holder.address, holder.port));
            pool.shares.give_back(holder.payer as usize, 1);
            pool.index[part_of(hash)].remove(hash, u32::from(port));
        }
        pool.cooling.rest(port, self.period);
    }

    fn pool(&mut self, external: A, protocol: u8) -> &mut Pool<A> {
        let reserved = &self.reserved;
        self.pools
            .entry((external, protocol))
            .or_insert_with(|| Pool::new(reserved, external, protocol))
    }

    fn is_reserved(&self, place: (A, u8), port: u16) -> bool {
        let has =
            |entry: &(A, u8, PortRange)| (entry.0, entry.1) == place && entry.2.contains(port);
        self.reserved.iter().any(has)
    }

    /// What finding the mapping of `inside` costs at most.
    #[cfg(test)]
    pub(crate) fn cost(&self, external: A, protocol: u8, inside: (A, u16)) -> usize {
        let hash = hash(&self.key, inside);
        self.pools[&(external, protocol)].index[part_of(hash)].cost(hash)
    }

    /// How many ports are held.
    pub fn held(&self) -> usize {
        let held = |pool: &Pool<A>| {
            let shared: u32 = pool.shared.iter().map(|word| word.count_ones()).sum();
            (pool.shares.all() + shared) as usize
        };
        self.pools.values().map(held).sum()
    }

    /// Memory used, in bytes.
    pub fn memory(&self) -> usize {
        let pool = |pool: &Pool<A>| {
            size_of_val(&*pool.held)
                + size_of_val(&*pool.shared)
                + pool.shares.memory()
                + pool.holders.memory()
                + pool.index.iter().map(Index::memory).sum::<usize>()
                + pool.cooling.memory()
        };
        self.pools.values().map(pool).sum()
    }

    /// The port that [`Self::acquire`] would give, without giving it.
    ///
    /// # Errors
    /// As it would.
    pub fn peek(&self, wanted: &Wanted<A>) -> Result<u16, NoPort> {
        let hash = hash(&self.key, wanted.inside);
        let random = self.random.clone().draw();
        let suits = |port| wanted.range.contains(port);
        match self.pools.get(&(wanted.external, wanted.protocol)) {
            Some(pool) => match pool.find(hash, wanted.inside, suits) {
                Some(port) => Ok(port),
                None => pool.choose(wanted, (self.mask, self.period), random),
            },
            None => Pool::new(&self.reserved, wanted.external, wanted.protocol).choose(
                wanted,
                (self.mask, self.period),
                random,
            ),
        }
    }
}

/// The place of an inside address among those of which it is remembered what they wanted.
fn slot<A: Address>(inside: A) -> usize {
    let bytes = inside.octets();
    let bytes = bytes.as_ref().iter();
    bytes.fold(0, |sum: usize, byte| {
        sum.wrapping_mul(31).wrapping_add(*byte as usize)
    }) % LATELY
}

fn hash<A: Address>(key: &HashKey, (address, port): (A, u16)) -> u64 {
    let mut hasher = key.build_hasher();
    address.write_with(A::UNSPECIFIED, u64::from(port), &mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
