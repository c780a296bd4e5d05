//! `rules` and `policy`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::firewall::{Dnat, Entry, Fate, Note, Origin, Rule, Verdict};
use super::super::matching::{Addresses, Devices, Family, Match, Ports, Service, other_ports};
use super::super::nat::few;
use super::super::untranslated::{TARGETS, why};
use super::super::words::{self, goal};
use super::lines::{Reader, Row};
use super::macros::{self, Body};
use super::zones::{Zones, addresses};

/// Deepest nesting of macros.
const DEEPEST: usize = 8;
/// Most rules that all macros together make.
const MOST_RULES: usize = 60_000;

/// A pair of zones: from, to.
type Pair = (usize, usize);

/// A rule for some pairs of zones.
struct Line {
    pairs: BTreeSet<Pair>,
    what: What,
}

enum What {
    Rule(Box<Match>, Verdict, Origin),
    Gap(Note),
}

/// A rule with its columns.
#[derive(Clone)]
struct Columns<'c> {
    action: &'c str,
    source: String,
    destination: String,
    protocol: String,
    port: String,
    source_port: String,
    original: String,
    limit: Option<&'static str>,
}

/// A side as a column has it.
struct Side {
    zones: BTreeSet<usize>,
    firewall: bool,
    /// It is one zone by its name.
    one: bool,
    /// With a `+`: within a zone as well.
    within: bool,
    when: Match,
    /// What is behind a second colon, of a destination.
    server: String,
}

/// Reads both files into a firewall.
pub(super) fn read(reader: &mut Reader<'_>, zones: &Zones, macros: &Path) {
    let rows = reader.rows("rules");
    let policy = reader.rows("policy");
    let mut work = Work {
        reader,
        zones,
        macros,
        lines: Vec::new(),
        hosts: Vec::new(),
    };
    for row in &rows {
        work.row(row);
    }
    let hosts = std::mem::take(&mut work.hosts);
    let lines = std::mem::take(&mut work.lines);
    let policies = work.policies(&policy);
    match zones.by_address {
        false => work.flat(lines, &policies),
        true => work.by_pairs(&lines, &policies),
    }
    let last = work.reader.firewall.defaults.last();
    if last.is_none_or(|rule| rule.when != Match::default()) {
        let origin = Origin {
            file: policy.first().map_or_else(|| "policy".into(), |row| row.origin.file.clone()),
            place: super::super::firewall::Place::Line(0),
            text: "what no policy is for is dropped".to_owned(),
        };
        work.default(Match::default(), Verdict::Drop, &origin);
    }
    if let Some((first, more)) = hosts.split_first() {
        let why = match more.len() {
            0 => "about the host's own packets".to_owned(),
            more => format!("about the host's own packets, and so are {more} more of its rules"),
        };
        reader.firewall.note(first, Fate::Host, why);
    }
}

/// A line of `policy`.
struct Policy {
    from: Side,
    to: Side,
    /// None: flows go on to be asked as of a zone around.
    verdict: Option<Verdict>,
    origin: Origin,
}

impl Policy {
    fn is_for(&self, (from, to): Pair) -> bool {
        let both = self.from.zones.contains(&from) && self.to.zones.contains(&to);
        both && (from != to || within(&self.from, &self.to))
    }
}

struct Work<'w, 'r> {
    reader: &'w mut Reader<'r>,
    zones: &'w Zones,
    macros: &'w Path,
    lines: Vec<Line>,
    hosts: Vec<Origin>,
}

impl Work<'_, '_> {
    fn row(&mut self, row: &Row) {
        if ["ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"].contains(&row.section.as_str()) {
            let (name, parameter) = parameter_of(action_of(row.column(0, "action")).0);
            let refuses = fate_of(name, parameter) == Fate::Wider;
            return match refuses && ["ESTABLISHED", "RELATED"].contains(&row.section.as_str()) {
                true => {
                    let why = "answers and errors follow their flow, always";
                    self.gap(&row.origin, Fate::Wider, why.to_owned(), None);
                }
                false => {
                    let why = "rules are asked about first packets alone";
                    self.reader.firewall.note(&row.origin, Fate::Implied, why);
                }
            };
        }
        let limits = [
            (7, "rate", "a rule has no rate"),
            (8, "user", "it is about the host's own processes"),
            (9, "mark", "a rule has no mark"),
            (10, "connlimit", "a rule has no number of connections"),
            (11, "time", "a rule does not know the time"),
            (12, "headers", "a rule does not ask for headers"),
            (13, "switch", "a rule has no switch"),
        ];
        let limit = limits.iter().find(|(place, name, _)| !row.column(*place, name).is_empty());
        if !row.column(14, "helper").is_empty() {
            self.reader.firewall.note(&row.origin, Fate::Missing, "there are no application helpers");
        }
        let columns = Columns {
            action: row.column(0, "action"),
            source: row.column(1, "source").to_owned(),
            destination: row.column(2, "dest").to_owned(),
            protocol: row.column(3, "proto").to_owned(),
            port: row.column(4, "dport").to_owned(),
            source_port: row.column(5, "sport").to_owned(),
            original: row.column(6, "origdest").to_owned(),
            limit: limit.map(|(.., why)| *why),
        };
        self.rule(&columns, &row.origin, 0);
    }

