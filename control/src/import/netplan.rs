//! netplan's YAML.

mod names;
mod node;

use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr::{LoadableYamlNode, MarkedYaml};

use super::commands::net;
use super::firewall::{Fate, Origin};
use super::iproute;
use super::system::{Inet, Kind, Route, System, origin};
use super::words::switch;
use crate::failure::{Code, Failure};
use names::Names;
use node::{Node, get, items, pairs, scalar};

/// Keys of `routing-policy`, and the words of `ip rule` for them.
const RULE: [(&str, &str); 6] = [
    ("from", "from"),
    ("to", "to"),
    ("mark", "fwmark"),
    ("type-of-service", "tos"),
    ("table", "lookup"),
    ("priority", "pref"),
];
/// Keys of `routes`, and the words of `ip route` for them.
const ROUTE: [(&str, &str); 9] = [
    ("via", "via"),
    ("from", "src"),
    ("metric", "metric"),
    ("table", "table"),
    ("mtu", "mtu"),
    ("advertised-mss", "advmss"),
    ("scope", "scope"),
    ("congestion-window", "initcwnd"),
    ("advertised-receive-window", "initrwnd"),
];
/// Keys of a device that say nothing of where packets go.
const ASIDE: [&str; 22] = [
    "renderer",
    "optional",
    "nameservers",
    "link-local",
    "accept-ra",
    "wakeonlan",
    "dhcp-identifier",
    "critical",
    "match",
    "set-name",
    "parameters",
    "ignore-carrier",
    "ipv6-privacy",
    "optional-addresses",
    "activation-mode",
    "openvswitch",
    "dhcp4-overrides",
    "dhcp6-overrides",
    "emit-lldp",
    "ipv6-address-generation",
    "neigh-suppress",
    "networkmanager",
];

/// What was read so far.
#[derive(Default)]
struct Reading {
    system: System,
    names: Names,
    /// Of each device `gateway4` and `gateway6`, of which the last holds.
    gateways: BTreeMap<(String, String), Route>,
}

/// One file, as it is read.
struct File<'t> {
    name: Rc<str>,
    lines: Vec<&'t str>,
}

impl File<'_> {
    /// Where a node begins, with its line.
    fn at(&self, node: &Node<'_>) -> Origin {
        let line = node.span.start.line();
        let text = self
            .lines
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        origin(&self.name, line, text.trim())
    }

    /// The same with all its keys.
    fn said(&self, node: &Node<'_>) -> Origin {
        let mut at = self.at(node);
        let all = pairs(node)
            .into_iter()
            .map(|(key, value)| format!("{key}: {}", scalar(value).unwrap_or_default()));
        at.text = all.collect::<Vec<_>>().join(", ");
        at
    }
}

