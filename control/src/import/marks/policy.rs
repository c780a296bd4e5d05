//! Marks as the policy gives them: with what it accepts.

use super::super::firewall::{Decision, Entry, Fate, Firewall, Origin, Rule, Verdict};
use super::super::matching::{Devices, Family, Match};
use super::purpose::Given;

/// Has rules that accept flows give them their marks.
pub(super) fn give(firewall: &mut Firewall, family: Family, classes: &[Given]) {
    let mut rules = Vec::new();
    for entry in std::mem::take(&mut firewall.rules) {
        if let Entry::Rule(rule) = &entry {
            rules.extend(marked(rule, family, classes));
        }
        rules.push(entry);
    }
    for rule in &firewall.defaults {
        rules.extend(marked(rule, family, classes));
    }
    firewall.rules = rules;
}

/// Notes the lines that no rule is from.
pub(super) fn note(firewall: &mut Firewall, classes: &[(Family, Vec<Given>)]) {
    let given = classes.iter().flat_map(|(_, classes)| classes);
    let given: Vec<&Vec<Origin>> = given
        .filter_map(|given| given.mark.as_ref().map(|(_, lines)| lines))
        .collect();
    let is_rule = |firewall: &Firewall, line: &Origin| {
        firewall.rules.iter().any(|entry| match entry {
            Entry::Rule(rule) => rule.origin == *line,
            Entry::Gap(_) => false,
        })
    };
    for line in given.iter().copied().flatten() {
        if is_rule(firewall, line) || firewall.notes.iter().any(|note| note.origin == *line) {
            continue;
        }
        let mut with = given.iter().filter(|lines| lines.contains(line));
        let why = match with.any(|lines| lines.iter().any(|line| is_rule(firewall, line))) {
            true => "its part of a mark is in the policy's",
            false => "no flow that it marks is let through",
        };
        firewall.note(line, Fate::Implied, why);
    }
}

/// The rules that come before one that accepts, for those that it accepts with a mark.
fn marked(rule: &Rule, family: Family, classes: &[Given]) -> Vec<Entry> {
    let mut rules = Vec::new();
    let is_about = [family, Family::Both].contains(&rule.family);
    if rule.decision.verdict != Verdict::Accept || !is_about {
        return rules;
    }
    let mut push = |when: Match, decision: Decision, origin| {
        rules.push(Entry::Rule(Box::new(Rule {
            when,
            family,
            decision,
            origin,
        })));
    };
    for (n, given) in classes.iter().enumerate() {
        let Some(both) = rule.when.and(&given.when) else {
            continue;
        };
        let Some((mark, lines)) = &given.mark else {
            let later = |later: &Given| later.mark.is_some() && later.when.and(&both).is_some();
            if classes[n + 1..].iter().any(later) {
                push(both, rule.decision, rule.origin.clone());
            }
            continue;
        };
        for device in &given.from {
            // What stays on its network was no router's to mark.
            let away = Match {
                from: Devices::one(device),
                to: Devices::one(device).negated().unwrap_or_default(),
                ..Match::default()
            };
            if let Some(when) = both.and(&away) {
                let decision = Decision {
                    mark: Some(*mark),
                    ..rule.decision
                };
                let line = lines.first().unwrap_or(&rule.origin);
                push(when, decision, line.clone());
            }
        }
    }
    rules
}
