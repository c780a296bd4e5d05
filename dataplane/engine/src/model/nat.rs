//! Translations, compiled: which sources are translated, and which destinations.

mod build;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU16;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::owners::Owners;
use super::pair::PrefixPair;
use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::config::{Blocks, Filtering, Mapping, PortRange, Target};
use crate::model::interface::Interface;
use crate::wire::flow::Flow;

/// A source translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snat {
    /// Source prefix.
    pub from: IpNet,
    /// The interface packets must leave by.
    pub interface: InterfaceId,
    /// The addresses they then wear; at least one.
    pub to: Vec<IpAddr>,
    /// Destinations that are reached untranslated.
    pub except: Vec<IpNet>,
    /// The external ports.
    pub ports: PortRange,
    /// For how many destinations one stands for one inside address and port.
    pub mapping: Mapping,
    /// Who may answer to one.
    pub filtering: Filtering,
    /// How many of them each address of `from` has for itself; `None`: all share them.
    pub block: Option<NonZeroU16>,
}

/// What a source that shares an external address wears: by which entry, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worn<'s> {
    /// The entry's place.
    pub index: usize,
    /// The entry.
    pub snat: &'s Snat,
    /// The external address.
    pub address: IpAddr,
    /// Its ports that are given to this source.
    pub ports: PortRange,
}

/// Whom an external port stands for, by what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped<A> {
    /// The inside address and port.
    pub inside: (A, u16),
    /// That one has spoken to the address that speaks now, from this port.
    pub spoken_to: bool,
}

/// What ports of an address are redirected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The ports.
    pub ports: PortRange,
    /// The sources it is for; any if there are none.
    pub from: Vec<IpNet>,
    /// Where they go; at least one.
    pub to: Vec<Target>,
}

/// What becomes of a source on the way out of a personality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outward<'s> {
    /// Nothing translates it.
    AsItIs,
    /// Nothing does, because an entry leaves the destination out.
    Excepted,
    /// It stands for this address alone.
    OneToOne(IpAddr),
    /// It is of a prefix that is translated, but has no address outside (RFC 6296 §3.4).
    Nothing,
    /// It shares an address with others, told apart by ports.
    Shared(Worn<'s>),
}

/// A flow towards an address of a personality that is another's by translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inward<A> {
    /// The flow with the destination it really has.
    pub flow: Flow<A>,
    /// The personality that has the address.
    pub personality: InterfaceId,
    /// What translates it.
    pub by: By,
}

/// What gives a flow another destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The address alone is translated, and stands for the guest in both directions.
    OneToOne,
    /// Its port is redirected.
    Redirect,
    /// Its port is one that a guest uses, by this entry of `nat.snat`.
    Mapping(usize),
}

type ByAddress<K, V> = HashMap<K, V, FixedState>;

/// All translations of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translations {
    /// In the order of the file: the first that matches counts.
    pub(crate) snat: Vec<Snat>,
    /// One of them lets in packets that no session expects.
    pub(crate) open: bool,
    /// (address, protocol number) -> the personality, and what its ports are redirected to: ranges that
    /// are the same or apart by their first ports, the same ones in the order of the file.
    pub(crate) redirects: ByAddress<(IpAddr, u8), (InterfaceId, Vec<Redirect>)>,
    /// Outside address -> the personality's interface and the address inside that it stands for.
    pub(crate) outside: ByAddress<IpAddr, (InterfaceId, IpAddr)>,
    /// The other way round.
    pub(crate) inside: ByAddress<(InterfaceId, IpAddr), IpAddr>,
    /// Address inside -> the first personality that has one which stands for it.
    pub(crate) known_by: ByAddress<IpAddr, InterfaceId>,
    /// Prefixes that stand for each other.
    pub(crate) pairs: Vec<PrefixPair>,
}

