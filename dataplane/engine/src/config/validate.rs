//! From [`File`] to [`Config`]: every check a configuration must pass, all faults reported at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::*;

/// Smallest MTU a port may have, in bytes (RFC 791 §3.2: every internet destination must be able
/// to receive 576).
const MIN_MTU: u32 = 576;
/// Largest MTU a port may have, in bytes: the IPv4 total length's limit.
const MAX_MTU: u32 = 65_535;
/// Longest name of a network device, in bytes (Linux IFNAMSIZ less the terminator).
const MAX_DEVICE_NAME: usize = 15;
/// Longest name in the file, in bytes.
const MAX_NAME: usize = 32;

impl TryFrom<File> for Config {
    type Error = ConfigErrors;

    fn try_from(file: File) -> Result<Self, ConfigErrors> {
        let mut check = Check::default();
        check.router(&file);
        let ports = check.ports(&file);
        let interfaces = check.interfaces(&file, &ports);
        let tables = check.tables(&file, &interfaces);
        let rules = check.rules(&file, &interfaces, &tables);
        let snat = check.snat(&file, &interfaces);
        if check.errors.is_empty() {
            Ok(Self {
                file,
                ports,
                interfaces,
                tables,
                rules,
                snat,
            })
        } else {
            Err(ConfigErrors(check.errors))
        }
    }
}