    fn rule(&mut self, columns: &Columns<'_>, origin: &Origin, depth: usize) {
        let (action, logged) = action_of(columns.action);
        if logged && depth == 0 {
            let why = why(TARGETS, "LOG").unwrap_or_default();
            self.reader.firewall.note(origin, Fate::Missing, why);
        }
        let (name, parameter) = parameter_of(action);
        if name == "REDIRECT" || name == "REDIRECT-" {
            let why = why(TARGETS, "REDIRECT").unwrap_or_default().to_owned();
            return self.gap(origin, Fate::Missing, why, None);
        }
        let (source, destination) = match (self.side(&columns.source), self.side(&columns.destination)) {
            (Ok(source), Ok(destination)) => (source, destination),
            (Err(why), _) | (_, Err(why)) => return self.gap(origin, fate_of(name, parameter), why, None),
        };
        let pairs = pairs(&source, &destination);
        if pairs.is_empty() && name != "DNAT-" {
            return self.hosts.push(origin.clone());
        }
        let verdict = match name {
            "ACCEPT" | "A_ACCEPT" => Verdict::Accept,
            "DROP" | "A_DROP" => Verdict::Drop,
            "REJECT" | "A_REJECT" => Verdict::Reject,
            "DNAT" | "DNAT-" => {
                let all = self.dnat(columns, &source, origin);
                match all {
                    Ok(when) if name == "DNAT" => return self.push(pairs, &source, when, Verdict::Accept, origin),
                    Ok(_) => return,
                    Err(why) => return self.gap(origin, Fate::Missing, why, Some(pairs)),
                }
            }
            "LOG" | "NFLOG" | "ULOG" | "COUNT" => {
                let why = why(TARGETS, "LOG").unwrap_or_default().to_owned();
                return self.gap(origin, Fate::Missing, why, Some(pairs));
            }
            "Invalid" | "dropInvalid" | "DropInvalid" | "allowInvalid" => {
                let why = "what is malformed is dropped, and what belongs to no flow is judged as a first packet";
                return self.reader.firewall.note(origin, Fate::Implied, why);
            }
            "Established" | "Related" => {
                return self.reader.firewall.note(origin, Fate::Implied, "answers and errors follow their flow");
            }
            macro_ => return self.macro_(macro_, parameter, columns, origin, depth),
        };
        let when = self.when(columns, &destination);
        match when {
            Ok(when) => self.push(pairs, &source, when, verdict, origin),
            Err(why) => self.gap(origin, verdict.missing(), why, Some(pairs)),
        }
    }

    /// A rule that is written as a macro.
    fn macro_(&mut self, name: &str, parameter: &str, columns: &Columns<'_>, origin: &Origin, depth: usize) {
        let bodies = match depth < DEEPEST && self.lines.len() < MOST_RULES {
            true => macros::find(name, self.reader, self.macros),
            false => None,
        };
        let Some(bodies) = bodies else {
            let why = format!("there is no macro {name} here, and actions are not read");
            return self.gap(origin, fate_of(name, parameter), why, None);
        };
        let default = bodies.iter().find(|body| body.action == "DEFAULT").map(|body| body.source.clone());
        let parameter = match (parameter, default) {
            ("", Some(default)) => default,
            (given, _) => given.to_owned(),
        };
        for body in bodies.iter().filter(|body| body.action != "DEFAULT") {
            let (target, own) = parameter_of(&body.action);
            let action = match (target, own) {
                ("PARAM", _) => parameter.clone(),
                (target, "PARAM") => format!("{target}({parameter})"),
                // A macro in a macro goes by what that one is called with.
                (target, "") if !is_verdict(target) => format!("{target}({parameter})"),
                _ => body.action.clone(),
            };
            let columns = merged(columns, body, &action);
            self.rule(&columns, origin, depth + 1);
        }
    }

