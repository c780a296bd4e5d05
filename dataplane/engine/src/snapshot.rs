//! Everything configured, compiled for forwarding: immutable, shared by all workers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::antispoof::Admission;
use crate::config::{
    self, Config, InterfaceKind, PortRange, RouteAction, RuleVerdict, SourceCheck,
};
use crate::family::Address;
use crate::fib::Fib;
pub use crate::interface::Interface;
use crate::interface::link_local;
use crate::owners::{Alive, Guest, Owners};
use crate::session::Flow;
use crate::wearers::{Wearers, wearer_key};

/// Where nothing is checked.
static ANY: Admission = Admission {
    source: None,
    macs: Vec::new(),
    guests: false,
};

/// A compiled configuration, numbered by generation.
#[derive(Debug)]
pub struct Snapshot {
    config: Config,
    generation: u32,
    port_names: Names,
    interface_names: Names,
    interfaces: Vec<Option<Interface>>,
    /// (port, VLAN, MAC) -> the interface that wears it.
    wearers: Wearers,
    on_port: Vec<Vec<InterfaceId>>,
    /// By port.
    admissions: Vec<Admission>,
    own: HashMap<IpAddr, InterfaceId, FixedState>,
    /// Next hops beyond personalities: the provider's routers.
    gateways: HashSet<IpAddr, FixedState>,
    broadcast: HashSet<Ipv4Addr, FixedState>,
    owners: Owners,
    pub(crate) tables: Vec<(String, Fib)>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) snat: Vec<Snat>,
    /// (address, protocol number, port) -> where it is redirected, and the personality it is for.
    forwards: HashMap<(IpAddr, u8, u16), (SocketAddr, InterfaceId), FixedState>,
}

/// A rule, compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The lower the earlier.
    pub priority: u32,
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Ingress interface.
    pub iif: Option<InterfaceId>,
    /// What to do; tables by index into [`Snapshot::tables`].
    pub verdict: RuleVerdict,
}

/// A source translation, compiled.
#[derive(Debug, Clone)]
pub struct Snat {
    /// Source prefix.
    pub from: IpNet,
    /// The interface packets must leave by.
    pub interface: InterfaceId,
    /// The address they then wear.
    pub to: IpAddr,
    /// The external ports.
    pub ports: PortRange,
}

/// Numbers given to names, kept from one snapshot to the next.
#[derive(Debug, Clone, Default)]
struct Names {
    numbers: BTreeMap<String, u16>,
}

impl Names {
    /// Numbers for `names`: those that `previous` gave stay; new names get numbers that neither
    /// uses.
    fn assign<'a>(names: impl Iterator<Item = &'a str> + Clone, previous: Option<&Self>) -> Self {
        let known = |name: &str| previous.and_then(|previous| previous.numbers.get(name).copied());
        let mut taken: HashSet<u16> = previous
            .iter()
            .flat_map(|previous| previous.numbers.values().copied())
            .collect();
        let mut next = 0;
        let numbers = names.map(|name| {
            let number = known(name).unwrap_or_else(|| {
                while !taken.insert(next) {
                    next += 1;
                }
                next
            });
            (name.to_owned(), number)
        });
        Self {
            numbers: numbers.collect(),
        }
    }

    fn name(&self, number: u16) -> &str {
        let found = self.numbers.iter().find(|(_, known)| **known == number);
        found.map_or("(gone)", |(name, _)| name)
    }
}

