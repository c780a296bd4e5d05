//! `[tables]`: routes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::check::{Check, place};
use super::ports::{MAX_MTU, MIN_MTU};
use super::services::IPV6_MTU;
use crate::base::ip::is_of_a_link;
use crate::config::{
    File, FileNextHop, FileRoute, Forward, Interface, InterfaceKind, MAIN, NextHop, Prefix, Route,
    RouteAction, RouteType, Segment, Table,
};

/// TCP segments that a route may name, in bytes: as in Linux no less than what `min_adv_mss` says, no more
/// than fit IPv4's largest packet.
const SEGMENTS: RangeInclusive<u32> = 256..=65_495;
/// Next hops of a route, at most.
const MOST_HOPS: usize = 64;

/// Where a route is written, or one of its next hops. It becomes a place in the file only for a fault, because
/// there may be a million routes.
#[derive(Clone, Copy)]
struct RouteAt<'f> {
    table: &'f str,
    route: usize,
    hop: Option<usize>,
}

/// One of its keys.
#[derive(Clone, Copy)]
struct KeyAt<'f>(RouteAt<'f>, &'static str);

/// What routes say, each once.
#[derive(Default)]
struct Shared(HashSet<Arc<Forward>, FixedState>);

impl Shared {
    fn one(&mut self, forward: Forward) -> Arc<Forward> {
        if let Some(known) = self.0.get(&forward) {
            return known.clone();
        }
        let forward = Arc::new(forward);
        self.0.insert(forward.clone());
        forward
    }
}

impl<'f> RouteAt<'f> {
    fn key(self, key: &'static str) -> KeyAt<'f> {
        KeyAt(self, key)
    }
}

impl From<RouteAt<'_>> for Vec<Segment> {
    fn from(at: RouteAt<'_>) -> Self {
        let mut place = place!["tables", at.table, at.route];
        if let Some(hop) = at.hop {
            place.extend(["nexthops".into(), hop.into()]);
        }
        place
    }
}

impl From<KeyAt<'_>> for Vec<Segment> {
    fn from(KeyAt(route, key): KeyAt<'_>) -> Self {
        let mut place = Self::from(route);
        place.push(key.into());
        place
    }
}

