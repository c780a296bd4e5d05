//! Which devices face the provider, with which addresses, and who is the gateway there.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::import::address::{is_host, is_of_a_link, is_private};
use crate::import::links::Links;
use crate::import::system::{Inet, Kind, Link, System, Target};

/// Devices by which default routes leave, then MACs beside them; each with the NIC under it.
pub(super) fn uplinks(system: &System) -> Vec<(String, Option<String>)> {
    let mut routes: Vec<_> = system.routes.iter().collect();
    routes.sort_by_key(|route| {
        (
            route.table != "main",
            route.to.addr().is_ipv6(),
            route.metric,
        )
    });
    let mut found: Vec<String> = Vec::new();
    for route in routes.iter().filter(|route| route.to.prefix_len() == 0) {
        if let Target::Hops(hops) = &route.target {
            found.extend(hops.iter().filter_map(|hop| hop.dev.clone()));
        }
    }
    for link in &system.links {
        if matches!(link.kind, Kind::Macvlan(_)) && !link.addresses.is_empty() {
            found.push(link.name.clone());
        }
    }
    let mut uplinks: Vec<(String, Option<String>)> = Vec::new();
    for name in found {
        let carries = system
            .link(&name)
            .is_some_and(|link| !matches!(link.kind, Kind::Other(_)));
        if carries && !uplinks.iter().any(|(known, _)| *known == name) {
            uplinks.push((name, None));
        }
    }
    // A NIC that has an address beside the MACs on it is the host's own.
    for nic in uplinks
        .clone()
        .iter()
        .map(|(device, _)| below(system, device).0)
    {
        let own = system
            .link(&nic)
            .is_some_and(|link| link.addresses.iter().any(|a| !is_of_a_link(a.net.addr())));
        if own && !uplinks.iter().any(|(known, _)| *known == nic) {
            uplinks.push((nic, None));
        }
    }
    uplinks
}

/// The NIC under a device, and the VLAN there.
pub(super) fn below(system: &System, device: &str) -> (String, Option<u16>) {
    let mut name = device.to_owned();
    let mut vlan = None;
    // A device is on another at most as often as there are devices.
    for _ in 0..=system.links.len() {
        let Some(link) = system.link(&name) else {
            break;
        };
        name = match &link.kind {
            Kind::Macvlan(lower) => lower.clone(),
            Kind::Vlan(lower, id) => {
                vlan = Some(*id);
                lower.clone()
            }
            Kind::Bridge => match nic(system, link) {
                Some(port) => port,
                None => break,
            },
            Kind::Device | Kind::Other(_) => break,
        };
    }
    (name, vlan)
}

/// The port of a bridge that leads to the provider.
fn nic(system: &System, bridge: &Link) -> Option<String> {
    let named = |link: &&Link| {
        ["eth", "en", "bond", "wl"]
            .iter()
            .any(|start| link.name.starts_with(start))
    };
    let ports = || system.ports(&bridge.name);
    let found = ports()
        .find(|link| link.physical)
        .or_else(|| ports().find(named))
        .or_else(|| ports().find(|link| matches!(link.kind, Kind::Vlan(..))))
        .or_else(|| ports().find(|link| link.mac.is_some() && link.mac == bridge.mac));
    found.map(|link| link.name.clone())
}

/// Whether an address of an uplink is one that the provider knows: on a bridge there may be others.
pub(super) fn is_outside(system: &System, link: &Link, net: IpNet) -> bool {
    if link.kind != Kind::Bridge || is_of_a_link(net.addr()) {
        return true;
    }
    let hops = system
        .routes
        .iter()
        .filter_map(|route| match &route.target {
            Target::Hops(hops) if route.to.prefix_len() == 0 => Some(hops),
            _ => None,
        });
    let vias: Vec<IpAddr> = hops
        .flatten()
        .filter(|hop| hop.dev.as_ref() == Some(&link.name))
        .filter_map(|hop| hop.via)
        .collect();
    let family = Inet::of(net.addr());
    let same = |other: &IpNet| Inet::of(other.addr()) == family;
    let covers = |net: &IpNet| vias.iter().any(|via| net.contains(via));
    let mut others = link
        .addresses
        .iter()
        .map(|address| &address.net)
        .filter(|net| same(net));
    match others.clone().any(covers) {
        true => covers(&net) || !is_private(net.addr()),
        false => !is_private(net.addr()) || others.all(|net| is_private(net.addr())),
    }
}

/// Each personality's gateways: those of default routes, the main table's first. Where other prefixes are
/// on its link too, routes name their next hops instead, since `dev` alone would mean the gateway.
pub(super) fn gateways(system: &System, links: &mut Links) {
    for at in 0..links.personalities.len() {
        let p = &links.personalities[at];
        if !p.gateways.is_empty() {
            continue;
        }
        let mut found = Vec::new();
        for family in [Inet::V4, Inet::V6] {
            let hops = |default: bool| {
                let of = system.routes.iter().filter(move |route| {
                    Inet::of(route.to.addr()) == family && (route.to.prefix_len() == 0) == default
                });
                of.flat_map(|route| match &route.target {
                    Target::Hops(hops) if !route.connected => {
                        hops.iter().map(|hop| (route, hop)).collect()
                    }
                    _ => Vec::new(),
                })
                .filter(|(_, hop)| hop.dev.as_ref() == Some(&p.device))
                .collect::<Vec<_>>()
            };
            let mut defaults = hops(true);
            defaults.sort_by_key(|(route, _)| (route.table != "main", route.metric));
            let via = defaults.iter().find_map(|(_, hop)| hop.via);
            let on_link = hops(false).iter().any(|(route, hop)| {
                hop.via.is_none() && Some(route.to.addr()) != via && !is_host(route.to)
            });
            let own = p.addresses.iter().any(|net| Inet::of(net.addr()) == family);
            let via = via.filter(|via| !on_link && own && Inet::of(*via) == family);
            found.extend(via);
        }
        links.personalities[at].gateways = found;
    }
}
