//! `iptables-save` and `ip6tables-save`, with `ipset save` for the sets that they name.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::net::IpAddr;
use std::rc::Rc;

use super::chains::{Chains, Hook, Line, Then, walk};
use super::firewall::{Fate, Firewall, Origin, Place, Rule, Verdict, Worn};
use super::ipset::{self, Sets, net, net_or_range};
use super::matching::{Addresses, Devices, Family, Match, Service, State, other_ports};
use super::untranslated::{MATCHES, TARGETS, why};
use super::words::{self, goal};
use crate::failure::{Code, Failure};

/// Modules whose options are read here.
const KNOWN: [&str; 11] = [
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "conntrack",
    "state",
    "multiport",
    "comment",
    "addrtype",
    "set",
    "iprange",
];

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
        .filter(|t| !["nat", "filter"].contains(&t.name.as_str()))
    {
        for line in table.chains.values().flatten() {
            others(firewall, line, &table.name);
        }
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
        verdict,
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

/// A line's words; quotation marks hold one together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(letters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Reads one rule.
fn rule(
    words: &[String],
    family: Family,
    origin: Origin,
    is_chain: &dyn Fn(&str) -> bool,
    firewall: &Firewall,
    sets: &Sets,
) -> Line {
    let mut reading = Reading {
        firewall,
        sets,
        when: Match::default(),
        problem: None,
    };
    let mut words = words.iter().map(String::as_str).peekable();
    let mut then = Then::Nothing;
    let mut not = false;
    while let Some(word) = words.next() {
        match word {
            "!" => {
                not = true;
                continue;
            }
            "-j" | "--jump" => {
                let target = words.next().unwrap_or_default();
                then = self::then(target, &mut words, is_chain);
                break;
            }
            "-g" | "--goto" => {
                then = Then::Goto(words.next().unwrap_or_default().to_owned());
                break;
            }
            option => {
                if words.peek() == Some(&"!") {
                    words.next();
                    not = true;
                }
                reading.option(option, not, &mut words);
            }
        }
        not = false;
    }
    Line {
        origin,
        family,
        when: match reading.problem {
            None => Ok(reading.when),
            Some(problem) => Err(problem),
        },
        then,
    }
}

/// What a target does.
fn then<'w>(
    target: &str,
    words: &mut Peekable<impl Iterator<Item = &'w str>>,
    is_chain: &dyn Fn(&str) -> bool,
) -> Then {
    let mut goals = Vec::new();
    let mut ports = None;
    while let Some(word) = words.next() {
        match word {
            "--to-source" | "--to-destination" => match words.next().and_then(goal) {
                Some(goal) => goals.push(goal),
                None => {
                    return Then::Unclear(
                        "the address that it is translated to is no plain one".to_owned(),
                    );
                }
            },
            "--to-ports" => {
                ports = words
                    .next()
                    .and_then(|p| words::ports(&p.replace('-', ":")))
            }
            _ => {}
        }
    }
    match target {
        "ACCEPT" => Then::Decide(Verdict::Accept),
        "DROP" => Then::Decide(Verdict::Drop),
        "REJECT" => Then::Decide(Verdict::Reject),
        "RETURN" => Then::Return,
        "MASQUERADE" => Then::Snat(Worn::Device { ports }),
        "SNAT" => {
            let ranges = goals.iter().filter_map(|goal| goal.addresses).collect();
            let ports = goals.first().and_then(|goal| goal.ports);
            Then::Snat(Worn::Addresses { ranges, ports })
        }
        "DNAT" => destinations(&goals),
        chain if is_chain(chain) => Then::Jump(chain.to_owned()),
        other => Then::Other(other.to_owned()),
    }
}

