//! Everything configured, compiled for forwarding: immutable, shared by all workers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::config::{self, Config, InterfaceKind, PortRange, RouteAction, RuleVerdict};
use crate::fib::Fib;
pub use crate::interface::Interface;
use crate::interface::link_local;
use crate::wearers::{Wearers, wearer_key};

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
    own: HashMap<IpAddr, InterfaceId, FixedState>,
    broadcast: HashSet<Ipv4Addr, FixedState>,
    pub(crate) tables: Vec<(String, Fib)>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) snat: Vec<Snat>,
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
            own: HashMap::default(),
            broadcast: HashSet::default(),
            tables: Vec::new(),
            rules: Vec::new(),
            snat: Vec::new(),
            port_names: port_names.clone(),
            interface_names,
        };
        for (spec, &id) in config.interfaces().iter().zip(&ids) {
            snapshot.add_interface(spec, id, port);
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
            snapshot.tables.push((table.name.clone(), fib));
        }
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

    fn add_interface(
        &mut self,
        spec: &config::Interface,
        id: InterfaceId,
        port: impl Fn(usize) -> PortId,
    ) {
        let (ports, vlan, gateway) = match &spec.kind {
            InterfaceKind::Personality {
                port: index,
                vlan,
                gateway,
            } => (vec![port(*index)], *vlan, *gateway),
            InterfaceKind::Network { ports } => {
                (ports.iter().map(|index| port(*index)).collect(), None, None)
            }
        };
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
        let link_local = own
            .clone()
            .any(|address| address.is_ipv6())
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
            next_hops: gateway.into_iter().collect(),
            mtu: spec.mtu,
        });
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