impl Translations {
    /// What becomes of the source of packets from `source` to `destination` that leave by `interface`.
    pub fn outward(
        &self,
        (source, destination): (IpAddr, IpAddr),
        interface: InterfaceId,
        owners: &Owners,
    ) -> Outward<'_> {
        if let Some(outside) = self.inside.get(&(interface, source)) {
            return Outward::OneToOne(*outside);
        }
        if let Some(pair) = self.pair_of(source, interface) {
            return pair
                .outward(source)
                .map_or(Outward::Nothing, Outward::OneToOne);
        }
        let mut excepted = false;
        for (index, snat) in self.snat.iter().enumerate() {
            if snat.interface != interface || !snat.from.contains(&source) {
                continue;
            }
            if snat
                .except
                .iter()
                .any(|except| except.contains(&destination))
            {
                excepted = true;
                continue;
            }
            let Some((address, ports)) = snat.worn_by(source, owners) else {
                continue;
            };
            return Outward::Shared(Worn {
                index,
                snat,
                address,
                ports,
            });
        }
        match excepted {
            true => Outward::Excepted,
            false => Outward::AsItIs,
        }
    }

    /// A personality, rather `there`, that has an address which stands for `source` alone.
    pub fn known_by(&self, source: IpAddr, there: InterfaceId) -> Option<InterfaceId> {
        if self.inside.contains_key(&(there, source)) || self.pair_of(source, there).is_some() {
            return Some(there);
        }
        let by_pair = || {
            let mut pairs = self.pairs.iter();
            pairs.find(|pair| pair.inside.contains(&source))
        };
        let known_by = self.known_by.get(&source).copied();
        known_by.or_else(|| by_pair().map(|pair| pair.interface))
    }

    /// The address outside that stands for `source` alone, on the first personality that has one.
    pub fn known_as(&self, source: IpAddr) -> Option<IpAddr> {
        let by_pair = || {
            let mut pairs = self.pairs.iter();
            pairs
                .find(|pair| pair.inside.contains(&source))?
                .outward(source)
        };
        match self.known_by.get(&source) {
            Some(there) => self.inside.get(&(*there, source)).copied(),
            None => by_pair(),
        }
    }

    /// The personality that has `address` outside as one of a prefix that stands for one inside.
    pub fn outside_of_pair(&self, address: IpAddr) -> Option<InterfaceId> {
        let mut pairs = self.pairs.iter();
        let pair = pairs.find(|pair| pair.outside.contains(&address))?;
        Some(pair.interface)
    }

    fn pair_of(&self, source: IpAddr, interface: InterfaceId) -> Option<&PrefixPair> {
        let mut pairs = self.pairs.iter();
        pairs.find(|pair| pair.interface == interface && pair.inside.contains(&source))
    }

    /// Whether something translates `source` where it leaves by `interface`.
    pub fn translates(&self, source: IpAddr, interface: InterfaceId) -> bool {
        let shared = |snat: &Snat| snat.interface == interface && snat.from.contains(&source);
        self.inside.contains_key(&(interface, source))
            || self.pair_of(source, interface).is_some()
            || self.snat.iter().any(shared)
    }

    /// Whether some source translation gives out this address, and the port.
    pub fn gives(&self, address: IpAddr, port: Option<u16>) -> bool {
        let suits = |snat: &Snat| port.is_none_or(|port| snat.ports.contains(port));
        let gives = |snat: &Snat| snat.to.contains(&address) && suits(snat);
        self.snat.iter().any(gives)
    }

    /// The flow with the destination that it really has, if it came in by the personality that has the
    /// address, or from a network (hairpin, RFC 4787 REQ-9), and is translated.
    #[inline]
    pub fn inward<A: Address>(&self, flow: &Flow<A>, interface: &Interface) -> Option<Inward<A>> {
        if self.redirects.is_empty() && self.outside.is_empty() && self.pairs.is_empty() {
            return None;
        }
        let to = flow.destination.into();
        let comes_by = |personality| !interface.personality || interface.id == personality;
        if let Some((personality, inside)) = self.inside_of(to) {
            return comes_by(personality).then_some(Inward {
                flow: Flow {
                    destination: A::from_ip(inside)?,
                    ..*flow
                },
                personality,
                by: By::OneToOne,
            });
        }
        let (personality, redirects) = self.redirects.get(&(to, flow.protocol))?;
        let redirect = suiting(redirects, flow)?;
        let target = redirect.target_of(flow.source.into())?;
        comes_by(*personality).then_some(Inward {
            flow: Flow {
                destination: A::from_ip(target.address)?,
                destination_port: match target.port {
                    Some(port) => port + (flow.destination_port - redirect.ports.first),
                    None => flow.destination_port,
                },
                ..*flow
            },
            personality: *personality,
            by: By::Redirect,
        })
    }

    /// The personality that has `outside`, and the address inside that it stands for.
    fn inside_of(&self, outside: IpAddr) -> Option<(InterfaceId, IpAddr)> {
        let pair = || {
            let mut pairs = self.pairs.iter();
            let pair = pairs.find(|pair| pair.outside.contains(&outside))?;
            Some((pair.interface, pair.inward(outside)?))
        };
        self.outside.get(&outside).copied().or_else(pair)
    }

    /// Whether some source translation lets in packets that no session expects.
    #[inline]
    pub fn let_in(&self) -> bool {
        self.open
    }

    /// Whether sessions are counted by what they share: their mapping, or their destination.
    pub fn count_sessions(&self) -> bool {
        let dependent = |snat: &Snat| snat.mapping == Mapping::EndpointDependent;
        self.open || self.snat.iter().any(dependent)
    }

    /// The flow with the destination that a mapping gives it: the inside address and port that holds its
    /// port, if the entry that translates these lets the sender in (RFC 4787 REQ-8). `remote` is the
    /// sender's address as it is outside. Otherwise the entry alone that keeps it out.
    ///
    /// # Errors
    /// The entry keeps it out; `None`: no entry gives out that port any more.
    pub fn unasked<A: Address>(
        &self,
        (flow, remote): (&Flow<A>, IpAddr),
        mapped: &Mapped<A>,
        personality: InterfaceId,
        owners: &Owners,
    ) -> Result<Inward<A>, Option<usize>> {
        let (inside, port) = mapped.inside;
        let worn = match self.outward((inside.into(), remote), personality, owners) {
            Outward::Shared(worn) => worn,
            _ => return Err(None),
        };
        let (address, ports) = (flow.destination.into(), worn.ports);
        if worn.address != address || !ports.contains(flow.destination_port) {
            return Err(None);
        }
        let allowed = match worn.snat.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => mapped.spoken_to,
            Filtering::AddressAndPortDependent => false,
        };
        if !allowed {
            return Err(Some(worn.index));
        }
        Ok(Inward {
            flow: Flow {
                destination: inside,
                destination_port: port,
                ..*flow
            },
            personality,
            by: By::Mapping(worn.index),
        })
    }

    /// The address that `source` has where it speaks to an address of `personality`.
    pub fn seen_as(
        &self,
        (source, destination): (IpAddr, IpAddr),
        personality: InterfaceId,
        owners: &Owners,
    ) -> IpAddr {
        match self.outward((source, destination), personality, owners) {
            Outward::Shared(Worn { address, .. }) | Outward::OneToOne(address) => address,
            Outward::AsItIs | Outward::Excepted | Outward::Nothing => source,
        }
    }

    /// The ports that SNAT must not give out, because they are redirected.
    pub fn reserved_ports<A: Address>(&self) -> Vec<(A, u8, PortRange)> {
        let reserved = self
            .redirects
            .iter()
            .flat_map(|(&(address, protocol), (_, redirects))| {
                let address = A::from_ip(address);
                let ranges = redirects
                    .iter()
                    .map(move |redirect| (protocol, redirect.ports));
                ranges.filter_map(move |(protocol, ports)| Some((address?, protocol, ports)))
            });
        reserved.collect()
    }
}

