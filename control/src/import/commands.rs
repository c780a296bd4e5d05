//! Lines of shell that set a system up: `ip …` and `iptables …`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::firewall::{Fate, Origin};
use super::iproute;
use super::iptables::split;
use super::system::{Inet, Kind, System};

/// Rules of iptables by table and family, each at the line where it stands.
pub(super) type Chains = BTreeMap<(String, bool), BTreeMap<usize, String>>;

/// Words by which `ip` adds something, and those by which it takes it away.
const ADDS: [&str; 7] = ["add", "append", "replace", "change", "set", "prepend", "a"];
const TAKES: [&str; 5] = ["del", "delete", "flush", "d", "del!"];
/// Programs that change what tapgate does by itself, or the host.
const HOSTS: [&str; 12] = [
    "sysctl",
    "echo",
    "modprobe",
    "ethtool",
    "true",
    ":",
    "sleep",
    "logger",
    "resolvconf",
    "test",
    "[",
    "exit",
];

/// Does what a line says, of a device's own stanza if it stands in one; what is not done is noted.
pub(super) fn line(
    system: &mut System,
    chains: &mut Chains,
    text: &str,
    device: &str,
    origin: &Origin,
    number: usize,
) {
    let text = text
        .replace("${IFACE}", device)
        .replace("$IFACE", device)
        .replace("--dev ", "dev ");
    let text = text.split(" #").next().unwrap_or_default();
    for part in text.split(';').flat_map(|part| part.split("&&")) {
        // What follows a failure is not what was meant.
        let part = part.split("||").next().unwrap_or_default();
        let part = part
            .split(" >")
            .next()
            .unwrap_or_default()
            .split(" 2>")
            .next()
            .unwrap_or_default();
        let words = split(part.trim());
        let Some(program) = words.first() else {
            continue;
        };
        let program = program.rsplit('/').next().unwrap_or_default();
        let done = match program {
            "ip" => ip(system, &words[1..], origin),
            "iptables" | "ip6tables" => {
                iptables(chains, &words[1..], program == "ip6tables", number)
            }
            "brctl" => bridge(system, &words[1..], origin),
            _ if HOSTS.contains(&program) => {
                system.note(
                    origin,
                    Fate::Host,
                    format!("{program} is about the host itself"),
                );
                Ok(())
            }
            _ => Err(format!(
                "of commands `ip`, `brctl` and `iptables` are read, and {program} is not"
            )),
        };
        if let Err(why) = done {
            system.note(origin, Fate::Missing, why);
        }
    }
}

fn ip(system: &mut System, words: &[String], origin: &Origin) -> Result<(), String> {
    let mut family = None;
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.peek().filter(|word| word.starts_with('-')) {
        match word.as_str() {
            "-4" => family = Some(Inet::V4),
            "-6" => family = Some(Inet::V6),
            _ => {}
        }
        rest.next();
    }
    let object = rest.next().map(String::as_str).unwrap_or_default();
    let verb = rest.next().map(String::as_str).unwrap_or_default();
    let words: Vec<String> = rest.cloned().collect();
    if TAKES.contains(&verb) {
        return Err(format!(
            "what `ip {object} {verb}` takes away is not looked for"
        ));
    }
    if !ADDS.contains(&verb) {
        return Err(format!(
            "`ip {object} {verb}` sets up nothing that is known here"
        ));
    }
    let is = |name: &str, least: usize| object.len() >= least && name.starts_with(object);
    if is("rule", 2) {
        let rule = iproute::rule(
            &words,
            family,
            |family| system.next_priority(family),
            origin,
        )?;
        system.rules.push(rule);
    } else if is("route", 1) {
        // A type may come first, the family is that of the addresses.
        let route = iproute::route(&words, family.unwrap_or_else(|| told(&words)), origin)?;
        system.routes.push(route);
    } else if is("neighbour", 1) || is("neighbor", 1) {
        let (neighbor, proxy) = iproute::neighbor(&words, origin)?;
        match proxy {
            true => system.proxies.push(neighbor),
            false => system.neighbors.push(neighbor),
        }
    } else if is("address", 1) {
        address(system, &words, origin)?;
    } else if is("link", 1) {
        link(system, &words, origin)?;
    } else {
        return Err(format!("`ip {object}` sets up nothing that is known here"));
    }
    Ok(())
}

/// The family that addresses tell.
fn told(words: &[String]) -> Inet {
    match words.iter().any(|word| {
        word.contains("::") || iproute::prefix(word).is_some_and(|net| net.addr().is_ipv6())
    }) {
        true => Inet::V6,
        false => Inet::V4,
    }
}

