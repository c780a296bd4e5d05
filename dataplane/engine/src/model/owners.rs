//! The owner table: which guest owns an address, behind which port and with which MAC.
//!
//! Answering, defending, filtering by source and routing to guests all ask here.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::bridge::Bridge;
use crate::base::addr::{GuestId, InterfaceId, MacAddr, PortId};
use crate::base::ip::{Address, mac_of_link_local};
use crate::config::metadata::Instance;
use crate::config::{self, Bandwidth, Limits};

/// A VM or container, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its number in this snapshot.
    pub id: GuestId,
    /// The number of its name, which it keeps from one snapshot to the next.
    pub number: u16,
    /// What it may use.
    pub limits: Limits,
    /// How fast it may send and be sent to.
    pub bandwidth: Bandwidth,
    /// Its name.
    pub name: String,
    /// The port it is behind.
    pub port: PortId,
    /// The network that port is in.
    pub network: InterfaceId,
    /// Its MAC, if it is known beforehand.
    pub mac: Option<MacAddr>,
    /// The personality that answers for its public addresses.
    pub personality: Option<InterfaceId>,
    /// The segment that it is on itself, and answers there for its addresses: it has a MAC.
    pub bridge: Option<Bridge>,
    /// The IPv4 address that DHCP hands out.
    pub dhcp_address: Option<Ipv4Addr>,
    /// The IPv6 address that DHCPv6 hands out.
    pub dhcp6_address: Option<Ipv6Addr>,
    /// The host name that DHCP hands out.
    pub hostname: String,
    /// What metadata tells it, if its network has any.
    pub instance: Option<Arc<Instance>>,
    /// Its first address of each family. Where its MAC is known, this address stands for the guest
    /// among the neighbours, as the next hop to everything that it owns.
    anchor: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// A hash of its public addresses, to see whether they changed.
    digest: u64,
}

/// An owned address or prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// Whose it is.
    pub guest: GuestId,
    /// Whether the guest has it outside too: its personality then answers for it.
    pub public: bool,
    /// Whether it is a virtual one, which another guest may take over.
    pub moves: bool,
}

/// Who owns what.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    configured: Arc<Configured>,
    holders: Holders,
}

/// Virtual addresses that another guest has than the first that lists them.
type Holders = BTreeMap<IpAddr, GuestId>;

/// The guests that list a virtual address, and their ports.
#[derive(Debug, Default)]
struct Members {
    guests: Vec<GuestId>,
    ports: Vec<PortId>,
}

/// Who owns what by the configuration alone.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    guests: Vec<Guest>,
    /// Virtual addresses, and which guests may have them. The first has it until another says so.
    members: BTreeMap<IpAddr, Members>,
    v4: Prefixes<Ipv4Addr>,
    v6: Prefixes<Ipv6Addr>,
    /// The guests of each port.
    by_port: Vec<Vec<GuestId>>,
    /// By personality: single public addresses answered for there, and whose they are; a guest's
    /// together.
    public_on: Vec<Vec<(IpAddr, GuestId)>>,
    alive: Vec<Alive>,
    /// Guests that are bridged, by network and MAC.
    bridged: HashMap<(InterfaceId, MacAddr), GuestId, FixedState>,
}

/// The addresses of a prefix of at most this size are announced, and their multicast groups joined,
/// one by one. Those of larger prefixes are not.
const FEW: u32 = 256;

/// Prefixes with their owners: a hash table for each prefix length. That is faster than a trie,
/// because guests have few lengths, and the egress guard asks for every packet of a guest.
#[derive(Debug, Clone)]
struct Prefixes<A> {
    /// The longest first.
    by_length: Vec<(u8, HashMap<A, Owned, FixedState>)>,
}

impl<A> Default for Prefixes<A> {
    fn default() -> Self {
        Self {
            by_length: Vec::new(),
        }
    }
}

impl<A: Address> Prefixes<A> {
    /// The owner by the longest prefix that `address` is in, and its length.
    #[inline]
    fn find(&self, address: A) -> Option<(Owned, u8)> {
        self.by_length.iter().find_map(|(length, owners)| {
            let owned = owners.get(&address.network(*length))?;
            Some((*owned, *length))
        })
    }