    /// What a rule asks beside its zones.
    fn when(&self, columns: &Columns<'_>, destination: &Side) -> Result<Match, String> {
        if let Some(why) = columns.limit {
            return Err(why.to_owned());
        }
        if !columns.original.is_empty() {
            return Err("a rule sees destinations as they are inside, not as they were before".to_owned());
        }
        if !destination.server.is_empty() {
            return Err("a destination has a port in its own column".to_owned());
        }
        let mut when = destination.when.clone();
        std::mem::swap(&mut when.source, &mut when.destination);
        std::mem::swap(&mut when.from, &mut when.to);
        when.service = service(&columns.protocol, &columns.port, &columns.source_port)?;
        Ok(when)
    }

    /// A forwarded port; what its rule asks of flows that use it.
    fn dnat(
        &mut self,
        columns: &Columns<'_>,
        source: &Side,
        origin: &Origin,
    ) -> Result<Match, String> {
        if let Some(why) = columns.limit {
            return Err(why.to_owned());
        }
        let (_, server) = columns.destination.split_once(':').ok_or("it does not say where it goes")?;
        let goal = goal(server.trim_matches(['<', '>'])).ok_or_else(|| format!("{server} is no plain address"))?;
        let (first, last) = goal.addresses.ok_or("it changes the port alone, of whatever address")?;
        let to = few(&(first, last)).ok_or("it goes to too many addresses")?;
        let port = match goal.ports {
            None => None,
            Some((first, last)) if first == last => Some(first),
            Some(_) => return Err("it goes to one of several ports".to_owned()),
        };
        let asked = service(&columns.protocol, &columns.port, &columns.source_port)?;
        let mut nat = Match {
            destination: addresses(&columns.original)?,
            service: asked.clone(),
            ..Match::default()
        };
        nat.source = source.when.source.clone();
        nat.from = source.when.from.clone();
        let all = source.zones.len() == self.zones.names.len();
        let sides = match all {
            true => vec![Match::default()],
            false => self.zones.sides(&source.zones, false),
        };
        for when in sides.iter().filter_map(|side| side.and(&nat)) {
            self.reader.firewall.dnat.push(Dnat {
                when,
                family: Family::V4,
                to: to.clone(),
                port,
                origin: origin.clone(),
            });
        }
        let mut service = asked;
        if let Some(port) = port {
            service.ports = Some(vec![(port, port)]);
        }
        Ok(Match {
            destination: Addresses::within(to.iter().map(|to| ipnet::IpNet::from(*to)).collect()),
            service,
            ..Match::default()
        })
    }

    fn push(&mut self, pairs: BTreeSet<Pair>, source: &Side, mut when: Match, verdict: Verdict, origin: &Origin) {
        match when.and(&source.when) {
            Some(all) => when = all,
            None => return self.gap(origin, Fate::Implied, "there is no such flow".to_owned(), None),
        }
        let what = What::Rule(Box::new(when), verdict, origin.clone());
        self.lines.push(Line { pairs, what });
    }

    fn gap(&mut self, origin: &Origin, fate: Fate, why: String, pairs: Option<BTreeSet<Pair>>) {
        let note = Note {
            origin: origin.clone(),
            fate,
            why,
        };
        self.lines.push(Line {
            pairs: pairs.unwrap_or_default(),
            what: What::Gap(note),
        });
    }