impl Snapshot {
    /// Compiles `config`. Ports and interfaces that `previous` knows by name keep their numbers.
    pub fn build(config: &Config, previous: Option<&Snapshot>) -> Self {
        let port_names = Names::assign(
            config.ports().iter().map(|port| port.name.as_str()),
            previous.map(|previous| &previous.port_names),
        );
        let interface_names = Names::assign(
            config
                .interfaces()
                .iter()
                .map(|interface| interface.name.as_str()),
            previous.map(|previous| &previous.interface_names),
        );
        let port = |index: usize| PortId(port_names.numbers[&config.ports()[index].name]);
        let ids: Vec<InterfaceId> = config
            .interfaces()
            .iter()
            .map(|interface| InterfaceId(interface_names.numbers[&interface.name]))
            .collect();

        let mut snapshot = Self {
            config: config.clone(),
            generation: previous.map_or(1, |previous| previous.generation.wrapping_add(1).max(1)),
            interfaces: Vec::new(),
            wearers: Wearers::default(),
            on_port: Vec::new(),
            admissions: Vec::new(),
            own: HashMap::default(),
            gateways: HashSet::default(),
            broadcast: HashSet::default(),
            owners: Owners::default(),
            tables: Vec::new(),
            rules: Vec::new(),
            snat: Vec::new(),
            forwards: HashMap::default(),
            port_names: port_names.clone(),
            interface_names,
        };
        let owned = || {
            config
                .guests()
                .iter()
                .flat_map(|g| g.addresses.iter().chain(&g.public))
        };
        let v4 = owned().filter(|net| net.addr().is_ipv4()).count();
        snapshot.owners.reserve(v4, owned().count() - v4);
        for spec in config.guests() {
            let personality = spec.personality.map(|index| ids[index]);
            let guest = Guest::new(spec, port(spec.port), ids[spec.network], personality);
            snapshot.owners.add(guest, &spec.addresses, &spec.public);
        }
        for (spec, &id) in config.interfaces().iter().zip(&ids) {
            snapshot.add_interface(spec, id, port);
        }
        for (spec, &network) in config.interfaces().iter().zip(&ids) {
            if let InterfaceKind::Network {
                proxy: Some(proxy), ..
            } = &spec.kind
            {
                snapshot.owners.add_alive(Alive {
                    personality: ids[proxy.personality],
                    network,
                    prefixes: proxy.alive.clone(),
                });
            }
        }
        for table in config.tables() {
            let mut fib = Fib::default();
            for route in &table.routes {
                fib.insert(route.to, route_action(&route.action, &ids));
                if let RouteAction::Forward {
                    interfaces,
                    via: Some(via),
                } = &route.action
                {
                    for interface in interfaces {
                        snapshot.add_next_hop(ids[*interface], *via);
                    }
                }
            }
            if snapshot.tables.is_empty() {
                // `main`: what may be alive in a network is looked for there, not on the uplink.
                for (prefix, network) in snapshot.owners.alive_prefixes() {
                    let action = crate::fib::Action::Forward {
                        interfaces: vec![network],
                        via: None,
                    };
                    fib.insert(prefix, action);
                }
            }
            snapshot.tables.push((table.name.clone(), fib));
        }
        let personalities = snapshot.interfaces.iter().flatten();
        snapshot.gateways = personalities
            .filter(|interface| interface.personality)
            .flat_map(|interface| interface.next_hops.iter().copied())
            .filter(|hop| !matches!(hop, IpAddr::V6(hop) if hop.is_unicast_link_local()))
            .collect();
        snapshot.rules = config
            .rules()
            .iter()
            .map(|rule| Rule {
                priority: rule.priority,
                from: rule.from,
                to: rule.to,
                iif: rule.iif.map(|index| ids[index]),
                verdict: rule.verdict.clone(),
            })
            .collect();
        snapshot.snat = config
            .snat()
            .iter()
            .map(|snat| Snat {
                from: snat.from,
                interface: ids[snat.interface],
                to: snat.to,
                ports: snat.ports,
            })
            .collect();
        snapshot.forwards = config
            .forwards()
            .iter()
            .map(|entry| {
                let key = (entry.address, entry.protocol.number(), entry.port);
                (key, (entry.to, ids[entry.interface]))
            })
            .collect();
        snapshot
    }