/// Where a destination translation leads.
pub(super) fn destinations(goals: &[words::Goal]) -> Then {
    let mut to: Vec<IpAddr> = Vec::new();
    let mut port = None;
    for goal in goals {
        let Some((first, last)) = goal.addresses else {
            return Then::Unclear("it changes the port alone, of whatever address".to_owned());
        };
        let Some(all) = super::nat::few(&(first, last)) else {
            return Then::Unclear("it goes to too many addresses".to_owned());
        };
        to.extend(all);
        match goal.ports {
            None => {}
            Some((first, last)) if first == last && (port.is_none() || port == Some(first)) => {
                port = Some(first)
            }
            Some(_) => return Then::Unclear("it goes to one of several ports".to_owned()),
        }
    }
    match to.is_empty() {
        true => Then::Unclear("it does not say where it goes".to_owned()),
        false => Then::Dnat(to, port),
    }
}

struct Reading<'r> {
    firewall: &'r Firewall,
    sets: &'r Sets,
    when: Match,
    problem: Option<String>,
}

impl Reading<'_> {
    fn option<'w>(&mut self, option: &str, not: bool, words: &mut impl Iterator<Item = &'w str>) {
        let read = self.condition(option, not, words);
        let joined = read.and_then(|more| {
            let never = || "it asks for what cannot be together".to_owned();
            self.when.and(&more).ok_or_else(never)
        });
        match joined {
            Ok(when) => self.when = when,
            Err(problem) => {
                self.problem.get_or_insert(problem);
            }
        }
    }

    /// One condition.
    fn condition<'w>(
        &mut self,
        option: &str,
        not: bool,
        words: &mut impl Iterator<Item = &'w str>,
    ) -> Result<Match, String> {
        let mut when = Match::default();
        let mut value = || words.next().unwrap_or_default();
        let unknown = |what: &str| format!("\"{what}\" is not understood");
        match option {
            "-m" | "--match" => {
                let module = value();
                if !KNOWN.contains(&module) {
                    let known = why(MATCHES, module).map(str::to_owned);
                    return Err(
                        known.unwrap_or_else(|| format!("a rule does not ask for \"{module}\""))
                    );
                }
            }
            "--comment" => {
                value();
            }
            "-s" | "--source" | "--src-range" => when.source = addresses(value(), not)?,
            "-d" | "--destination" | "--dst-range" => when.destination = addresses(value(), not)?,
            "-i" | "--in-interface" => when.from = self.device(value(), not)?,
            "-o" | "--out-interface" => when.to = self.device(value(), not)?,
            "-p" | "--protocol" => match value() {
                "all" | "0" if !not => {}
                name => {
                    let number = words::protocol(name).ok_or_else(|| unknown(name))?;
                    if not {
                        return Err("a rule asks for protocols, not for all but one".to_owned());
                    }
                    when.service = Service::protocol(number);
                }
            },
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                when.service.ports = Some(port_list(value(), not)?);
            }
            "--sport" | "--sports" | "--source-port" | "--source-ports" => {
                when.service.source_ports = Some(port_list(value(), not)?);
            }
            "--icmp-type" | "--icmpv6-type" => {
                let kind = value();
                let protocol = if option == "--icmp-type" { 1 } else { 58 };
                if kind != "any" && kind != "255" {
                    let number = words::icmp_type(kind, protocol);
                    let number = number.ok_or("a rule asks for ICMP types, not for codes")?;
                    if not {
                        return Err("a rule asks for ICMP types, not for all but one".to_owned());
                    }
                    when.service.icmp_types = Some([number].into());
                }
            }
            "--ctstate" | "--state" => when.state = state(value().split(','), not)?,
            "--ctstatus" => when.state = state(value().split(','), not)?,
            // A first packet of TCP has SYN; whether others are let begin a flow no rule says.
            "--syn" if !not => {}
            "--tcp-flags" => {
                let flags = (value(), value());
                if not || !matches!(flags, ("FIN,SYN,RST,ACK" | "SYN,RST,ACK", "SYN")) {
                    return Err("a rule does not ask for TCP flags".to_owned());
                }
            }
            "--syn" => return Err("a rule does not ask for TCP flags".to_owned()),
            "--src-type" => return Err("a rule does not ask for the type of an address".to_owned()),
            "--dst-type" => match (value(), not) {
                ("LOCAL", false) => when.to_own = true,
                _ => return Err("a rule does not ask for the type of an address".to_owned()),
            },
            "--ctorigdst" | "--ctorigdstport" => {
                return Err("a rule sees destinations as they are inside, not as they were before".to_owned());
            }
            "--match-set" => {
                let (name, side) = (value(), value());
                let addresses = self.set(name, not)?;
                match side {
                    "src" => when.source = addresses,
                    "dst" => when.destination = addresses,
                    _ => return Err(format!("a set has addresses alone, not {side}")),
                }
            }
            other => return Err(unknown(other)),
        }
        Ok(when)
    }

    fn device(&self, name: &str, not: bool) -> Result<Devices, String> {
        let devices = self.firewall.named(name);
        let devices = devices.ok_or_else(|| format!("no device's name begins as in {name}"))?;
        match not {
            false => Ok(devices),
            true => devices
                .negated()
                .ok_or_else(|| "it is for no device".to_owned()),
        }
    }

    fn set(&self, name: &str, not: bool) -> Result<Addresses, String> {
        let nets = match self.sets.get(name) {
            Some(Ok(nets)) if nets.is_empty() => Err(format!("the set {name} is empty")),
            Some(nets) => nets.clone(),
            None => Err(format!(
                "the set {name} is not among what was read: name the output of `ipset save` as well"
            )),
        }?;
        let all = Addresses {
            name: Some(name.to_owned()),
            ..Addresses::within(nets)
        };
        match not {
            false => Ok(all),
            true => all
                .negated()
                .ok_or_else(|| "it is for no address".to_owned()),
        }
    }
}