    fn insert(&mut self, address: A, length: u8, owned: Owned) {
        self.of(length).insert(address.network(length), owned);
    }

    /// The prefixes of a length.
    fn of(&mut self, length: u8) -> &mut HashMap<A, Owned, FixedState> {
        let place = self.by_length.partition_point(|(other, _)| *other > length);
        if self
            .by_length
            .get(place)
            .is_none_or(|(other, _)| *other != length)
        {
            self.by_length.insert(place, (length, HashMap::default()));
        }
        &mut self.by_length[place].1
    }

    fn iter(&self) -> impl Iterator<Item = (IpNet, &Owned)> {
        self.by_length.iter().flat_map(|(length, owners)| {
            let net = |address: &A| IpNet::new_assert((*address).into(), *length);
            owners
                .iter()
                .map(move |(address, owned)| (net(address), owned))
        })
    }

    /// In bytes, about: hashbrown keeps a byte of control beside each place.
    fn memory(&self) -> usize {
        let places = self
            .by_length
            .iter()
            .map(|(_, owners)| owners.capacity() * 8 / 7);
        places.sum::<usize>() * (size_of::<(A, Owned)>() + 1)
    }
}

/// Addresses that a personality answers for as long as they are alive in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Who answers.
    pub personality: InterfaceId,
    /// Where they are looked for.
    pub network: InterfaceId,
    /// What they are part of.
    pub prefixes: Vec<IpNet>,
}

impl Guest {
    /// Its first address of a family.
    pub fn first_address(&self, ipv4: bool) -> Option<IpAddr> {
        match ipv4 {
            true => self.anchor.0.map(IpAddr::V4),
            false => self.anchor.1.map(IpAddr::V6),
        }
    }
}

impl Owners {
    /// All guests.
    pub fn guests(&self) -> &[Guest] {
        &self.configured.guests
    }

    /// The guest called `name`.
    pub(crate) fn named(&self, name: &str) -> Option<&Guest> {
        let place = self
            .configured
            .guests
            .binary_search_by(|guest| guest.name.as_str().cmp(name));
        place.ok().map(|place| &self.configured.guests[place])
    }

    /// A guest of this snapshot.
    #[inline]
    pub fn guest(&self, id: GuestId) -> &Guest {
        &self.configured.guests[usize::from(id.0)]
    }

    /// The guests behind `port`.
    pub fn on_port(&self, port: PortId) -> impl ExactSizeIterator<Item = &Guest> + Clone {
        let ids = self
            .configured
            .by_port
            .get(port.index())
            .map_or(&[][..], Vec::as_slice);
        ids.iter().map(|id| self.guest(*id))
    }

    /// Whether some guest behind `port` is handed an IPv6 address.
    pub fn hands_out_ipv6(&self, port: PortId) -> bool {
        self.on_port(port)
            .any(|guest| guest.dhcp6_address.is_some())
    }

    /// What `address` is part of, and how long its prefix is.
    #[inline(always)]
    pub fn find(&self, address: IpAddr) -> Option<(Owned, u8)> {
        if self.configured.guests.is_empty() {
            return None;
        }
        self.find_among(address)
    }

    fn find_among(&self, address: IpAddr) -> Option<(Owned, u8)> {
        let (mut owned, length) = match address {
            IpAddr::V4(address) => self.configured.v4.find(address),
            IpAddr::V6(address) => self.configured.v6.find(address),
        }?;
        if owned.moves
            && let Some(holder) = self.holders.get(&address)
        {
            owned.guest = *holder;
        }
        Some((owned, length))
    }

    /// The guests that may have a virtual address; none, if it is no such.
    pub fn members(&self, address: IpAddr) -> impl Iterator<Item = &Guest> {
        let members = self.configured.members.get(&address);
        let ids = members.map_or(&[][..], |members| &members.guests);
        ids.iter().map(|id| self.guest(*id))
    }

