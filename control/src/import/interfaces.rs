//! `/etc/network/interfaces`, of ifupdown and its like.

mod files;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ipnet::IpNet;

use super::commands::{self, Chains};
use super::firewall::{Fate, Origin};
use super::input::text;
use super::iproute;
use super::iptables;
use super::system::{Inet, Kind, System};
use crate::failure::{Code, Failure};
use files::{Line, is_pattern, lines, named};

/// Most files, one naming the other.
const MAX_FILES: usize = 1_000;
/// Options that say nothing of where packets go.
const ASIDE: [&str; 14] = [
    "dns-",
    "bridge",
    "bond-",
    "scope",
    "broadcast",
    "network",
    "autoconf",
    "accept-ra",
    "privext",
    "dad-",
    "ethernet-",
    "hostname",
    "client",
    "wpa-",
];

/// The stanza that options belong to.
struct Stanza {
    device: String,
    family: Inet,
    method: String,
    address: Option<(String, Origin)>,
    netmask: Option<String>,
    gateway: Option<(String, Origin)>,
    metric: Option<String>,
    /// What the prefix of its address has instead: one other.
    peer: bool,
    /// Commands, with their lines' numbers: they are run when it has its addresses.
    up: Vec<(String, Origin, usize)>,
    origin: Origin,
}

/// Reads a file and those that it names.
///
/// # Errors
/// It cannot be read, or says nothing of interfaces.
pub(super) fn read(path: &Path) -> Result<System, Failure> {
    let mut system = System::default();
    let mut seen = BTreeSet::new();
    let mut saved = Vec::new();
    file(path, &mut system, &mut seen, &mut saved)?;
    if system.links.is_empty() {
        let why = format!(
            "{}: there is no `iface` in it; name a file such as /etc/network/interfaces",
            path.display()
        );
        return Err(Failure::with(Code::Refused, why));
    }
    if !saved.is_empty() {
        system.firewall = iptables::read(&saved)?;
    }
    system.firewall.source = path.display().to_string();
    system.sort_rules();
    Ok(system)
}

fn file(
    path: &Path,
    system: &mut System,
    seen: &mut BTreeSet<PathBuf>,
    saved: &mut Vec<(String, String)>,
) -> Result<(), Failure> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if seen.len() >= MAX_FILES || !seen.insert(real) {
        return Ok(());
    }
    let text = text(path)?;
    let name: Rc<str> = path.display().to_string().into();
    let mut chains = Chains::new();
    let mut stanza: Option<Stanza> = None;
    for line in lines(&text, &name) {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        match words[..] {
            ["source", ref patterns @ ..] | ["source-directory", ref patterns @ ..] => {
                close(system, &mut chains, stanza.take());
                for pattern in patterns {
                    let directory = words[0] == "source-directory";
                    let found = named(path, pattern, directory);
                    if found.is_empty() && !directory && !is_pattern(pattern) {
                        system.note(
                            &line.origin,
                            Fate::Missing,
                            format!("there is no file {pattern}"),
                        );
                    }
                    for other in found {
                        file(&other, system, seen, saved)?;
                    }
                }
            }
            ["iface", device, ref rest @ ..] => {
                close(system, &mut chains, stanza.take());
                stanza = open(system, device, rest, &line);
            }
            [word, ..]
                if word == "auto"
                    || word.starts_with("allow-")
                    || word == "no-auto-down"
                    || word == "no-scripts" =>
            {
                close(system, &mut chains, stanza.take());
            }
            ["mapping" | "rename" | "template", ..] => {
                close(system, &mut chains, stanza.take());
                system.note(
                    &line.origin,
                    Fate::Missing,
                    "write the interface by its own name",
                );
            }
            [_, ..] => option(system, &mut chains, stanza.as_mut(), &line),
            [] => {}
        }
    }
    close(system, &mut chains, stanza);
    saved.extend(
        commands::saved(&chains)
            .into_iter()
            .map(|text| (name.to_string(), text)),
    );
    Ok(())
}

fn open(system: &mut System, device: &str, rest: &[&str], line: &Line) -> Option<Stanza> {
    // An alias is its device.
    let device = device.split(':').next().unwrap_or(device).to_owned();
    let family = if rest.first() == Some(&"inet6") {
        Inet::V6
    } else {
        Inet::V4
    };
    let method = rest.get(1).copied().unwrap_or("manual").to_owned();
    if let Some(of) = rest.iter().position(|word| *word == "inherits") {
        let of = rest[of + 1..].join(" ");
        let why = format!("what {of} says is not taken over: write it here too");
        system.note(&line.origin, Fate::Missing, why);
    }
    if device == "lo" || method == "loopback" {
        return Some(Stanza::new("lo", family, "loopback", line));
    }
    let link = system.link_mut(&device, &line.origin);
    if let Some((lower, id)) = device.rsplit_once('.')
        && let Ok(id) = id.parse()
    {
        link.kind = Kind::Vlan(lower.to_owned(), id);
    }
    match method.as_str() {
        "static" | "manual" => {}
        "v4tunnel" | "6to4" | "tunnel" | "gre" | "ipip" | "wireguard" => {
            link.kind = Kind::Other("tunnel".to_owned());
            let why = "there are no tunnels here: the host goes on having it";
            system.note(&line.origin, Fate::Missing, why);
        }
        _ => {
            let why = "what it is given is not known here: --uplink, --address, --mac and --gateway say it";
            system.note(&line.origin, Fate::Missing, why);
        }
    }
    Some(Stanza::new(&device, family, &method, line))
}

