//! From rules in their order to the entries of `[policy]`.

mod service;
pub(super) mod value;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::firewall::{Decision, Entry, Fate, Firewall, Note, Origin, Rule, Zone};
use super::links::Links;
use super::matching::{Addresses, Devices, Family, Match, State};
use super::names;
use service::service;
use value::Value;

/// Most prefixes that are written into a rule; more are a set.
const FEW: usize = 4;

/// The entries of `[policy]`.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) zones: BTreeMap<String, Vec<String>>,
    pub(super) sets: BTreeMap<String, Vec<IpNet>>,
    pub(super) rules: Vec<Line>,
    pub(super) default: Vec<Line>,
}

/// One entry, or what is missing there.
#[derive(Debug)]
pub(super) enum Line {
    Written(Vec<(&'static str, Value)>, Origin),
    Missing(Note),
}

/// Writes a firewall's rules.
pub(super) fn translate(firewall: &mut Firewall, links: &Links) -> Policy {
    let rules = std::mem::take(&mut firewall.rules);
    let defaults = std::mem::take(&mut firewall.defaults);
    let mut work = Work {
        policy: Policy::default(),
        decided: BTreeSet::new(),
        named: BTreeMap::new(),
        firewall,
        links,
    };
    work.zones();
    for entry in rules {
        match entry {
            Entry::Gap(note) => work.missing(note),
            Entry::Rule(rule) => {
                let lines = work.rule(&rule, true);
                work.policy.rules.extend(lines);
            }
        }
    }
    work.defaults(&defaults);
    work.policy
}

struct Work<'w> {
    policy: Policy,
    /// Devices whose flows are all decided by the rules so far.
    decided: BTreeSet<String>,
    /// Zones that are written, with their devices.
    named: BTreeMap<String, BTreeSet<String>>,
    firewall: &'w mut Firewall,
    links: &'w Links,
}

impl Work<'_> {
    fn zones(&mut self) {
        let outside: Vec<String> = self.links.uplinks.iter().cloned().collect();
        if self.firewall.zones.is_empty() && self.links.personalities.len() > 1 {
            let (name, devices) = ("outside".to_owned(), outside);
            self.firewall.zones.push(Zone { name, devices });
        }
        let mut taken: BTreeSet<&String> = BTreeSet::new();
        for zone in &self.firewall.zones {
            let known = |device: &&String| self.links.all.contains(*device);
            let devices: BTreeSet<String> = zone.devices.iter().filter(known).cloned().collect();
            if devices.is_empty() || zone.devices.iter().any(|device| taken.contains(device)) {
                continue;
            }
            taken.extend(&zone.devices);
            let members: Vec<String> = devices
                .iter()
                .flat_map(|d| self.links.interfaces(d))
                .collect();
            let mut name = names::name(&zone.name);
            // An interface of that name is a zone by itself.
            if members == [name.clone()] {
                continue;
            }
            let mut interfaces = self.links.all.iter().flat_map(|d| self.links.interfaces(d));
            if interfaces.any(|interface| interface == name) {
                name = names::name(&format!("zone-{name}"));
            }
            if self.policy.zones.insert(name.clone(), members).is_none() {
                self.named.insert(name, devices);
            }
        }
    }

    fn missing(&mut self, note: Note) {
        self.policy.rules.push(Line::Missing(note.clone()));
        self.firewall.notes.push(note);
    }

    /// The entries that a rule becomes; `ordered`: it is one of `rules`.
    fn rule(&mut self, rule: &Rule, ordered: bool) -> Vec<Line> {
        let Rule {
            when,
            decision: Decision { verdict, .. },
            origin,
            ..
        } = rule;
        let all = &self.links.all;
        let uplinks = &self.links.uplinks;
        let from = when.from.among(all);
        let to = when.to.among(all);
        let by_all = || all.clone();
        let never = |side: &Option<BTreeSet<String>>| side.as_ref().is_some_and(BTreeSet::is_empty);
        if never(&from) || never(&to) {
            self.firewall
                .note(origin, Fate::Implied, "there is no device that it asks for");
            return Vec::new();
        }
        let mut lines = Vec::new();
        let mut gap = |fate, why: &str| {
            lines.push(Line::Missing(Note {
                origin: origin.clone(),
                fate,
                why: why.to_owned(),
            }));
        };
        let from = match when.state {
            State::First => from,
            State::Redirected => {
                let from = from.unwrap_or_else(by_all);
                let undecided = from
                    .iter()
                    .any(|device| !uplinks.contains(device) && !self.decided.contains(device));
                if undecided {
                    gap(
                        verdict.missing(),
                        "between guests, forwarded flows are not told from others; it is written for flows from outside alone",
                    );
                }
                Some(from.intersection(uplinks).cloned().collect())
            }
            State::NotRedirected => {
                let from = from.unwrap_or_else(by_all);
                if from.iter().any(|device| !uplinks.contains(device)) {
                    gap(
                        verdict.missing(),
                        "between guests, forwarded flows are not told from others",
                    );
                } else {
                    let why = "from outside, inside addresses are reached at forwarded ports alone";
                    self.firewall.note(origin, Fate::Implied, why);
                }
                Some(BTreeSet::new())
            }
            State::Answers | State::Stray | State::Group => Some(BTreeSet::new()),
        };
        for line in &lines {
            if let Line::Missing(note) = line {
                self.firewall.notes.push(note.clone());
            }
        }
        if from.as_ref().is_some_and(BTreeSet::is_empty) {
            return lines;
        }
        match self.fields(rule, from.as_ref(), to.as_ref()) {
            Ok(Some(fields)) => {
                let plain = Match {
                    from: Devices::default(),
                    state: State::First,
                    ..when.clone()
                } == Match::default();
                let families = self.firewall.families.iter();
                let every = families
                    .into_iter()
                    .all(|f| rule.family == Family::Both || rule.family == *f);
                if plain && every && ordered && when.state == State::First {
                    self.decided.extend(from.unwrap_or_else(by_all));
                }
                lines.push(Line::Written(fields, origin.clone()));
            }
            Ok(None) => self
                .firewall
                .note(origin, Fate::Implied, "there is no such flow"),
            Err(why) => {
                let note = Note {
                    origin: origin.clone(),
                    fate: verdict.missing(),
                    why,
                };
                self.firewall.notes.push(note.clone());
                lines.push(Line::Missing(note));
            }
        }
        lines
    }