    /// The ports of the guests that may have a virtual address; `None`: it is no such.
    pub(crate) fn members_ports(&self, address: IpAddr) -> Option<&[PortId]> {
        let members = self.configured.members.get(&address);
        members.map(|members| &*members.ports)
    }

    /// All virtual addresses.
    pub fn virtual_addresses(&self) -> impl ExactSizeIterator<Item = IpAddr> {
        self.configured.members.keys().copied()
    }

    /// The same, but that these addresses are held by these guests, which are given by the numbers of their
    /// names. Whoever may not have one does not get it.
    #[must_use]
    pub(crate) fn with_moves(&self, moves: &BTreeMap<IpAddr, u16>) -> Self {
        let mut holders = self.holders.clone();
        for (address, number) in moves {
            let mut members = self.members(*address);
            if let Some(guest) = members.find(|guest| guest.number == *number) {
                holders.insert(*address, guest.id);
            }
        }
        Self {
            configured: self.configured.clone(),
            holders,
        }
    }

    /// Who holds which virtual address.
    pub fn holders(&self) -> impl Iterator<Item = (IpAddr, &Guest)> {
        let all = self.configured.members.iter();
        all.filter_map(|(address, members)| {
            let first = members.guests.first()?;
            let holder = self.holders.get(address).unwrap_or(first);
            Some((*address, self.guest(*holder)))
        })
    }

    /// The guest that owns `address`.
    #[inline]
    pub fn owner(&self, address: IpAddr) -> Option<&Guest> {
        self.find(address).map(|(owned, _)| self.guest(owned.guest))
    }

    /// The guest of a bridged network that has this MAC.
    #[inline]
    pub fn bridged(&self, network: InterfaceId, mac: MacAddr) -> Option<&Guest> {
        let id = self.configured.bridged.get(&(network, mac))?;
        Some(self.guest(*id))
    }

    /// The guest of a bridged network that has `address`. Its link-local one is that of its MAC.
    pub fn on_segment(&self, network: InterfaceId, address: IpAddr) -> Option<&Guest> {
        match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                self.bridged(network, mac_of_link_local(address)?)
            }
            _ => self.owner(address).filter(|guest| guest.network == network),
        }
    }

    /// Whether `address` is a public one on `personality`: a guest's there, or one that may be
    /// alive in a network it answers for.
    #[inline]
    pub fn is_public(&self, address: IpAddr, personality: InterfaceId) -> bool {
        match self.find(address) {
            Some((owned, _)) => {
                owned.public && self.guest(owned.guest).personality == Some(personality)
            }
            None => self.alive_behind(address, personality).is_some(),
        }
    }

    /// The network behind which `personality` answers for `address` if it is alive there.
    #[inline]
    pub fn alive_behind(&self, address: IpAddr, personality: InterfaceId) -> Option<InterfaceId> {
        let found = self
            .configured
            .alive
            .iter()
            .find(|alive| alive.personality == personality && covers(&alive.prefixes, address));
        found.map(|alive| alive.network)
    }

    /// The network in which `address` may be alive.
    pub fn alive_in(&self, address: IpAddr) -> Option<InterfaceId> {
        let found = self
            .configured
            .alive
            .iter()
            .find(|alive| covers(&alive.prefixes, address));
        found.map(|alive| alive.network)
    }

    /// Every prefix of addresses that may be alive, with the network they are looked for in.
    pub fn alive_prefixes(&self) -> impl Iterator<Item = (IpNet, InterfaceId)> + '_ {
        let prefixes = |alive: &'_ Alive| {
            let network = alive.network;
            alive
                .prefixes
                .clone()
                .into_iter()
                .map(move |prefix| (prefix, network))
        };
        self.configured.alive.iter().flat_map(prefixes)
    }

    /// Every single public address answered for on `personality`, and every address of small
    /// prefixes, with whose it is; in the order of the guests.
    pub fn public_on(&self, personality: InterfaceId) -> &[(IpAddr, GuestId)] {
        let place = self.configured.public_on.get(personality.index());
        place.map_or(&[], Vec::as_slice)
    }

    /// Of those, the ones of `guest`.
    pub(crate) fn public_of(&self, guest: &Guest) -> impl Iterator<Item = IpAddr> {
        let all = guest.personality.map_or(&[][..], |on| self.public_on(on));
        let theirs = &all[all.partition_point(|(_, other)| *other < guest.id)..];
        let theirs = theirs.iter().take_while(|(_, other)| *other == guest.id);
        theirs.map(|(address, _)| *address)
    }

    /// The next hop to `destination`, which is `guest`'s: the guest itself where its MAC is known,
    /// else the destination.
    pub fn next_hop(&self, guest: &Guest, destination: IpAddr) -> IpAddr {
        let anchor = match destination {
            IpAddr::V4(_) => guest.anchor.0.map(IpAddr::V4),
            IpAddr::V6(_) => guest.anchor.1.map(IpAddr::V6),
        };
        anchor
            .filter(|_| guest.mac.is_some())
            .unwrap_or(destination)
    }

    /// Memory used for addresses and prefixes, in bytes, about.
    pub fn memory(&self) -> usize {
        self.configured.v4.memory() + self.configured.v6.memory()
    }
}

