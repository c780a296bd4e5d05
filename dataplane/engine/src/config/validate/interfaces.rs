//! `[personalities]` and `[networks]`: one list of interfaces.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::address::{Link, Place};
use super::check::{Check, place};
use crate::base::addr::MacAddr;
use crate::base::ip::is_of_a_link;
use crate::config::services::Services;
use crate::config::{
    File, Interface, InterfaceKind, Network, Personality, Port, PortKind, Prefix, Proxy, Segment,
};

/// What interfaces must not have in common, and where it was seen first.
#[derive(Default)]
pub(super) struct Seen {
    addresses: BTreeMap<Place, Vec<Segment>>,
    /// By port and VLAN: personalities on different links may wear the same MAC.
    macs: BTreeMap<(usize, Option<u16>, MacAddr), Vec<Segment>>,
    pub(super) ports: BTreeMap<usize, PortUse>,
    /// Segments of uplinks that a network is bridged to.
    pub(super) bridged: BTreeMap<(usize, Option<u16>), Vec<Segment>>,
    /// Prefixes connected on uplinks.
    uplink_prefixes: BTreeMap<IpNet, Vec<Segment>>,
    /// Prefixes of networks, with the network's name.
    segments: Vec<(IpNet, String, Vec<Segment>)>,
}

/// Who uses a port, and where that is written.
pub(super) struct PortUse {
    /// The network's name; `None` for an uplink.
    pub(super) network: Option<String>,
    pub(super) at: Vec<Segment>,
}

impl Check {
    /// Checks all interfaces; one that is wrong is in the result all the same, so that what
    /// refers to it is not reported as well.
    pub(super) fn interfaces(&mut self, file: &File, ports: &[Port]) -> Vec<Interface> {
        let mut seen = Seen::default();
        let mut interfaces = Vec::new();
        for (name, personality) in &file.personalities {
            interfaces.push(self.personality(name, personality, ports, &mut seen));
        }
        for (name, network) in &file.networks {
            if file.personalities.contains_key(name) {
                self.conflict(
                    place!["networks", name],
                    place!["personalities", name],
                    format!("\"{name}\" names a personality and a network"),
                    "rename one of them: rules and routes could mean either",
                );
            }
            interfaces.push(self.network(name, network, (file, ports), &mut seen));
        }
        self.gateways(file, &seen);
        interfaces
    }

    fn personality(
        &mut self,
        name: &String,
        personality: &Personality,
        ports: &[Port],
        seen: &mut Seen,
    ) -> Interface {
        let at = |key: &str| place!["personalities", name, key];
        self.name(place!["personalities", name], name);
        self.station_mac(at("mac"), personality.mac);
        self.addresses(
            &at("addresses"),
            &personality.addresses,
            &uplink_of(personality),
            &mut seen.addresses,
        );
        self.vlan(at("vlan"), personality.vlan);
        self.probe(name, personality);
        let addresses: Vec<IpNet> = personality.addresses.iter().map(|p| p.0).collect();
        let routed = |(_, prefix): &(usize, &IpNet)| !is_of_a_link(prefix.addr());
        for (n, prefix) in addresses.iter().enumerate().filter(routed) {
            let here = place!["personalities", name, "addresses", n];
            seen.uplink_prefixes.entry(prefix.trunc()).or_insert(here);
        }
        self.own_gateways(name, personality, &addresses);
        let port = self.port(at("port"), &personality.port, ports);
        if let Some(port) = port {
            self.uplink(name, personality, port, seen);
        }
        Interface {
            name: name.clone(),
            kind: InterfaceKind::Personality {
                // Out of range only when the port is not defined, and then there is no Config.
                port: port.unwrap_or(usize::MAX),
                vlan: personality.vlan,
                gateways: personality.gateway.0.clone(),
                shared: personality.shared,
                acd: personality.acd,
            },
            mac: personality.mac,
            addresses,
            mtu: port.map_or(1500, |port| ports[port].mtu),
            services: Services::default(),
            sources: Vec::new(),
            clamps_mss: personality.clamp_mss,
            probe: personality.probe,
        }
    }

