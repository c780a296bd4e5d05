//! `[policy]`.

use std::collections::BTreeMap;

use super::check::{Check, place};
use crate::config::policy::{Checked, Facing, Origin, Rule, Side};
use crate::config::{File, Guest, Interface, Prefix, Segment};

/// Most rules: their numbers are 16 bits wide.
const MOST_RULES: usize = 65_000;

/// Whatever has a name that rules may use.
pub(super) type Names<'f> = BTreeMap<&'f str, Side>;

impl Check {
    /// Checks the policy as a whole.
    pub(super) fn policy(
        &mut self,
        file: &File,
        interfaces: &[Interface],
        guests: &[Guest],
    ) -> Checked {
        let policy = &file.policy;
        let of_groups = policy.groups.values();
        let of_groups =
            of_groups.map(|group| group.into.len() + group.out.iter().flatten().count());
        let count = policy.rules.len() + policy.default.len() + of_groups.sum::<usize>();
        if count > MOST_RULES {
            let problem = format!("{count} rules are too many");
            self.fault(
                place!["policy", "rules"],
                problem,
                format!("write at most {MOST_RULES}"),
            );
        }
        for (name, prefixes) in &policy.sets {
            self.name(place!["policy", "sets", name], name);
            for (n, prefix) in prefixes.iter().enumerate() {
                self.whole(place!["policy", "sets", name, n], *prefix);
            }
        }
        let members = members(interfaces, guests);
        let mut checked = Checked {
            interface_zones: vec![None; interfaces.len()],
            guest_zones: vec![None; guests.len()],
            guest_groups: vec![Vec::new(); guests.len()],
            groups: Vec::new(),
            rules: Vec::new(),
        };
        self.zones(file, &members, &mut checked);
        self.groups(file, &members, guests, &mut checked);
        let mut names = members;
        let zones = policy.zones.keys().zip(0..);
        names.extend(zones.map(|(name, n)| (name.as_str(), Side::Zone(n))));
        let groups = policy.groups.keys().zip(0..);
        names.extend(groups.map(|(name, n)| (name.as_str(), Side::Group(n))));
        for (n, rule) in policy.rules.iter().enumerate() {
            let at = place!["policy", "rules", n];
            let rule = self.policy_rule(&at, Origin::Rule(n), rule, file, &names);
            checked.rules.push(rule);
        }
        for facing in [Facing::Out, Facing::In] {
            self.group_rules(facing, file, &names, &mut checked);
        }
        for (n, default) in policy.default.iter().enumerate() {
            let (at, rule) = (place!["policy", "default", n], Rule::from(default));
            let rule = self.policy_rule(&at, Origin::Default(n), &rule, file, &names);
            checked.rules.push(rule);
        }
        checked
    }

    /// Every member is known, and in one zone alone.
    fn zones(&mut self, file: &File, members: &Names<'_>, checked: &mut Checked) {
        let mut seen = BTreeMap::new();
        for (zone, (name, list)) in (0..).zip(&file.policy.zones) {
            self.name(place!["policy", "zones", name], name);
            if members.contains_key(name.as_str()) {
                self.fault(
                    place!["policy", "zones", name],
                    format!("\"{name}\" is also the name of a personality, network or guest"),
                    "give the zone another name",
                );
            }
            for (n, member) in list.iter().enumerate() {
                let at = place!["policy", "zones", name, n];
                let Some(side) = self.side(at.clone(), member, members) else {
                    continue;
                };
                let what = format!("\"{member}\" is in two zones");
                self.unique(
                    &mut seen,
                    member.clone(),
                    at,
                    &what,
                    "leave it in one of them",
                );
                match side {
                    Side::Interface(index) => checked.interface_zones[index] = Some(zone),
                    Side::Guest(index) => checked.guest_zones[index] = Some(zone),
                    Side::Zone(_) | Side::Group(_) => {}
                }
            }
        }
    }

    pub(super) fn side(&mut self, at: Vec<Segment>, name: &str, names: &Names<'_>) -> Option<Side> {
        let found = names.get(name).copied();
        if found.is_none() {
            let known: Vec<&str> = names.keys().copied().collect();
            let section =
                "[policy.zones], [policy.groups], [personalities], [networks] and [guests]";
            self.undefined(
                at,
                "zone, group, personality, network or guest",
                name,
                &known,
                section,
            );
        }
        found
    }

    /// A prefix has no bits beyond its length.
    pub(super) fn whole(&mut self, at: Vec<Segment>, prefix: Prefix) {
        if prefix.has_host_bits() {
            let problem = format!("{prefix} has bits set beyond its prefix length");
            self.fault(at, problem, format!("write {}", prefix.0.trunc()));
        }
    }
}

fn members<'f>(interfaces: &'f [Interface], guests: &'f [Guest]) -> Names<'f> {
    let guests = guests.iter().enumerate();
    let guests = guests.map(|(n, guest)| (guest.name.as_str(), Side::Guest(n)));
    let interfaces = interfaces.iter().enumerate();
    let interfaces = interfaces.map(|(n, i)| (i.name.as_str(), Side::Interface(n)));
    // Where a network and a guest have the same name, it is the network.
    guests.chain(interfaces).collect()
}
