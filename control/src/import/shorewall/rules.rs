//! `rules` and `policy`.

mod order;

use std::collections::BTreeSet;
use std::path::Path;

use super::super::firewall::{Decision, Dnat, Fate, Note, Origin, Place, Verdict};
use super::super::matching::{Addresses, Family, Match, few};
use super::super::untranslated::{MATCHES, TARGETS, why};
use super::super::words::goal;
use super::columns::{Columns, action_of, fate_of, is_verdict, merged, parameter_of, service};
use super::lines::{Reader, Row};
use super::macros;
use super::side::{Pair, Side, pairs};
use super::zones::{Zones, addresses};

/// Deepest nesting of macros.
const DEEPEST: usize = 8;
/// Most rules that all macros together make.
const MOST_RULES: usize = 60_000;

/// A rule for some pairs of zones.
struct Line {
    pairs: BTreeSet<Pair>,
    what: What,
}

enum What {
    Rule(Box<Match>, Decision, Origin),
    Gap(Note),
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
            file: policy
                .first()
                .map_or_else(|| "policy".into(), |row| row.origin.file.clone()),
            place: Place::Line(0),
            text: "what no policy is for is dropped".to_owned(),
        };
        work.default(Match::default(), Verdict::Drop.into(), &origin);
    }
    if let Some((first, more)) = hosts.split_first() {
        let why = match more.len() {
            0 => "about the host's own packets".to_owned(),
            more => format!("about the host's own packets, and so are {more} more of its rules"),
        };
        reader.firewall.note(first, Fate::Host, why);
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
            (7, "rate", why(MATCHES, "limit").unwrap_or_default()),
            (8, "user", "it is about the host's own processes"),
            (9, "mark", why(MATCHES, "mark").unwrap_or_default()),
            (
                10,
                "connlimit",
                why(MATCHES, "connlimit").unwrap_or_default(),
            ),
            (11, "time", "a rule does not know the time"),
            (12, "headers", "a rule does not ask for headers"),
            (13, "switch", "a rule has no switch"),
        ];
        let limit = limits
            .iter()
            .find(|(place, name, _)| !row.column(*place, name).is_empty());
        if !row.column(14, "helper").is_empty() {
            self.reader.firewall.note(
                &row.origin,
                Fate::Missing,
                "there are no application helpers",
            );
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
            log: false,
        };
        self.rule(&columns, &row.origin, 0);
    }

    fn rule(&mut self, columns: &Columns<'_>, origin: &Origin, depth: usize) {
        let (action, logged) = action_of(columns.action);
        let log = columns.log || logged;
        let (name, parameter) = parameter_of(action);
        if name == "REDIRECT" || name == "REDIRECT-" {
            let why = why(TARGETS, "REDIRECT").unwrap_or_default().to_owned();
            return self.gap(origin, Fate::Missing, why, None);
        }
        let (source, destination) = match (
            self.zones.side(&columns.source),
            self.zones.side(&columns.destination),
        ) {
            (Ok(source), Ok(destination)) => (source, destination),
            (Err(why), _) | (_, Err(why)) => {
                return self.gap(origin, fate_of(name, parameter), why, None);
            }
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
                    Ok(when) if name == "DNAT" => {
                        let verdict = Verdict::Accept;
                        let decision = Decision {
                            log,
                            ..verdict.into()
                        };
                        return self.push(pairs, &source, when, decision, origin);
                    }
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
                return self.reader.firewall.note(
                    origin,
                    Fate::Implied,
                    "answers and errors follow their flow",
                );
            }
            macro_ => return self.macro_((macro_, parameter), columns, log, origin, depth),
        };
        let when = self.when(columns, &destination);
        match when {
            Ok(when) => self.push(
                pairs,
                &source,
                when,
                Decision {
                    log,
                    ..verdict.into()
                },
                origin,
            ),
            Err(why) => self.gap(origin, verdict.missing(), why, Some(pairs)),
        }
    }

    /// A rule that is written as a macro.
    fn macro_(
        &mut self,
        (name, parameter): (&str, &str),
        columns: &Columns<'_>,
        log: bool,
        origin: &Origin,
        depth: usize,
    ) {
        let bodies = match depth < DEEPEST && self.lines.len() < MOST_RULES {
            true => macros::find(name, self.reader, self.macros),
            false => None,
        };
        let Some(bodies) = bodies else {
            let why = format!("there is no macro {name} here, and actions are not read");
            return self.gap(origin, fate_of(name, parameter), why, None);
        };
        let default = bodies
            .iter()
            .find(|body| body.action == "DEFAULT")
            .map(|body| body.source.clone());
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
            let columns = merged(columns, body, (&action, log));
            self.rule(&columns, origin, depth + 1);
        }
    }

    /// What a rule asks beside its zones.
    fn when(&self, columns: &Columns<'_>, destination: &Side) -> Result<Match, String> {
        if let Some(why) = columns.limit {
            return Err(why.to_owned());
        }
        if !columns.original.is_empty() {
            return Err(
                "a rule sees destinations as they are inside, not as they were before".to_owned(),
            );
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
        let (_, server) = columns
            .destination
            .split_once(':')
            .ok_or("it does not say where it goes")?;
        let goal = goal(server.trim_matches(['<', '>']))
            .ok_or_else(|| format!("{server} is no plain address"))?;
        let (first, last) = goal
            .addresses
            .ok_or("it changes the port alone, of whatever address")?;
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

    fn push(
        &mut self,
        pairs: BTreeSet<Pair>,
        source: &Side,
        mut when: Match,
        decision: Decision,
        origin: &Origin,
    ) {
        match when.and(&source.when) {
            Some(all) => when = all,
            None => {
                return self.gap(
                    origin,
                    Fate::Implied,
                    "there is no such flow".to_owned(),
                    None,
                );
            }
        }
        let what = What::Rule(Box::new(when), decision, origin.clone());
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
}
