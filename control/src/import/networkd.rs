//! A directory of systemd-networkd: `.link`, `.netdev` and `.network` files with their drop-ins.

mod file;
mod routing;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::commands::net;
use super::firewall::{Fate, Origin};
use super::iproute;
use super::system::{Inet, Kind, Neighbor, System};
use crate::failure::{Code, Failure};
use file::{Section, with_drop_ins};
use routing::{neighbor, route, rule};

/// Sections and keys that say nothing of where packets go.
const ASIDE: [&str; 27] = [
    "Description",
    "Name",
    "DNS",
    "Domains",
    "NTP",
    "LLMNR",
    "MulticastDNS",
    "LLDP",
    "EmitLLDP",
    "LinkLocalAddressing",
    "IPv6AcceptRA",
    "ConfigureWithoutCarrier",
    "IgnoreCarrierLoss",
    "KeepConfiguration",
    "RequiredForOnline",
    "RequiredFamilyForOnline",
    "Mode",
    "STP",
    "ForwardDelaySec",
    "IPForward",
    "IPv4Forwarding",
    "IPv6Forwarding",
    "IPv6ProxyNDP",
    "WakeOnLan",
    "Optional",
    "ActivationPolicy",
    "DefaultRouteOnDevice",
];

/// Reads a directory.
///
/// # Errors
/// It cannot be read, or nothing of networkd is in it.
pub(super) fn read(directory: &Path) -> Result<System, Failure> {
    let mut system = System::default();
    let refuse = |why: String| {
        let remedy = "name a directory such as /etc/systemd/network";
        Failure::with(
            Code::Refused,
            format!("{}: {why}; {remedy}", directory.display()),
        )
    };
    let all = fs::read_dir(directory).map_err(|error| refuse(error.to_string()))?;
    let mut names: Vec<PathBuf> = all.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let files = |end: &str| -> Result<Vec<Vec<Section>>, Failure> {
        let of = |path: &&PathBuf| path.is_file() && path.extension().is_some_and(|e| e == end);
        names
            .iter()
            .filter(of)
            .map(|path| with_drop_ins(path))
            .collect()
    };
    // A device may be renamed by its MAC.
    let mut renamed = BTreeMap::new();
    for file in files("link")? {
        let matched = file.iter().find(|section| section.name == "Match");
        let mac = matched.and_then(|section| {
            section
                .get("MACAddress")
                .or(section.get("PermanentMACAddress"))
        });
        let link = file.iter().find(|section| section.name == "Link");
        if let (Some(mac), Some(name)) = (mac, link.and_then(|section| section.get("Name"))) {
            renamed.insert(mac.to_ascii_lowercase(), name.to_owned());
        }
    }
    let mut ids = BTreeMap::new();
    for file in files("netdev")? {
        netdev(&mut system, &file, &mut ids);
    }
    for file in files("network")? {
        network(&mut system, &file, &renamed, &ids);
    }
    if system.links.is_empty() {
        return Err(refuse(
            "there is no .network and no .netdev file in it that names a device".to_owned(),
        ));
    }
    system.firewall.source = directory.display().to_string();
    system.sort_rules();
    Ok(system)
}

fn netdev(system: &mut System, file: &[Section], ids: &mut BTreeMap<String, u16>) {
    let find = |name: &str| file.iter().find(|section| section.name == name);
    let Some(device) = find("NetDev") else { return };
    let Some(name) = device.get("Name") else {
        return;
    };
    let link = system.link_mut(name, &device.origin);
    link.kind = match device.get("Kind").unwrap_or_default() {
        "bridge" => Kind::Bridge,
        // The device under it is told by that one's own file.
        "macvlan" => Kind::Macvlan(String::new()),
        "vlan" => {
            let id = find("VLAN")
                .and_then(|section| section.get("Id"))
                .and_then(|id| id.parse().ok());
            ids.insert(name.to_owned(), id.unwrap_or(0));
            Kind::Vlan(String::new(), id.unwrap_or(0))
        }
        "bond" | "veth" | "tap" => Kind::Device,
        other => Kind::Other(other.to_owned()),
    };
    link.mac = device.get("MACAddress").map(str::to_ascii_lowercase);
    link.mtu = device.get("MTUBytes").and_then(|mtu| mtu.parse().ok());
}