    /// Reads a source or a destination.
    fn side(&self, text: &str) -> Result<Side, String> {
        let (names, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut side = Side {
            zones: BTreeSet::new(),
            firewall: false,
            one: false,
            within: false,
            when: Match::default(),
            server: String::new(),
        };
        let (names, except) = names.split_once('!').unwrap_or((names, ""));
        let except: Vec<&str> = except.split(',').collect();
        for name in names.split(',') {
            let own = self.zones.firewall.as_str();
            match name {
                "all" | "any" | "all+" | "any+" | "all-" | "any-" | "all+-" | "any+-" | "" => {
                    side.zones.extend(0..self.zones.names.len());
                    side.firewall = !name.ends_with('-');
                    side.within = name.contains('+');
                }
                own_name if own_name == own || own_name == "$FW" => side.firewall = true,
                zone => {
                    let place = self.zones.place(zone.trim_end_matches('+'));
                    side.zones.insert(place.ok_or_else(|| format!("there is no zone {zone}"))?);
                    side.one = !names.contains(',');
                    side.within |= zone.ends_with('+');
                }
            }
        }
        for name in except {
            if let Some(place) = self.zones.place(name) {
                side.zones.remove(&place);
            }
        }
        if rest.is_empty() {
            return Ok(side);
        }
        // A device, addresses, or both; a destination may have a port behind.
        let (first, more) = rest.split_once(':').unwrap_or((rest, ""));
        let (device, hosts) = match self.zones.is_device(first) {
            true => (Some(first), more),
            false => (None, rest),
        };
        if let Some(device) = device {
            side.when.from = Devices::one(&self.zones.device(device));
        }
        let hosts = hosts.trim_matches(['<', '>', '[', ']']);
        if !hosts.is_empty() {
            match hosts.split_once(':') {
                Some((host, port)) if hosts.matches(':').count() == 1 => {
                    side.server = port.to_owned();
                    if !host.is_empty() {
                        side.when.source = addresses(host)?;
                    }
                }
                _ => side.when.source = addresses(hosts)?,
            }
        }
        Ok(side)
    }

    fn policies(&mut self, rows: &[Row]) -> Vec<Policy> {
        let mut policies = Vec::new();
        for row in rows {
            let (from, to) = match (self.side(row.column(0, "source")), self.side(row.column(1, "dest"))) {
                (Ok(from), Ok(to)) => (from, to),
                (Err(why), _) | (_, Err(why)) => {
                    self.reader.firewall.note(&row.origin, Fate::Wider, why);
                    continue;
                }
            };
            let name = row.column(2, "policy");
            let name = name.split([':', '(', ' ']).next().unwrap_or_default();
            let verdict = match name {
                "ACCEPT" => Some(Verdict::Accept),
                "DROP" | "BLACKLIST" => Some(Verdict::Drop),
                "REJECT" => Some(Verdict::Reject),
                // No flows are expected.
                "NONE" => Some(Verdict::Drop),
                "CONTINUE" => None,
                other => {
                    let why = format!("the policy {other} asks another program; it is written as drop");
                    self.reader.firewall.note(&row.origin, Fate::Missing, why);
                    Some(Verdict::Drop)
                }
            };
            if from.zones.is_empty() || to.zones.is_empty() {
                self.reader.firewall.note(&row.origin, Fate::Host, "about the host's own packets");
                continue;
            }
            let logs = row.column(3, "loglevel");
            if !logs.is_empty() && !logs.eq_ignore_ascii_case("none") {
                let why = why(TARGETS, "LOG").unwrap_or_default();
                self.reader.firewall.note(&row.origin, Fate::Missing, why);
            }
            if !row.column(4, "limit").is_empty() || !row.column(5, "connlimit").is_empty() {
                let why = "a policy has no rate and no number of connections";
                let fate = if verdict == Some(Verdict::Accept) { Fate::Wider } else { Fate::Missing };
                self.reader.firewall.note(&row.origin, fate, why);
            }
            policies.push(Policy {
                from,
                to,
                verdict,
                origin: row.origin.clone(),
            });
        }
        policies
    }

    /// Where zones are devices and nothing else, a flow is in one pair, and rules stay in their order.
    fn flat(&mut self, lines: Vec<Line>, policies: &[Policy]) {
        for line in lines {
            match line.what {
                What::Gap(note) => self.reader.firewall.rules.push(Entry::Gap(note)),
                What::Rule(when, verdict, origin) => {
                    for (from, to) in grouped(&line.pairs) {
                        self.emit((&from, &to), &when, verdict, &origin);
                    }
                }
            }
        }
        for zone in 0..self.zones.names.len() {
            let said = policies.iter().any(|policy| policy.is_for((zone, zone)));
            if let (false, Some(when)) = (said, self.within(zone)) {
                let origin = self.implicit(zone, policies);
                self.default(when, Verdict::Accept, &origin);
            }
        }
        for policy in policies {
            let Some(verdict) = policy.verdict else { continue };
            for side in self.both(&policy.from.zones, &policy.to.zones) {
                self.default(side, verdict, &policy.origin);
            }
        }
    }

    /// Where zones are addresses behind devices, Shorewall asks zone by zone, the inner ones first; so do
    /// the rules that are written.
    fn by_pairs(&mut self, lines: &[Line], policies: &[Policy]) {
        let all = self.zones.names.len();
        let mut told: BTreeSet<usize> = BTreeSet::new();
        for line in lines.iter().filter(|line| line.pairs.is_empty()) {
            if let What::Gap(note) = &line.what {
                self.reader.firewall.rules.push(Entry::Gap(note.clone()));
            }
        }
        for pair in (0..all).flat_map(|from| (0..all).map(move |to| (from, to))) {
            let (from, to) = ([pair.0].into(), [pair.1].into());
            for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.pairs.contains(&pair)) {
                match &line.what {
                    What::Gap(note) => {
                        if told.insert(n) {
                            self.reader.firewall.rules.push(Entry::Gap(note.clone()));
                        }
                    }
                    What::Rule(when, verdict, origin) => self.emit((&from, &to), when, *verdict, origin),
                }
            }
            match policies.iter().find(|policy| policy.is_for(pair)) {
                Some(policy) => {
                    if let Some(verdict) = policy.verdict {
                        self.emit((&from, &to), &Match::default(), verdict, &policy.origin);
                    }
                }
                None if pair.0 == pair.1 => {
                    if let Some(when) = self.within(pair.0) {
                        let origin = self.implicit(pair.0, policies);
                        self.emit((&from, &to), &when, Verdict::Accept, &origin);
                    }
                }
                None => {}
            }
        }
    }