impl Check {
    /// Checks all tables; [`MAIN`] comes first, with the connected prefixes in it.
    pub(super) fn tables(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Table> {
        let mut main = Table {
            name: MAIN.to_owned(),
            routes: connected(interfaces),
        };
        let mut tables = Vec::new();
        let mut shared = Shared::default();
        for (name, routes) in &file.tables {
            self.name(place!["tables", name], name);
            if name == "local" {
                self.fault(
                    place!["tables", name],
                    "\"local\" is the table of the router's own addresses",
                    "use another name; own addresses come from [personalities] and [networks]",
                );
            }
            let mut seen = HashMap::with_capacity_and_hasher(routes.len(), FixedState::default());
            let mut checked = Vec::with_capacity(routes.len());
            for (n, route) in routes.iter().enumerate() {
                let to = route.to.0.trunc();
                let metric = route.metric;
                let place = |route| RouteAt {
                    table: name,
                    route,
                    hop: None,
                };
                let at = place(n);
                let same = |connected: &Route| connected.to == to && metric == 0;
                if name == MAIN && main.routes.iter().any(same) {
                    self.fault(
                        at.key("to"),
                        format!("table \"{MAIN}\" has {to} already: it is connected"),
                        "remove it, give it a `metric`, or put it into a table of your own with a rule before 32766",
                    );
                }
                let first = *seen.entry((to, metric)).or_insert(n);
                if first != n {
                    self.conflict(
                        at.key("to"),
                        place(first).key("to"),
                        format!("table \"{name}\" has two routes to {to} with metric {metric}"),
                        "keep one of them, give one a higher `metric`, or write both as `nexthops`",
                    );
                }
                if let Some(action) = self.route(at, route, (interfaces, &mut shared)) {
                    checked.push(Route { to, metric, action });
                }
            }
            if name == MAIN {
                main.routes.extend(checked);
            } else {
                tables.push(Table {
                    name: name.clone(),
                    routes: checked,
                });
            }
        }
        tables.insert(0, main);
        tables
    }

    fn route(
        &mut self,
        at: RouteAt<'_>,
        route: &FileRoute,
        (interfaces, shared): (&[Interface], &mut Shared),
    ) -> Option<RouteAction> {
        if route.to.has_host_bits() {
            self.fault(
                at.key("to"),
                format!("{} has bits set beyond its prefix length", route.to),
                format!("write {}", route.to.0.trunc()),
            );
        }
        if let Some(action) = ends_here(route.kind) {
            for (given, name) in [
                (route.via.is_some(), "via"),
                (route.dev.is_some(), "dev"),
                (route.onlink, "onlink"),
                (!route.nexthops.is_empty(), "nexthops"),
                (route.src.is_some(), "src"),
                (route.mtu.is_some(), "mtu"),
                (route.advmss.is_some(), "advmss"),
            ] {
                if given {
                    self.fault(
                        at.key(name),
                        format!("a {:?} route has no \"{name}\"", route.kind).to_lowercase(),
                        "remove it, or remove `type`",
                    );
                }
            }
            return Some(action);
        }
        self.sizes(at, route);
        let hops = match route.nexthops.is_empty() {
            true => {
                let own = FileNextHop {
                    via: route.via,
                    dev: route.dev.clone(),
                    onlink: route.onlink,
                    weight: 1,
                };
                vec![self.hop(at, route.to, &own, interfaces)]
            }
            false => self.hops(at, route, interfaces),
        };
        // All, or none: a fault is told, and what is left of the route would mean something else.
        let hops: Vec<NextHop> = hops.into_iter().collect::<Option<_>>()?;
        self.preferred_source(at.key("src"), (route, &hops), interfaces);
        Some(RouteAction::Forward(shared.one(Forward {
            hops,
            src: route.src,
            mtu: route.mtu,
            advmss: route.advmss.map(|most| most as u16),
        })))
    }

    /// The sizes that a route allows.
    fn sizes(&mut self, at: RouteAt<'_>, route: &FileRoute) {
        let least = match route.to.0.addr().is_ipv4() {
            true => MIN_MTU,
            false => IPV6_MTU,
        };
        if let Some(mtu) = route.mtu.filter(|mtu| !(least..=MAX_MTU).contains(mtu)) {
            self.fault(
                at.key("mtu"),
                format!("an MTU of {mtu} bytes is out of range for {}", route.to),
                format!("write {least} to {MAX_MTU}"),
            );
        }
        if let Some(most) = route.advmss.filter(|most| !SEGMENTS.contains(most)) {
            self.fault(
                at.key("advmss"),
                format!("a segment of {most} bytes is out of range"),
                format!("write {} to {}", SEGMENTS.start(), SEGMENTS.end()),
            );
        }
    }

    /// The source of what the router sends by a route itself: an address of its own, and of a personality that
    /// the route leaves by, since nothing else leaves there.
    fn preferred_source(
        &mut self,
        at: KeyAt<'_>,
        (route, hops): (&FileRoute, &[NextHop]),
        interfaces: &[Interface],
    ) {
        let Some(src) = route.src else { return };
        let owns = |i: &Interface| i.addresses.iter().any(|prefix| prefix.addr() == src);
        if src.is_ipv4() != route.to.0.addr().is_ipv4() || !interfaces.iter().any(owns) {
            self.fault(
                at,
                format!(
                    "{src} is no address of the router's own that can speak to {}",
                    route.to
                ),
                "write an address of a personality or network, of the destination's family",
            );
            return;
        }
        let all = hops.iter().flat_map(|hop| &hop.interfaces);
        let mut all = all.map(|index| &interfaces[*index]);
        let is_personality = |i: &Interface| matches!(i.kind, InterfaceKind::Personality { .. });
        if let Some(other) = all.find(|i| is_personality(i) && !owns(i)) {
            self.fault(
                at,
                format!(
                    "{src} is not \"{}\"'s, by which the route leaves",
                    other.name
                ),
                "write an address of that personality: a provider drops what wears another's",
            );
        }
    }

    /// Several next hops.
    fn hops(
        &mut self,
        at: RouteAt<'_>,
        route: &FileRoute,
        interfaces: &[Interface],
    ) -> Vec<Option<NextHop>> {
        for (given, name) in [
            (route.via.is_some(), "via"),
            (route.dev.is_some(), "dev"),
            (route.onlink, "onlink"),
        ] {
            if given {
                self.fault(
                    at.key(name),
                    format!("\"{name}\" is said of each of `nexthops`"),
                    "move it there, or remove `nexthops`",
                );
            }
        }
        if route.nexthops.len() > MOST_HOPS {
            self.fault(
                at.key("nexthops"),
                format!(
                    "{} next hops are more than {MOST_HOPS}",
                    route.nexthops.len()
                ),
                "leave some out, or split the prefix",
            );
        }
        let all = route.nexthops.iter().enumerate();
        let hop = |(n, hop): (usize, &FileNextHop)| {
            let at = RouteAt { hop: Some(n), ..at };
            if !(1..=256).contains(&hop.weight) {
                self.fault(
                    at.key("weight"),
                    format!("{} is no weight", hop.weight),
                    "write 1 to 256",
                );
            }
            self.hop(at, route.to, hop, interfaces)
        };
        all.map(hop).collect()
    }

    /// One next hop of a route to a prefix.
    fn hop(
        &mut self,
        at: RouteAt<'_>,
        to: Prefix,
        hop: &FileNextHop,
        interfaces: &[Interface],
    ) -> Option<NextHop> {
        if let Some(via) = hop.via {
            self.next_hop(at.key("via"), via, (to, hop), interfaces);
        }
        if hop.onlink && (hop.via.is_none() || hop.dev.is_none()) {
            self.fault(
                at.key("onlink"),
                "\"onlink\" says that `via` is directly on `dev`, and one of the two is missing",
                "add `via` and `dev`, or remove it",
            );
        }
        let (interface, via) = match (&hop.dev, hop.via) {
            (None, None) => {
                self.fault(
                    at,
                    format!("the route to {to} leads nowhere"),
                    "add `dev = \"…\"`, `via = \"…\"` or `type = \"unreachable\"`",
                );
                return None;
            }
            (None, Some(via)) => (self.by_next_hop(at.key("via"), via, interfaces)?, Some(via)),
            (Some(dev), _) => {
                let index = self.routed(at.key("dev"), dev, interfaces)?;
                (
                    index,
                    self.by_interface(at.key("via"), index, (to, hop), interfaces),
                )
            }
        };
        Some(NextHop {
            interfaces: vec![interface],
            via,
            weight: hop.weight,
        })
    }

    /// A next hop without an interface: by the one on whose link it is.
    fn by_next_hop(
        &mut self,
        at: KeyAt<'_>,
        via: IpAddr,
        interfaces: &[Interface],
    ) -> Option<usize> {
        // Any link may have a link-local one.
        let covers =
            |i: &Interface| !is_of_a_link(via) && i.addresses.iter().any(|net| net.contains(&via));
        let found = interfaces.iter().position(covers);
        if found.is_none() {
            self.fault(
                at,
                format!("next hop {via} cannot be reached: no interface has a prefix that covers it"),
                "add `dev = \"…\"` and `onlink = true` if it is directly on that link, or correct the address",
            );
        }
        found
    }

    /// The next hop by the interface of this `index`: the one that is written, else the interface's gateway.
    fn by_interface(
        &mut self,
        at: KeyAt<'_>,
        index: usize,
        (to, hop): (Prefix, &FileNextHop),
        interfaces: &[Interface],
    ) -> Option<IpAddr> {
        let interface = &interfaces[index];
        let gateways: &[IpAddr] = match &interface.kind {
            InterfaceKind::Personality { gateways, .. } => gateways,
            InterfaceKind::Network { .. } => &[],
        };
        if let Some(via) = hop.via.filter(|via| !gateways.contains(via)) {
            self.gateway(at, via, &interface.addresses, hop.onlink, &interface.name);
        }
        let fits = |address: &&IpAddr| address.is_ipv4() == to.0.addr().is_ipv4();
        hop.via.or(gateways.iter().find(fits).copied())
    }

    fn next_hop(
        &mut self,
        at: KeyAt<'_>,
        via: IpAddr,
        (to, hop): (Prefix, &FileNextHop),
        interfaces: &[Interface],
    ) {
        // IPv4 may go by a router of IPv6 (RFC 8950), as in Linux, and not the other way round.
        if via.is_ipv4() && to.0.addr().is_ipv6() {
            self.fault(
                at,
                format!("{via} and {to} are of different families"),
                "write a next hop of IPv6",
            );
            return;
        }
        let own = |i: &&Interface| i.addresses.iter().any(|prefix| prefix.addr() == via);
        // On `dev` itself it is reported with the other faults of a gateway.
        let elsewhere = interfaces
            .iter()
            .filter(own)
            .find(|i| Some(&i.name) != hop.dev.as_ref() && !is_of_a_link(via));
        if let Some(owner) = elsewhere {
            self.fault(
                at,
                format!("next hop {via} is \"{}\"'s own address", owner.name),
                "write the address of the next router",
            );
        }
    }
}

/// What a route of a kind that leads nowhere does.
fn ends_here(kind: RouteType) -> Option<RouteAction> {
    match kind {
        RouteType::Unicast => None,
        RouteType::Blackhole => Some(RouteAction::Blackhole),
        RouteType::Unreachable => Some(RouteAction::Unreachable),
        RouteType::Prohibit => Some(RouteAction::Prohibit),
        RouteType::Throw => Some(RouteAction::Throw),
    }
}

/// One route for each prefix that interfaces have connected, but for link-local ones, to which nothing
/// is routed. A prefix that several personalities
/// share lists them all: the one that owns the packet's source then carries it.
fn connected(interfaces: &[Interface]) -> Vec<Route> {
    let mut shared: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        for prefix in &interface.addresses {
            let routed = !is_of_a_link(prefix.addr());
            if routed && prefix.prefix_len() < prefix.max_prefix_len() {
                let list = shared.entry(prefix.trunc()).or_default();
                if !list.contains(&index) {
                    list.push(index);
                }
            }
        }
    }
    shared
        .into_iter()
        .map(|(to, interfaces)| Route {
            to,
            metric: 0,
            action: RouteAction::Forward(Arc::new(Forward::to(NextHop {
                interfaces,
                via: None,
                weight: 1,
            }))),
        })
        .collect()
}