fn network(
    system: &mut System,
    file: &[Section],
    renamed: &BTreeMap<String, String>,
    ids: &BTreeMap<String, u16>,
) {
    let Some(matched) = file.iter().find(|section| section.name == "Match") else {
        return;
    };
    let mac = matched
        .get("MACAddress")
        .or(matched.get("PermanentMACAddress"))
        .map(str::to_ascii_lowercase);
    let by_mac = mac.as_ref().and_then(|mac| renamed.get(mac)).cloned();
    let names: Vec<String> = matched
        .get("Name")
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let names = if names.is_empty() {
        by_mac.into_iter().collect()
    } else {
        names
    };
    let known: Vec<String> = system.links.iter().map(|link| link.name.clone()).collect();
    let mut devices = Vec::new();
    for name in names {
        match name.strip_suffix('*') {
            Some(start) => devices.extend(
                known
                    .iter()
                    .filter(|known| known.starts_with(start))
                    .cloned(),
            ),
            None => devices.push(name),
        }
    }
    if devices.is_empty() {
        let why = "which devices these are is not known here: write their names";
        return system.note(&matched.said(), Fate::Missing, why);
    }
    for device in devices {
        let link = system.link_mut(&device, &matched.origin);
        if link.mac.is_none() {
            link.mac.clone_from(&mac);
        }
        for section in file {
            self::section(system, section, &device, ids);
        }
    }
}

fn section(system: &mut System, section: &Section, device: &str, ids: &BTreeMap<String, u16>) {
    let done = match section.name.as_str() {
        "Match" => Ok(()),
        "Network" => {
            section
                .keys
                .iter()
                .for_each(|key| option(system, key, device, ids));
            Ok(())
        }
        "Link" => {
            let link = system.link_mut(device, &section.origin);
            if let Some(mac) = section.get("MACAddress") {
                link.mac = Some(mac.to_ascii_lowercase());
            }
            if let Some(mtu) = section.get("MTUBytes") {
                link.mtu = mtu.parse().ok();
            }
            Ok(())
        }
        "Address" => address(system, section, device),
        "Route" => route(system, section, device),
        "RoutingPolicyRule" => rule(system, section),
        "Neighbor" => neighbor(system, section, device),
        "Bridge" | "DHCP" | "DHCPv4" | "DHCPv6" | "IPv6AcceptRA" => {
            system.note(&section.said(), Fate::Host, "about the host itself");
            Ok(())
        }
        _ => Err("this section is not read".to_owned()),
    };
    if let Err(why) = done {
        system.note(&section.said(), Fate::Missing, why);
    }
}

fn option(
    system: &mut System,
    (key, value, at): &(String, String, Origin),
    device: &str,
    ids: &BTreeMap<String, u16>,
) {
    let done = match key.as_str() {
        "Address" => match net(value) {
            Some(net) => {
                system.link_mut(device, at).address(net, false, at);
                Ok(())
            }
            None => Err("it is not an address".to_owned()),
        },
        "Gateway" => {
            let words = iproute::cut(&format!("default via {value} dev {device}"));
            iproute::route(&words, Inet::V4, at).map(|route| system.routes.push(route))
        }
        "Bridge" => {
            system.link_mut(value, at).kind = Kind::Bridge;
            system.link_mut(device, at).master = Some(value.clone());
            Ok(())
        }
        "MACVLAN" => {
            system.link_mut(value, at).kind = Kind::Macvlan(device.to_owned());
            Ok(())
        }
        "VLAN" => {
            let id = ids.get(value).copied().unwrap_or(0);
            system.link_mut(value, at).kind = Kind::Vlan(device.to_owned(), id);
            Ok(())
        }
        "IPv6ProxyNDPAddress" => match value.parse() {
            Ok(address) => {
                system.proxies.push(Neighbor {
                    address,
                    device: device.to_owned(),
                    mac: None,
                    fixed: false,
                    origin: at.clone(),
                });
                Ok(())
            }
            Err(_) => Err("it is not an address".to_owned()),
        },
        "DHCP" if value == "no" => Ok(()),
        "DHCP" => Err("what it is given is not known here: --uplink, --address, --mac and --gateway say it".to_owned()),
        "IPMasquerade" if value != "no" => Err(
            "write it as `snat` of the network's prefix in [nat]: { from = \"PREFIX\", dev = \"PERSONALITY\" }".to_owned(),
        ),
        key if ASIDE.contains(&key) => {
            system.note(at, Fate::Host, "about the host itself");
            Ok(())
        }
        _ => Err("this option is not read".to_owned()),
    };
    if let Err(why) = done {
        system.note(at, Fate::Missing, why);
    }
}

fn address(system: &mut System, section: &Section, device: &str) -> Result<(), String> {
    let said = section.said();
    let text = section.get("Address").ok_or("there is no address")?;
    let net = net(text).ok_or_else(|| format!("{text} is not an address"))?;
    let net = match section.get("Peer") {
        Some(_) => net.addr().into(),
        None => net,
    };
    system.link_mut(device, &said).address(net, false, &said);
    Ok(())
}
