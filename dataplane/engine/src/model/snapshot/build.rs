//! A snapshot, as it is made from a configuration: parts that do not change are those of the one before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Numbers, Probed, Snapshot};
use crate::base::addr::{InterfaceId, PortId};
use crate::config::{self, Config, InterfaceKind};
use crate::model::bridge::Bridge;
use crate::model::change::Change;
use crate::model::interfaces::{Interfaces, Numbering};
use crate::model::names::Names;
use crate::model::nat::Translations;
use crate::model::owners::{Alive, Configured, Guest, Owners};
use crate::model::policy::Policy;
use crate::model::presence::Presence;
use crate::model::routing::Routing;

impl Snapshot {
    /// Compiles `config`. Ports and interfaces that `previous` knows by name keep their numbers, and
    /// parts that do not change are shared with it.
    pub fn build(config: &Config, previous: Option<&Snapshot>) -> Self {
        let generation = previous.map_or(1, |previous| previous.generation.wrapping_add(1).max(1));
        let names = Numbers::assign(config, previous.map(|p| &*p.names), generation);
        let numbering = names.of(config);
        let like = previous.filter(|previous| names_alike(config, &previous.config));
        let kept = Kept::of(config, like);
        let owners = match kept.owners {
            Some(like) => like.owners.clone(),
            None => {
                let held = previous
                    .into_iter()
                    .flat_map(|previous| previous.owners.holders());
                let before = held
                    .map(|(address, guest)| (address, guest.number))
                    .collect();
                Arc::new(owners(config, &numbering, &names.guests, &before))
            }
        };
        let (interfaces, presence) = match kept.interfaces {
            Some(like) => (like.interfaces.clone(), like.presence.clone()),
            None => {
                let interfaces = Interfaces::build(config, &numbering, &owners);
                let presence = presence(&interfaces, &owners);
                (Arc::new(interfaces), Arc::new(presence))
            }
        };
        let routing = match kept.routing {
            Some(like) => like.routing.clone(),
            None => Arc::new(Routing::build(config, &numbering.interfaces, &owners)),
        };
        let translations = match kept.translations {
            Some(like) => like.translations.clone(),
            None => Arc::new(Translations::build(config, &numbering.interfaces)),
        };
        let policy = match kept.policy {
            Some(like) => like.policy.clone(),
            None => Arc::new(Policy::build(config, &numbering.interfaces)),
        };
        let least_mtu = routing.least_mtu();
        let probed = probed(&routing, &interfaces);
        let next_hops = match previous.filter(|previous| *previous.next_hops == probed) {
            Some(like) => like.next_hops.clone(),
            None => Arc::new(probed),
        };
        let mut snapshot = Self {
            config: Arc::new(config.clone()),
            generation,
            names: Arc::new(names),
            owners,
            interfaces,
            presence,
            routing,
            translations,
            policy,
            limits_bandwidth: config
                .guests()
                .iter()
                .any(|guest| !guest.bandwidth.is_empty()),
            least_mtu,
            next_hops,
            health: previous.map_or_else(Arc::default, |previous| previous.health.clone()),
            change: Arc::default(),
        };
        let change = Change::between(previous.map(Snapshot::side), snapshot.side());
        snapshot.change = Arc::new(change);
        snapshot
    }
}

impl Numbers {
    fn assign(config: &Config, previous: Option<&Self>, generation: u32) -> Self {
        let ports = config.ports().iter().map(|port| port.name.as_str());
        let interfaces = config.interfaces().iter().map(|i| i.name.as_str());
        let guests = config.guests().iter().map(|guest| guest.name.as_str());
        Self {
            ports: Names::assign(ports, previous.map(|p| &p.ports), generation),
            interfaces: Names::assign(interfaces, previous.map(|p| &p.interfaces), generation),
            guests: Names::assign(guests, previous.map(|p| &p.guests), generation),
        }
    }

    /// The numbers of what stands in the lists of `config`, every name of which was given one.
    fn of(&self, config: &Config) -> Numbering {
        let number = |names: &Names, name: &str| names.number(name).unwrap_or(u16::MAX);
        let ports = config.ports().iter();
        let interfaces = config.interfaces().iter();
        Numbering {
            ports: ports
                .map(|port| PortId(number(&self.ports, &port.name)))
                .collect(),
            interfaces: interfaces
                .map(|i| InterfaceId(number(&self.interfaces, &i.name)))
                .collect(),
        }
    }
}