fn option(system: &mut System, chains: &mut Chains, stanza: Option<&mut Stanza>, line: &Line) {
    let Some(stanza) = stanza else {
        return system.note(&line.origin, Fate::Missing, "it stands in no `iface`");
    };
    let (name, values) = (line.words[0].replace('_', "-"), &line.words[1..]);
    let value = values.first().cloned().unwrap_or_default();
    let device = stanza.device.clone();
    let at = &line.origin;
    match name.as_str() {
        "up" | "post-up" | "pre-up" => {
            let text = at
                .text
                .split_once(char::is_whitespace)
                .map_or("", |(_, rest)| rest);
            match name.as_str() {
                "pre-up" => {
                    commands::line(system, chains, text.trim(), &device, at, line.number);
                }
                _ => stanza
                    .up
                    .push((text.trim().to_owned(), at.clone(), line.number)),
            }
        }
        "down" | "pre-down" | "post-down" => {
            system.note(at, Fate::Implied, "what tapgate sets up it takes away");
        }
        _ if stanza.method == "loopback" => {
            system.note(at, Fate::Host, "of the host's own device");
        }
        "address" if stanza.address.is_some() => {
            close_address(system, stanza);
            stanza.address = Some((value, at.clone()));
        }
        "address" => stanza.address = Some((value, at.clone())),
        "netmask" => stanza.netmask = Some(value),
        "gateway" => stanza.gateway = Some((value, at.clone())),
        "metric" => stanza.metric = Some(value),
        "hwaddress" => {
            let mac = values
                .iter()
                .find(|word| word.contains(':'))
                .map(|mac| mac.to_ascii_lowercase());
            system.link_mut(&device, at).mac = mac;
        }
        "mtu" => {
            if let Err(why) = system.link_mut(&device, at).set_mtu(&value) {
                system.note(at, Fate::Missing, why);
            }
        }
        "vlan-raw-device" => {
            let id = device
                .trim_start_matches(|c: char| !c.is_ascii_digit())
                .split('.')
                .next_back()
                .and_then(|id| id.parse().ok());
            let link = system.link_mut(&device, at);
            let known = match link.kind {
                Kind::Vlan(_, id) => Some(id),
                _ => id,
            };
            match known {
                Some(id) => link.kind = Kind::Vlan(value, id),
                None => system.note(at, Fate::Missing, "its name does not tell the VLAN"),
            }
        }
        "vlan-id" => {
            let link = system.link_mut(&device, at);
            if let (Kind::Vlan(lower, _), Ok(id)) = (link.kind.clone(), value.parse()) {
                link.kind = Kind::Vlan(lower, id);
            }
        }
        "bridge-ports" => {
            system.link_mut(&device, at).kind = Kind::Bridge;
            for port in values.iter().filter(|port| *port != "none") {
                system.link_mut(port, at).master = Some(device.clone());
            }
        }
        "pointopoint" => {
            stanza.peer = true;
            let words = iproute::cut(&format!("{value} dev {device}"));
            match iproute::route(&words, stanza.family, at) {
                Ok(route) => system.routes.push(route),
                Err(why) => system.note(at, Fate::Missing, why),
            }
        }
        name if ASIDE.iter().any(|start| name.starts_with(start)) => {
            system.note(at, Fate::Host, "about the host itself");
        }
        _ => system.note(at, Fate::Missing, "this option is not read"),
    }
}

impl Stanza {
    fn new(device: &str, family: Inet, method: &str, line: &Line) -> Self {
        Self {
            device: device.to_owned(),
            family,
            method: method.to_owned(),
            address: None,
            netmask: None,
            gateway: None,
            metric: None,
            peer: false,
            up: Vec::new(),
            origin: line.origin.clone(),
        }
    }
}

fn close_address(system: &mut System, stanza: &Stanza) {
    let Some((text, at)) = &stanza.address else {
        return;
    };
    match net(text, stanza.netmask.as_deref()) {
        Some(net) => {
            let net = if stanza.peer { net.addr().into() } else { net };
            let link = system.link_mut(&stanza.device, &stanza.origin);
            link.address(net, false, at);
        }
        None => system.note(at, Fate::Missing, "it is not an address with a netmask"),
    }
}

/// Addresses first, then the gateway, then commands, wherever they stand.
fn close(system: &mut System, chains: &mut Chains, stanza: Option<Stanza>) {
    let Some(stanza) = stanza else { return };
    if stanza.device != "lo" {
        close_address(system, &stanza);
        close_gateway(system, &stanza);
    }
    for (text, at, number) in &stanza.up {
        commands::line(system, chains, text, &stanza.device, at, *number);
    }
}

fn close_gateway(system: &mut System, stanza: &Stanza) {
    let Some((gateway, at)) = &stanza.gateway else {
        return;
    };
    let metric = stanza
        .metric
        .as_ref()
        .map(|metric| format!(" metric {metric}"));
    let words = format!(
        "default via {gateway} dev {}{}",
        stanza.device,
        metric.unwrap_or_default()
    );
    match iproute::route(&iproute::cut(&words), stanza.family, at) {
        Ok(route) => system.routes.push(route),
        Err(why) => system.note(at, Fate::Missing, why),
    }
}

/// An address with the length that it, or the netmask, has.
fn net(text: &str, netmask: Option<&str>) -> Option<IpNet> {
    if text.contains('/') {
        return commands::net(text);
    }
    let address: IpAddr = text.parse().ok()?;
    let length = match netmask {
        None if address.is_ipv4() => 32,
        None => 64,
        Some(mask) => match mask.parse::<IpAddr>() {
            Ok(mask) => ipnet::ip_mask_to_prefix(mask).ok()?,
            Err(_) => mask.parse().ok()?,
        },
    };
    IpNet::new(address, length).ok()
}