fn value<'w>(words: &'w [String], names: &[&str]) -> Option<&'w String> {
    let at = words
        .iter()
        .position(|word| names.contains(&word.as_str()))?;
    words.get(at + 1)
}

fn address(system: &mut System, words: &[String], origin: &Origin) -> Result<(), String> {
    let device = value(words, &["dev"]).ok_or("there is no device")?;
    let text = words
        .iter()
        .find(|word| word.contains(['.', ':']))
        .ok_or("there is no address")?;
    let net = net(text).ok_or_else(|| format!("{text} is not an address"))?;
    let net = match value(words, &["peer"]) {
        Some(_) => IpNet::from(net.addr()),
        None => net,
    };
    system.link_mut(device, origin).address(net, false, origin);
    Ok(())
}

/// An address with its prefix length, or alone.
pub(super) fn net(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>();
    net.or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .ok()
}

fn link(system: &mut System, words: &[String], origin: &Origin) -> Result<(), String> {
    let kind = value(words, &["type"]).map(String::as_str);
    let lower = value(words, &["link"]).cloned();
    let own = [
        "up", "down", "type", "link", "address", "mtu", "dev", "name",
    ];
    let name = value(words, &["name", "dev"])
        .or_else(|| words.first().filter(|word| !own.contains(&word.as_str())));
    let name = name.ok_or("there is no device")?;
    let kind = match (kind, lower) {
        (None, _) => None,
        (Some("macvlan"), Some(lower)) => Some(Kind::Macvlan(lower)),
        (Some("vlan"), Some(lower)) => {
            let id = value(words, &["id"]).and_then(|id| id.parse().ok());
            Some(Kind::Vlan(lower, id.ok_or("there is no VLAN")?))
        }
        (Some("bridge"), _) => Some(Kind::Bridge),
        (Some("veth" | "bond" | "tap"), _) => Some(Kind::Device),
        (Some(other), _) => Some(Kind::Other(other.to_owned())),
    };
    let link = system.link_mut(name, origin);
    if let Some(kind) = kind {
        link.kind = kind;
    }
    if let Some(mac) = value(words, &["address"]) {
        link.mac = Some(mac.to_ascii_lowercase());
    }
    if let Some(mtu) = value(words, &["mtu"]) {
        link.mtu = mtu.parse().ok();
    }
    if let Some(master) = value(words, &["master"]) {
        link.master = Some(master.clone());
    }
    Ok(())
}

fn bridge(system: &mut System, words: &[String], origin: &Origin) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["addbr", name] => system.link_mut(name, origin).kind = Kind::Bridge,
        ["addif", name, port] => system.link_mut(port, origin).master = Some(name.to_owned()),
        _ => return Err("of `brctl` addbr and addif are read".to_owned()),
    }
    Ok(())
}

/// Keeps a rule for the reader of `iptables-save`.
fn iptables(chains: &mut Chains, words: &[String], v6: bool, number: usize) -> Result<(), String> {
    let mut words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !["-w", "--wait"].contains(word))
        .collect();
    let table = match words
        .iter()
        .position(|word| ["-t", "--table"].contains(word))
    {
        Some(at) if at + 1 < words.len() => {
            let table = words[at + 1].to_owned();
            words.drain(at..at + 2);
            table
        }
        _ => "filter".to_owned(),
    };
    let said = match words.first() {
        Some(&("-A" | "--append")) => format!("-A {}", words[1..].join(" ")),
        Some(&("-N" | "--new-chain")) => format!("-N {}", words[1..].join(" ")),
        Some(&("-P" | "--policy")) => format!(":{} [0:0]", words[1..].join(" ")),
        Some(&("-D" | "-F" | "-X" | "-Z")) => return Ok(()),
        _ => return Err(
            "of `iptables` -A, -N and -P are read: what else there is depends on what was before"
                .to_owned(),
        ),
    };
    let lines = chains.entry((table, v6)).or_default();
    // A line of its own each; those of one line follow each other as far as there is room.
    let mut at = number;
    while lines.contains_key(&at) {
        at += 1;
    }
    lines.insert(at, said);
    Ok(())
}

/// Rules as `iptables-save` would write them, each at its own line.
pub(super) fn saved(chains: &Chains) -> Vec<String> {
    let text = |((table, v6), lines): (&(String, bool), &BTreeMap<usize, String>)| {
        let mut text = format!("*{table}\n");
        let mut at = 2;
        for (number, line) in lines {
            while at < *number {
                text.push('\n');
                at += 1;
            }
            text.push_str(line);
            text.push('\n');
            at += 1;
        }
        let program = if *v6 { "ip6tables" } else { "iptables" };
        text.push_str(&format!("COMMIT\n# Generated by {program}\n"));
        text
    };
    chains.iter().map(text).collect()
}
