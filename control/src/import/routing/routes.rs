//! `[tables]`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::super::address::{is_host, is_of_a_link};
use super::super::firewall::Fate;
use super::super::links::Links;
use super::super::policy::short;
use super::super::system::{Hop, Inet, Route, System, Target};
use super::super::writer::{inline, list, quoted};
use super::entries::{Fields, Routing, missing};

/// TCP segments that a route may name, in bytes: as the file's.
const SEGMENTS: RangeInclusive<u32> = 256..=65_495;
/// The largest MTU that the kernel takes for a route, in bytes.
const MOST_MTU: u32 = 65_520;
/// The smallest that the file has, for IPv4 and IPv6.
const LEAST_MTU: [u32; 2] = [576, 1_280];

/// A next hop in the file's words.
struct Way {
    via: Option<IpAddr>,
    dev: String,
    onlink: bool,
    weight: Option<u32>,
}

/// Writes the routes.
pub(super) fn routes(system: &System, links: &Links, routing: &mut Routing) {
    hosts(system, routing);
    let mut counts: HashMap<(&str, IpNet), usize> = HashMap::new();
    for route in &system.routes {
        *counts.entry((&route.table, route.to)).or_default() += 1;
    }
    for route in system.routes.iter().filter(|route| !is_hosts(route)) {
        one(
            route,
            counts[&(&*route.table, route.to)] > 1,
            links,
            routing,
        );
    }
}

/// What leads to the host itself, or to a group.
fn is_hosts(route: &Route) -> bool {
    route.table == "local"
        || matches!(route.target, Target::Host(_))
        || is_of_a_link(route.to.addr())
        || route.to.addr().is_multicast()
}

/// Notes the first of them, and how many there are.
fn hosts(system: &System, routing: &mut Routing) {
    let mut all = system.routes.iter().filter(|route| is_hosts(route));
    if let Some(first) = all.next() {
        let why = match all.count() {
            0 => "the host's own addresses and groups are not routed here".to_owned(),
            more => format!(
                "the host's own addresses and groups are not routed here, nor are {more} more like it"
            ),
        };
        routing.note(&first.origin, Fate::Host, why);
    }
}

fn one(route: &Route, metric: bool, links: &Links, routing: &mut Routing) {
    let origin = &route.origin;
    let refuses = matches!(route.target, Target::Refuse(_));
    if !route.others.is_empty() {
        let why = format!("a route does not ask for {}", route.others.join(" "));
        return routing.note(origin, missing(refuses), why);
    }
    if route.table == "main" && is_connected(route, links) {
        return routing.note(
            origin,
            Fate::Implied,
            "connected prefixes are in main by themselves",
        );
    }
    let mut fields = vec![("to", quoted(&destination(route.to)))];
    let mut ways = Vec::new();
    match &route.target {
        Target::Refuse(refusal) => fields.push(("type", quoted(refusal.name()))),
        Target::Throw => fields.push(("type", quoted("throw"))),
        Target::Host(_) => return,
        Target::Hops(hops) => {
            let all: Result<_, _> = hops
                .iter()
                .map(|hop| way(route, &to_itself(route, hop, links), links))
                .collect();
            ways = match all {
                Ok(all) => all,
                Err((fate, why)) => return routing.note(origin, fate, why),
            };
            leads(&ways, &mut fields);
        }
    }
    let metric = route.metric.filter(|_| metric);
    fields.extend(metric.map(|value| ("metric", value.to_string())));
    if let Some(src) = route.src {
        match is_source(src, route, &ways, links) {
            true => fields.push(("src", quoted(&src.to_string()))),
            false if route.connected => {}
            false => routing.note(
                origin,
                Fate::Implied,
                "`src` is for what the host itself sends; the route is written without it",
            ),
        }
    }
    if !ways.is_empty() {
        sizes(route, &mut fields, routing);
    }
    push(routing, route, metric.unwrap_or(0), fields);
}