/// The redirection that is for a flow: the first in the file of those for its port.
fn suiting<'s, A: Address>(redirects: &'s [Redirect], flow: &Flow<A>) -> Option<&'s Redirect> {
    let port = flow.destination_port;
    let begin = redirects.partition_point(|redirect| redirect.ports.last < port);
    let here = redirects[begin..]
        .iter()
        .take_while(|redirect| redirect.ports.contains(port));
    let source = flow.source.into();
    here.into_iter().find(|redirect| {
        redirect.from.is_empty() || redirect.from.iter().any(|from| from.contains(&source))
    })
}

impl Snat {
    /// The address that `source` wears, and the ports it is given. Of several addresses a guest keeps one
    /// for all its own (paired, RFC 4787 REQ-2), unless each address has ports of its own.
    fn worn_by(&self, source: IpAddr, owners: &Owners) -> Option<(IpAddr, PortRange)> {
        if let Some(blocks) = Blocks::new((self.from, &self.to), self.ports, self.block) {
            return blocks.of(source);
        }
        if let [only] = self.to[..] {
            return Some((only, self.ports));
        }
        let owner = owners.owner(source);
        let stands = owner.and_then(|guest| guest.first_address(source.is_ipv4()));
        // One after the other: guests' addresses, or their prefixes, of which each begins at a round number.
        let (stands, length) = stands.map_or((source, None), |stands| {
            (stands, owners.find(stands).map(|(_, length)| length))
        });
        let (bits, width) = match stands {
            IpAddr::V4(address) => (u32::from(address).into(), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let behind = width - u32::from(length.unwrap_or(width as u8));
        let turn = bits.checked_shr(behind).unwrap_or(0);
        let address = self.to[(turn % self.to.len() as u128) as usize];
        Some((address, self.ports))
    }
}

impl Redirect {
    /// Which target a source has: each keeps its own, also when others come or go (rendezvous hashing,
    /// Thaler and Ravishankar 1998).
    fn target_of(&self, source: IpAddr) -> Option<&Target> {
        match &self.to[..] {
            [only] => Some(only),
            several => several
                .iter()
                .max_by_key(|target| FixedState::default().hash_one((source, target))),
        }
    }
}
