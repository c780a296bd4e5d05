//! A directory with what `ip -j` says of a system: devices, rules, routes and neighbours, and its firewall.

mod firewall;
mod said;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;

use ipnet::IpNet;
use serde_json::Value;

use super::firewall::Fate;
use super::input::text;
use super::iproute;
use super::system::{Inet, Kind, Link, System, origin};
use crate::failure::{Code, Failure};

/// How the directory that is read is written, for `--help`.
pub(crate) const SAVE: &str = "\
The directory is written by these, on the host that is to be replaced; what is not there is left out:

mkdir saved && cd saved
ip -d -j addr >addr.json
ip -j rule >rule.json; ip -6 -j rule >rule6.json
ip -4 -j route show table all >route.json; ip -6 -j route show table all >route6.json
ip -j neigh show proxy >proxy.json; ip -6 -j neigh show proxy >proxy6.json
ip -j neigh >neigh.json; bridge -j fdb >fdb.json
iptables-save >iptables.save; ip6tables-save >ip6tables.save; ipset save >ipset.save
nft -j list ruleset >nft.json";

/// Files of devices; `ip -d -j link` tells the same without addresses.
const LINKS: [&str; 2] = ["addr.json", "link.json"];
const RULES: [(&str, Inet); 2] = [("rule.json", Inet::V4), ("rule6.json", Inet::V6)];
const ROUTES: [(&str, Inet); 2] = [("route.json", Inet::V4), ("route6.json", Inet::V6)];
const NEIGHBORS: [&str; 4] = ["proxy.json", "proxy6.json", "neigh.json", "neigh6.json"];
const FDB: &str = "fdb.json";
/// Reads a directory.
///
/// # Errors
/// A file is not what it should be, or there is none.
pub(super) fn read(directory: &Path) -> Result<System, Failure> {
    let mut system = System::default();
    let mut found = 0;
    for file in LINKS {
        each(directory, file, &mut found, |object, file| {
            link(&mut system, object, file);
        })?;
    }
    for (file, family) in RULES {
        let mut any = false;
        each(directory, file, &mut found, |object, file| {
            any = true;
            let said = said::rule(object);
            let origin = origin(file, 0, said.clone());
            let words = iproute::cut(&said.replacen(':', "", 1));
            let rest = words.get(1..).unwrap_or_default();
            let priority = words.first().and_then(|word| word.parse().ok());
            match iproute::rule(rest, Some(family), |_| priority.unwrap_or(0), &origin) {
                Ok(rule) => system.rules.push(rule),
                Err(why) => system.note(&origin, Fate::Missing, why),
            }
        })?;
        system.lists_rules |= any;
    }
    // Without `-4`, `ip route show table all` shows both families, and the other file has one of them again.
    let mut known = HashSet::new();
    for (file, family) in ROUTES {
        each(directory, file, &mut found, |object, file| {
            let said = said::route(object);
            let origin = origin(file, 0, said.clone());
            // Routers are preferred to others in IPv6 alone.
            let family = object.get("pref").map_or(family, |_| Inet::V6);
            match iproute::route(&iproute::cut(&said), family, &origin) {
                Ok(route) => {
                    if known.insert((Inet::of(route.to.addr()), said)) {
                        system.routes.push(route);
                    }
                }
                Err(why) => system.note(&origin, Fate::Missing, why),
            }
        })?;
    }
    let mut known = HashSet::new();
    for file in NEIGHBORS {
        each(directory, file, &mut found, |object, file| {
            neighbor(&mut system, &mut known, object, file);
        })?;
    }
    each(directory, FDB, &mut found, |object, _| {
        let word = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let own = word("state").is_some_and(|state| state == "permanent");
        if let (Some(mac), Some(port), Some(bridge), false) =
            (word("mac"), word("ifname"), word("master"), own)
        {
            system.stations.insert((bridge, mac), port);
        }
    })?;
    system.firewall = firewall::read(directory, &mut found)?;
    system.firewall.source = format!("{} (saved by `ip -j`)", directory.display());
    if found == 0 || system.links.is_empty() {
        let why = "there are no devices in it: addr.json is missing or empty";
        let remedy = "name a directory that was written as `tapgate import kernel --help` says";
        let why = format!("{}: {why}; {remedy}", directory.display());
        return Err(Failure::with(Code::Refused, why));
    }
    system.sort_rules();
    Ok(system)
}

