//! Which of a system's devices face the provider and which the guests, and who is behind them.

mod guests;
mod uplinks;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::address::is_of_a_link;
use super::firewall::{Fate, Note};
use super::links::{self, Links, Network};
use super::options::Options;
use super::system::{Hop, Kind, Link, System, Target};

use uplinks::{below, gateways, is_outside};

/// What a port's MTU is where nothing is said.
const MTU: u32 = 1500;

/// Sorts a system's devices. What the operator says goes before what it tells.
pub(super) fn links(system: &mut System, said: &Options) -> Links {
    vrfs(system);
    incomplete(system);
    let mut options = said.clone();
    let mut uplinks = said.uplinks.clone();
    if uplinks.is_empty() {
        uplinks = uplinks::uplinks(system);
    }
    for (device, nic) in &mut uplinks {
        if nic.is_none() {
            *nic = Some(below(system, device).0).filter(|nic| nic != device);
        }
    }
    options.uplinks = uplinks;
    let faces = |name: &str| options.uplinks.iter().any(|(device, _)| device == name);
    let mut taken: BTreeSet<IpAddr> = said.addresses.iter().map(|(_, net)| net.addr()).collect();
    let (outside, inside): (Vec<Link>, Vec<Link>) = system
        .links
        .clone()
        .into_iter()
        .partition(|link| faces(&link.name));
    for link in &outside {
        let nets: Vec<IpNet> = link.addresses.iter().map(|address| address.net).collect();
        let nets = nets
            .into_iter()
            .filter(|net| is_outside(system, link, *net));
        give(
            system,
            &mut options,
            said,
            link,
            &nets.collect::<Vec<_>>(),
            &mut taken,
        );
    }
    let nics: Vec<&String> = options
        .uplinks
        .iter()
        .filter_map(|(_, nic)| nic.as_ref())
        .collect();
    let nics: BTreeSet<String> = nics.into_iter().cloned().collect();
    let inside: Vec<&Link> = inside
        .iter()
        .filter(|link| !nics.contains(&link.name) && is_network(system, link))
        .collect();
    for link in &inside {
        let nets: Vec<IpNet> = link.addresses.iter().map(|address| address.net).collect();
        give(system, &mut options, said, link, &nets, &mut taken);
        if !said.ports.iter().any(|(device, _)| *device == link.name) {
            options
                .ports
                .push((link.name.clone(), ports(system, link, &nics)));
        }
    }
    // Rules name other devices too, such as a bridge's ports.
    let known: Vec<String> = inside.iter().map(|link| link.name.clone()).collect();
    let firewall = &mut system.firewall;
    firewall.devices.retain(|name| {
        known.contains(name)
            || !outside
                .iter()
                .chain(&system.links)
                .any(|link| link.name == *name)
    });
    for name in &known {
        firewall.device(name);
    }
    let mut links = Links::new(firewall, &options);
    links.routed = true;
    for p in &mut links.personalities {
        p.vlan = p.vlan.or(below(system, &p.device).1);
        let kind = system.link(&p.device).map(|link| &link.kind);
        p.shared = !matches!(kind, None | Some(Kind::Macvlan(_))) && p.vlan.is_none();
    }
    for link in &outside {
        both(system, &mut links, link, said, &nics);
        leased(&mut links, link);
    }
    for link in &system.links {
        if let Some(mtu) = link.mtu.filter(|mtu| *mtu != MTU) {
            links.mtus.insert(link.name.clone(), mtu);
        }
    }
    link_local(system, &mut links);
    strangers(system, &links, &nics);
    gateways(system, &mut links);
    guests::guests(system, &mut links);
    // Who is behind which port is known by now.
    for n in &mut links.networks {
        let told = n.ports.iter().all(|port| links.guests.contains_key(port));
        n.changes.retain(|change| !told || change != links::WHO);
    }
    links
}