impl Configured {
    /// Adds a guest, with what it owns by its `spec`.
    pub(crate) fn add(&mut self, mut guest: Guest, spec: &config::Guest) {
        guest.id = GuestId(self.guests.len() as u16);
        if self.by_port.len() <= guest.port.index() {
            self.by_port.resize(guest.port.index() + 1, Vec::new());
        }
        self.by_port[guest.port.index()].push(guest.id);
        if let (Some(_), Some(mac)) = (guest.bridge, guest.mac) {
            self.bridged.insert((guest.network, mac), guest.id);
        }
        for (prefixes, public) in [(&spec.addresses, false), (&spec.public, true)] {
            for prefix in prefixes {
                let owned = Owned {
                    guest: guest.id,
                    public,
                    moves: false,
                };
                match prefix.addr() {
                    IpAddr::V4(address) => {
                        guest.anchor.0.get_or_insert(address);
                        self.v4.insert(address, prefix.prefix_len(), owned);
                    }
                    IpAddr::V6(address) => {
                        guest.anchor.1.get_or_insert(address);
                        self.v6.insert(address, prefix.prefix_len(), owned);
                    }
                }
            }
        }
        for address in &spec.virtual_addresses {
            let members = self.members.entry(address.address).or_default();
            members.guests.push(guest.id);
            members.ports.push(guest.port);
            if let [first] = members.guests[..] {
                let owned = Owned {
                    guest: first,
                    public: address.public,
                    moves: true,
                };
                match address.address {
                    IpAddr::V4(address) => self.v4.insert(address, 32, owned),
                    IpAddr::V6(address) => self.v6.insert(address, 128, owned),
                }
            }
        }
        self.guests.push(guest);
    }

    /// Call when all guests are added: lists what each personality answers for. `before`: who held virtual
    /// addresses so far.
    pub(crate) fn finish(mut self, before: &BTreeMap<IpAddr, u16>) -> Owners {
        let few = |net: &IpNet| {
            let host_bits = net.max_prefix_len() - net.prefix_len();
            host_bits < 32 && 1 << host_bits <= FEW
        };
        let prefixes = self.v4.iter().chain(self.v6.iter());
        let mut public_on: Vec<Vec<(IpAddr, GuestId)>> = Vec::new();
        for (net, owned) in prefixes.filter(|(net, owned)| owned.public && few(net)) {
            let guest = &self.guests[usize::from(owned.guest.0)];
            let Some(personality) = guest.personality else {
                continue;
            };
            if public_on.len() <= personality.index() {
                public_on.resize(personality.index() + 1, Vec::new());
            }
            let addresses = every_address(net).map(|address| (address, owned.guest));
            public_on[personality.index()].extend(addresses);
        }
        for addresses in &mut public_on {
            addresses.sort_unstable_by_key(|&(address, guest)| (guest, address));
        }
        self.public_on = public_on;
        let owners = Owners {
            configured: Arc::new(self),
            holders: Holders::new(),
        };
        owners.with_moves(before)
    }