/// Calls `with` for each object of a file, if it is there and not empty.
fn each(
    directory: &Path,
    name: &str,
    found: &mut usize,
    mut with: impl FnMut(&Value, &Rc<str>),
) -> Result<(), Failure> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(());
    }
    let text = text(&path)?;
    let file: Rc<str> = path.display().to_string().into();
    if text.trim().is_empty() {
        return Ok(());
    }
    let refuse = |line: usize, why: &str| {
        let remedy = "name what `ip -j` wrote, as `tapgate import kernel --help` says";
        Failure::with(Code::Refused, format!("{file}:{line}: {why}; {remedy}"))
    };
    let json: Value =
        serde_json::from_str(&text).map_err(|error| refuse(error.line(), &error.to_string()))?;
    let Some(objects) = json.as_array() else {
        return Err(refuse(1, "it is not a list"));
    };
    *found += 1;
    for object in objects.iter().filter(|object| object.is_object()) {
        if object.as_object().is_some_and(|object| !object.is_empty()) {
            with(object, &file);
        }
    }
    Ok(())
}

fn link(system: &mut System, object: &Value, file: &Rc<str>) {
    let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let Some(name) = word("/ifname") else { return };
    let origin = origin(file, 0, said::link(object));
    let lower = word("/link").unwrap_or("").to_owned();
    let info = word("/linkinfo/info_kind");
    let link = system.link_mut(name, &origin);
    link.kind = match (word("/link_type"), info) {
        (_, Some("macvlan")) => Kind::Macvlan(lower),
        (_, Some("vlan")) if !word("/linkinfo/info_data/protocol").is_none_or(is_tag) => {
            Kind::Other("802.1ad VLAN".to_owned())
        }
        (_, Some("vlan")) => {
            let id = object
                .pointer("/linkinfo/info_data/id")
                .and_then(Value::as_u64);
            Kind::Vlan(lower, id.and_then(|id| u16::try_from(id).ok()).unwrap_or(0))
        }
        (_, Some("bridge")) => Kind::Bridge,
        (_, Some(kind @ ("dummy" | "macvtap" | "ipvlan" | "vrf" | "ifb"))) => {
            Kind::Other(kind.to_owned())
        }
        (Some("ether"), _) => Kind::Device,
        (Some(kind), _) => Kind::Other(info.unwrap_or(kind).to_owned()),
        (None, _) => Kind::Device,
    };
    link.physical = link.kind == Kind::Device && info.is_none();
    link.mac = word("/address").map(str::to_ascii_lowercase);
    link.master = word("/master").map(str::to_owned);
    let mtu = object.pointer("/mtu").and_then(Value::as_u64);
    link.mtu = mtu.and_then(|mtu| u32::try_from(mtu).ok());
    let all = object.get("addr_info").and_then(Value::as_array);
    for address in all.into_iter().flatten() {
        self::address(link, address, file);
    }
}

/// 802.1Q is what VLANs have here.
fn is_tag(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case("802.1q")
}

fn address(link: &mut Link, object: &Value, file: &Rc<str>) {
    let word = |key: &str| object.get(key).and_then(Value::as_str);
    let is = |key: &str| {
        object
            .get(key)
            .is_some_and(|value| *value != Value::Bool(false))
    };
    let length = object.get("prefixlen").and_then(Value::as_u64);
    let length = length.and_then(|length| u8::try_from(length).ok());
    let local = word("local").and_then(|text| text.parse::<IpAddr>().ok());
    let (Some(local), Some(length)) = (local, length) else {
        return;
    };
    // With a peer, the prefix is the peer's.
    let length = match word("address") {
        Some(_) if local.is_ipv4() => 32,
        Some(_) => 128,
        None => length,
    };
    let by_itself = word("scope") == Some("link")
        && local.is_ipv6()
        && (word("protocol") == Some("kernel_ll") || said::is_of_a_mac(local));
    if let (Ok(net), false, false) = (IpNet::new(local, length), by_itself, is("temporary")) {
        let origin = origin(file, 0, said::address(object, &link.name));
        link.address(net, is("dynamic"), &origin);
    }
}

/// Somebody who was heard of, or is answered for; whom `known` has as the same is not taken twice.
fn neighbor(
    system: &mut System,
    known: &mut HashSet<(bool, IpAddr, String)>,
    object: &Value,
    file: &Rc<str>,
) {
    let said = said::neighbor(object);
    let dead = ["FAILED", "INCOMPLETE", "NOARP"];
    let states = object.get("state").and_then(Value::as_array);
    let is_dead = |state: &Value| state.as_str().is_some_and(|state| dead.contains(&state));
    if states.is_some_and(|states| states.iter().any(is_dead)) {
        return;
    }
    let origin = origin(file, 0, said.clone());
    match iproute::neighbor(&iproute::cut(&said), &origin) {
        Ok((mut neighbor, proxy)) => {
            let permanent = |state: &Value| state.as_str() == Some("PERMANENT");
            neighbor.fixed = states.is_some_and(|states| states.iter().any(permanent));
            if known.insert((proxy, neighbor.address, neighbor.device.clone())) {
                match proxy {
                    true => system.proxies.push(neighbor),
                    false => system.neighbors.push(neighbor),
                }
            }
        }
        Err(why) => system.note(&origin, Fate::Missing, why),
    }
}
