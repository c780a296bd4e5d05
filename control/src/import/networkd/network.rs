//! `.network` files: how a device is set up.

use super::file::{File, Section};
use super::matching::Matching;
use super::routing::{neighbor, route, rule};
use super::values::{is_on, size};
use crate::import::commands::{self, net};
use crate::import::firewall::{Fate, Origin};
use crate::import::iproute;
use crate::import::system::{Inet, Kind, Neighbor, System};
use crate::import::words::switch;

/// Sections and keys that say nothing of where packets go.
const ASIDE: [&str; 34] = [
    "Description",
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
    "IPForward",
    "IPv4Forwarding",
    "IPv6Forwarding",
    "IPv6ProxyNDP",
    "WakeOnLan",
    "ActivationPolicy",
    "Multicast",
    "AllMulticast",
    "Promiscuous",
    "Group",
    "PreferredLifetime",
    "Label",
    "Scope",
    "Broadcast",
    "DuplicateAddressDetection",
    "ManageTemporaryAddress",
    "AutoJoin",
    "HomeAddress",
    "RouteMetric",
];

/// Reads one for a device.
pub(super) fn network(system: &mut System, file: &File, matching: &Matching, device: &str) {
    let Some(at) = &matching.said else { return };
    let link = system.link_mut(device, at);
    if let ([mac], None) = (&matching.macs[..], &link.mac) {
        link.mac = Some(mac.clone());
    }
    for section in &file.sections {
        self::section(system, section, device);
    }
}

fn section(system: &mut System, section: &Section, device: &str) {
    let done = match section.name.as_str() {
        "Match" => Ok(()),
        "Network" | "Link" => {
            keys(system, section, device);
            Ok(())
        }
        "Address" => {
            keys(system, section, device);
            address(system, section, device)
        }
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

/// Each key of a section by itself.
fn keys(system: &mut System, section: &Section, device: &str) {
    for (name, value, at) in &section.keys {
        let done = match section.name.as_str() {
            "Network" => option(system, name, value, at, device),
            "Link" => link(system, name, value, at, device),
            // These are read together.
            _ if ["Address", "Peer"].contains(&name.as_str()) => Ok(()),
            _ => beside(system, name, value, at),
        };
        if let Err(why) = done {
            system.note(at, Fate::Missing, why);
        }
    }
}

/// A key of `[Network]`.
fn option(
    system: &mut System,
    key: &str,
    value: &str,
    at: &Origin,
    device: &str,
) -> Result<(), String> {
    match key {
        "Address" => {
            let net = net(value).ok_or("it is not an address")?;
            system.link_mut(device, at).address(net, false, at);
        }
        "Gateway" => default(system, &format!("via {value}"), at, device)?,
        "DefaultRouteOnDevice" => {
            if is_on(value)? {
                default(system, "", at, device)?;
            }
        }
        "Bridge" | "Bond" | "VRF" => {
            let master = system.link_mut(value, at);
            match key {
                "Bridge" => master.kind = Kind::Bridge,
                "VRF" => master.kind = Kind::Other("vrf".to_owned()),
                _ => {}
            }
            system.link_mut(device, at).master = Some(value.to_owned());
        }
        "MACVLAN" => system.link_mut(value, at).kind = Kind::Macvlan(device.to_owned()),
        "VLAN" => match &mut system.link_mut(value, at).kind {
            Kind::Vlan(lower, _) => device.clone_into(lower),
            Kind::Other(_) => {}
            kind => {
                *kind = Kind::Other("VLAN without `Id`".to_owned());
                return Err(format!("no .netdev file tells which VLAN {value} is"));
            }
        },
        "IPv6ProxyNDPAddress" => system.proxies.push(Neighbor {
            address: value.parse().map_err(|_| "it is not an address")?,
            device: device.to_owned(),
            mac: None,
            fixed: false,
            origin: at.clone(),
        }),
        "DHCP" | "IPMasquerade" if switch(value) == Some(false) => {}
        "DHCP" => {
            return Err("what it is given is not known here: --uplink, --address, --mac and --gateway say it".to_owned());
        }
        "IPMasquerade" => {
            return Err(
                "write it as `snat` of the network's prefix in [nat]: { from = \"PREFIX\", dev = \"PERSONALITY\" }".to_owned(),
            );
        }
        "IPv6ProxyNDP" => {
            is_on(value)?;
            system.note(at, Fate::Host, "about the host itself");
        }
        _ => beside(system, key, value, at)?,
    }
    Ok(())
}

/// A default route by a device.
fn default(system: &mut System, via: &str, at: &Origin, device: &str) -> Result<(), String> {
    let words = iproute::cut(&format!("default {via} dev {device}"));
    system.routes.push(iproute::route(&words, Inet::V4, at)?);
    Ok(())
}

/// A key of `[Link]`.
fn link(
    system: &mut System,
    key: &str,
    value: &str,
    at: &Origin,
    device: &str,
) -> Result<(), String> {
    match key {
        "MACAddress" => system.link_mut(device, at).mac = Some(value.to_ascii_lowercase()),
        "MTUBytes" => system.link_mut(device, at).mtu = Some(size(value)?),
        _ => beside(system, key, value, at)?,
    }
    Ok(())
}

/// A key that says nothing of where packets go.
fn beside(system: &mut System, key: &str, value: &str, at: &Origin) -> Result<(), String> {
    match key {
        "AddPrefixRoute" if is_on(value)? => Ok(()),
        "AddPrefixRoute" => {
            Err("an address's prefix is always connected: write it as /32 or /128".to_owned())
        }
        key if ASIDE.contains(&key) => {
            system.note(at, Fate::Host, "about the host itself");
            Ok(())
        }
        _ => Err("this option is not read".to_owned()),
    }
}

fn address(system: &mut System, section: &Section, device: &str) -> Result<(), String> {
    let said = section.said();
    let text = section.get("Address").ok_or("there is no address")?;
    let net = net(text).ok_or_else(|| format!("{text} is not an address"))?;
    let Some(peer) = section.get("Peer") else {
        system.link_mut(device, &said).address(net, false, &said);
        return Ok(());
    };
    commands::peer(system, (net.addr().into(), peer), device, &said)
}
