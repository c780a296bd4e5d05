//! Tables, and the rules that choose among them, compiled.

use super::owners::Owners;
use super::rules::Rule;
use super::tables::{Action, Fib};
use crate::base::addr::InterfaceId;
use crate::config::{Config, Route, RouteAction, Table};

/// The place of `main` among the tables.
pub(crate) const MAIN_TABLE: usize = 0;

/// All tables by name, and the rules by ascending priority.
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) tables: Vec<(String, Fib)>,
    pub(super) rules: Vec<Rule>,
}

impl Routing {
    /// Those of `config`; `interfaces`: the number of each of its interfaces.
    pub(super) fn build(config: &Config, interfaces: &[InterfaceId], owners: &Owners) -> Self {
        let compile = |(place, table): (usize, &Table)| {
            let own = |route: &Route| (route.to, action(&route.action, interfaces));
            let mut routes: Vec<_> = table.routes.iter().map(own).collect();
            if place == MAIN_TABLE {
                // What may be alive in a network is looked for there, not on the uplink.
                routes.extend(owners.alive_prefixes().map(|(prefix, network)| {
                    let interfaces = vec![network];
                    let via = None;
                    (prefix, Action::Forward { interfaces, via })
                }));
            }
            (table.name.clone(), Fib::new(routes))
        };
        let rules = config.rules().iter().map(|rule| Rule {
            priority: rule.priority,
            condition: rule.condition.map(|index| interfaces[index]),
            verdict: rule.verdict.clone(),
        });
        Self {
            tables: config.tables().iter().enumerate().map(compile).collect(),
            rules: rules.collect(),
        }
    }
}

/// A route's action with interfaces by number.
fn action(action: &RouteAction, ids: &[InterfaceId]) -> Action {
    match action {
        RouteAction::Forward { interfaces, via } => Action::Forward {
            interfaces: interfaces.iter().map(|index| ids[*index]).collect(),
            via: *via,
        },
        RouteAction::Blackhole => Action::Blackhole,
        RouteAction::Unreachable => Action::Unreachable,
        RouteAction::Prohibit => Action::Prohibit,
        RouteAction::Throw => Action::Throw,
    }
}
