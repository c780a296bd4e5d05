//! Everything configured, compiled for forwarding: immutable, shared by all workers.
//!
//! It consists of parts. A part is taken over from the snapshot before if nothing that it is made
//! of has changed. What the router finds out itself can be replaced alone ([`Snapshot::with_findings`]).

mod build;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::admission::Admission;
use super::bridge::Bridge;
use super::change::{Change, Side};
use super::health::Health;
use super::hops::{Group, GroupId};
use super::interface::Interface;
use super::interfaces::Interfaces;
use super::names::Names;
use super::nat::Translations;
use super::owners::{Guest, Owners};
use super::policy::Policy;
use super::presence::Presence;
use super::routing::Routing;
use super::rules::Rules;
use super::tables::Fib;
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::config::policy::Origin;
use crate::config::{Config, Probe};
use crate::wire::frame::Link;
use crate::wire::packet::Family;

/// A compiled configuration, numbered by generation.
#[derive(Debug)]
pub struct Snapshot {
    config: Arc<Config>,
    generation: u32,
    names: Arc<Numbers>,
    owners: Arc<Owners>,
    interfaces: Arc<Interfaces>,
    /// By interface number: what it answers for.
    presence: Arc<Vec<Presence>>,
    routing: Arc<Routing>,
    translations: Arc<Translations>,
    policy: Arc<Policy>,
    limits_bandwidth: bool,
    /// The smallest MTU that a route has, in bytes; `usize::MAX` if none has one.
    least_mtu: usize,
    next_hops: Arc<Probed>,
    health: Arc<Health>,
    change: Arc<Change>,
}

/// What the router found out and goes by from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Which next hops are out of use, all of them, if others are than before.
    pub health: Option<Health>,
    /// Virtual addresses that a guest took over, and the number of its name.
    pub moves: BTreeMap<IpAddr, u16>,
}

impl Findings {
    /// Nothing.
    pub fn is_empty(&self) -> bool {
        self.health.is_none() && self.moves.is_empty()
    }
}

/// Next hops on uplinks, and how each is probed. Those in networks are guests', and never out of use: what
/// is for behind them would leave by an uplink.
pub(crate) type Probed = BTreeMap<(InterfaceId, IpAddr), Option<Probe>>;

/// The numbers of ports, interfaces and guests.
#[derive(Debug)]
struct Numbers {
    ports: Names,
    interfaces: Names,
    guests: Names,
}

impl Snapshot {
    /// The same with what was found out meanwhile, as the next generation.
    #[must_use]
    pub fn with_findings(&self, findings: &Findings) -> Self {
        let mut change = Change::nothing(self.generation);
        let owners = match findings.moves.is_empty() {
            true => self.owners.clone(),
            false => {
                let owners = self.owners.with_moves(&findings.moves);
                for address in findings.moves.keys() {
                    if let Some((owned, _)) = owners.find(*address) {
                        change.moves(*address, owned.public, owners.guest(owned.guest));
                    }
                }
                Arc::new(owners)
            }
        };
        let health = findings
            .health
            .clone()
            .map_or(self.health.clone(), Arc::new);
        Self {
            config: self.config.clone(),
            generation: self.generation.wrapping_add(1).max(1),
            names: self.names.clone(),
            owners,
            interfaces: self.interfaces.clone(),
            presence: self.presence.clone(),
            routing: self.routing.clone(),
            translations: self.translations.clone(),
            policy: self.policy.clone(),
            limits_bandwidth: self.limits_bandwidth,
            least_mtu: self.least_mtu,
            next_hops: self.next_hops.clone(),
            health,
            change: Arc::new(change),
        }
    }

