//! `[tables]`: routes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::check::{Check, place};
use crate::base::ip::is_of_a_link;
use crate::config::{
    File, FileRoute, Interface, InterfaceKind, MAIN, Route, RouteAction, RouteType, Segment, Table,
};

impl Check {
    /// Checks all tables; [`MAIN`] comes first, with the connected prefixes in it.
    pub(super) fn tables(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Table> {
        let mut main = Table {
            name: MAIN.to_owned(),
            routes: connected(interfaces),
        };
        let mut tables = Vec::new();
        for (name, routes) in &file.tables {
            self.name(place!["tables", name], name);
            if name == "local" {
                self.fault(
                    place!["tables", name],
                    "\"local\" is the table of the router's own addresses",
                    "use another name; own addresses come from [personalities] and [networks]",
                );
            }
            let mut seen = BTreeMap::new();
            let mut checked = Vec::new();
            for (n, route) in routes.iter().enumerate() {
                let to = route.to.0.trunc();
                let at = place!["tables", name, n, "to"];
                if name == MAIN && main.routes.iter().any(|connected| connected.to == to) {
                    self.fault(
                        at.clone(),
                        format!("table \"{MAIN}\" has {to} already: it is connected"),
                        "remove it, or put it into a table of your own with a rule before 32766",
                    );
                }
                self.unique(
                    &mut seen,
                    to,
                    at,
                    &format!("table \"{name}\" has two routes to {to}"),
                    "keep one of them",
                );
                if let Some(action) = self.route(place!["tables", name, n], route, interfaces) {
                    checked.push(Route { to, action });
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
        at: Vec<Segment>,
        route: &FileRoute,
        interfaces: &[Interface],
    ) -> Option<RouteAction> {
        let key = |name: &str| {
            let mut path = at.clone();
            path.push(Segment::from(name));
            path
        };
        if route.to.has_host_bits() {
            self.fault(
                key("to"),
                format!("{} has bits set beyond its prefix length", route.to),
                format!("write {}", route.to.0.trunc()),
            );
        }
        if let Some(action) = ends_here(route.kind) {
            for (given, name) in [
                (route.via.is_some(), "via"),
                (route.dev.is_some(), "dev"),
                (route.onlink, "onlink"),
            ] {
                if given {
                    self.fault(
                        key(name),
                        format!("a {:?} route has no \"{name}\"", route.kind).to_lowercase(),
                        "remove it, or remove `type`",
                    );
                }
            }
            return Some(action);
        }
        if let Some(via) = route.via {
            self.next_hop(key("via"), via, route, interfaces);
        }
        if route.onlink && (route.via.is_none() || route.dev.is_none()) {
            self.fault(
                key("onlink"),
                "\"onlink\" says that `via` is directly on `dev`, and one of the two is missing",
                "add `via` and `dev`, or remove it",
            );
        }
        match (&route.dev, route.via) {
            (None, None) => {
                self.fault(
                    at,
                    format!("the route to {} leads nowhere", route.to),
                    "add `dev = \"…\"`, `via = \"…\"` or `type = \"unreachable\"`",
                );
                None
            }
            (None, Some(via)) => self.by_next_hop(key("via"), via, interfaces),
            (Some(dev), _) => {
                let index = self.routed(key("dev"), dev, interfaces)?;
                Some(self.by_interface(key("via"), index, route, interfaces))
            }
        }
    }

    /// A route that names a next hop only: by the interface on whose link it is.
    fn by_next_hop(
        &mut self,
        at: Vec<Segment>,
        via: IpAddr,
        interfaces: &[Interface],
    ) -> Option<RouteAction> {
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
        found.map(|interface| RouteAction::Forward {
            interfaces: vec![interface],
            via: Some(via),
        })
    }

    /// A route by the interface of this `index`: to its next hop, else to the interface's gateway.
    fn by_interface(
        &mut self,
        at: Vec<Segment>,
        index: usize,
        route: &FileRoute,
        interfaces: &[Interface],
    ) -> RouteAction {
        let interface = &interfaces[index];
        let gateways: &[IpAddr] = match &interface.kind {
            InterfaceKind::Personality { gateways, .. } => gateways,
            InterfaceKind::Network { .. } => &[],
        };
        if let Some(via) = route.via.filter(|via| !gateways.contains(via)) {
            self.gateway(at, via, &interface.addresses, route.onlink, &interface.name);
        }
        let fits = |address: &&IpAddr| address.is_ipv4() == route.to.0.addr().is_ipv4();
        RouteAction::Forward {
            interfaces: vec![index],
            via: route.via.or(gateways.iter().find(fits).copied()),
        }
    }

    fn next_hop(
        &mut self,
        at: Vec<Segment>,
        via: IpAddr,
        route: &FileRoute,
        interfaces: &[Interface],
    ) {
        if via.is_ipv4() != route.to.0.addr().is_ipv4() {
            self.fault(
                at,
                format!("{via} and {} are of different families", route.to),
                "write a next hop of the destination's family",
            );
            return;
        }
        let own = |i: &&Interface| i.addresses.iter().any(|prefix| prefix.addr() == via);
        // On `dev` itself it is reported with the other faults of a gateway.
        let elsewhere = interfaces
            .iter()
            .filter(own)
            .find(|i| Some(&i.name) != route.dev.as_ref() && !is_of_a_link(via));
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
            action: RouteAction::Forward {
                interfaces,
                via: None,
            },
        })
        .collect()
}
