//! `[policy.groups]`, and who is a member of them.

use std::collections::BTreeMap;

use super::check::{Check, place};
use super::policy::Names;
use crate::config::policy::{Action, Checked, Facing, Group, Origin, Rule, Side};

use crate::config::{File, Guest, Segment};

impl Check {
    /// Every group has a name of its own, and every guest is in groups that there are.
    pub(super) fn groups(
        &mut self,
        file: &File,
        members: &Names<'_>,
        guests: &[Guest],
        checked: &mut Checked,
    ) {
        let groups = &file.policy.groups;
        for name in groups.keys() {
            let at = || place!["policy", "groups", name];
            self.name(at(), name);
            if members.contains_key(name.as_str()) || file.policy.zones.contains_key(name) {
                self.fault(
                    at(),
                    format!("\"{name}\" is also the name of a zone, personality, network or guest"),
                    "give the group another name",
                );
            }
        }
        let says_out = |(name, group): (&String, &Group)| (name.clone(), group.out.is_some());
        checked.groups = groups.iter().map(says_out).collect();
        for (name, guest) in &file.guests {
            let its = self.groups_of(name, &guest.groups, file);
            // A guest with faults elsewhere may not be in the list.
            if let Ok(place) = guests.binary_search_by(|other| other.name.cmp(name)) {
                checked.guest_groups[place] = its;
            }
        }
    }

    fn groups_of(&mut self, guest: &String, written: &[String], file: &File) -> Vec<u16> {
        let groups = &file.policy.groups;
        let (mut seen, mut its) = (BTreeMap::new(), Vec::new());
        for (n, name) in written.iter().enumerate() {
            let at = place!["guests", guest, "groups", n];
            let problem = format!("\"{guest}\" is in group \"{name}\" twice");
            self.unique(
                &mut seen,
                name,
                at.clone(),
                &problem,
                "leave one of them out",
            );
            match groups.keys().zip(0..).find(|(other, _)| *other == name) {
                Some((_, number)) => its.push(number),
                None => {
                    let known: Vec<&str> = groups.keys().map(String::as_str).collect();
                    self.undefined(at, "group", name, &known, "[policy.groups]");
                }
            }
        }
        its
    }

    /// The rules of all groups about flows to their members, or from them.
    pub(super) fn group_rules(
        &mut self,
        facing: Facing,
        file: &File,
        names: &Names<'_>,
        checked: &mut Checked,
    ) {
        for ((name, group), number) in file.policy.groups.iter().zip(0..) {
            let rules = match facing {
                Facing::In => &group.into[..],
                Facing::Out => group.out.as_deref().unwrap_or_default(),
            };
            for (n, rule) in rules.iter().enumerate() {
                let at = place!["policy", "groups", name, facing.name(), n];
                self.only_accepts(&at, facing, rule);
                let origin = Origin::Group(number, facing, n);
                let mut rule = self.policy_rule(&at, origin, rule, file, names);
                match facing {
                    Facing::In => rule.to = vec![Side::Group(number)],
                    Facing::Out => rule.from = vec![Side::Group(number)],
                }
                checked.rules.push(rule);
            }
        }
    }

    /// The rule of a group says what is accepted, of or for its members.
    fn only_accepts(&mut self, place: &[Segment], facing: Facing, rule: &Rule) {
        let at = |key: &str| [place, &[key.into()]].concat();
        if rule.action != Action::Accept {
            self.fault(
                at("action"),
                "a group says what its members accept; all else is dropped",
                "write `action = \"accept\"`, or put the rule into `policy.rules`",
            );
        }
        let (key, written) = match facing {
            Facing::In => ("to", &rule.to),
            Facing::Out => ("from", &rule.from),
        };
        if !written.is_empty() {
            self.fault(
                at(key),
                format!(
                    "the rules in `{}` are {key} the group's members",
                    facing.name()
                ),
                "leave it out, or put the rule into `policy.rules`",
            );
        }
    }
}
