//! The rules of routing that are left, by what marks are for.

use std::collections::BTreeSet;

use super::super::firewall::Fate;
use super::super::system::{Inet, Route, Rule, System};
use super::purpose::Purposes;
use super::routing::{inet, is_for, table};

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