/// Whether the router itself may send with this source by the route, as `tapgate check` asks: it is an own
/// address, and one of each personality that the route leaves by.
fn is_source(src: IpAddr, route: &Route, ways: &[Way], links: &Links) -> bool {
    let has = |nets: &[IpNet]| nets.iter().any(|net| net.addr() == src);
    let networks = || links.networks.iter().filter(|n| n.bridged.is_none());
    let mut leaving = links
        .personalities
        .iter()
        .filter(|p| ways.iter().any(|way| way.dev == p.name));
    !ways.is_empty()
        && Inet::of(src) == Inet::of(route.to.addr())
        && (links.owner(src).is_some() || networks().any(|n| has(&n.addresses)))
        && leaving.all(|p| has(&p.addresses))
}

/// The sizes that a route allows. Whether an MTU is locked makes no difference here, and beside a device's
/// own the smaller one holds.
fn sizes(route: &Route, fields: &mut Fields, routing: &mut Routing) {
    let [v4, v6] = LEAST_MTU;
    let least = if route.to.addr().is_ipv4() { v4 } else { v6 };
    // The kernel takes 0 for nothing.
    if let Some(mtu) = route.mtu.filter(|mtu| *mtu > 0) {
        match mtu >= least {
            true => fields.push(("mtu", mtu.min(MOST_MTU).to_string())),
            false => {
                let why = format!(
                    "`mtu` is {least} or more, and the route is written without it: larger packets go there whole"
                );
                routing.note(&route.origin, Fate::Missing, why);
            }
        }
    }
    if let Some(most) = route.advmss.filter(|most| *most > 0) {
        match most >= *SEGMENTS.start() {
            true => fields.push(("advmss", most.min(*SEGMENTS.end()).to_string())),
            false => {
                let why = format!(
                    "`advmss` is {} or more, and the route is written without it",
                    SEGMENTS.start()
                );
                routing.note(&route.origin, Fate::Missing, why);
            }
        }
    }
}

/// Adds an entry; of those that would be the same to the kernel, it asks the first.
fn push(routing: &mut Routing, route: &Route, metric: u32, fields: Fields) {
    let name = routing.names.of(&route.table);
    let place = (name.clone(), route.to, metric);
    let is_first = routing.taken.insert(place);
    let table = routing.tables.entry(name).or_default();
    if is_first {
        return table.push((fields, route.origin.clone()));
    }
    let (fate, why) = match table.iter().any(|(known, _)| *known == fields) {
        true => (Fate::Implied, "the same route is there already"),
        false => (
            Fate::Missing,
            "a route before it has the same prefix and metric, and is asked in its place: give one a higher `metric`, or write both as `nexthops`",
        ),
    };
    routing.note(&route.origin, fate, why);
}

/// `default`, or a prefix.
fn destination(to: IpNet) -> String {
    match to {
        IpNet::V4(net) if net.prefix_len() == 0 => "default".to_owned(),
        net => short(&net),
    }
}

/// Whether an interface has a prefix by its own address.
fn is_connected(route: &Route, links: &Links) -> bool {
    let personalities = links.personalities.iter().flat_map(|p| &p.addresses);
    let networks = links.networks.iter().flat_map(|n| &n.addresses);
    let mut own = personalities.chain(networks);
    // The kernel has a route to an IPv6 address of its own too.
    own.any(|net| net.trunc() == route.to && (route.connected || !is_host(route.to)))
}

fn leads(ways: &[Way], fields: &mut Fields) {
    let hop = |way: &Way| {
        let mut fields = Fields::new();
        if let Some(via) = way.via {
            fields.push(("via", quoted(&via.to_string())));
        }
        fields.push(("dev", quoted(&way.dev)));
        if way.onlink {
            fields.push(("onlink", "true".to_owned()));
        }
        fields
    };
    if let [only] = ways {
        return fields.extend(hop(only));
    }
    let all = ways.iter().map(|way| {
        let mut fields = hop(way);
        if let Some(weight) = way.weight.filter(|weight| *weight != 1) {
            fields.push(("weight", weight.to_string()));
        }
        inline(&fields)
    });
    fields.push(("nexthops", list(all)));
}