    fn emit(
        &mut self,
        (from, to): (&BTreeSet<usize>, &BTreeSet<usize>),
        when: &Match,
        verdict: Verdict,
        origin: &Origin,
    ) {
        for when in self.both(from, to).iter().filter_map(|side| side.and(when)) {
            self.reader.firewall.rules.push(Entry::Rule(Box::new(Rule {
                when,
                family: Family::V4,
                verdict,
                origin: origin.clone(),
            })));
        }
    }

    fn default(&mut self, when: Match, verdict: Verdict, origin: &Origin) {
        self.reader.firewall.defaults.push(Rule {
            when,
            family: Family::V4,
            verdict,
            origin: origin.clone(),
        });
    }

    /// What it means to come from some zones and go to others; from all of them means from anywhere.
    fn both(&self, from: &BTreeSet<usize>, to: &BTreeSet<usize>) -> Vec<Match> {
        let all = self.zones.names.len();
        let sides = |zones: &BTreeSet<usize>, to| match zones.len() == all && !self.zones.by_address {
            true => vec![Match::default()],
            false => self.zones.sides(zones, to),
        };
        let (from, to) = (sides(from, false), sides(to, true));
        from.iter().flat_map(|from| to.iter().filter_map(|to| from.and(to))).collect()
    }

    /// Flows within a zone, which pass unless something is said of them; not those of an uplink, which
    /// have no business here.
    fn within(&self, zone: usize) -> Option<Match> {
        let sides = self.both(&[zone].into(), &[zone].into());
        let uplinks = &self.reader.firewall.uplinks;
        let outside = |when: &Match| when.from.within.iter().flatten().any(|device| uplinks.contains(device));
        match sides.iter().any(outside) {
            true => None,
            false => sides.into_iter().next(),
        }
    }

    /// Where it would be written that flows within a zone pass.
    fn implicit(&self, zone: usize, policies: &[Policy]) -> Origin {
        let file = policies.first().map_or_else(|| "policy".into(), |policy| policy.origin.file.clone());
        Origin {
            file,
            place: super::super::firewall::Place::Line(0),
            text: format!("within {} flows pass unless it says otherwise", self.zones.names[zone]),
        }
    }
}

/// The pairs of zones that a rule is for.
fn pairs(from: &Side, to: &Side) -> BTreeSet<Pair> {
    let all = from.zones.iter().flat_map(|from| to.zones.iter().map(move |to| (*from, *to)));
    let within = within(from, to);
    all.filter(|(from, to)| from != to || within).collect()
}

/// Whether flows within a zone are meant too: where both sides are one zone, or a `+` says so.
fn within(from: &Side, to: &Side) -> bool {
    from.within || to.within || (from.one && to.one)
}

