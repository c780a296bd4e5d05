//! Who is behind which port: by routes to a single guest's device, by what is answered for outside, and by who
//! was heard of.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::import::address::{is_of_a_link, is_private};
use crate::import::firewall::{Fate, Origin};
use crate::import::links::Links;
use crate::import::system::{Hop, Neighbor, System, Target};

/// Finds guests, and takes out the routes that are told by them.
pub(super) fn guests(system: &mut System, links: &mut Links) {
    told(links);
    routed(system, links);
    let proxies = std::mem::take(&mut system.proxies);
    let proxied: HashSet<IpAddr> = proxies.iter().map(|proxy| proxy.address).collect();
    for neighbor in system.neighbors.clone() {
        heard(
            system,
            links,
            &neighbor,
            proxied.contains(&neighbor.address),
        );
    }
    behind(system, links);
    for proxy in &proxies {
        answered(system, links, proxy);
    }
    links
        .guests
        .retain(|_, guest| !guest.addresses.is_empty() || !guest.public.is_empty());
    system.proxies = proxies;
}

/// What the operator said of guests: what no network has is outside.
fn told(links: &mut Links) {
    let several = links.personalities.len() > 1;
    let name = links.personalities.first().map(|p| p.name.clone());
    for (port, guest) in &mut links.guests {
        let of = guest.addresses.iter().map(|net| (*net, port.clone()));
        links.owned.extend(of);
        let network = links.networks.iter().find(|n| n.ports.contains(port));
        let inside = |net: &IpNet| {
            let within = network.is_some_and(|n| n.addresses.iter().any(|of| of.contains(net)));
            within || is_private(net.addr())
        };
        let (inside, public) = guest.addresses.drain(..).partition(inside);
        guest.addresses = inside;
        guest.public = public;
        let bridged = network.is_some_and(|n| n.bridged.is_some());
        if several && !bridged && !guest.public.is_empty() {
            guest.personality = name.clone();
        }
    }
}

/// `ip route add 192.0.2.8/30 via 198.51.100.21`: what a guest has beyond its own address. It sends from
/// there, so it has to own it.
fn behind(system: &mut System, links: &mut Links) {
    let mut rest = Vec::new();
    for route in std::mem::take(&mut system.routes) {
        let owner = match &route.target {
            Target::Hops(hops) => match &hops[..] {
                [Hop { via: Some(via), .. }] if !is_of_a_link(*via) => owner(links, *via),
                _ => None,
            },
            _ => None,
        };
        let plain = route.table == "main" && route.to.prefix_len() > 0 && route.others.is_empty();
        match owner.filter(|_| plain) {
            Some(port) => {
                let outside = !is_private(route.to.addr());
                own(links, &port, route.to, outside, &route.origin);
                // A host that is routed to answers for none of that: it is sent to by its MAC.
                if let (Some(mac), Some(guest)) =
                    (only_mac(system, links, &port), links.guests.get_mut(&port))
                {
                    guest.mac = Some(mac);
                }
            }
            None => rest.push(route),
        }
    }
    system.routes = rest;
}

/// The port of the guest that has an address.
fn owner(links: &Links, address: IpAddr) -> Option<String> {
    let mut all = prefixes(address.into());
    all.find_map(|net| links.owned.get(&net)).cloned()
}

/// All prefixes that a prefix is in, itself first.
fn prefixes(net: IpNet) -> impl Iterator<Item = IpNet> {
    let lengths = (0..=net.prefix_len()).rev();
    lengths.filter_map(move |length| Some(IpNet::new(net.addr(), length).ok()?.trunc()))
}

