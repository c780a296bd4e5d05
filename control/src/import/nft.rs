//! `nft -j list ruleset`.

mod mark;
mod rule;
mod said;
mod values;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::chains::{Chains, Hook, Line, Then, walk};
use super::firewall::{Entry, Fate, Firewall, Origin, Place, Rule, Verdict};
use super::line::Marks;
use super::matching::{Family, Match};
use crate::failure::{Code, Failure};
use rule::{Elements, Reading, Table};
use said::said;
use values::{family, strings};

/// Families of tables that forwarded packets come to.
const FAMILIES: [&str; 3] = ["ip", "ip6", "inet"];

/// A chain that packets come to by themselves.
struct Base {
    table: (String, String),
    chain: String,
    family: Family,
    hook: String,
    kind: String,
    priority: i64,
    policy: Verdict,
    origin: Origin,
}

#[derive(Default)]
struct Ruleset {
    chains: BTreeMap<Table, Chains>,
    base: Vec<Base>,
    elements: Elements,
}

/// Reads files.
///
/// # Errors
/// One is not what it should be.
pub(super) fn read(files: &[(String, String)]) -> Result<Firewall, Failure> {
    let mut firewall = Firewall::default();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    firewall.source = names.join(", ");
    let mut all = Ruleset::default();
    let mut rules = Vec::new();
    for (name, text) in files {
        let refuse = |place: usize, why: &str| {
            let remedy = "name the output of `nft -j list ruleset`";
            Failure::with(Code::Refused, format!("{name}:{place}: {why}; {remedy}"))
        };
        let json: Value =
            serde_json::from_str(text).map_err(|error| refuse(error.line(), &error.to_string()))?;
        let Some(objects) = json.get("nftables").and_then(Value::as_array) else {
            return Err(refuse(1, "there is no \"nftables\" in it"));
        };
        let rc: Rc<str> = name.as_str().into();
        let own = objects.iter().filter_map(hosts_chain).collect::<Vec<_>>();
        for object in objects {
            let rule = object.get("rule");
            if !rule.is_some_and(|rule| own.contains(&chain_of(rule, "chain"))) {
                devices(object, &mut firewall);
            }
            all.object(object, &rc, &mut rules);
        }
    }
    for (table, chain, rule, origin) in rules {
        let family = family(&table.0);
        let reading = Reading {
            firewall: &firewall,
            elements: &all.elements,
            table: &table,
        };
        let lines = reading.rule(&rule, family, &origin);
        let chains = all.chains.entry(table).or_default();
        chains.entry(chain).or_default().extend(lines);
    }
    all.base.sort_by_key(|base| base.priority);
    for base in &all.base {
        firewall.family(base.family);
    }
    translations(&mut firewall, &all);
    for one in firewall.families.clone() {
        forwards(&mut firewall, &all, one);
    }
    Ok(firewall)
}

fn translations(firewall: &mut Firewall, all: &Ruleset) {
    let none = Chains::new();
    for ((family, _), chains) in &all.chains {
        let lines = chains.values().flatten();
        if let (false, Some(first)) = (FAMILIES.contains(&family.as_str()), lines.clone().next()) {
            let count = lines.count();
            let why = format!("tables of the family {family} are not read ({count} rules)");
            firewall.gap(&first.origin, Fate::Wider, why);
        }
    }
    for base in &all.base {
        let chains = all.chains.get(&base.table).unwrap_or(&none);
        let lines = chains
            .get(&base.chain)
            .map(Vec::as_slice)
            .unwrap_or_default();
        match (base.kind.as_str(), base.hook.as_str()) {
            ("nat", "prerouting") => walk(firewall, chains, &base.chain, Hook::Prerouting),
            ("nat", "postrouting") => walk(firewall, chains, &base.chain, Hook::Postrouting),
            (_, "forward") => {}
            (_, "input" | "output") => {
                if let Some(first) = lines.first() {
                    let why = format!(
                        "about the host's own packets, as all of its chain is ({})",
                        lines.len()
                    );
                    firewall.note(&first.origin, Fate::Host, why);
                }
            }
            (_, hook) => {
                let routed = hook != "prerouting";
                let marks = marks(base, chains, routed).filter(|marks| marks.lines().count() > 0);
                let read = marks.is_some();
                firewall.marks.extend(marks);
                for line in lines.iter().filter(|line| !(read && is_read(line, chains))) {
                    let fate = match line.then {
                        Then::Decide(verdict) => verdict.missing(),
                        Then::Jump(_) | Then::Goto(_) => Fate::Wider,
                        _ => Fate::Missing,
                    };
                    firewall.gap(
                        &line.origin,
                        fate,
                        format!("chains at the hook {} are not read", base.hook),
                    );
                }
            }
        }
    }
}