/// Reads files, each on top of those before.
///
/// # Errors
/// One is not netplan's.
pub(super) fn read(files: &[(String, String)]) -> Result<System, Failure> {
    let mut reading = Reading::default();
    let mut all = Vec::new();
    for (name, text) in files {
        let refuse = |line: usize, why: &str| {
            let remedy = "name files such as /etc/netplan/*.yaml";
            Failure::with(Code::Refused, format!("{name}:{line}: {why}; {remedy}"))
        };
        let documents = MarkedYaml::load_from_str(text)
            .map_err(|error| refuse(error.marker().line(), error.info()))?;
        let file = File {
            name: name.as_str().into(),
            lines: text.lines().collect(),
        };
        for document in &documents {
            if get(document, "network").is_none() {
                return Err(refuse(1, "there is no `network` in it"));
            }
        }
        all.push((file, documents));
    }
    let networks = || {
        all.iter().flat_map(|(file, documents)| {
            let networks = documents
                .iter()
                .filter_map(|document| get(document, "network"));
            networks.map(move |network| (file, network))
        })
    };
    for (_, network) in networks() {
        reading.names.add(network);
    }
    for (file, network) in networks() {
        for (kind, devices) in pairs(network) {
            section(&mut reading, file, &kind, devices);
        }
    }
    let mut system = reading.system;
    system.routes.extend(reading.gateways.into_values());
    if system.links.is_empty() {
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let why = format!(
            "{}: there are no devices in it; name files such as /etc/netplan/*.yaml",
            names.join(", ")
        );
        return Err(Failure::with(Code::Refused, why));
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    system.firewall.source = names.join(", ");
    system.sort_rules();
    Ok(system)
}

fn section(reading: &mut Reading, file: &File<'_>, kind: &str, devices: &Node<'_>) {
    let of = match kind {
        "version" | "renderer" => return,
        "ethernets" | "bonds" | "virtual-ethernets" | "wifis" | "modems" => Kind::Device,
        "bridges" => Kind::Bridge,
        "vlans" => Kind::Vlan(String::new(), 0),
        "dummy-devices" | "tunnels" | "vrfs" => Kind::Other(kind.trim_end_matches('s').to_owned()),
        _ => {
            let why = "this kind of device is not read";
            return reading.system.note(&file.at(devices), Fate::Missing, why);
        }
    };
    for (id, node) in pairs(devices) {
        let at = file.at(node);
        let system = &mut reading.system;
        let name = match reading.names.of(&id) {
            Ok(name) => name,
            Err(why) => {
                let why = format!("{why}; nothing of it is written");
                system.note(&at, Fate::Missing, why);
                continue;
            }
        };
        let matched = get(node, "match");
        if let Some(matched) = matched.filter(|_| reading.names.is_unknown(&id)) {
            let why = format!(
                "which device that is is not known here: write its name as `device` of {id} in [ports]"
            );
            system.note(&file.said(matched), Fate::Missing, why);
        }
        let link = system.link_mut(&name, &at);
        if !matches!((&link.kind, &of), (Kind::Vlan(..), Kind::Vlan(..))) {
            link.kind = of.clone();
        }
        link.mac = matched
            .and_then(|node| get(node, "macaddress"))
            .and_then(scalar)
            .map(|mac| mac.to_ascii_lowercase())
            .or(link.mac.take());
        for (key, value) in pairs(node) {
            option(reading, file, &name, &key, value);
        }
    }
}

fn option(reading: &mut Reading, file: &File<'_>, device: &str, key: &str, node: &Node<'_>) {
    let at = file.at(node);
    let system = &mut reading.system;
    let text = scalar(node).unwrap_or_default();
    match key {
        "addresses" => {
            for node in items(node) {
                let at = file.at(node);
                // An address may have options.
                let text = scalar(node).or_else(|| pairs(node).first().map(|(key, _)| key.clone()));
                match text.as_deref().and_then(net) {
                    Some(net) => system.link_mut(device, &at).address(net, false, &at),
                    None => system.note(&at, Fate::Missing, "it is not an address"),
                }
            }
        }
        "gateway4" | "gateway6" => {
            let words = iproute::cut(&format!("default via {text} dev {device}"));
            let place = (device.to_owned(), key.to_owned());
            let before = match iproute::route(&words, Inet::V4, &at) {
                Ok(route) => reading.gateways.insert(place, route),
                Err(why) => return system.note(&at, Fate::Missing, why),
            };
            if let Some(before) = before {
                let why = "a later file says another";
                system.note(&before.origin, Fate::Implied, why);
            }
        }
        "macaddress" => system.link_mut(device, &at).mac = Some(text.to_ascii_lowercase()),
        "mtu" => {
            if let Err(why) = system.link_mut(device, &at).set_mtu(&text) {
                system.note(&at, Fate::Missing, why);
            }
        }
        "interfaces" => {
            for port in items(node) {
                let at = file.at(port);
                match scalar(port).map(|id| reading.names.of(&id)) {
                    Some(Ok(name)) => system.link_mut(&name, &at).master = Some(device.to_owned()),
                    Some(Err(why)) => system.note(&at, Fate::Missing, why),
                    None => {}
                }
            }
        }
        "link" => match reading.names.of(&text) {
            Ok(name) => {
                if let Kind::Vlan(lower, _) = &mut system.link_mut(device, &at).kind {
                    *lower = name;
                }
            }
            Err(why) => system.note(&at, Fate::Missing, why),
        },
        "id" => match (&mut system.link_mut(device, &at).kind, text.parse()) {
            (Kind::Vlan(_, id), Ok(number)) => *id = number,
            (_, Ok(_)) => {}
            (_, Err(_)) => system.note(&at, Fate::Missing, "it is not a VLAN"),
        },
        "routes" => {
            for node in items(node) {
                if let Err(why) = route(system, file, device, node) {
                    system.note(&file.said(node), Fate::Missing, why);
                }
            }
        }
        "routing-policy" => {
            for node in items(node) {
                let at = file.said(node);
                let words = words(node, &RULE);
                match iproute::rule(&words, None, |family| system.next_priority(family), &at) {
                    Ok(rule) => system.rules.push(rule),
                    Err(why) => system.note(&at, Fate::Missing, why),
                }
            }
        }
        "dhcp4" | "dhcp6" if switch(&text) == Some(false) => {}
        "dhcp4" | "dhcp6" => {
            let why = "what it is given is not known here: --uplink, --address, --mac and --gateway say it";
            system.note(&at, Fate::Missing, why);
        }
        key if ASIDE.contains(&key) => {
            if !["match", "set-name"].contains(&key) {
                system.note(&at, Fate::Host, "about the host itself");
            }
        }
        _ => system.note(&at, Fate::Missing, format!("the key {key} is not read")),
    }
}

fn route(
    system: &mut System,
    file: &File<'_>,
    device: &str,
    node: &Node<'_>,
) -> Result<(), String> {
    let said = file.said(node);
    let word = |key: &str| get(node, key).and_then(scalar);
    let to = word("to").ok_or("there is no destination")?;
    let v6 =
        to.contains(':') || (to == "default" && word("via").is_some_and(|via| via.contains(':')));
    let to = if ["0.0.0.0/0", "::/0"].contains(&to.as_str()) {
        "default".to_owned()
    } else {
        to
    };
    let kind = word("type").filter(|kind| kind != "unicast");
    let plain = kind.is_none();
    let mut all: Vec<String> = kind.into_iter().chain([to]).collect();
    all.extend(words(node, &ROUTE));
    if plain {
        all.extend(["dev".to_owned(), device.to_owned()]);
    }
    if word("on-link").and_then(|value| switch(&value)) == Some(true) {
        all.push("onlink".to_owned());
    }
    let family = if v6 { Inet::V6 } else { Inet::V4 };
    system.routes.push(iproute::route(&all, family, &said)?);
    Ok(())
}

/// A mapping's keys as words of `ip`.
fn words(node: &Node<'_>, names: &[(&str, &str)]) -> Vec<String> {
    let mut words = Vec::new();
    for (key, value) in pairs(node) {
        let text = scalar(value).unwrap_or_default();
        match names.iter().find(|(name, _)| *name == key) {
            Some((_, word)) => words.extend([(*word).to_owned(), text]),
            None if ["type", "on-link"].contains(&key.as_str()) => {}
            None if key == "to" => {}
            None => words.push(format!("{key}={text}")),
        }
    }
    words
}