/// `ip route add 198.51.100.21 dev vm-a`: the guest behind a device that has no other.
fn routed(system: &mut System, links: &mut Links) {
    let mut rest = Vec::new();
    for route in std::mem::take(&mut system.routes) {
        let port = match &route.target {
            Target::Hops(hops) => match &hops[..] {
                [
                    Hop {
                        via: None,
                        dev: Some(dev),
                        ..
                    },
                ] => only_port(links, dev),
                _ => None,
            },
            _ => None,
        };
        let plain = route.table == "main" && !route.connected && !is_of_a_link(route.to.addr());
        let ours = route.to.prefix_len() > 0 && !route.to.addr().is_multicast();
        let within = |net: &IpNet| net.trunc() == route.to;
        let connected = links.networks.iter().flat_map(|n| &n.addresses).any(within);
        match port {
            Some(port) if plain && ours && !connected && route.others.is_empty() => {
                own(
                    links,
                    &port,
                    route.to,
                    !is_private(route.to.addr()),
                    &route.origin,
                );
            }
            _ => rest.push(route),
        }
    }
    system.routes = rest;
}

/// The only port of a network.
fn only_port(links: &Links, device: &str) -> Option<String> {
    let network = links
        .networks
        .iter()
        .find(|n| n.device == device && n.bridged.is_none())?;
    match &network.ports[..] {
        [port] => Some(port.clone()),
        _ => None,
    }
}

fn own(links: &mut Links, port: &str, net: IpNet, public: bool, origin: &Origin) {
    let first = links.personalities.len() > 1;
    let name = links.personalities.first().map(|p| p.name.clone());
    let taken = links.owned.contains_key(&net)
        || prefixes(net).any(|net| links.owned.get(&net).is_some_and(|at| at == port));
    let guest = links.guests.entry(port.to_owned()).or_default();
    if !taken {
        links.owned.insert(net, port.to_owned());
        match public {
            true => guest.public.push(net),
            false => guest.addresses.push(net),
        }
        if public && first && guest.personality.is_none() {
            guest.personality = name;
        }
        guest.origins.push(origin.clone());
    }
}

/// An address that the host answers for.
fn answered(system: &mut System, links: &mut Links, proxy: &Neighbor) {
    let Some(at) = links.of(&proxy.device) else {
        return towards_guests(system, links, proxy);
    };
    let name = links.personalities[at].name.clone();
    let hops = system
        .routes
        .iter()
        .filter_map(|route| match &route.target {
            Target::Hops(hops) if route.to.prefix_len() == 0 => Some(hops),
            _ => None,
        });
    let is_next =
        |hop: &Hop| hop.via == Some(proxy.address) && hop.dev.as_ref() == Some(&proxy.device);
    if links.personalities[at].gateways.contains(&proxy.address) || hops.flatten().any(is_next) {
        let why = "guests are answered about the provider's gateway";
        return system.note(&proxy.origin, Fate::Implied, why);
    }
    let owner = links
        .guests
        .values_mut()
        .find(|guest| guest.public.iter().any(|net| net.contains(&proxy.address)));
    if let Some(guest) = owner {
        if links.personalities.len() > 1 {
            guest.personality = Some(name);
        }
        guest.origins.push(proxy.origin.clone());
        return;
    }
    let device = leads_to(system, links, proxy.address).or_else(|| {
        let same = links.networks.iter().any(|n| n.device == proxy.device);
        same.then(|| proxy.device.clone())
    });
    let Some(network) =
        device.and_then(|device| links.networks.iter().position(|n| n.device == device))
    else {
        let why = "nothing leads to it inside; write whose it is as `public` in [guests]";
        return system.note(&proxy.origin, Fate::Missing, why);
    };
    let heard = system
        .neighbors
        .iter()
        .find(|other| other.address == proxy.address && other.mac.is_some());
    let port = heard.and_then(|neighbor| port(system, links, neighbor));
    let port = port.or_else(|| only_port(links, &links.networks[network].device));
    match port {
        Some(port) => {
            own(links, &port, proxy.address.into(), true, &proxy.origin);
            if let Some(guest) = links.guests.get_mut(&port)
                && links.personalities.len() > 1
            {
                guest.personality = Some(name);
            }
        }
        None if links.networks[network].bridged.is_some() => {
            let why = "its guests are on the provider's segment, and answer for themselves";
            system.note(&proxy.origin, Fate::Implied, why);
        }
        None => {
            let (by, alive) = links.networks[network]
                .proxy
                .get_or_insert_with(|| (name.clone(), Vec::new()));
            match *by == name {
                true => alive.push(proxy.address.into()),
                false => {
                    let why = format!(
                        "a network is answered for at one personality, and this one is at {by}"
                    );
                    system.note(&proxy.origin, Fate::Missing, why);
                }
            }
        }
    }
}

