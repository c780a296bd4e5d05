//! Tables, and the rules that choose among them, compiled.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::hops::{Group, GroupId};
use super::owners::Owners;
use super::rules::{Rule, Rules};
use super::tables::{Action, Entry, Fib};
use crate::base::addr::InterfaceId;
use crate::config::{Config, Forward, NextHop, Route, RouteAction, Table};

/// The place of `main` among the tables.
pub(crate) const MAIN_TABLE: usize = 0;

/// All tables and their names, the next hops of their routes, and the rules by ascending priority.
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) tables: Vec<Fib>,
    pub(super) names: Vec<String>,
    pub(super) groups: Vec<Group>,
    pub(super) rules: Rules,
}

impl Routing {
    /// Those of `config`; `interfaces`: the number of each of its interfaces.
    pub(super) fn build(config: &Config, interfaces: &[InterfaceId], owners: &Owners) -> Self {
        let mut groups = Groups::new(config, interfaces);
        let mut compile = |(place, table): (usize, &Table)| {
            let own = |route: &Route| (route.to, groups.entry(route));
            let mut routes: Vec<_> = table.routes.iter().map(own).collect();
            if place == MAIN_TABLE {
                // What may be alive in a network is looked for there, not on the uplink.
                routes.extend(owners.alive_prefixes().map(|(prefix, network)| {
                    let place = interfaces.iter().position(|id| *id == network);
                    let action = place.map_or(Action::Unreachable, |place| groups.on_link(place));
                    (prefix, Entry { metric: 0, action })
                }));
            }
            Fib::new(routes)
        };
        let tables = config
            .tables()
            .iter()
            .enumerate()
            .map(&mut compile)
            .collect();
        let rules = config.rules().iter().map(|rule| Rule {
            priority: rule.priority,
            condition: rule.condition.map(|index| interfaces[index]),
            verdict: rule.verdict.clone(),
        });
        Self {
            tables,
            names: config
                .tables()
                .iter()
                .map(|table| table.name.clone())
                .collect(),
            groups: groups.all,
            rules: Rules::new(rules.collect()),
        }
    }

    /// The smallest MTU that a route has, in bytes; `usize::MAX` if none has one.
    pub(super) fn least_mtu(&self) -> usize {
        let all = self.groups.iter().filter_map(|group| group.mtu);
        all.min().map_or(usize::MAX, |mtu| mtu as usize)
    }
}

/// Groups of next hops, each once.
struct Groups<'c> {
    config: &'c Config,
    interfaces: &'c [InterfaceId],
    all: Vec<Group>,
    known: HashMap<Arc<Forward>, GroupId, FixedState>,
}

impl<'c> Groups<'c> {
    fn new(config: &'c Config, interfaces: &'c [InterfaceId]) -> Self {
        Self {
            config,
            interfaces,
            all: Vec::new(),
            known: HashMap::default(),
        }
    }

    fn entry(&mut self, route: &Route) -> Entry {
        Entry {
            metric: route.metric,
            action: match &route.action {
                RouteAction::Forward(forward) => Action::Forward(self.number(forward)),
                RouteAction::Blackhole => Action::Blackhole,
                RouteAction::Unreachable => Action::Unreachable,
                RouteAction::Prohibit => Action::Prohibit,
                RouteAction::Throw => Action::Throw,
            },
        }
    }

    /// To destinations that are on the link of an interface, which is given by its place.
    fn on_link(&mut self, interface: usize) -> Action {
        Action::Forward(self.number(&Arc::new(Forward::to(NextHop {
            interfaces: vec![interface],
            via: None,
            weight: 1,
        }))))
    }

    fn number(&mut self, forward: &Arc<Forward>) -> GroupId {
        if let Some(known) = self.known.get(forward) {
            return *known;
        }
        let number = GroupId(self.all.len() as u32);
        let name = |index: usize| self.config.interfaces()[index].name.clone();
        self.all
            .push(Group::new(forward, name, |index| self.interfaces[index]));
        self.known.insert(forward.clone(), number);
        number
    }
}