/// What a chain of the kernel's own, with those that it jumps to, does to marks.
fn marks(base: &Base, chains: &Chains, routed: bool) -> Option<Marks> {
    let chain = vec![base.chain.clone()];
    let (before, after) = match routed {
        false => (chain, Vec::new()),
        true => (Vec::new(), chain),
    };
    let mut marks = Marks {
        family: base.family,
        chains: chains.clone(),
        before,
        after,
    };
    let reached = marks.names(&base.chain);
    marks.chains.retain(|name, _| reached.contains(name));
    ["prerouting", "postrouting"]
        .contains(&base.hook.as_str())
        .then_some(marks)
}

/// Whether all of a line is about marks.
fn is_read(line: &Line, chains: &Chains) -> bool {
    match &line.then {
        Then::Mark(_) => true,
        Then::Return | Then::Decide(Verdict::Accept) => line.when.is_ok(),
        Then::Jump(to) | Then::Goto(to) => chains.get(to).into_iter().flatten().all(|line| {
            matches!(
                line.then,
                Then::Mark(_) | Then::Return | Then::Decide(Verdict::Accept) | Then::Nothing
            )
        }),
        _ => false,
    }
}

/// All chains at the forward hook are asked, one after the other: what one accepts, the next may still
/// refuse.
fn forwards(firewall: &mut Firewall, all: &Ruleset, one: Family) {
    let none = Chains::new();
    let concerns = |base: &&Base| {
        base.hook == "forward" && (base.family == one || base.family == Family::Both)
    };
    let bases: Vec<&Base> = all.base.iter().filter(concerns).collect();
    // A chain for both families is walked once, with the first.
    let again = firewall.families.first() != Some(&one);
    for (n, base) in bases.iter().enumerate() {
        let last = n + 1 == bases.len();
        let before = firewall.rules.len();
        if !(again && base.family == Family::Both) {
            let chains = all.chains.get(&base.table).unwrap_or(&none);
            walk(firewall, chains, &base.chain, Hook::Forward);
        }
        if last {
            firewall.defaults.push(Rule {
                when: Match::default(),
                family: one,
                decision: base.policy.into(),
                origin: base.origin.clone(),
            });
            continue;
        }
        // What this chain accepts, the next ones are asked about.
        let rules = firewall.rules.split_off(before);
        let refuses = |entry: &Entry| matches!(entry, Entry::Rule(rule) if rule.decision.verdict != Verdict::Accept);
        let mut accepted: Option<Origin> = None;
        for entry in rules {
            match &entry {
                Entry::Rule(rule) if !refuses(&entry) => {
                    let why = "another forward chain is asked after this one";
                    firewall.note(&rule.origin, Fate::Implied, why);
                    accepted.get_or_insert_with(|| rule.origin.clone());
                }
                // Those that come after what is let off are for fewer flows than they say.
                Entry::Rule(rule) if accepted.is_some() => {
                    let why = "an earlier rule lets some flows off this one alone: there are several forward chains";
                    firewall.gap(&rule.origin.clone(), Fate::Wider, why);
                }
                _ => firewall.rules.push(entry),
            }
        }
        if base.policy != Verdict::Accept {
            let why =
                "there are several forward chains, and this one refuses what it does not accept";
            firewall.gap(&base.origin, Fate::Wider, why);
        }
    }
    if bases.is_empty() {
        firewall.defaults.push(Rule {
            when: Match::default(),
            family: one,
            decision: Verdict::Accept.into(),
            origin: Origin {
                file: firewall.source.as_str().into(),
                place: Place::Line(0),
                text: "no forward chain: everything passes".to_owned(),
            },
        });
    }
}