fn addresses(text: &str, not: bool) -> Result<Addresses, String> {
    let mut nets = Vec::new();
    for part in text.split(',') {
        let part = net(part)
            .map(|net| vec![net])
            .or_else(|| net_or_range(part));
        nets.extend(part.ok_or_else(|| format!("{text} is no plain address or prefix"))?);
    }
    let all = Addresses::within(nets);
    let any = |net: &ipnet::IpNet| net.prefix_len() == 0;
    match (not, all.within.iter().flatten().any(any)) {
        (false, true) => Ok(Addresses::default()),
        (false, false) => Ok(all),
        (true, true) => Err("it is for no address".to_owned()),
        (true, false) => all
            .negated()
            .ok_or_else(|| "it is for no address".to_owned()),
    }
}

fn port_list(text: &str, not: bool) -> Result<Vec<super::matching::Ports>, String> {
    let ports = words::port_list(text).ok_or_else(|| format!("{text} are no ports"))?;
    match not {
        false => Ok(ports),
        true => Some(other_ports(&ports))
            .filter(|left| !left.is_empty())
            .ok_or_else(|| "no port is left".to_owned()),
    }
}

/// What states of connection tracking mean for first packets.
pub(super) fn state<'w>(names: impl Iterator<Item = &'w str>, not: bool) -> Result<State, String> {
    let names: Vec<String> = names.map(|name| name.trim().to_ascii_uppercase()).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    if names.iter().any(|n| {
        ![
            "NEW",
            "ESTABLISHED",
            "RELATED",
            "INVALID",
            "UNTRACKED",
            "DNAT",
        ]
        .contains(&n.as_str())
    }) {
        return Err("a rule does not ask what became of the source".to_owned());
    }
    Ok(match (not, has("NEW"), has("DNAT")) {
        (false, true, _) => State::First,
        (false, false, true) => State::Redirected,
        (false, false, false) if has("ESTABLISHED") || has("RELATED") => State::Answers,
        (false, false, false) => State::Stray,
        (true, true, _) => State::Answers,
        (true, false, true) => State::NotRedirected,
        (true, false, false) => State::First,
    })
}