/// Takes out what is in a VRF: it is routed by that one's table.
fn vrfs(system: &mut System) {
    let is_vrf = |link: &&Link| link.kind == Kind::Other("vrf".to_owned());
    let vrfs = system.links.iter().filter(is_vrf);
    let vrfs: BTreeSet<String> = vrfs.map(|link| link.name.clone()).collect();
    for link in &mut system.links {
        if let Some(vrf) = link.master.take_if(|master| vrfs.contains(master)) {
            link.kind = Kind::Other("vrf".to_owned());
            system.notes.push(Note {
                origin: link.origin.clone(),
                fate: Fate::Missing,
                why: format!(
                    "it is in the VRF {vrf}: there are no VRFs here, and the host goes on routing that"
                ),
            });
        }
    }
}

/// Takes out what is on another device, if nothing says on which one, or which VLAN of it.
fn incomplete(system: &mut System) {
    for link in &mut system.links {
        let (what, lower) = match &link.kind {
            Kind::Macvlan(lower) => ("macvlan", lower.clone()),
            Kind::Vlan(lower, 1..=4094) => ("VLAN", lower.clone()),
            Kind::Vlan(..) => ("VLAN", String::new()),
            Kind::Device | Kind::Bridge | Kind::Other(_) => continue,
        };
        if lower.is_empty() {
            link.kind = Kind::Other(format!("incomplete {what}"));
            system.notes.push(Note {
                origin: link.origin.clone(),
                fate: Fate::Missing,
                why: format!("nothing tells which {what} it is, or on which device"),
            });
        }
    }
}

/// A network's ports: a bridge's, or the device itself, whatever it has under it.
fn ports(system: &System, link: &Link, nics: &BTreeSet<String>) -> Vec<String> {
    if link.kind != Kind::Bridge {
        return vec![link.name.clone()];
    }
    let names = system.ports(&link.name).map(|port| port.name.clone());
    let ports: Vec<String> = names.filter(|name| !nics.contains(name)).collect();
    match ports.is_empty() {
        true => vec![link.name.clone()],
        false => ports,
    }
}

/// Whether guests may be behind a device that is no uplink.
fn is_network(system: &System, link: &Link) -> bool {
    let leads_there = |target: &Target| match target {
        Target::Hops(hops) => hops.iter().any(|hop| hop.dev.as_ref() == Some(&link.name)),
        _ => false,
    };
    let routed = system
        .routes
        .iter()
        .any(|route| !route.connected && leads_there(&route.target));
    link.master.is_none()
        && link.name != "lo"
        && matches!(link.kind, Kind::Device | Kind::Bridge | Kind::Vlan(..))
        && (link
            .addresses
            .iter()
            .any(|address| !is_of_a_link(address.net.addr()))
            || routed)
}

/// Writes a device's addresses and MAC as the operator would say them.
fn give(
    system: &System,
    options: &mut Options,
    said: &Options,
    link: &Link,
    nets: &[IpNet],
    taken: &mut BTreeSet<IpAddr>,
) {
    let of = |device: &Option<String>| device.as_ref() == Some(&link.name);
    if !said.addresses.iter().any(|(device, _)| of(device)) {
        for net in nets {
            if is_of_a_link(net.addr()) || taken.insert(net.addr()) {
                options.addresses.push((Some(link.name.clone()), *net));
            }
        }
    }
    // A VLAN has its NIC's unless it is given one.
    let lower = match &link.kind {
        Kind::Vlan(lower, _) => system.link(lower).and_then(|lower| lower.mac.as_ref()),
        _ => None,
    };
    let mac = link.mac.as_ref().or(lower);
    if let (Some(mac), false) = (mac, said.macs.iter().any(|(device, _)| of(device))) {
        options.macs.push((Some(link.name.clone()), mac.clone()));
    }
}

