//! `iptables-save` and `ip6tables-save`, with `ipset save` for the sets that they name.

mod mark;
mod rule;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::chains::{Chains, Hook, Line, Then, walk};
use super::firewall::{Fate, Firewall, Origin, Place, Rule, Verdict};
use super::ipset::{self, Sets};
use super::line::Marks;
use super::matching::{Family, Match};
use super::untranslated::{TARGETS, why};
use crate::failure::{Code, Failure};
use rule::rule;
pub(super) use rule::split;

/// One table of one file.
struct Table {
    name: String,
    family: Family,
    chains: Chains,
    /// What its own chains do in the end.
    policies: BTreeMap<String, (Verdict, Origin)>,
}

/// Reads files.
///
/// # Errors
/// One is not what it should be.
pub(super) fn read(files: &[(String, String)]) -> Result<Firewall, Failure> {
    let mut firewall = Firewall::default();
    let mut sets = Sets::new();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    firewall.source = names.join(", ");
    for (_, text) in files {
        if ipset::is(text) {
            ipset::read(text, &mut sets);
            continue;
        }
        for line in text.lines() {
            let words = split(line);
            if line.contains("-A INPUT ") || line.contains("-A OUTPUT ") {
                continue;
            }
            let named = words
                .windows(2)
                .filter(|pair| ["-i", "-o"].contains(&pair[0].as_str()));
            for pair in named {
                firewall.device(&pair[1]);
            }
        }
    }
    let mut tables = Vec::new();
    for (name, text) in files.iter().filter(|(_, text)| !ipset::is(text)) {
        file(name, text, &mut firewall, &sets, &mut tables)?;
    }
    for family in [Family::V4, Family::V6] {
        let of: Vec<&Table> = tables
            .iter()
            .filter(|table| table.family == family)
            .collect();
        if !of.is_empty() {
            firewall.family(family);
            tables_of(&mut firewall, &of, family);
        }
    }
    Ok(firewall)
}

fn tables_of(firewall: &mut Firewall, tables: &[&Table], family: Family) {
    let named = |name| move |table: &&&Table| table.name == name;
    for table in tables.iter().filter(named("nat")) {
        walk(firewall, &table.chains, "PREROUTING", Hook::Prerouting);
        walk(firewall, &table.chains, "POSTROUTING", Hook::Postrouting);
        hosts(firewall, table, &["INPUT", "OUTPUT"]);
    }
    for table in tables
        .iter()
        .filter(|t| !["nat", "filter", "mangle"].contains(&t.name.as_str()))
    {
        for line in table.chains.values().flatten() {
            others(firewall, line, &table.name);
        }
    }
    for table in tables.iter().filter(named("mangle")) {
        mangle(firewall, table);
    }
    let mut default = None;
    for table in tables.iter().filter(named("filter")) {
        walk(firewall, &table.chains, "FORWARD", Hook::Forward);
        hosts(firewall, table, &["INPUT", "OUTPUT"]);
        default = table.policies.get("FORWARD").cloned().or(default);
    }
    let file = tables
        .first()
        .and_then(|table| table.chains.values().flatten().next());
    let (verdict, origin) = default.unwrap_or_else(|| {
        let origin = Origin {
            file: file.map_or_else(|| "".into(), |line| line.origin.file.clone()),
            place: Place::Line(0),
            text: "no FORWARD chain: everything passes".to_owned(),
        };
        (Verdict::Accept, origin)
    });
    firewall.defaults.push(Rule {
        when: Match::default(),
        family,
        decision: verdict.into(),
        origin,
    });
}

/// Notes once that a table is about the host too.
fn hosts(firewall: &mut Firewall, table: &Table, chains: &[&str]) {
    let mut lines = chains
        .iter()
        .flat_map(|chain| table.chains.get(*chain))
        .flatten();
    let Some(first) = lines.next() else { return };
    let more = lines.count();
    let why = match more {
        0 => "about the host's own packets".to_owned(),
        more => format!(
            "about the host's own packets, and so are {more} more of its table {}",
            table.name
        ),
    };
    firewall.note(&first.origin, Fate::Host, why);
}

