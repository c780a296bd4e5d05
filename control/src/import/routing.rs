//! A system's rules and routes as `[routing]` and `[tables]`.

mod entries;
mod routes;
mod rules;

use std::collections::BTreeSet;

use super::links::Links;
use super::system::System;
pub(super) use entries::Routing;

/// Writes a system's rules and routes; what has no entry is noted.
pub(super) fn translate(system: &System, links: &Links) -> Routing {
    let mut routing = Routing::default();
    routing.names.of("main");
    rules::rules(system, links, &mut routing);
    routes::routes(system, links, &mut routing);
    let asked: BTreeSet<String> = routing
        .rules
        .iter()
        .flat_map(|(fields, _)| fields)
        .filter(|(key, _)| *key == "lookup")
        .map(|(_, name)| name.trim_matches('"').to_owned())
        .collect();
    for name in asked {
        routing.tables.entry(name).or_default();
    }
    routing
}