/// A bridge towards the provider that has guests as well.
fn both(system: &System, links: &mut Links, link: &Link, said: &Options, nics: &BTreeSet<String>) {
    if link.kind != Kind::Bridge {
        return;
    }
    let told = said.ports.iter().find(|(device, _)| *device == link.name);
    let ports = match told {
        Some((_, ports)) => ports.clone(),
        None => ports(system, link, nics),
    };
    if ports == [link.name.clone()] {
        return;
    }
    let addresses: Vec<IpNet> = link
        .addresses
        .iter()
        .map(|address| address.net)
        .filter(|net| !is_outside(system, link, *net))
        .collect();
    let Some(at) = links.of(&link.name) else {
        return;
    };
    let p = &links.personalities[at];
    let (nic, vlan, nets) = (p.nic.clone(), p.vlan, p.addresses.clone());
    // Who is answered for on the link is behind the host; who is not, is on it.
    let answered = system.proxies.iter().any(|proxy| {
        proxy.device == link.name
            && nets.iter().any(|net| net.contains(&proxy.address))
            && guests::device_to(system, proxy.address) == Some(link.name.as_str())
    });
    let bridged = addresses.is_empty() && !answered;
    let mut changes = Vec::new();
    if bridged {
        changes.push(
            "its guests' MACs and addresses in [guests]: nobody else's frames pass".to_owned(),
        );
    }
    links.networks.push(Network {
        name: links.free(&format!("{}-guests", link.name)),
        device: link.name.clone(),
        ports,
        addresses,
        bridged: bridged.then_some((nic, vlan)),
        proxy: None,
        changes,
    });
}

/// fe80::1 is a network's own in any case; it is written where a route's next hop is asked for with it.
fn link_local(system: &System, links: &mut Links) {
    for n in links.networks.iter_mut().filter(|n| n.bridged.is_none()) {
        let is_hop = |hop: &Hop| {
            hop.dev.as_ref() == Some(&n.device)
                && hop
                    .via
                    .is_some_and(|via| via.is_ipv6() && is_of_a_link(via))
        };
        let needed = system.routes.iter().any(|route| match &route.target {
            Target::Hops(hops) => hops.iter().any(is_hop),
            _ => false,
        });
        if needed && !n.addresses.iter().any(|net| net.addr().is_ipv6()) {
            let first = [0xfe80, 0, 0, 0, 0, 0, 0, 1].into();
            n.addresses.extend(IpNet::new(first, 64));
        }
    }
}

/// An address that was handed out may be another tomorrow.
fn leased(links: &mut Links, link: &Link) {
    for p in links
        .personalities
        .iter_mut()
        .filter(|p| p.device == link.name)
    {
        for address in link
            .addresses
            .iter()
            .filter(|address| address.leased && p.addresses.contains(&address.net))
        {
            p.changes.push(format!(
                "{} was handed out, and the next lease may be of another",
                address.net
            ));
        }
    }
}

/// Notes devices that have addresses and no place here.
fn strangers(system: &mut System, links: &Links, nics: &BTreeSet<String>) {
    for link in system.links.clone() {
        let known = links.all.contains(&link.name) || link.name == "lo";
        let addresses: Vec<_> = link
            .addresses
            .iter()
            .filter(|address| !is_of_a_link(address.net.addr()))
            .collect();
        for address in addresses {
            let used = known || nics.contains(&link.name);
            if used && !address.net.addr().is_loopback() && link.name == "lo" {
                system.note(
                    &address.origin,
                    Fate::Host,
                    "an address of the host's own, at no link",
                );
            } else if !used {
                let why = match (&link.kind, &link.master) {
                    (Kind::Other(kind), _) => {
                        format!("there are no {kind} devices here: the host goes on routing that")
                    }
                    (_, Some(master)) => format!(
                        "{} is a port of {master}, and has no addresses here",
                        link.name
                    ),
                    _ => format!("{} is neither a personality nor a network", link.name),
                };
                system.note(&address.origin, Fate::Missing, why);
            }
        }
    }
}