    fn fields(
        &mut self,
        rule: &Rule,
        from: Option<&BTreeSet<String>>,
        to: Option<&BTreeSet<String>>,
    ) -> Result<Option<Vec<(&'static str, Value)>>, String> {
        let when = &rule.when;
        if when.to_own {
            return Err("a rule is not asked whether an address is the router's own".to_owned());
        }
        let mut family = rule.family;
        let several = self.firewall.families.len() > 1;
        let mut fields = vec![(
            "action",
            Value::Text(rule.decision.verdict.name().to_owned()),
        )];
        for (key, side) in [("from", from), ("to", to)] {
            if let Some(side) = side {
                fields.push((key, Value::Texts(self.sides(side))));
            }
        }
        let service = service(&when.service, &mut family, several)?;
        let Some(service) = service else {
            return Ok(None);
        };
        let mut addressed = false;
        let mut sides = Vec::new();
        for (key, addresses) in [("source", &when.source), ("destination", &when.destination)] {
            let Some(mut nets) = addresses.prefixes(family)? else {
                continue;
            };
            match family {
                Family::Both => {}
                only => nets.retain(|net| Family::of(net.addr()) == only),
            }
            if nets.is_empty() {
                return Ok(None);
            }
            addressed = true;
            sides.push((key, Value::Texts(self.addresses(nets, addresses))));
        }
        if !addressed && several && family != Family::Both {
            let (name, nets) = match family {
                Family::V4 => ("ipv4", Family::V4.all()),
                _ => ("ipv6", Family::V6.all()),
            };
            self.policy.sets.insert(name.to_owned(), nets);
            sides.push(("source", Value::Texts(vec![name.to_owned()])));
        }
        fields.extend(sides);
        fields.extend(service);
        if let Some(mark) = rule.decision.mark {
            fields.push(("mark", Value::Number(mark)));
        }
        if rule.decision.log {
            fields.push(("log", Value::True));
        }
        Ok(Some(fields))
    }

    /// Names for devices: zones as far as they go, then interfaces.
    fn sides(&self, devices: &BTreeSet<String>) -> Vec<String> {
        let mut rest = devices.clone();
        let mut names = Vec::new();
        for (name, members) in &self.named {
            if members.is_subset(&rest) {
                rest = &rest - members;
                names.push(name.clone());
            }
        }
        names.extend(rest.iter().flat_map(|device| self.links.interfaces(device)));
        names
    }

    /// Prefixes as a rule has them: few as they are, many as a set.
    fn addresses(&mut self, nets: Vec<IpNet>, addresses: &Addresses) -> Vec<String> {
        let named = addresses.name.as_deref().map(names::name);
        if named.is_none() && nets.len() <= FEW {
            return nets.iter().map(short).collect();
        }
        let same = self
            .policy
            .sets
            .iter()
            .find(|(_, members)| **members == nets);
        if let Some((name, _)) = same {
            return vec![name.clone()];
        }
        let mut name = named.unwrap_or_else(|| "set-1".to_owned());
        let mut n = 2;
        // A name that reads as an address would be one.
        let reserved = |name: &str| {
            ["default", "ipv4", "ipv6"].contains(&name) || name.parse::<std::net::IpAddr>().is_ok()
        };
        while self.policy.sets.contains_key(&name) || reserved(&name) {
            name = format!("set-{n}");
            n += 1;
        }
        self.policy.sets.insert(name.clone(), nets);
        vec![name]
    }

    /// What holds at the end. Defaults know sides alone: those that ask for more are rules, and so are
    /// all before them.
    fn defaults(&mut self, defaults: &[Rule]) {
        let mut defaults = defaults.to_vec();
        let first = defaults
            .first()
            .map(|rule| (rule.decision, rule.when.clone()));
        let alike = |rule: &Rule| {
            first
                .as_ref()
                .is_some_and(|(decision, when)| rule.decision == *decision && rule.when == *when)
        };
        let families: Vec<Family> = self.firewall.families.clone();
        let every = families
            .iter()
            .all(|family| defaults.iter().any(|rule| rule.family == *family));
        if every && defaults.iter().all(alike) && families.len() > 1 {
            defaults.truncate(1);
            defaults[0].family = Family::Both;
        }
        let several = families.len() > 1;
        let is_rule = |rule: &Rule| {
            let sides = Match {
                from: rule.when.from.clone(),
                to: rule.when.to.clone(),
                ..Match::default()
            };
            rule.when != sides || (several && rule.family != Family::Both)
        };
        let as_rules = defaults
            .iter()
            .rposition(is_rule)
            .map_or(0, |last| last + 1);
        for (n, rule) in defaults.iter().enumerate() {
            let lines = self.rule(rule, false);
            match n < as_rules {
                true => self.policy.rules.extend(lines),
                false => self.policy.default.extend(lines),
            }
        }
    }
}

/// A prefix; an address without its length.
pub(super) fn short(net: &IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}