    /// The configuration this was compiled from.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Counts up with every configuration; the first is 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// The number of the port called `name`.
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        self.port_names.numbers.get(name).copied().map(PortId)
    }
    /// The name of a port.
    pub fn port_name(&self, port: PortId) -> &str {
        self.port_names.name(port.0)
    }
    /// The number of the interface called `name`.
    pub fn interface_id(&self, name: &str) -> Option<InterfaceId> {
        self.interface_names
            .numbers
            .get(name)
            .copied()
            .map(InterfaceId)
    }
    /// The name of an interface.
    pub fn interface_name(&self, interface: InterfaceId) -> &str {
        self.interface(interface)
            .map_or("(gone)", |interface| &interface.name)
    }
    /// An interface, if it exists in this configuration.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(id.index())?.as_ref()
    }
    /// All interfaces.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().flatten()
    }
    /// The interface that wears `mac` on `port` in `vlan`.
    #[inline]
    pub fn wearer(&self, port: PortId, vlan: Option<u16>, mac: MacAddr) -> Option<&Interface> {
        self.interface(self.wearers.find(wearer_key(port, vlan, mac))?)
    }
    /// The interfaces on `port` in `vlan`.
    pub fn on_port(&self, port: PortId, vlan: Option<u16>) -> impl Iterator<Item = &Interface> {
        let ids = self
            .on_port
            .get(port.index())
            .map_or(&[][..], Vec::as_slice);
        ids.iter()
            .filter_map(|id| self.interface(*id))
            .filter(move |interface| interface.vlan == vlan)
    }
    /// The interface whose own address `address` is.
    #[inline]
    pub fn owner(&self, address: IpAddr) -> Option<&Interface> {
        self.interface(*self.own.get(&address)?)
    }
    /// Whether `address` is a provider's router, which guests may have been told is theirs.
    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.contains(&address)
    }
    /// Who owns what among the guests.
    #[inline]
    pub fn owners(&self) -> &Owners {
        &self.owners
    }
    /// What may come in by `port`.
    #[inline]
    pub(crate) fn admission(&self, port: PortId) -> &Admission {
        self.admissions.get(port.index()).unwrap_or(&ANY)
    }
    /// Whether `address` is the broadcast address of a connected prefix.
    pub fn is_directed_broadcast(&self, address: Ipv4Addr) -> bool {
        self.broadcast.contains(&address)
    }
    /// The source translation for packets from `source` that leave by `interface`.
    pub fn snat_for(&self, source: IpAddr, interface: InterfaceId) -> Option<(usize, &Snat)> {
        self.snat
            .iter()
            .enumerate()
            .find(|(_, snat)| snat.interface == interface && snat.from.contains(&source))
    }

    /// Where a flow that came in by `interface` is redirected to, if it is.
    #[inline]
    pub(crate) fn forward_for<A: Address>(
        &self,
        flow: &Flow<A>,
        interface: InterfaceId,
    ) -> Option<Flow<A>> {
        if self.forwards.is_empty() {
            return None;
        }
        let key = (
            flow.destination.into(),
            flow.protocol,
            flow.destination_port,
        );
        let (to, _) = self
            .forwards
            .get(&key)
            .filter(|(_, owner)| *owner == interface)?;
        Some(Flow {
            destination: A::from_ip(to.ip())?,
            destination_port: to.port(),
            ..*flow
        })
    }

    /// The ports that SNAT must leave alone: they are redirected.
    pub(crate) fn reserved_ports<A: Address>(&self) -> Vec<(A, u8, u16)> {
        let keys = self.forwards.keys();
        keys.filter_map(|&(address, protocol, port)| Some((A::from_ip(address)?, protocol, port)))
            .collect()
    }

    /// Whether IPv4 addresses of `interface` are claimed before use.
    pub(crate) fn claims_ipv4(&self, interface: InterfaceId) -> bool {
        let name = self.interface_name(interface);
        let spec = self
            .config
            .interfaces()
            .iter()
            .find(|spec| spec.name == name);
        spec.is_some_and(|spec| matches!(spec.kind, InterfaceKind::Personality { acd: true, .. }))
    }

    /// The network that `port` is in.
    pub(crate) fn network_on(&self, port: PortId) -> Option<&Interface> {
        self.on_port(port, None)
            .find(|interface| !interface.personality)
    }

    /// Whether `port` is one that personalities are on.
    pub(crate) fn is_uplink(&self, port: PortId) -> bool {
        let ids = self.on_port.get(port.index()).and_then(|ids| ids.first());
        ids.and_then(|id| self.interface(*id))
            .is_some_and(|interface| interface.personality)
    }

    /// Whether `address`, heard of on `port`, is directly on `interface`'s link.
    pub(crate) fn is_on_link(&self, interface: &Interface, port: PortId, address: IpAddr) -> bool {
        interface.is_on_link(address)
            || self
                .owners
                .owner(address)
                .is_some_and(|guest| guest.port == port)
            || self.owners.alive_in(address) == Some(interface.id)
    }

    /// The ports of `interface` that `address` may be behind: its owner's, or all.
    pub(crate) fn whereabouts<'s>(
        &'s self,
        interface: &'s Interface,
        address: IpAddr,
    ) -> &'s [PortId] {
        match self.owners.owner(address) {
            Some(guest) if guest.network == interface.id => std::slice::from_ref(&guest.port),
            _ => &interface.ports,
        }
    }

    fn add_interface(
        &mut self,
        spec: &config::Interface,
        id: InterfaceId,
        port: impl Fn(usize) -> PortId,
    ) {
        let (ports, vlan, gateways, shared) = match &spec.kind {
            InterfaceKind::Personality {
                port: index,
                vlan,
                gateways,
                shared,
                ..
            } => (vec![port(*index)], *vlan, gateways.clone(), *shared),
            InterfaceKind::Network { ports, .. } => {
                let ports = ports.iter().map(|index| port(*index)).collect();
                (ports, None, Vec::new(), None)
            }
        };
        if !spec.kind.is_personality() {
            for &port in &ports {
                self.add_admission(port);
            }
        }
        for &port in &ports {
            self.wearers.insert(wearer_key(port, vlan, spec.mac), id);
            if self.on_port.len() <= port.index() {
                self.on_port.resize(port.index() + 1, Vec::new());
            }
            self.on_port[port.index()].push(id);
        }
        for prefix in &spec.addresses {
            self.own.insert(prefix.addr(), id);
            if let IpNet::V4(net) = prefix
                && net.prefix_len() < 31
            {
                self.broadcast.insert(net.broadcast());
            }
        }
        if self.interfaces.len() <= id.index() {
            self.interfaces.resize(id.index() + 1, None);
        }
        let own = spec.addresses.iter().map(IpNet::addr);
        let guests = ports.iter().flat_map(|port| self.owners.on_port(*port));
        let link_local = (own.clone().any(|address| address.is_ipv6())
            || spec.services.speak_ipv6()
            || guests.clone().any(Guest::has_ipv6))
        .then(|| link_local(spec));
        self.interfaces[id.index()] = Some(Interface {
            id,
            name: spec.name.clone(),
            personality: spec.kind.is_personality(),
            mac: spec.mac,
            vlan,
            ports,
            addresses: spec.addresses.clone(),
            own: own.chain(link_local.map(IpAddr::V6)).collect(),
            link_local,
            next_hops: gateways,
            shared,
            mtu: spec.mtu,
            services: spec.services.clone(),
        });
    }

    fn add_admission(&mut self, port: PortId) {
        let spec = self
            .config
            .ports()
            .iter()
            .find(|spec| self.port_id(&spec.name) == Some(port));
        let guests = self.owners.on_port(port);
        let checked = spec.is_some_and(|spec| spec.source != SourceCheck::Off);
        let macs: Option<Vec<MacAddr>> = guests.clone().map(|guest| guest.mac).collect();
        let admission = Admission {
            source: spec.map(|spec| spec.source),
            macs: macs.filter(|_| checked).unwrap_or_default(),
            guests: guests.len() > 0,
        };
        if self.admissions.len() <= port.index() {
            self.admissions
                .resize(port.index() + 1, Admission::default());
        }
        self.admissions[port.index()] = admission;
    }

    fn add_next_hop(&mut self, id: InterfaceId, via: IpAddr) {
        if let Some(interface) = &mut self.interfaces[id.index()]
            && !interface.next_hops.contains(&via)
        {
            interface.next_hops.push(via);
        }
    }
}

/// A route's action with interfaces by number.
fn route_action(action: &RouteAction, ids: &[InterfaceId]) -> crate::fib::Action {
    use crate::fib::Action;
    match action {
        RouteAction::Forward { interfaces, via } => Action::Forward {
            interfaces: interfaces.iter().map(|index| ids[*index]).collect(),
            via: *via,
        },
        RouteAction::Blackhole => Action::Blackhole,
        RouteAction::Unreachable => Action::Unreachable,
        RouteAction::Prohibit => Action::Prohibit,
        RouteAction::Throw => Action::Throw,
    }
}