/// A host on an uplink is its own next hop, where `dev` alone would mean the gateway.
fn to_itself(route: &Route, hop: &Hop, links: &Links) -> Hop {
    let host = route.to.addr();
    let personality = hop.dev.as_ref().and_then(|device| links.of(device));
    let is_beyond = personality.is_some_and(|at| {
        let mut gateways = links.personalities[at].gateways.iter();
        gateways.any(|gateway| Inet::of(*gateway) == Inet::of(host) && *gateway != host)
    });
    let via = hop.via.or((is_host(route.to) && is_beyond).then_some(host));
    Hop { via, ..hop.clone() }
}

/// By which interface, and to whom there.
fn way(route: &Route, hop: &Hop, links: &Links) -> Result<Way, (Fate, String)> {
    let family = Inet::of(hop.via.unwrap_or(route.to.addr()));
    let covers = |nets: &[IpNet]| {
        hop.via
            .is_some_and(|via| nets.iter().any(|net| net.contains(&via)))
    };
    // Without a device, the one whose prefix covers the next hop.
    let by_prefix = || {
        let p = links.personalities.iter().find(|p| covers(&p.addresses));
        let n = links.networks.iter().find(|n| covers(&n.addresses));
        p.map(|p| p.device.clone())
            .or_else(|| n.map(|n| n.device.clone()))
    };
    let device = hop.dev.clone().or_else(by_prefix).ok_or_else(|| {
        let why = "no interface has a prefix that covers its next hop";
        (Fate::Missing, why.to_owned())
    })?;
    let network = links
        .networks
        .iter()
        .find(|n| n.device == device && n.bridged.is_none());
    let personality = links.of(&device).map(|at| &links.personalities[at]);
    // Of a bridge that is both: a next hop among the guests is theirs.
    let inside = network.is_some_and(|n| {
        covers(&n.addresses)
            || n.proxy.as_ref().is_some_and(|(_, alive)| covers(alive))
            || links.guests.values().any(|guest| covers(&guest.public))
    });
    let onlink = |nets: &[IpNet], gateways: &[IpAddr]| {
        hop.via.is_some_and(|via| {
            !covers(nets)
                && !gateways.contains(&via)
                && !matches!(via, IpAddr::V6(_) if is_of_a_link(via))
        })
    };
    let lacks = |nets: &[IpNet]| {
        hop.via.is_some() && !nets.iter().any(|net| Inet::of(net.addr()) == family)
    };
    match (personality, network) {
        (Some(p), _) if !inside => {
            if lacks(&p.addresses) {
                let why =
                    format!("{device} has no address of its next hop's family to ask for it with");
                return Err((Fate::Missing, why));
            }
            Ok(Way {
                via: hop.via.filter(|via| {
                    !p.gateways.contains(via) || Inet::of(*via) != Inet::of(route.to.addr())
                }),
                dev: p.name.clone(),
                onlink: onlink(&p.addresses, &p.gateways),
                weight: hop.weight,
            })
        }
        (_, Some(n)) => {
            if lacks(&n.addresses) && !hop.via.is_some_and(is_of_a_link) {
                let why = format!(
                    "{} has no address of its next hop's family to ask for it with",
                    n.name
                );
                return Err((Fate::Missing, why));
            }
            Ok(Way {
                via: hop.via,
                dev: n.name.clone(),
                onlink: onlink(&n.addresses, &[]),
                weight: hop.weight,
            })
        }
        _ => Err((
            Fate::Missing,
            format!("{device} is neither a personality nor a network"),
        )),
    }
}