/// An address that the host answers for towards guests.
fn towards_guests(system: &mut System, links: &Links, proxy: &Neighbor) {
    let mut vias = system.routes.iter().flat_map(|route| match &route.target {
        Target::Hops(hops) => hops.iter().filter_map(|hop| hop.via).collect(),
        _ => Vec::new(),
    });
    let (fate, why) = match vias.any(|via| via == proxy.address) {
        true => (
            Fate::Implied,
            "guests are answered about the provider's gateway".to_owned(),
        ),
        false if links.all.contains(&proxy.device) => (
            Fate::Missing,
            "towards guests tapgate answers for other guests and for gateways alone".to_owned(),
        ),
        false => (
            Fate::Missing,
            format!("{} is neither a personality nor a network", proxy.device),
        ),
    };
    system.note(&proxy.origin, fate, why);
}

/// The device that the main table leads an address to, by a route or by its own prefix.
pub(super) fn device_to(system: &System, address: IpAddr) -> Option<&str> {
    let mut found: Option<(u8, &str)> = None;
    let mut offer = |net: IpNet, device| {
        if net.contains(&address) && found.is_none_or(|(length, _)| net.prefix_len() > length) {
            found = Some((net.prefix_len(), device));
        }
    };
    for route in system.routes.iter().filter(|route| route.table == "main") {
        if let Target::Hops(hops) = &route.target
            && let Some(device) = hops.first().and_then(|hop| hop.dev.as_deref())
        {
            offer(route.to, device);
        }
    }
    for link in &system.links {
        for address in &link.addresses {
            offer(address.net.trunc(), &link.name);
        }
    }
    found.map(|(_, device)| device)
}

/// The network that the main table leads an address to.
fn leads_to(system: &System, links: &Links, address: IpAddr) -> Option<String> {
    let device = device_to(system, address)?;
    let is_network = links.networks.iter().any(|n| n.device == device);
    is_network.then(|| device.to_owned())
}

/// The port that somebody was heard of at.
fn port(system: &System, links: &Links, neighbor: &Neighbor) -> Option<String> {
    let network = links
        .networks
        .iter()
        .find(|n| n.device == neighbor.device)?;
    let at = system
        .stations
        .get(&(neighbor.device.clone(), neighbor.mac.clone()?));
    match (at, &network.ports[..]) {
        (Some(port), ports) => ports.contains(port).then(|| port.clone()),
        (None, [port]) if links.of(&neighbor.device).is_none() => Some(port.clone()),
        (None, _) => None,
    }
}

/// Somebody who was heard of in a network.
fn heard(system: &System, links: &mut Links, neighbor: &Neighbor, proxied: bool) {
    let Some(port) = port(system, links, neighbor) else {
        return;
    };
    if is_of_a_link(neighbor.address) {
        return;
    }
    let network = links.networks.iter().find(|n| n.device == neighbor.device);
    let bridged = network.is_some_and(|n| n.bridged.is_some());
    let within = network.is_some_and(|n| {
        n.addresses
            .iter()
            .any(|net| net.contains(&neighbor.address))
    });
    let outside = !within && !is_private(neighbor.address);
    own(
        links,
        &port,
        neighbor.address.into(),
        bridged || proxied || outside,
        &neighbor.origin,
    );
    // What was only heard may be another tomorrow.
    let mac = only_mac(system, links, &port).filter(|_| bridged || neighbor.fixed);
    if let Some(guest) = links.guests.get_mut(&port) {
        if bridged {
            guest.personality = None;
        }
        guest.mac = guest.mac.take().or(mac);
    }
}

/// The MAC behind a port. Several are several machines, of which none is the guest alone.
fn only_mac(system: &System, links: &Links, at: &str) -> Option<String> {
    let here = |other: &&Neighbor| port(system, links, other).as_deref() == Some(at);
    let mut macs = system.neighbors.iter().filter(here).map(|other| &other.mac);
    let first = macs.next()?;
    macs.all(|mac| mac == first).then(|| first.clone())?
}