/// Pairs as sets of sources with the same destinations.
fn grouped(pairs: &BTreeSet<Pair>) -> Vec<(BTreeSet<usize>, BTreeSet<usize>)> {
    let mut by_source: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (from, to) in pairs {
        by_source.entry(*from).or_default().insert(*to);
    }
    let mut groups: Vec<(BTreeSet<usize>, BTreeSet<usize>)> = Vec::new();
    for (from, to) in by_source {
        match groups.iter_mut().find(|(_, same)| *same == to) {
            Some((sources, _)) => drop(sources.insert(from)),
            None => groups.push(([from].into(), to)),
        }
    }
    groups
}

/// The action without its log level, and whether there was one.
fn action_of(text: &str) -> (&str, bool) {
    let end = text.rfind(')').map_or(0, |at| at + 1);
    let (head, tail) = text.split_at(end);
    match tail.split_once(':') {
        None => (text.trim_end_matches(['!', '+']), false),
        Some((name, level)) => {
            let action = if head.is_empty() { name } else { head };
            let level = level.split(':').next().unwrap_or_default();
            let silent = level.is_empty() || level.eq_ignore_ascii_case("none");
            (action.trim_end_matches(['!', '+']), !silent)
        }
    }
}

/// `Macro(ACTION)` and `Macro/ACTION` as a name and a parameter.
fn parameter_of(text: &str) -> (&str, &str) {
    let (name, parameter) = text.split_once(['(', '/']).unwrap_or((text, ""));
    (name, parameter.trim_end_matches(')'))
}

fn is_verdict(name: &str) -> bool {
    ["ACCEPT", "DROP", "REJECT", "DNAT", "DNAT-", "REDIRECT", "LOG", "PARAM", "A_ACCEPT", "A_DROP", "A_REJECT"].contains(&name)
}

/// What it means to leave out a rule that does this.
fn fate_of(name: &str, parameter: &str) -> Fate {
    let accepts = |text: &str| ["ACCEPT", "DNAT", "DNAT-", "REDIRECT", "LOG"].contains(&text);
    match accepts(name) || accepts(parameter) {
        true => Fate::Missing,
        false => Fate::Wider,
    }
}

/// A macro's rule in the place where it is called: what is said there goes first.
fn merged<'c>(called: &Columns<'_>, body: &Body, action: &'c str) -> Columns<'c> {
    let first = |said: &str, own: &str| if said.is_empty() { own.to_owned() } else { said.to_owned() };
    let side = |own: &str, same: &str| match own {
        "SOURCE" => called.source.clone(),
        "DEST" => called.destination.clone(),
        "" => same.to_owned(),
        more => format!("{same}:{more}"),
    };
    Columns {
        action,
        source: side(&body.source, &called.source),
        destination: side(&body.destination, &called.destination),
        protocol: first(&called.protocol, &body.protocol),
        port: first(&called.port, &body.port),
        source_port: first(&called.source_port, &body.source_port),
        original: first(&called.original, &body.origin),
        limit: called.limit.or(body.limit.then_some("a rule has no rate")),
    }
}

/// Protocol and ports, as columns have them.
pub(super) fn service(protocol: &str, port: &str, source_port: &str) -> Result<Service, String> {
    if protocol.is_empty() || protocol == "all" || protocol == "any" {
        return match port.is_empty() && source_port.is_empty() {
            true => Ok(Service::default()),
            false => Err("it asks for ports without a protocol".to_owned()),
        };
    }
    let numbers: Option<BTreeSet<u8>> = protocol.split(',').map(words::protocol).collect();
    let numbers = numbers.ok_or_else(|| format!("{protocol} is no plain protocol"))?;
    let is_icmp = numbers == [1].into();
    let mut service = Service {
        protocols: Some(numbers),
        ..Service::default()
    };
    if is_icmp {
        if !port.is_empty() {
            let types: Option<BTreeSet<u8>> = port.split(',').map(|kind| words::icmp_type(kind, 1)).collect();
            service.icmp_types = Some(types.ok_or("a rule asks for ICMP types, not for codes")?);
        }
        return Ok(service);
    }
    let ports = |text: &str| -> Result<Option<Vec<Ports>>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let (list, not) = text.strip_prefix('!').map_or((text, false), |rest| (rest, true));
        let list = words::port_list(list).ok_or_else(|| format!("{text} are no plain ports"))?;
        match not {
            false => Ok(Some(list)),
            true => Some(other_ports(&list)).filter(|left| !left.is_empty()).map(Some).ok_or_else(|| "no port is left".to_owned()),
        }
    };
    service.ports = ports(port)?;
    service.source_ports = ports(source_port)?;
    Ok(service)
}