    pub(crate) fn add_alive(&mut self, alive: Alive) {
        self.alive.push(alive);
    }

    /// Makes room for this many single addresses, so that the tables need not grow while many are
    /// added.
    pub(crate) fn reserve(&mut self, v4: usize, v6: usize) {
        // A table that stays empty would be asked for every packet.
        if v4 > 0 {
            self.v4.of(32).reserve(v4);
        }
        if v6 > 0 {
            self.v6.of(128).reserve(v6);
        }
    }
}

impl Guest {
    /// A guest that owns nothing yet.
    pub(crate) fn new(
        spec: &config::Guest,
        number: u16,
        (port, network): (PortId, InterfaceId),
        personality: Option<InterfaceId>,
        bridge: Option<Bridge>,
    ) -> Self {
        Self {
            id: GuestId(0),
            number,
            limits: spec.limits,
            bandwidth: spec.bandwidth,
            name: spec.name.clone(),
            port,
            network,
            mac: spec.mac,
            personality,
            bridge,
            dhcp_address: spec.dhcp_address,
            dhcp6_address: spec.dhcp6_address,
            hostname: spec.hostname.clone(),
            instance: spec.instance.clone(),
            anchor: (None, None),
            digest: FixedState::default().hash_one(&spec.public),
        }
    }

    /// Whether it is where `other` is and answered for in the same way.
    pub(crate) fn is_still(&self, other: &Self) -> bool {
        (
            &self.name,
            self.port,
            self.mac,
            self.personality,
            self.bridge,
            self.anchor,
            self.digest,
        ) == (
            &other.name,
            other.port,
            other.mac,
            other.personality,
            other.bridge,
            other.anchor,
            other.digest,
        )
    }

    /// The next hops that stand for it.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.anchor.0.map(IpAddr::V4);
        v4.into_iter().chain(self.anchor.1.map(IpAddr::V6))
    }

    /// Whether it owns an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.anchor.1.is_some()
    }
}

fn covers(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&address))
}

/// Every address of a prefix, the first and the last among them: what is routed has no network or
/// broadcast address.
fn every_address(net: IpNet) -> impl Iterator<Item = IpAddr> {
    let count = 1u32 << (net.max_prefix_len() - net.prefix_len());
    (0..count).map(move |n| match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() | n)),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | u128::from(n))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let nets = ["0.0.0.0/0", "192.0.2.8/29", "192.0.2.0/24", "192.0.2.9/32"];
        let mut prefixes = Prefixes::default();
        for (id, net) in nets.into_iter().enumerate() {
            let net: ipnet::Ipv4Net = net.parse().unwrap();
            let owned = Owned {
                guest: GuestId(id as u16),
                public: true,
                moves: false,
            };
            prefixes.insert(net.addr(), net.prefix_len(), owned);
        }
        for (address, net) in [
            ("192.0.2.9", 3),
            ("192.0.2.8", 1),
            ("192.0.2.15", 1),
            ("192.0.2.16", 2),
            ("192.0.3.0", 0),
        ] {
            let (owned, length) = prefixes.find(address.parse().unwrap()).unwrap();
            assert_eq!(usize::from(owned.guest.0), net, "{address}");
            assert!(nets[net].ends_with(&format!("/{length}")), "{address}");
        }
        assert_eq!(prefixes.iter().count(), nets.len());
    }

    #[test]
    fn nothing_is_in_no_prefix() {
        let mut prefixes = Prefixes::default();
        assert_eq!(prefixes.find(Ipv6Addr::LOCALHOST), None);
        let owned = Owned {
            guest: GuestId(0),
            public: false,
            moves: false,
        };
        prefixes.insert("2001:db8:0:b::".parse().unwrap(), 112, owned);
        let inside = "2001:db8:0:b::ffff".parse().unwrap();
        assert_eq!(prefixes.find(inside), Some((owned, 112)));
        assert_eq!(prefixes.find("2001:db8:0:b::1:0".parse().unwrap()), None);
    }
}