/// For each part, the snapshot it can be kept from.
struct Kept<'s> {
    owners: Option<&'s Snapshot>,
    interfaces: Option<&'s Snapshot>,
    routing: Option<&'s Snapshot>,
    translations: Option<&'s Snapshot>,
    policy: Option<&'s Snapshot>,
}

impl<'s> Kept<'s> {
    /// `like` has the same names in the same places as `config`, so that what refers to places can be
    /// compared. A part is kept if all that it is made of is the same.
    fn of(config: &Config, like: Option<&'s Snapshot>) -> Self {
        let proxies = |config: &Config| -> Vec<_> {
            let proxy = |i: &config::Interface| match &i.kind {
                InterfaceKind::Network { proxy, bridged, .. } => (proxy.clone(), *bridged),
                InterfaceKind::Personality { .. } => (None, None),
            };
            config.interfaces().iter().map(proxy).collect()
        };
        let same = |part: &dyn Fn(&Config, &Config) -> bool| {
            like.filter(|like| part(&like.config, config))
        };
        let owners = same(&|a, b| a.guests() == b.guests() && proxies(a) == proxies(b));
        Self {
            owners,
            interfaces: owners.and(same(&|a, b| {
                a.interfaces() == b.interfaces()
                    && a.ports() == b.ports()
                    && a.tables() == b.tables()
            })),
            routing: same(&|a, b| {
                a.tables() == b.tables() && a.rules() == b.rules() && proxies(a) == proxies(b)
            }),
            policy: owners.and(same(&|a, b| a.policy() == b.policy())),
            translations: same(&|a, b| {
                a.snat() == b.snat()
                    && a.one_to_one() == b.one_to_one()
                    && a.redirects() == b.redirects()
            }),
        }
    }
}

/// Whether both have the same ports and interfaces by name, in the same places.
fn names_alike(a: &Config, b: &Config) -> bool {
    let ports = |config: &'_ Config| config.ports().len();
    let interfaces = |config: &'_ Config| config.interfaces().len();
    let same_ports = a
        .ports()
        .iter()
        .zip(b.ports())
        .all(|(a, b)| a.name == b.name);
    let same_interfaces = a
        .interfaces()
        .iter()
        .zip(b.interfaces())
        .all(|(a, b)| a.name == b.name);
    (ports(a), interfaces(a)) == (ports(b), interfaces(b)) && same_ports && same_interfaces
}

fn owners(
    config: &Config,
    numbering: &Numbering,
    names: &Names,
    before: &BTreeMap<IpAddr, u16>,
) -> Owners {
    let mut owners = Configured::default();
    let owned = || config.guests().iter().flat_map(config::Guest::owned);
    let v4 = owned().filter(|net| net.addr().is_ipv4()).count();
    owners.reserve(v4, owned().count() - v4);
    for spec in config.guests() {
        let personality = spec.personality.map(|index| numbering.interfaces[index]);
        let network = numbering.interfaces[spec.network];
        let number = names.number(&spec.name).unwrap_or(u16::MAX);
        let place = (numbering.ports[spec.port], network);
        let bridged = config.interfaces()[spec.network].kind.bridged();
        let bridge = bridged.map(|bridged| Bridge {
            uplink: numbering.ports[bridged.port],
            vlan: bridged.vlan,
        });
        let guest = Guest::new(spec, number, place, personality, bridge);
        owners.add(guest, spec);
    }
    for (spec, &network) in config.interfaces().iter().zip(&numbering.interfaces) {
        if let InterfaceKind::Network {
            proxy: Some(proxy), ..
        } = &spec.kind
        {
            owners.add_alive(Alive {
                personality: numbering.interfaces[proxy.personality],
                network,
                prefixes: proxy.alive.clone(),
            });
        }
    }
    owners.finish(before)
}

fn presence(interfaces: &Interfaces, owners: &Owners) -> Vec<Presence> {
    let mut presence = Vec::new();
    for interface in interfaces.iter() {
        if presence.len() <= interface.id.index() {
            presence.resize(interface.id.index() + 1, Presence::default());
        }
        presence[interface.id.index()] = Presence::of(interface, owners);
    }
    presence
}

fn probed(routing: &Routing, interfaces: &Interfaces) -> Probed {
    let hops = routing.groups.iter().flat_map(|group| &group.hops);
    let places = hops.flat_map(|hop| {
        let on = |id: &InterfaceId| Some((*id, hop.via?));
        hop.interfaces.iter().filter_map(on)
    });
    let known = |place: (InterfaceId, IpAddr)| {
        let uplink = interfaces.get(place.0).filter(|it| it.personality)?;
        Some((place, uplink.probe))
    };
    places.filter_map(known).collect()
}