/// A chain by family, table and name.
fn chain_of(value: &Value, name: &str) -> [String; 3] {
    ["family", "table", name].map(|key| {
        let word = value.get(key).and_then(Value::as_str);
        word.unwrap_or_default().to_owned()
    })
}

/// The chain that an object is, if only the host's own packets come to it.
fn hosts_chain(object: &Value) -> Option<[String; 3]> {
    let chain = object.get("chain")?;
    let hook = chain.get("hook")?.as_str()?;
    ["input", "output"]
        .contains(&hook)
        .then(|| chain_of(chain, "name"))
}

/// Remembers the devices that an object names.
fn devices(value: &Value, firewall: &mut Firewall) {
    let set = value.get("set").or(value.get("element"));
    if let Some(set) = set.filter(|set| set.get("type").and_then(Value::as_str) == Some("ifname")) {
        for name in strings(set.get("elem").unwrap_or(&Value::Null)) {
            firewall.device(&name);
        }
        return;
    }
    let is_device = |left: &Value| {
        let key = left.pointer("/meta/key").and_then(Value::as_str);
        key.is_some_and(|key| ["iif", "oif", "iifname", "oifname"].contains(&key))
    };
    if let Some(found) = value.get("match") {
        if found.get("left").is_some_and(is_device) {
            for name in strings(found.get("right").unwrap_or(&Value::Null)) {
                if !name.starts_with('@') {
                    firewall.device(&name);
                }
            }
        }
        return;
    }
    match value {
        Value::Array(all) => all.iter().for_each(|value| devices(value, firewall)),
        Value::Object(all) => all.values().for_each(|value| devices(value, firewall)),
        _ => {}
    }
}

impl Ruleset {
    fn object(
        &mut self,
        object: &Value,
        file: &Rc<str>,
        rules: &mut Vec<(Table, String, Value, Origin)>,
    ) {
        let Some((kind, value)) = object.as_object().and_then(|object| object.iter().next()) else {
            return;
        };
        let word = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let table: Table = (word("family"), word("table"));
        let handle = value
            .get("handle")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        let place = |chain: &str| {
            Place::Named(format!(
                "table {} {}, chain {chain}, handle {handle}",
                table.0, table.1
            ))
        };
        match kind.as_str() {
            "chain" => {
                let name = word("name");
                self.chains
                    .entry(table.clone())
                    .or_default()
                    .entry(name.clone())
                    .or_default();
                if value.get("hook").is_some() && FAMILIES.contains(&table.0.as_str()) {
                    let policy = if word("policy") == "drop" {
                        Verdict::Drop
                    } else {
                        Verdict::Accept
                    };
                    self.base.push(Base {
                        family: family(&table.0),
                        origin: Origin {
                            file: file.clone(),
                            place: place(&name),
                            text: format!("policy {}", policy.name()),
                        },
                        table,
                        chain: name,
                        hook: word("hook"),
                        kind: word("type"),
                        priority: value
                            .get("prio")
                            .and_then(Value::as_i64)
                            .unwrap_or_default(),
                        policy,
                    });
                }
            }
            "rule" => {
                let chain = word("chain");
                let expressions = value.get("expr").cloned().unwrap_or_default();
                let origin = Origin {
                    file: file.clone(),
                    place: place(&chain),
                    text: said(&expressions),
                };
                rules.push((table, chain, expressions, origin));
            }
            "set" | "map" => {
                let elements = value
                    .get("elem")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                self.elements.insert((table, word("name")), elements);
            }
            "element" => {
                let more = value
                    .get("elem")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                self.elements
                    .entry((table, word("name")))
                    .or_default()
                    .extend(more);
            }
            _ => {}
        }
    }
}
