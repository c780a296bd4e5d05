//! Lines of shell that set a system up: `ip …` and `iptables …`.

mod chains;
mod shell;

use ipnet::IpNet;

use super::firewall::{Fate, Origin};
use super::iproute;
use super::system::{Inet, Kind, Route, System};
use chains::iptables;
pub(super) use chains::{Chains, saved};
use shell::{Command, commands};

/// Words by which `ip` adds something, and those by which it takes it away.
const ADDS: [&str; 7] = ["add", "append", "replace", "change", "set", "prepend", "a"];
const TAKES: [&str; 5] = ["del", "delete", "flush", "d", "del!"];
/// Options of `ip address` that have a value.
const ADDRESS: [&str; 13] = [
    "dev",
    "peer",
    "remote",
    "broadcast",
    "brd",
    "anycast",
    "label",
    "scope",
    "metric",
    "priority",
    "proto",
    "valid_lft",
    "preferred_lft",
];
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
    let mut checked = false;
    for command in commands(&text) {
        let Some(program) = command.words.first() else {
            continue;
        };
        let words = &command.words[1..];
        let program = program.rsplit('/').next().unwrap_or_default();
        // What is looked for by `iptables -C` is not there yet.
        let is_left_out = command.on_failure && !checked;
        checked = ["-C", "--check"]
            .iter()
            .any(|check| words.iter().any(|word| word == check));
        let done = match program {
            _ if is_left_out && HOSTS.contains(&program) => Ok(()),
            _ if is_left_out => {
                let why = "whether the command before it fails is not known here: write it without `||`, or leave it out";
                Err((chains::left_out(&command.words), why.to_owned()))
            }
            "ip" => ip(system, words, origin).map_err(missing),
            "iptables" | "ip6tables" => iptables(chains, words, program == "ip6tables", number),
            "brctl" => bridge(system, words, origin).map_err(missing),
            _ if HOSTS.contains(&program) && answers(&command) => Err(missing(
                "who is answered for is said by `proxy` of a network and `public` of a guest"
                    .to_owned(),
            )),
            _ if HOSTS.contains(&program) => {
                Err((Fate::Host, format!("{program} is about the host itself")))
            }
            _ => {
                let why = format!(
                    "of commands `ip`, `brctl` and `iptables` are read, and {program} is not"
                );
                Err((chains::left_out(&command.words), why))
            }
        };
        if let Err((fate, why)) = done {
            system.note(origin, fate, why);
        }
    }
}

fn missing(why: String) -> (Fate, String) {
    (Fate::Missing, why)
}

/// Whether a command has the kernel answer for others.
fn answers(command: &Command) -> bool {
    let named = |word: &String| word.contains("proxy_arp") || word.contains("proxy_ndp");
    let off = |word: &String| word == "0" || word.ends_with("=0");
    let mut words = command.words.iter().chain(&command.files);
    words.any(named) && !command.words.iter().any(off)
}

fn ip(system: &mut System, words: &[String], origin: &Origin) -> Result<(), String> {
    let mut family = None;
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next_if(|word| word.starts_with('-')) {
        match word.trim_start_matches('-') {
            "4" => family = Some(Inet::V4),
            "6" => family = Some(Inet::V6),
            "f" | "family" => {
                family = match rest.next().map(String::as_str) {
                    Some("inet") => Some(Inet::V4),
                    Some("inet6") => Some(Inet::V6),
                    other => {
                        let family = other.unwrap_or_default();
                        return Err(format!("the family {family} is not read"));
                    }
                }
            }
            "n" | "netns" | "b" | "batch" => {
                return Err(format!("what `ip {word}` does is not looked for"));
            }
            "rc" | "rcvbuf" | "l" | "loops" => drop(rest.next()),
            _ => {}
        }
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
        self::route(system, route, verb);
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

/// Adds a route as `ip route add`, `replace` and the like do.
fn route(system: &mut System, route: Route, verb: &str) {
    let place = |route: &Route| {
        let least = if route.to.addr().is_ipv4() { 0 } else { 1024 };
        let metric = route.metric.unwrap_or(least);
        (route.table.clone(), route.to, metric)
    };
    if ["replace", "change"].contains(&verb)
        && let Some(at) = system
            .routes
            .iter()
            .position(|known| place(known) == place(&route))
    {
        let before = std::mem::replace(&mut system.routes[at], route);
        return system.note(&before.origin, Fate::Implied, "a later line replaces it");
    }
    match verb {
        "prepend" => system.routes.insert(0, route),
        _ => system.routes.push(route),
    }
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
    // The value of an option is none of its own, but for `local`.
    let mut rest = words.iter().peekable();
    let mut found = None;
    while let Some(word) = rest.next() {
        match word.as_str() {
            word if ADDRESS.contains(&word) => drop(rest.next()),
            word => found = found.or_else(|| net(word)),
        }
    }
    let net = found.ok_or("there is no address")?;
    let Some(peer) = value(words, &["peer", "remote"]) else {
        system.link_mut(device, origin).address(net, false, origin);
        return Ok(());
    };
    self::peer(system, (net.addr().into(), peer), device, origin)
}

/// An address of a link to one other, and the way there.
pub(super) fn peer(
    system: &mut System,
    (own, peer): (IpNet, &str),
    device: &str,
    origin: &Origin,
) -> Result<(), String> {
    system.link_mut(device, origin).address(own, false, origin);
    let words = iproute::cut(&format!("{peer} dev {device}"));
    let route = iproute::route(&words, Inet::of(own.addr()), origin)?;
    system.routes.push(route);
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
    if let Some(master) = value(words, &["master"]) {
        link.master = Some(master.clone());
    }
    value(words, &["mtu"]).map_or(Ok(()), |mtu| link.set_mtu(mtu))
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
