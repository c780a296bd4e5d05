//! Marks of packets and connections, and what they are for: the policy's `mark`, where rules of routing ask for
//! it; or that what comes by an uplink is answered by it, which tapgate does by itself.

mod policy;
mod purpose;
mod routing;
mod rules;
mod run;

use super::firewall::{Fate, Firewall, Origin};
use super::line::Marks;
use super::links::Links;
use super::matching::Family;
use super::system::System;
use super::untranslated::{TARGETS, why};
use purpose::{Purpose, Purposes};

/// Notes all lines that set marks: which rules of routing ask for them is not known.
pub(super) fn list(firewall: &mut Firewall) {
    for marks in std::mem::take(&mut firewall.marks) {
        for (origin, _) in marks.lines() {
            firewall.note(
                origin,
                Fate::Missing,
                why(TARGETS, "MARK").unwrap_or_default(),
            );
        }
    }
}

/// Writes marks into the rules of the firewall, and takes out what rules and tables tapgate does not need.
/// Every line that sets a mark is written or noted.
pub(super) fn settle(system: &mut System, links: &Links) {
    let all = std::mem::take(&mut system.firewall.marks);
    let mut purposes = Purposes::default();
    for family in [Family::V4, Family::V6] {
        let of: Vec<&Marks> = all
            .iter()
            .filter(|marks| [family, Family::Both].contains(&marks.family))
            .collect();
        let lines = of.iter().flat_map(|marks| marks.lines());
        if lines.count() > 0 {
            purposes.find(&of, family, system, links);
        }
    }
    let mut seen: Vec<&Origin> = Vec::new();
    for (origin, marking) in all.iter().flat_map(Marks::lines) {
        if seen.contains(&origin) {
            continue;
        }
        seen.push(origin);
        match purposes.of(origin) {
            Some(Purpose::Written) => {}
            Some(Purpose::Implied(why)) => system.firewall.note(origin, Fate::Implied, *why),
            Some(Purpose::Left(why)) => {
                let fate = routing::fate(system, marking);
                system.firewall.note(origin, fate, why);
            }
            None => {
                let why = match routing::may_ask(system, marking) {
                    false => "no rule of routing asks for this mark",
                    true => "what it is for cannot be said in other words",
                };
                let fate = routing::fate(system, marking);
                system.firewall.note(origin, fate, why);
                purposes.leave(marking);
            }
        }
    }
    rules::settle(system, &purposes);
    for (family, classes) in &purposes.classes {
        policy::give(&mut system.firewall, *family, classes);
    }
    policy::note(&mut system.firewall, &purposes.classes);
}