/// Lines of the table mangle: those that set marks are found out about when the rules of routing are known.
fn mangle(firewall: &mut Firewall, table: &Table) {
    let hosts = ["INPUT", "OUTPUT"];
    self::hosts(firewall, table, &hosts);
    let chains: Chains = table
        .chains
        .iter()
        .filter(|(name, _)| !hosts.contains(&name.as_str()))
        .map(|(name, lines)| (name.clone(), lines.clone()))
        .collect();
    for line in chains.values().flatten() {
        match &line.then {
            Then::Mark(_) => {}
            Then::Jump(_) | Then::Goto(_) if line.when.is_ok() => {}
            Then::Unclear(why) => firewall.note(&line.origin, Fate::Missing, why),
            _ => others(firewall, line, &table.name),
        }
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    firewall.marks.push(Marks {
        family: table.family,
        chains,
        before: names(&["PREROUTING"]),
        after: names(&["FORWARD", "POSTROUTING"]),
    });
}

/// A rule of a table that neither filters nor translates.
fn others(firewall: &mut Firewall, line: &Line, table: &str) {
    let checked = line.origin.text.contains("rpfilter");
    match &line.then {
        Then::Decide(Verdict::Drop | Verdict::Reject) if checked => {
            let why = "a port's `source` says which sources may be there, and is strict unless set";
            firewall.note(&line.origin, Fate::Implied, why);
        }
        Then::Decide(Verdict::Drop | Verdict::Reject) => {
            let why = format!("the table {table} is not read; write it as a rule");
            firewall.gap(&line.origin, Fate::Wider, why);
        }
        Then::Other(target) if why(TARGETS, target).is_some() => {
            firewall.note(
                &line.origin,
                Fate::Missing,
                why(TARGETS, target).unwrap_or_default(),
            );
        }
        Then::Nothing | Then::Return | Then::Decide(Verdict::Accept) => {}
        _ => firewall.note(
            &line.origin,
            Fate::Missing,
            format!("the table {table} is not read"),
        ),
    }
}

fn file(
    name: &str,
    text: &str,
    firewall: &mut Firewall,
    sets: &Sets,
    tables: &mut Vec<Table>,
) -> Result<(), Failure> {
    let refuse = |line: usize, why: &str| {
        let remedy = "name the output of iptables-save, ip6tables-save or ipset save";
        Failure::with(Code::Refused, format!("{name}:{line}: {why}; {remedy}"))
    };
    let is_v6 = text.contains("Generated by ip6tables")
        || (!text.contains("Generated by iptables")
            && (text.contains("icmp6") || text.contains("::/")));
    let family = if is_v6 { Family::V6 } else { Family::V4 };
    let rc: Rc<str> = name.into();
    let first = tables.len();
    // Names of chains are needed to tell them from targets.
    let mut own: BTreeMap<(String, String), ()> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('*') {
            current = table.trim().to_owned();
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split_whitespace().next().unwrap_or_default();
            own.insert((current.clone(), chain.to_owned()), ());
        } else if line.starts_with("-N ")
            && let Some(chain) = line.split_whitespace().nth(1)
        {
            own.insert((current.clone(), chain.to_owned()), ());
        }
    }
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let origin = Origin {
            file: rc.clone(),
            place: Place::Line(number),
            text: line.to_owned(),
        };
        if line.is_empty() || line.starts_with('#') || line == "COMMIT" || line.starts_with("-N ") {
            continue;
        }
        if let Some(table) = line.strip_prefix('*') {
            tables.push(Table {
                name: table.trim().to_owned(),
                family,
                chains: Chains::new(),
                policies: BTreeMap::new(),
            });
            continue;
        }
        if tables.len() == first {
            return Err(refuse(number, "this line stands before any table"));
        }
        let Some(table) = tables.last_mut() else {
            continue;
        };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            if let (Some(chain), Some(policy)) = (words.next(), words.next()) {
                let verdict = match policy {
                    "DROP" => Some(Verdict::Drop),
                    "ACCEPT" => Some(Verdict::Accept),
                    _ => None,
                };
                if let Some(verdict) = verdict {
                    table.policies.insert(chain.to_owned(), (verdict, origin));
                }
            }
            continue;
        }
        let mut words = split(line);
        if words.first().is_some_and(|word| word.starts_with('[')) {
            words.remove(0);
        }
        if words.len() < 2 || words[0] != "-A" {
            return Err(refuse(
                number,
                "this line is neither a table, a chain nor a rule",
            ));
        }
        let chain = words[1].clone();
        let is_chain = |target: &str| own.contains_key(&(table.name.clone(), target.to_owned()));
        let line = rule(&words[2..], family, origin, &is_chain, firewall, sets);
        table.chains.entry(chain).or_default().push(line);
    }
    match tables.len() == first {
        true => Err(refuse(1, "there is no table in it")),
        false => Ok(()),
    }
}
