//! Rules of routing that ask for marks.

use std::collections::BTreeSet;

use super::super::firewall::Fate;
use super::super::links::Links;
use super::super::matching::Family;
use super::super::system::{Hop, Inet, Route, Rule, System, Target, Then};
use super::Marking;
use super::purpose::Purposes;

/// The family as rules of routing have it.
pub(super) fn inet(family: Family) -> Inet {
    match family {
        Family::V6 => Inet::V6,
        Family::V4 | Family::Both => Inet::V4,
    }
}

/// The rules that ask for this mark.
pub(super) fn asking(system: &System, inet: Inet, mark: u32) -> Vec<&Rule> {
    let rules = system.rules.iter().filter(|rule| rule.family == inet);
    rules.filter(|rule| is_for(rule, mark)).collect()
}

fn is_for(rule: &Rule, mark: u32) -> bool {
    let asked = rule.fwmark;
    asked.is_some_and(|(value, mask)| (mark ^ value) & mask == 0)
}

/// Whether rules ask for marks alone, and not for what has none.
///
/// # Errors
/// One does that.
pub(super) fn only_marked(system: &System, inet: Inet) -> Result<(), String> {
    let mut rules = system.rules.iter().filter(|rule| rule.family == inet);
    let other = rules.find(|rule| rule.fwmark.is_some() && (rule.not || is_for(rule, 0)));
    match other {
        None => Ok(()),
        Some(rule) => Err(format!(
            "a rule asks for what has no such mark ({}), and answers have their session's",
            rule.origin.text
        )),
    }
}

/// Whether all that has no mark finds a way outside.
pub(super) fn finds_way(system: &System, inet: Inet) -> bool {
    let is_asked = |table: &str| {
        let mut rules = system.rules.iter().filter(|rule| rule.family == inet);
        table == "main" || rules.any(|rule| rule.is_plain(table))
    };
    system.routes.iter().any(|route| {
        route.to == inet.all() && matches!(route.target, Target::Hops(_)) && is_asked(&route.table)
    })
}

/// Whether a rule leads what is for outside by this device, and all else to networks.
pub(super) fn leads_by(system: &System, links: &Links, rule: &Rule, device: &str) -> bool {
    let Some(table) = table(rule).filter(|_| rule.suppress_prefixlength.is_none()) else {
        return false;
    };
    let is_network = |name: &String| links.networks.iter().any(|n| n.device == *name);
    let by = |hop: &Hop| hop.dev.as_ref().is_some_and(|dev| dev == device);
    let inside = |hop: &Hop| hop.dev.as_ref().is_some_and(is_network);
    let all = |route: &Route, is: &dyn Fn(&Hop) -> bool| match &route.target {
        Target::Hops(hops) => hops.iter().all(is),
        _ => false,
    };
    let mut routes = system
        .routes
        .iter()
        .filter(|route| route.table == table && Inet::of(route.to.addr()) == rule.family);
    let mut default = false;
    routes.all(|route| {
        let leads = all(route, &by);
        default |= leads && route.to.prefix_len() == 0;
        leads || (route.to.prefix_len() > 0 && all(route, &inside))
    }) && default
}

fn table(rule: &Rule) -> Option<&str> {
    match &rule.then {
        Then::Lookup(table) => Some(table),
        _ => None,
    }
}

/// Whether a rule may ask for a mark that is set so.
pub(super) fn may_ask(system: &System, marking: Marking) -> bool {
    system.rules.iter().any(|rule| may_be_for(rule, marking))
}

fn may_be_for(rule: &Rule, marking: Marking) -> bool {
    rule.fwmark.is_some() && marking.value().is_none_or(|mark| is_for(rule, mark))
}

/// What it means that a mark is not set.
pub(super) fn fate(system: &System, marking: Marking) -> Fate {
    let refuses = |rule: &Rule| match &rule.then {
        Then::End(_) => true,
        Then::Lookup(table) => system
            .routes
            .iter()
            .any(|route| route.table == *table && matches!(route.target, Target::Refuse(_))),
        Then::Goto(_) | Then::Nop => false,
    };
    let mut asking = system.rules.iter().filter(|rule| may_be_for(rule, marking));
    match asking.any(refuses) {
        true => Fate::Wider,
        false => Fate::Missing,
    }
}

/// Takes out rules that only ask for marks that nobody needs, with their tables; keeps others to what comes by
/// the devices that the policy marks.
pub(super) fn settle(system: &mut System, purposes: &Purposes) {
    let mut tables = BTreeSet::new();
    let mut rules = Vec::new();
    for rule in std::mem::take(&mut system.rules) {
        let is_asked = |inet: Inet, mark: u32| rule.family == inet && is_for(&rule, mark);
        let mut from = BTreeSet::new();
        for (family, classes) in &purposes.classes {
            for given in classes {
                if given
                    .mark
                    .as_ref()
                    .is_some_and(|(mark, _)| is_asked(inet(*family), *mark))
                {
                    from.extend(&given.from);
                }
            }
        }
        let needless = purposes.needless.iter();
        let mut needless = needless.filter(|(inet, mark, _)| is_asked(*inet, *mark));
        let left = purposes.left.iter().any(|(inet, mark)| {
            rule.family == *inet
                && rule.fwmark.is_some()
                && mark.is_none_or(|mark| is_for(&rule, mark))
        });
        if let (Some((.., device)), true, false) = (needless.next(), from.is_empty(), left) {
            let why = format!(
                "its mark is only for what came or leaves by {device}, and a flow keeps its personality without it"
            );
            system.note(&rule.origin, Fate::Implied, why);
            tables.extend(table(&rule).map(str::to_owned));
            continue;
        }
        // Answers have their session's mark here, and not there.
        match rule.iif.is_none() && !from.is_empty() {
            true => rules.extend(from.into_iter().map(|device| Rule {
                iif: Some(device.clone()),
                ..rule.clone()
            })),
            false => rules.push(rule),
        }
    }
    system.rules = rules;
    let asked: Vec<&str> = system.rules.iter().filter_map(table).collect();
    tables.retain(|table| {
        !["main", "default", "local"].contains(&table.as_str()) && !asked.contains(&table.as_str())
    });
    let (gone, stay): (Vec<Route>, Vec<Route>) = std::mem::take(&mut system.routes)
        .into_iter()
        .partition(|route| tables.contains(&route.table));
    system.routes = stay;
    for route in gone {
        let why = format!("only that rule asks the table {}", route.table);
        system.note(&route.origin, Fate::Implied, why);
    }
}
