//! What rules of routing ask of marks.

use super::super::firewall::Fate;
use super::super::line::Marking;
use super::super::links::Links;
use super::super::matching::Family;
use super::super::system::{Hop, Inet, Route, Rule, System, Target, Then};

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

/// Whether a rule is for packets with this mark.
pub(super) fn is_for(rule: &Rule, mark: u32) -> bool {
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

/// The table that a rule asks.
pub(super) fn table(rule: &Rule) -> Option<&str> {
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