macro_rules! path {
    ($($segment:expr),*) => { vec![$(Segment::from($segment)),*] };
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Segment {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

#[derive(Default)]
struct Check {
    errors: Vec<ConfigError>,
}

impl Check {
    fn fault(&mut self, at: Vec<Segment>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(ConfigError {
            at,
            problem: problem.into(),
            remedy: remedy.into(),
            other: None,
        });
    }

    /// Remembers `key` as seen at `at`; a second sight of it is a fault that names both places.
    fn unique<K: Ord>(
        &mut self,
        seen: &mut BTreeMap<K, Vec<Segment>>,
        key: K,
        at: Vec<Segment>,
        what: &str,
        remedy: &str,
    ) {
        if let Some(first) = seen.get(&key) {
            self.errors.push(ConfigError {
                at,
                problem: what.to_owned(),
                remedy: remedy.to_owned(),
                other: Some(first.clone()),
            });
        } else {
            seen.insert(key, at);
        }
    }

    fn name(&mut self, at: Vec<Segment>, name: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
            self.fault(
                at,
                format!("\"{name}\" cannot be a name"),
                format!("use 1 to {MAX_NAME} letters, digits, \"-\", \"_\" or \".\""),
            );
        }
    }

    fn router(&mut self, file: &File) {
        let router = &file.router;
        let minimum = [
            (
                "tcp_established",
                router.timeouts.tcp_established,
                7_440,
                "RFC 5382 REQ-5",
            ),
            (
                "tcp_transitory",
                router.timeouts.tcp_transitory,
                240,
                "RFC 5382 REQ-5",
            ),
            ("udp", router.timeouts.udp, 120, "RFC 4787 REQ-5"),
            ("icmp", router.timeouts.icmp, 60, "RFC 5508 REQ-1"),
            (
                "other",
                router.timeouts.other,
                1,
                "no session can end at once",
            ),
        ];
        for (key, value, least, why) in minimum {
            if value < least {
                self.fault(
                    path!["router", "timeouts", key],
                    format!("{value} s is too short ({why})"),
                    format!("write {least} or more, or leave it out"),
                );
            }
        }
        for (key, value, most) in [
            ("sessions", router.sessions, 1 << 24),
            ("neighbors", router.neighbors, 60_000),
        ] {
            if value == 0 || value > most {
                self.fault(
                    path!["router", key],
                    format!("{value} is out of range"),
                    format!("write 1 to {most}"),
                );
            }
        }
    }

    fn ports(&mut self, file: &File) -> Vec<Port> {
        let mut devices = BTreeMap::new();
        let mut ports = Vec::new();
        for (name, port) in &file.ports {
            let at = |key: &str| path!["ports", name, key];
            self.name(path!["ports", name], name);
            let kind = match (&port.device, &port.tap, port.memory) {
                (Some(device), None, false) => {
                    for (given, key) in
                        [(port.netns.is_some(), "netns"), (port.mac.is_some(), "mac")]
                    {
                        if given {
                            self.fault(
                                at(key),
                                format!("\"{key}\" is for a `tap` port; this is a `device`"),
                                "remove it: the device is used as it is",
                            );
                        }
                    }
                    PortKind::Device {
                        device: device.clone(),
                        create: port.create.clone(),
                    }
                }
                (None, Some(tap), false) => {
                    if port.create.is_some() {
                        self.fault(
                            at("create"),
                            "\"create\" is for a `device` port; a `tap` is always made",
                            "remove it, or write `device` if a VM opens the TAP's fd side",
                        );
                    }
                    if let Some(mac) = port.mac {
                        self.station_mac(at("mac"), mac);
                    }
                    PortKind::Tap {
                        device: tap.clone(),
                        netns: port.netns.clone(),
                        mac: port.mac,
                    }
                }
                (None, None, true) => PortKind::Memory,
                _ => {
                    self.fault(
                        path!["ports", name],
                        format!("port \"{name}\" must say what it is, once"),
                        "write exactly one of `device = \"eth0\"` (existing device) and `tap = \"tap0\"` (made by tapgate)",
                    );
                    PortKind::Memory
                }
            };
            if let PortKind::Device { device, .. } | PortKind::Tap { device, .. } = &kind {
                let key = if port.tap.is_some() { "tap" } else { "device" };
                self.device_name(at(key), device);
                let netns = port.netns.clone().unwrap_or_default();
                self.unique(
                    &mut devices,
                    (device.clone(), netns),
                    at(key),
                    &format!("device \"{device}\" is used by two ports"),
                    "give each port a device of its own; several personalities may share one port",
                );
            }
            let mtu = port.mtu.unwrap_or(1500);
            if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
                self.fault(
                    at("mtu"),
                    format!("an MTU of {mtu} bytes is out of range"),
                    format!("write {MIN_MTU} to {MAX_MTU}"),
                );
            }
            let queues = port.queues.unwrap_or(1);
            if !(1..=64).contains(&queues) {
                self.fault(
                    at("queues"),
                    format!("{queues} queues are out of range"),
                    "write 1 to 64",
                );
            }
            ports.push(Port {
                name: name.clone(),
                kind,
                mtu,
                queues,
            });
        }
        ports
    }

    fn device_name(&mut self, at: Vec<Segment>, name: &str) {
        let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
        if name.is_empty()
            || name.len() > MAX_DEVICE_NAME
            || name.contains(bad)
            || name == "."
            || name == ".."
        {
            self.fault(
                at,
                format!("\"{name}\" cannot be a device's name"),
                format!("use 1 to {MAX_DEVICE_NAME} bytes without spaces, \"/\" and \":\""),
            );
        }
    }

    fn station_mac(&mut self, at: Vec<Segment>, mac: MacAddr) {
        if !mac.is_unicast() {
            let kind = if mac.is_group() {
                "a multicast address"
            } else {
                "the zero address"
            };
            self.fault(
                at,
                format!("{mac} is {kind}, which no station can wear"),
                "write a unicast MAC: its first byte is even, such as 02:00:00:00:00:aa",
            );
        }
    }

    fn interfaces(&mut self, file: &File, ports: &[Port]) -> Vec<Interface> {
        let mut macs = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        let mut port_use: BTreeMap<usize, (bool, Vec<Segment>)> = BTreeMap::new();
        let mut interfaces = Vec::new();

        for (name, personality) in &file.personalities {
            let at = |key: &str| path!["personalities", name, key];
            self.name(path!["personalities", name], name);
            self.station_mac(at("mac"), personality.mac);
            self.addresses(&at("addresses"), &personality.addresses, &mut addresses);
            if let Some(vlan) = personality.vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
                self.fault(
                    at("vlan"),
                    format!("{vlan} is not a VLAN identifier"),
                    "write 1 to 4094, or leave it out for untagged frames",
                );
            }
            let own: Vec<IpNet> = personality
                .addresses
                .iter()
                .map(|prefix| prefix.0)
                .collect();
            if let Some(gateway) = personality.gateway {
                self.gateway(at("gateway"), gateway, &own, personality.onlink, name);
            }
            let Some(port) = self.port(at("port"), &personality.port, ports) else {
                continue;
            };
            port_use.insert(port, (true, at("port")));
            self.unique(
                &mut macs,
                (port, personality.vlan, personality.mac),
                at("mac"),
                &format!("MAC {} is worn twice on port \"{}\"", personality.mac, personality.port),
                "give each personality a MAC of its own, or put both addresses into one personality",
            );
            interfaces.push(Interface {
                name: name.clone(),
                kind: InterfaceKind::Personality {
                    port,
                    vlan: personality.vlan,
                    gateway: personality.gateway,
                },
                mac: personality.mac,
                addresses: own,
                mtu: ports[port].mtu,
            });
        }

        let mut segments: Vec<(IpNet, Vec<Segment>, String)> = Vec::new();
        for (name, network) in &file.networks {
            let at = |key: &str| path!["networks", name, key];
            self.name(path!["networks", name], name);
            if file.personalities.contains_key(name) {
                self.errors.push(ConfigError {
                    at: path!["networks", name],
                    problem: format!("\"{name}\" names a personality and a network"),
                    remedy: "rename one of them: rules and routes could mean either".to_owned(),
                    other: Some(path!["personalities", name]),
                });
            }
            let mac = network.mac.unwrap_or_else(|| derived_mac(name));
            if network.mac.is_some() {
                self.station_mac(at("mac"), mac);
            }
            self.addresses(&at("addresses"), &network.addresses, &mut addresses);
            for (n, prefix) in network.addresses.iter().enumerate() {
                let here = path!["networks", name, "addresses", n];
                let overlap = segments.iter().find(|(net, _, owner)| {
                    owner != name
                        && (net.contains(&prefix.0.addr()) || prefix.0.contains(&net.addr()))
                });
                if let Some((net, there, owner)) = overlap {
                    self.errors.push(ConfigError {
                        at: here.clone(),
                        problem: format!("{} overlaps {} of network \"{owner}\"", prefix.0.trunc(), net.trunc()),
                        remedy: "give each network a prefix of its own: a reply could not tell them apart".to_owned(),
                        other: Some(there.clone()),
                    });
                }
                segments.push((prefix.0, here, name.clone()));
            }
            let mut members = Vec::new();
            for (n, port_name) in network.ports.iter().enumerate() {
                let here = path!["networks", name, "ports", n];
                let Some(port) = self.port(here.clone(), port_name, ports) else {
                    continue;
                };
                if let Some((uplink, first)) = port_use.get(&port) {
                    let other = if *uplink {
                        "an uplink"
                    } else {
                        "in another network"
                    };
                    self.errors.push(ConfigError {
                        at: here,
                        problem: format!("port \"{port_name}\" is already {other}"),
                        remedy: "a guest's port belongs to exactly one network".to_owned(),
                        other: Some(first.clone()),
                    });
                    continue;
                }
                port_use.insert(port, (false, here));
                members.push(port);
            }
            if network.ports.is_empty() {
                self.fault(
                    at("ports"),
                    format!("network \"{name}\" has no port"),
                    "name at least one port from [ports]",
                );
            }
            let mtu = members
                .iter()
                .map(|port| ports[*port].mtu)
                .min()
                .unwrap_or(1500);
            interfaces.push(Interface {
                name: name.clone(),
                kind: InterfaceKind::Network { ports: members },
                mac,
                addresses: network.addresses.iter().map(|prefix| prefix.0).collect(),
                mtu,
            });
        }
        interfaces
    }

    fn port(&mut self, at: Vec<Segment>, name: &str, ports: &[Port]) -> Option<usize> {
        let found = ports.iter().position(|port| port.name == name);
        if found.is_none() {
            let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            self.undefined(at, "port", name, &known, "[ports]");
        }
        found
    }

    fn undefined(
        &mut self,
        at: Vec<Segment>,
        what: &str,
        name: &str,
        known: &[&str],
        section: &str,
    ) {
        let remedy = if known.is_empty() {
            format!("define it in {section} first")
        } else {
            format!(
                "define it in {section}, or write one of: {}",
                known.join(", ")
            )
        };
        self.fault(at, format!("{what} \"{name}\" is not defined"), remedy);
    }

    fn addresses(
        &mut self,
        at: &[Segment],
        prefixes: &[Prefix],
        seen: &mut BTreeMap<IpAddr, Vec<Segment>>,
    ) {
        if prefixes.is_empty() {
            self.fault(
                at.to_vec(),
                "there is no address",
                "write at least one, such as [\"10.0.1.254/24\"]",
            );
        }
        for (n, prefix) in prefixes.iter().enumerate() {
            let mut here = at.to_vec();
            here.push(Segment::Index(n));
            let address = prefix.0.addr();
            if let Some(why) = not_a_host(prefix.0) {
                self.fault(
                    here.clone(),
                    format!("{prefix} {why}"),
                    "write the interface's own address with its prefix length, such as \"10.0.1.254/24\"",
                );
            }
            self.unique(
                seen,
                address,
                here,
                &format!("address {address} is configured twice"),
                "an address belongs to exactly one interface",
            );
        }
    }

    fn gateway(
        &mut self,
        at: Vec<Segment>,
        gateway: IpAddr,
        own: &[IpNet],
        onlink: bool,
        name: &str,
    ) {
        if own.iter().any(|prefix| prefix.addr() == gateway) {
            self.fault(
                at,
                format!("gateway {gateway} is \"{name}\"'s own address"),
                "write the address of the next router",
            );
        } else if not_a_host(IpNet::from(gateway)).is_some() {
            self.fault(
                at,
                format!("gateway {gateway} is not one host's address"),
                "write the address of the next router",
            );
        } else if !onlink && !own.iter().any(|prefix| prefix.contains(&gateway)) {
            self.fault(
                at,
                format!("gateway {gateway} cannot be reached: no address of \"{name}\" has a prefix that covers it"),
                "add `onlink = true` if it is directly on the link all the same, or correct the address",
            );
        }
    }

    fn tables(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Table> {
        let mut main = Table {
            name: MAIN.to_owned(),
            routes: connected(interfaces),
        };
        let mut tables = Vec::new();
        for (name, routes) in &file.tables {
            self.name(path!["tables", name], name);
            if name == "local" {
                self.fault(
                    path!["tables", name],
                    "\"local\" is the table of the router's own addresses",
                    "use another name; own addresses come from [personalities] and [networks]",
                );
            }
            let mut seen = BTreeMap::new();
            let mut checked = Vec::new();
            for (n, route) in routes.iter().enumerate() {
                let at = path!["tables", name, n];
                self.unique(
                    &mut seen,
                    route.to.0.trunc(),
                    path!["tables", name, n, "to"],
                    &format!("table \"{name}\" has two routes to {}", route.to.0.trunc()),
                    "keep one of them",
                );
                if let Some(action) = self.route(at, route, interfaces) {
                    checked.push(Route {
                        to: route.to.0.trunc(),
                        action,
                    });
                }
            }
            if name == MAIN {
                main.routes.extend(checked);
            } else {
                tables.push(Table {
                    name: name.clone(),
                    routes: checked,
                });
            }
        }
        tables.insert(0, main);
        tables
    }

    fn route(
        &mut self,
        at: Vec<Segment>,
        route: &FileRoute,
        interfaces: &[Interface],
    ) -> Option<RouteAction> {
        let key = |name: &str| {
            let mut path = at.clone();
            path.push(Segment::from(name));
            path
        };
        if route.to.has_host_bits() {
            self.fault(
                key("to"),
                format!("{} has bits set beyond its prefix length", route.to),
                format!("write {}", route.to.0.trunc()),
            );
        }
        if !route.kind.is_unicast_route() {
            for (given, name) in [(route.via.is_some(), "via"), (route.dev.is_some(), "dev")] {
                if given {
                    self.fault(
                        key(name),
                        format!("a {:?} route has no \"{name}\"", route.kind).to_lowercase(),
                        "remove it, or remove `type`",
                    );
                }
            }
            return Some(match route.kind {
                RouteType::Unicast => unreachable!("handled below"),
                RouteType::Blackhole => RouteAction::Blackhole,
                RouteType::Unreachable => RouteAction::Unreachable,
                RouteType::Prohibit => RouteAction::Prohibit,
                RouteType::Throw => RouteAction::Throw,
            });
        }
        let Some(dev) = &route.dev else {
            let Some(via) = route.via else {
                self.fault(
                    at,
                    format!("the route to {} leads nowhere", route.to),
                    "add `dev = \"…\"`, `via = \"…\"` or `type = \"unreachable\"`",
                );
                return None;
            };
            let found = interfaces.iter().position(|interface| {
                interface
                    .addresses
                    .iter()
                    .any(|prefix| prefix.contains(&via))
            });
            if found.is_none() {
                self.fault(
                    key("via"),
                    format!("next hop {via} cannot be reached: no interface has a prefix that covers it"),
                    "add `dev = \"…\"` and `onlink = true` if it is directly on that link, or correct the address",
                );
            }
            return found.map(|interface| RouteAction::Forward {
                interfaces: vec![interface],
                via: Some(via),
            });
        };
        let Some(index) = interfaces
            .iter()
            .position(|interface| interface.name == *dev)
        else {
            let known: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
            self.undefined(
                key("dev"),
                "personality or network",
                dev,
                &known,
                "[personalities] or [networks]",
            );
            return None;
        };
        let interface = &interfaces[index];
        let gateway = match &interface.kind {
            InterfaceKind::Personality { gateway, .. } => *gateway,
            InterfaceKind::Network { .. } => None,
        };
        if let Some(via) = route.via {
            if gateway != Some(via) {
                self.gateway(key("via"), via, &interface.addresses, route.onlink, dev);
            }
            if via.is_ipv4() != route.to.0.addr().is_ipv4() {
                self.fault(
                    key("via"),
                    format!("{via} and {} are of different families", route.to),
                    "write a next hop of the destination's family",
                );
            }
        }
        let family = |address: &IpAddr| address.is_ipv4() == route.to.0.addr().is_ipv4();
        Some(RouteAction::Forward {
            interfaces: vec![index],
            via: route.via.or(gateway.filter(family)),
        })
    }

    fn rules(&mut self, file: &File, interfaces: &[Interface], tables: &[Table]) -> Vec<Rule> {
        let mut seen = BTreeMap::new();
        seen.insert(MAIN_PRIORITY, Vec::new());
        let mut rules = vec![Rule {
            priority: MAIN_PRIORITY,
            from: None,
            to: None,
            iif: None,
            verdict: RuleVerdict::Lookup {
                table: 0,
                suppress_prefixlength: None,
            },
        }];
        for (n, rule) in file.routing.rules.iter().enumerate() {
            let at = |key: &str| path!["routing", "rules", n, key];
            if rule.priority == MAIN_PRIORITY {
                self.fault(
                    at("priority"),
                    format!("{MAIN_PRIORITY} is the priority of table \"{MAIN}\""),
                    "choose another; rules below it come before the connected prefixes, rules above it after",
                );
            } else if rule.priority == 0 {
                self.fault(
                    at("priority"),
                    "0 is the priority of the router's own addresses",
                    "write 1 or more",
                );
            } else {
                self.unique(
                    &mut seen,
                    rule.priority,
                    at("priority"),
                    &format!("two rules have priority {}", rule.priority),
                    "give each rule a priority of its own, so that their order is certain",
                );
            }
            for (prefix, key) in [(rule.from, "from"), (rule.to, "to")] {
                if let Some(prefix) = prefix.filter(|prefix| prefix.has_host_bits()) {
                    self.fault(
                        at(key),
                        format!("{prefix} has bits set beyond its prefix length"),
                        format!(
                            "write {}, or {} for the one address",
                            prefix.0.trunc(),
                            prefix.0.addr()
                        ),
                    );
                }
            }
            if let (Some(from), Some(to)) = (rule.from, rule.to)
                && from.0.addr().is_ipv4() != to.0.addr().is_ipv4()
            {
                self.fault(
                    at("to"),
                    "`from` and `to` are of different families",
                    "no packet could match: correct one of them",
                );
            }
            let iif = rule.iif.as_ref().and_then(|name| {
                let found = interfaces
                    .iter()
                    .position(|interface| interface.name == *name);
                if found.is_none() {
                    let known: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
                    self.undefined(
                        at("iif"),
                        "personality or network",
                        name,
                        &known,
                        "[personalities] or [networks]",
                    );
                }
                found
            });
            let verdict = match (&rule.lookup, rule.action) {
                (Some(name), None) => {
                    let Some(table) = tables.iter().position(|table| table.name == *name) else {
                        let known: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                        self.undefined(at("lookup"), "table", name, &known, "[tables]");
                        continue;
                    };
                    RuleVerdict::Lookup {
                        table,
                        suppress_prefixlength: rule.suppress_prefixlength,
                    }
                }
                (None, Some(action)) => RuleVerdict::End(action),
                _ => {
                    self.fault(
                        path!["routing", "rules", n],
                        "a rule says what to do, once",
                        "write exactly one of `lookup = \"TABLE\"` and `action = \"unreachable\"`",
                    );
                    continue;
                }
            };
            rules.push(Rule {
                priority: rule.priority,
                from: rule.from.map(|prefix| prefix.0.trunc()),
                to: rule.to.map(|prefix| prefix.0.trunc()),
                iif,
                verdict,
            });
        }
        rules.sort_by_key(|rule| rule.priority);
        rules
    }

    fn snat(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Snat> {
        let mut snat = Vec::new();
        for (n, entry) in file.nat.snat.iter().enumerate() {
            let at = |key: &str| path!["nat", "snat", n, key];
            if entry.from.has_host_bits() {
                self.fault(
                    at("from"),
                    format!("{} has bits set beyond its prefix length", entry.from),
                    format!("write {}", entry.from.0.trunc()),
                );
            }
            if entry.from.0.addr().is_ipv4() != entry.to.is_ipv4() {
                self.fault(
                    at("to"),
                    "`from` and `to` are of different families",
                    "write an address of the same family",
                );
            }
            let owner = interfaces.iter().position(|interface| {
                interface.kind.is_personality()
                    && interface
                        .addresses
                        .iter()
                        .any(|prefix| prefix.addr() == entry.to)
            });
            let Some(interface) = owner else {
                let known: Vec<String> = interfaces
                    .iter()
                    .filter(|interface| interface.kind.is_personality())
                    .flat_map(|interface| {
                        interface
                            .addresses
                            .iter()
                            .map(|prefix| prefix.addr().to_string())
                    })
                    .collect();
                self.fault(
                    at("to"),
                    format!("{} is no personality's address", entry.to),
                    format!("write one of: {}", known.join(", ")),
                );
                continue;
            };
            snat.push(Snat {
                from: entry.from.0.trunc(),
                interface,
                to: entry.to,
                ports: entry.ports.unwrap_or_default(),
            });
        }
        snat
    }
}

impl RouteType {
    fn is_unicast_route(self) -> bool {
        self == Self::Unicast
    }
}

/// One route for each prefix that interfaces have connected. A prefix that several personalities
/// share lists them all: the one that owns the packet's source then carries it.
fn connected(interfaces: &[Interface]) -> Vec<Route> {
    let mut shared: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        for prefix in &interface.addresses {
            if prefix.prefix_len() < prefix.max_prefix_len() {
                let list = shared.entry(prefix.trunc()).or_default();
                if !list.contains(&index) {
                    list.push(index);
                }
            }
        }
    }
    shared
        .into_iter()
        .map(|(to, interfaces)| Route {
            to,
            action: RouteAction::Forward {
                interfaces,
                via: None,
            },
        })
        .collect()
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

/// Why `prefix`'s address cannot be one host's, if it cannot.
fn not_a_host(prefix: IpNet) -> Option<&'static str> {
    match prefix {
        IpNet::V4(net) => {
            let address = net.addr();
            let inside = net.prefix_len() < 31;
            if address.is_unspecified() || address.octets()[0] == 0 {
                Some("is in 0.0.0.0/8, \"this network\"")
            } else if address.is_loopback() {
                Some("is a loopback address")
            } else if address.is_multicast() || address.is_broadcast() {
                Some("is a multicast or broadcast address")
            } else if inside && address == net.network() {
                Some("is the prefix itself, not a host in it")
            } else if inside && address == net.broadcast() {
                Some("is the prefix's broadcast address")
            } else {
                None
            }
        }
        IpNet::V6(net) => {
            let address = net.addr();
            if address.is_unspecified() {
                Some("is the unspecified address")
            } else if address.is_loopback() {
                Some("is the loopback address")
            } else if address.is_multicast() {
                Some("is a multicast address")
            } else {
                None
            }
        }
    }
}