    /// The configuration this was compiled from.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Counts up with every snapshot; the first is 1.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// What is different from the snapshot before.
    pub(crate) fn change(&self) -> &Arc<Change> {
        &self.change
    }
    /// The number of the port called `name`.
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        self.names.ports.number(name).map(PortId)
    }
    /// The name of a port.
    pub fn port_name(&self, port: PortId) -> &str {
        self.names.ports.name(port.0)
    }
    /// The number of the interface called `name`.
    pub fn interface_id(&self, name: &str) -> Option<InterfaceId> {
        self.names.interfaces.number(name).map(InterfaceId)
    }
    /// The name of an interface.
    pub fn interface_name(&self, interface: InterfaceId) -> &str {
        self.names.interfaces.name(interface.0)
    }
    /// The name of the guest that has this number among names.
    pub fn guest_name(&self, number: u16) -> &str {
        self.names.guests.name(number)
    }
    /// Whether the interface that had the number `id` in `generation` has it still.
    pub(crate) fn is_still(&self, id: InterfaceId, generation: u32) -> bool {
        self.names.interfaces.since(id.0) <= generation
    }
    /// Whether the port that had the number `id` in `generation` has it still.
    pub(crate) fn is_still_port(&self, id: PortId, generation: u32) -> bool {
        self.names.ports.since(id.0) <= generation
    }
    /// An interface, if it exists in this configuration.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(id)
    }
    /// All interfaces.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter()
    }
    /// What an interface answers for.
    pub(crate) fn presence(&self, id: InterfaceId) -> Option<&Presence> {
        self.presence.get(id.index())
    }
    /// The interface that wears `mac` on `port` in `vlan`.
    #[inline]
    pub fn wearer(&self, port: PortId, vlan: Option<u16>, mac: MacAddr) -> Option<&Interface> {
        self.interfaces.wearer(port, vlan, mac)
    }
    /// The interfaces on `port` in `vlan`.
    pub fn on_port(
        &self,
        port: PortId,
        vlan: Option<u16>,
    ) -> impl Iterator<Item = &Interface> + Clone {
        self.interfaces.on_port(port, vlan)
    }
    /// The interfaces on `port`, in whatever VLAN.
    pub(crate) fn all_on(&self, port: PortId) -> impl Iterator<Item = &Interface> {
        self.interfaces.all_on(port)
    }
    /// The interfaces on a frame's link that hear it: it is sent to their MAC, or to a group.
    pub(crate) fn hearing(&self, link: Link) -> impl Iterator<Item = &Interface> + Clone {
        let hears = move |interface: &&Interface| {
            link.destination.is_group() || link.destination == interface.mac
        };
        self.on_port(link.port, link.vlan).filter(hears)
    }
    /// The bridged network whose segment `port` is on in `vlan`: a guest's port, or the uplink.
    pub(crate) fn segment(&self, port: PortId, vlan: Option<u16>) -> Option<&Interface> {
        self.interfaces.segment(port, vlan)
    }
    /// The personality on a segment that has or answers for `address`.
    pub(crate) fn answerer(&self, segment: Bridge, address: IpAddr) -> Option<&Interface> {
        let guest = self.owners.find(address).filter(|(owned, _)| owned.public);
        let guest = guest.map(|(owned, _)| self.owners.guest(owned.guest));
        let answers = |interface: &&Interface| {
            interface.owns(address)
                || guest.is_some_and(|guest| guest.personality == Some(interface.id))
        };
        self.on_port(segment.uplink, segment.vlan).find(answers)
    }
    /// The guest that a packet from `source` is of, which came in by `interface` and may; or one to it, which
    /// leaves there: strangers on an uplink are none, and have none's address.
    pub(crate) fn sender(&self, interface: &Interface, source: IpAddr) -> Option<&Guest> {
        match interface.bridge {
            Some(_) => self.owners.on_segment(interface.id, source),
            None if interface.personality => self.bridged_beside(interface, source),
            None => self.owners.owner(source),
        }
    }
    /// Whether `address` is a bridged guest's on the personality's own segment: then it is a neighbour
    /// there. A frame of it comes in by the guest's port, if it is known by which one did.
    pub(crate) fn is_bridged_beside(
        &self,
        personality: &Interface,
        ingress: Option<PortId>,
        address: IpAddr,
    ) -> bool {
        self.bridged_beside(personality, address)
            .is_some_and(|guest| ingress.is_none_or(|port| port == guest.port))
    }
    /// The bridged guest on the personality's own segment that has `address`.
    pub(crate) fn bridged_beside(
        &self,
        personality: &Interface,
        address: IpAddr,
    ) -> Option<&Guest> {
        let is_beside = |guest: &&Guest| guest.bridge.is_some_and(|it| personality.is_on(it));
        self.owners.owner(address).filter(is_beside)
    }
    /// Whether a frame was sent by one of our own MACs and is seen again.
    pub(crate) fn is_own(&self, link: Link) -> bool {
        self.wearer(link.port, link.vlan, link.source).is_some()
    }
    /// The interface that holds `address` as its own.
    #[inline]
    pub fn holder(&self, address: IpAddr) -> Option<&Interface> {
        self.interfaces.holder(address)
    }
    /// Whether `address` is one that nobody on an uplink has: an own one, a guest's, or one in a
    /// network's prefix. Link-local ones are nobody's alone, and a provider's router is where it says.
    pub(crate) fn is_ours(&self, address: IpAddr) -> bool {
        self.holder(address).is_some()
            || !self.is_gateway(address)
                && (self.owners.find(address).is_some() || self.interfaces.is_in_network(address))
    }
    /// Whether `address` is a guest's public one, or may be one by being alive, on any personality.
    pub(crate) fn is_public(&self, address: IpAddr) -> bool {
        match self.owners.find(address) {
            Some((owned, _)) => owned.public,
            None => self.owners.alive_in(address).is_some(),
        }
    }
    /// Whether `address` is a provider's router, which guests may have been told is theirs.
    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        self.interfaces.is_gateway(address)
    }
    /// Who owns what among the guests.
    #[inline]
    pub fn owners(&self) -> &Owners {
        &self.owners
    }
    /// What may come in by `port`.
    #[inline]
    pub(crate) fn admission(&self, port: PortId) -> &Admission {
        self.interfaces.admission(port)
    }
    /// Whether `address` is the broadcast address of a connected prefix.
    pub fn is_directed_broadcast(&self, address: std::net::Ipv4Addr) -> bool {
        self.interfaces.is_directed_broadcast(address)
    }
    /// A multicast or broadcast address.
    pub(crate) fn is_group<A: Family>(&self, address: A) -> bool {
        address.is_group()
            || matches!(address.into(), IpAddr::V4(v4) if self.is_directed_broadcast(v4))
    }
    /// Some guest has a limit of its bandwidth.
    #[inline]
    pub(crate) fn limits_bandwidth(&self) -> bool {
        self.limits_bandwidth
    }
    /// The smallest MTU that a route has of its own, in bytes; `usize::MAX` if none has one.
    #[inline]
    pub(crate) fn least_mtu(&self) -> usize {
        self.least_mtu
    }
    /// Where a rule of the policy stands in the file.
    pub fn rule_name(&self, origin: Origin) -> String {
        origin.name(&self.config.policy().groups)
    }
    /// Who may open flows to whom.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }
    /// Which sources are translated, which ports redirected.
    #[inline]
    pub(crate) fn translations(&self) -> &Translations {
        &self.translations
    }
    /// Which next hops are out of use.
    #[inline]
    pub fn health(&self) -> &Health {
        &self.health
    }
    /// The next hops on uplinks, and how each is probed. A snapshot shares them with the one before where
    /// they are the same.
    pub(crate) fn next_hops(&self) -> &Arc<Probed> {
        &self.next_hops
    }
    /// All rules by ascending priority.
    pub(crate) fn rules(&self) -> &Rules {
        &self.routing.rules
    }

    /// The next hops of a route.
    #[inline]
    pub(crate) fn group(&self, group: GroupId) -> &Group {
        &self.routing.groups[group.0 as usize]
    }
    /// A table by its place.
    #[inline]
    pub(crate) fn table(&self, table: usize) -> &Fib {
        &self.routing.tables[table]
    }
    /// A table's name.
    pub(crate) fn table_name(&self, table: usize) -> &str {
        &self.routing.names[table]
    }
    /// The network that `port` is in.
    pub(crate) fn network_on(&self, port: PortId) -> Option<&Interface> {
        self.interfaces.network_on(port)
    }
    /// Whether `port` is one that personalities are on.
    pub(crate) fn is_uplink(&self, port: PortId) -> bool {
        self.interfaces.is_uplink(port)
    }
    /// Whether who says that `address` is its own, on `port`, may become a neighbour: it is directly on
    /// `interface`'s link, and no guest whose MAC is configured (H07).
    pub(crate) fn may_be_learnt(
        &self,
        interface: &Interface,
        port: PortId,
        address: IpAddr,
    ) -> bool {
        match self.owners.owner(address) {
            Some(guest) if guest.mac.is_some() => false,
            Some(guest) if guest.port == port => true,
            _ => {
                interface.is_on_link(address) || self.owners.alive_in(address) == Some(interface.id)
            }
        }
    }
    /// The ports of `interface` that `address` may be behind: its owner's, those of the guests that list a
    /// virtual one, or all.
    pub(crate) fn whereabouts<'s>(
        &'s self,
        interface: &'s Interface,
        address: IpAddr,
    ) -> &'s [PortId] {
        match self.owners.owner(address) {
            Some(guest) if guest.network == interface.id => {
                let shared = self.owners.members_ports(address);
                shared.unwrap_or(std::slice::from_ref(&guest.port))
            }
            _ => &interface.ports,
        }
    }
    /// The change from no configuration at all: everything is new.
    pub(crate) fn change_from_nothing(&self) -> Change {
        Change::between(None, self.side())
    }

    fn side(&self) -> Side<'_> {
        Side {
            generation: self.generation,
            interfaces: &self.interfaces,
            presence: &self.presence,
            owners: &self.owners,
            translations: &self.translations,
        }
    }

    /// Which parts are the very same as `other`'s: owners, interfaces, tables and rules,
    /// translations.
    pub fn shares(&self, other: &Self) -> [bool; 4] {
        [
            Arc::ptr_eq(&self.owners, &other.owners),
            Arc::ptr_eq(&self.interfaces, &other.interfaces),
            Arc::ptr_eq(&self.routing, &other.routing),
            Arc::ptr_eq(&self.translations, &other.translations),
        ]
    }
}