    pub(super) fn vlan(&mut self, at: Vec<Segment>, vlan: Option<u16>) {
        if let Some(vlan) = vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
            self.fault(
                at,
                format!("{vlan} is not a VLAN identifier"),
                "write 1 to 4094, or leave it out for untagged frames",
            );
        }
    }

    /// A personality has one gateway of each family, which its addresses reach.
    fn own_gateways(&mut self, name: &String, personality: &Personality, addresses: &[IpNet]) {
        let gateways = &personality.gateway.0;
        for (n, gateway) in gateways.iter().enumerate() {
            let here = gateway_at(name, gateways.len(), n);
            if gateways[..n]
                .iter()
                .any(|other| other.is_ipv4() == gateway.is_ipv4())
            {
                self.fault(
                    here,
                    format!("gateway {gateway} is the second of its family"),
                    "write at most one IPv4 and one IPv6 gateway; other next hops go into [tables]",
                );
            } else {
                self.gateway(here, *gateway, addresses, personality.onlink, name);
            }
        }
    }

    /// Notes that `port` is an uplink, on which no two personalities wear one MAC.
    fn uplink(&mut self, name: &String, personality: &Personality, port: usize, seen: &mut Seen) {
        let at = |key: &str| place!["personalities", name, key];
        seen.ports.entry(port).or_insert(PortUse {
            network: None,
            at: at("port"),
        });
        let what = format!(
            "MAC {} is worn twice on port \"{}\"",
            personality.mac, personality.port
        );
        self.unique(
            &mut seen.macs,
            (port, personality.vlan, personality.mac),
            at("mac"),
            &what,
            "give each personality a MAC of its own, or put both addresses into one personality",
        );
    }

    fn network(
        &mut self,
        name: &String,
        network: &Network,
        (file, ports): (&File, &[Port]),
        seen: &mut Seen,
    ) -> Interface {
        let at = |key: &str| place!["networks", name, key];
        self.name(place!["networks", name], name);
        let mac = network.mac.unwrap_or_else(|| derived_mac(name));
        if network.mac.is_some() {
            self.station_mac(at("mac"), mac);
        }
        if network.bridged.is_none() {
            let link = Link::Network(name.clone());
            let seen = &mut seen.addresses;
            self.addresses(&at("addresses"), &network.addresses, &link, seen);
        }
        let routed = |(_, prefix): &(usize, &Prefix)| !is_of_a_link(prefix.0.addr());
        for (n, prefix) in network.addresses.iter().enumerate().filter(routed) {
            self.segment(
                name,
                prefix.0,
                place!["networks", name, "addresses", n],
                seen,
            );
        }
        let members = self.members(name, network, ports, seen);
        let bridged = self.bridged(name, network, (file, ports), &members, seen);
        self.guest_macs(name, network, mac, &members, ports);
        let mtus = members.iter().map(|port| ports[*port].mtu);
        let mtu = mtus.min().unwrap_or(1500);
        Interface {
            name: name.clone(),
            mac,
            addresses: network.addresses.iter().map(|prefix| prefix.0).collect(),
            mtu,
            services: self.services(name, network, mtu),
            sources: Vec::new(),
            clamps_mss: false,
            probe: None,
            kind: InterfaceKind::Network {
                ports: members,
                proxy: self.proxy(name, network, file),
                bridged,
            },
        }
    }

    /// The network's ports, each of which is nobody else's.
    fn members(
        &mut self,
        name: &String,
        network: &Network,
        ports: &[Port],
        seen: &mut Seen,
    ) -> Vec<usize> {
        if network.ports.is_empty() {
            self.fault(
                place!["networks", name, "ports"],
                format!("network \"{name}\" has no port"),
                "name at least one port from [ports]",
            );
        }
        let mut members = Vec::new();
        for (n, port_name) in network.ports.iter().enumerate() {
            let here = place!["networks", name, "ports", n];
            let Some(port) = self.port(here.clone(), port_name, ports) else {
                continue;
            };
            if let Some(user) = seen.ports.get(&port) {
                let problem = match &user.network {
                    None => format!("port \"{port_name}\" is an uplink"),
                    Some(other) if other == name => {
                        format!("port \"{port_name}\" is listed twice")
                    }
                    Some(other) => {
                        format!("port \"{port_name}\" is in network \"{other}\" already")
                    }
                };
                let remedy = "a guest's port belongs to exactly one network, once";
                self.conflict(here, user.at.clone(), problem, remedy);
                continue;
            }
            let user = PortUse {
                network: Some(name.clone()),
                at: here,
            };
            seen.ports.insert(port, user);
            members.push(port);
        }
        members
    }

    /// A reply to a guest must lead to one network only.
    fn segment(&mut self, name: &str, prefix: IpNet, at: Vec<Segment>, seen: &mut Seen) {
        let overlap = seen.segments.iter().find(|(net, owner, _)| {
            owner != name && (net.contains(&prefix.addr()) || prefix.contains(&net.addr()))
        });
        if let Some((net, owner, there)) = overlap {
            self.conflict(
                at.clone(),
                there.clone(),
                format!(
                    "{} overlaps {} of network \"{owner}\"",
                    prefix.trunc(),
                    net.trunc()
                ),
                "give each network a prefix of its own: a reply could not tell them apart",
            );
        } else if let Some(there) = seen.uplink_prefixes.get(&prefix.trunc()) {
            self.conflict(
                at.clone(),
                there.clone(),
                format!("{} is connected on an uplink too", prefix.trunc()),
                "give the network a prefix of its own, or a longer one within it",
            );
        }
        seen.segments.push((prefix, name.to_owned(), at));
    }

    /// In one network, the gateway and the guests whose MAC we choose must differ.
    fn guest_macs(
        &mut self,
        name: &String,
        network: &Network,
        gateway: MacAddr,
        members: &[usize],
        ports: &[Port],
    ) {
        let mut seen = BTreeMap::new();
        let at = if network.mac.is_some() {
            place!["networks", name, "mac"]
        } else {
            place!["networks", name]
        };
        seen.insert(gateway, at);
        for port in members.iter().map(|port| &ports[*port]) {
            if let PortKind::Tap { mac: Some(mac), .. } = port.kind {
                self.unique(
                    &mut seen,
                    mac,
                    place!["ports", &port.name, "mac"],
                    &format!("MAC {mac} is worn twice in network \"{name}\""),
                    "give each guest a MAC of its own, other than the gateway's",
                );
            }
        }
    }

    /// What a network's `proxy` says.
    fn proxy(&mut self, name: &String, network: &Network, file: &File) -> Option<Proxy> {
        let proxy = network.proxy.as_ref()?;
        for (n, prefix) in proxy.alive.iter().enumerate() {
            if prefix.has_host_bits() {
                self.fault(
                    place!["networks", name, "proxy", "alive", n],
                    format!("{prefix} has bits set beyond its prefix length"),
                    format!("write {}", prefix.0.trunc()),
                );
            }
        }
        // Personalities come first among the interfaces, in the order of the file.
        let personality = file
            .personalities
            .keys()
            .position(|key| *key == proxy.personality);
        if personality.is_none() {
            let known: Vec<&str> = file.personalities.keys().map(String::as_str).collect();
            self.undefined(
                place!["networks", name, "proxy", "personality"],
                "personality",
                &proxy.personality,
                &known,
                "[personalities]",
            );
        }
        Some(Proxy {
            personality: personality?,
            alive: proxy.alive.iter().map(|prefix| prefix.0.trunc()).collect(),
        })
    }

    /// A provider's gateway is nobody of ours.
    fn gateways(&mut self, file: &File, seen: &Seen) {
        for (name, personality) in &file.personalities {
            // Its own address as its gateway is reported elsewhere.
            let own: &[Segment] = &["personalities".into(), name.into()];
            let gateways = &personality.gateway.0;
            for (n, gateway) in gateways.iter().enumerate() {
                let elsewhere = seen.addresses.get(&uplink_of(personality).place(*gateway));
                if let Some(there) = elsewhere.filter(|at| !at.starts_with(own)) {
                    self.conflict(
                        gateway_at(name, gateways.len(), n),
                        there.clone(),
                        format!("gateway {gateway} is one of the router's own addresses"),
                        "write the address of the provider's router",
                    );
                }
            }
        }
    }

    /// The personality or network called `name`.
    pub(super) fn interface(
        &mut self,
        at: impl Into<Vec<Segment>>,
        name: &str,
        interfaces: &[Interface],
    ) -> Option<usize> {
        // They are in the order of the file's maps, one after the other.
        let personalities = interfaces.partition_point(|i| i.kind.is_personality());
        let (first, second) = interfaces.split_at(personalities);
        let by_name = |all: &[Interface]| all.binary_search_by(|i| i.name.as_str().cmp(name)).ok();
        let found = by_name(first).or_else(|| Some(personalities + by_name(second)?));
        if found.is_none() {
            let known: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
            self.undefined(
                at,
                "personality or network",
                name,
                &known,
                "[personalities] and [networks]",
            );
        }
        found
    }

    pub(super) fn port(&mut self, at: Vec<Segment>, name: &str, ports: &[Port]) -> Option<usize> {
        // They are in the order of the file's map.
        let found = ports.binary_search_by(|port| port.name.as_str().cmp(name));
        let found = found.ok();
        if found.is_none() {
            let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            self.undefined(at, "port", name, &known, "[ports]");
        }
        found
    }
}

/// The link that a personality is on.
fn uplink_of(personality: &Personality) -> Link {
    Link::Uplink(personality.port.clone(), personality.vlan)
}

/// A locally administered unicast MAC derived from a network's name (FNV-1a), the same on every
/// start and every host.
fn derived_mac(name: &str) -> MacAddr {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    MacAddr([0x02, a, b, c, d, e])
}

/// Where gateway `n` of `count` is written.
fn gateway_at(name: &String, count: usize, n: usize) -> Vec<Segment> {
    if count == 1 {
        place!["personalities", name, "gateway"]
    } else {
        place!["personalities", name, "gateway", n]
    }
}
