//! The owner table: which guest owns an address, behind which port and with which MAC.
//!
//! Answering, defending, filtering by source and routing to guests all ask here.

mod build;
mod prefixes;

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::bridge::Bridge;
use crate::base::addr::{GuestId, InterfaceId, MacAddr, PortId};
use crate::base::ip::mac_of_link_local;
use crate::config::metadata::Instance;
use crate::config::{self, Bandwidth, Limits};
pub use prefixes::Owned;
use prefixes::Prefixes;

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
