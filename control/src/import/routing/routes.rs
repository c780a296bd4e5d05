//! `[tables]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::address::{is_host, is_of_a_link};
use super::super::firewall::{Fate, Origin};
use super::super::links::Links;
use super::super::policy::short;
use super::super::system::{Hop, Inet, Route, System, Target};
use super::super::writer::{inline, quoted};
use super::entries::{Fields, Routing, missing, table};
use super::words;

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
    let mut routes: Vec<&Route> = system
        .routes
        .iter()
        .filter(|route| !is_hosts(route))
        .collect();
    // The one that is used comes first among several to one destination.
    routes.sort_by_key(|route| route.metric.unwrap_or(0));
    let metrics = words::known(words::ROUTE, "metric");
    let mut seen: Vec<(String, IpNet)> = Vec::new();
    let mut written = Vec::new();
    for route in routes {
        let place = (route.table.clone(), route.to);
        let others = system
            .routes
            .iter()
            .filter(|other| (other.table.as_str(), other.to) == (place.0.as_str(), place.1));
        let several = others.count() > 1;
        if several && !metrics && seen.contains(&place) {
            let why = "another route to it has a lower metric, and there is no `metric` yet";
            routing.note(&route.origin, Fate::Missing, why);
            continue;
        }
        seen.push(place);
        written.push((route, several && metrics));
    }
    // In the order in which they stand.
    written.sort_by_key(|(route, _)| {
        system
            .routes
            .iter()
            .position(|other| std::ptr::eq(other, *route))
    });
    for (route, metric) in written {
        one(route, metric, links, routing);
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
    match &route.target {
        Target::Refuse(refusal) => fields.push(("type", quoted(refusal.name()))),
        Target::Throw => fields.push(("type", quoted("throw"))),
        Target::Host(_) => return,
        Target::Hops(hops) => {
            if let Err((fate, why)) = leads(route, hops, links, &mut fields) {
                return routing.note(origin, fate, why);
            }
        }
    }
    if let (Some(value), true) = (route.metric, metric) {
        fields.push(("metric", value.to_string()));
    }
    if let Some(src) = route.src.filter(|_| !route.connected) {
        fields.push(("src", quoted(&src.to_string())));
    }
    for (key, value) in [("mtu", route.mtu), ("advmss", route.advmss)] {
        if let Some(value) = value {
            fields.push((key, value.to_string()));
        }
    }
    if let Some(fit) = routing.fit(words::ROUTE, fields, origin, refuses) {
        push(routing, &route.table, fit, origin);
    }
}

fn push(routing: &mut Routing, name: &str, fields: Fields, origin: &Origin) {
    let table = routing.tables.entry(table(name)).or_default();
    table.push((fields, origin.clone()));
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

fn leads(
    route: &Route,
    hops: &[Hop],
    links: &Links,
    fields: &mut Vec<(&'static str, String)>,
) -> Result<(), (Fate, String)> {
    let ways: Result<Vec<Way>, _> = hops.iter().map(|hop| way(route, hop, links)).collect();
    let ways = ways?;
    let other = ways.iter().any(|way| {
        way.via
            .is_some_and(|via| Inet::of(via) != Inet::of(route.to.addr()))
    });
    let via = if other {
        "via of the other family"
    } else {
        "via"
    };
    let [only] = &ways[..] else {
        let all: Vec<String> = ways
            .iter()
            .map(|way| {
                let mut fields = Vec::new();
                if let Some(via) = way.via {
                    fields.push(("via", quoted(&via.to_string())));
                }
                fields.push(("dev", quoted(&way.dev)));
                if way.onlink {
                    fields.push(("onlink", "true".to_owned()));
                }
                if let Some(weight) = way.weight.filter(|weight| *weight != 1) {
                    fields.push(("weight", weight.to_string()));
                }
                inline(&fields)
            })
            .collect();
        fields.push(("nexthops", format!("[{}]", all.join(", "))));
        return Ok(());
    };
    if let Some(address) = only.via {
        fields.push((via, quoted(&address.to_string())));
    }
    fields.push(("dev", quoted(&only.dev)));
    if only.onlink {
        fields.push(("onlink", "true".to_owned()));
    }
    Ok(())
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
        covers(&n.addresses) || n.proxy.as_ref().is_some_and(|(_, alive)| covers(alive))
    }) || links
        .guests
        .values()
        .any(|guest| network.is_some() && covers(&guest.public));
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
