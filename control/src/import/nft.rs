//! `nft -j list ruleset`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use serde_json::Value;

use super::chains::{Chains, Hook, Line, Then, walk};
use super::firewall::{Entry, Fate, Firewall, Origin, Place, Rule, Verdict, Worn};
use super::ipset::net_or_range;
use super::iptables::state;
use super::matching::{Addresses, Devices, Family, Match, Ports, Service, other_ports};
use super::untranslated::{TARGETS, why};
use super::words::{self, Goal};
use crate::failure::{Code, Failure};

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

/// A table by family and name.
type Table = (String, String);

#[derive(Default)]
struct Ruleset {
    chains: BTreeMap<Table, Chains>,
    base: Vec<Base>,
    /// Elements of sets and maps, by table and name.
    elements: BTreeMap<(Table, String), Vec<Value>>,
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
        for object in objects {
            devices(object, &mut firewall);
            all.object(object, &rc, &mut rules);
        }
    }
    for (table, chain, rule, origin) in rules {
        let family = family(&table.0);
        let reading = Reading {
            firewall: &firewall,
            all: &all,
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
            _ => {
                for line in lines {
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
                verdict: base.policy,
                origin: base.origin.clone(),
            });
            continue;
        }
        // What this chain accepts, the next ones are asked about.
        let rules = firewall.rules.split_off(before);
        let refuses =
            |entry: &Entry| matches!(entry, Entry::Rule(rule) if rule.verdict != Verdict::Accept);
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
            verdict: Verdict::Accept,
            origin: Origin {
                file: firewall.source.as_str().into(),
                place: Place::Line(0),
                text: "no forward chain: everything passes".to_owned(),
            },
        });
    }
}

/// Remembers the devices that an object names.
fn devices(value: &Value, firewall: &mut Firewall) {
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
                if value.get("hook").is_some() && ["ip", "ip6", "inet"].contains(&table.0.as_str())
                {
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

struct Reading<'r> {
    firewall: &'r Firewall,
    all: &'r Ruleset,
    table: &'r Table,
}

impl Reading<'_> {
    /// Reads one rule, which a verdict map makes several lines of.
    fn rule(&self, expressions: &Value, family: Family, origin: &Origin) -> Vec<Line> {
        let mut when: Result<Match, String> = Ok(Match::default());
        let mut lines = Vec::new();
        let line = |when: Result<Match, String>, then: Then| Line {
            origin: origin.clone(),
            family,
            when,
            then,
        };
        for expression in expressions.as_array().into_iter().flatten() {
            let Some((kind, value)) = expression
                .as_object()
                .and_then(|object| object.iter().next())
            else {
                continue;
            };
            match kind.as_str() {
                "match" => when = join(when, self.condition(value)),
                "counter" | "comment" => {}
                // What these let through is less than what comes to them.
                "limit" | "quota" | "ct count" => when = when.and(Err(reason(kind))),
                "xt" if value.get("type").and_then(Value::as_str) != Some("target") => {
                    let name = value
                        .get("name")
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    when = when.and(Err(by_iptables(name)));
                }
                "vmap" => {
                    let key = value.get("key").unwrap_or(&Value::Null);
                    for pair in self.members(value.get("data").unwrap_or(&Value::Null)) {
                        let (Some(member), Some(verdict)) = (pair.get(0), pair.get(1)) else {
                            continue;
                        };
                        let more = self.asked(key, member, false);
                        let verdict = verdict.as_object().and_then(|object| object.iter().next());
                        let then = verdict.map_or(Then::Nothing, |(kind, value)| then(kind, value));
                        lines.push(line(join(when.clone(), more), then));
                    }
                }
                kind => {
                    let then = then(kind, value);
                    let ends = !matches!(then, Then::Other(_));
                    lines.push(line(when.clone(), then));
                    if ends {
                        break;
                    }
                }
            }
        }
        lines
    }

    fn condition(&self, value: &Value) -> Result<Match, String> {
        let not = match value.get("op").and_then(Value::as_str) {
            Some("==" | "in") | None => false,
            Some("!=") => true,
            Some(other) => return Err(format!("\"{other}\" is not understood")),
        };
        let none = Value::Null;
        self.asked(
            value.get("left").unwrap_or(&none),
            value.get("right").unwrap_or(&none),
            not,
        )
    }

    /// What it means that `left` is one of `right`, or none of it.
    fn asked(&self, left: &Value, right: &Value, not: bool) -> Result<Match, String> {
        let word = |pointer: &str| left.pointer(pointer).and_then(Value::as_str);
        let members = self.members(right);
        let texts = || members.iter().flat_map(strings).collect::<Vec<String>>();
        let mut when = Match::default();
        let negated = || "a rule does not ask for all but some of these".to_owned();
        if let Some(key) = word("/meta/key") {
            match key {
                "iif" | "iifname" => when.from = self.devices(&texts(), not)?,
                "oif" | "oifname" => when.to = self.devices(&texts(), not)?,
                "l4proto" => when.service.protocols = Some(protocols(&texts(), not)?),
                "nfproto" | "protocol" => {
                    let all = match (texts().first().map(String::as_str), not) {
                        (Some("ipv4" | "ip"), false) => Family::V4,
                        (Some("ipv6" | "ip6"), false) => Family::V6,
                        _ => return Err(negated()),
                    };
                    when.source = Addresses::within(all.all());
                }
                other => return Err(format!("a rule does not ask for \"meta {other}\"")),
            }
            return Ok(when);
        }
        if let (Some(header), Some(field)) = (word("/payload/protocol"), word("/payload/field")) {
            match (header, field) {
                ("ip" | "ip6", "saddr") => when.source = addresses(&members, right, family(header), not)?,
                ("ip" | "ip6", "daddr") => when.destination = addresses(&members, right, family(header), not)?,
                ("ip", "protocol") | ("ip6", "nexthdr") => {
                    when.service.protocols = Some(protocols(&texts(), not)?);
                }
                ("tcp" | "udp" | "th" | "sctp" | "udplite" | "dccp", "dport" | "sport") => {
                    if header != "th" {
                        when.service =
                            Service::protocol(words::protocol(header).unwrap_or_default());
                    }
                    let ports = ports(&members, not)?;
                    match field {
                        "dport" => when.service.ports = Some(ports),
                        _ => when.service.source_ports = Some(ports),
                    }
                }
                ("icmp" | "icmpv6", "type") if !not => {
                    let protocol = if header == "icmp" { 1 } else { 58 };
                    when.service = Service::protocol(protocol);
                    let types = texts()
                        .iter()
                        .map(|text| words::icmp_type(text, protocol))
                        .collect::<Option<_>>();
                    when.service.icmp_types = Some(types.ok_or("an ICMP type is not understood")?);
                }
                ("tcp", "flags") => return Err("a rule does not ask for TCP flags".to_owned()),
                (header, field) => {
                    return Err(format!("a rule does not ask for \"{header} {field}\""));
                }
            }
            return Ok(when);
        }
        match word("/ct/key") {
            Some("state" | "status") => {
                let names = texts();
                when.state = state(names.iter().map(String::as_str), not)?;
                return Ok(when);
            }
            Some(other) => return Err(format!("a rule does not ask for \"ct {other}\"")),
            None => {}
        }
        if word("/fib/result") == Some("type") && !not && texts() == ["local"] {
            when.to_own = true;
            return Ok(when);
        }
        Err(format!("a rule does not ask for \"{}\"", value_said(left)))
    }

    /// Single members of a right side: of a set, of a named set, or the one that it is.
    fn members(&self, right: &Value) -> Vec<Value> {
        let named = right.as_str().and_then(|text| text.strip_prefix('@'));
        let all = match named {
            Some(name) => self
                .all
                .elements
                .get(&(self.table.clone(), name.to_owned()))
                .cloned(),
            None => right
                .get("set")
                .or(Some(right))
                .and_then(|set| set.as_array().cloned()),
        };
        let all = all.unwrap_or_else(|| vec![right.clone()]);
        all.into_iter()
            .map(|member| member.pointer("/elem/val").cloned().unwrap_or(member))
            .collect()
    }

    fn devices(&self, names: &[String], not: bool) -> Result<Devices, String> {
        let mut all: Vec<String> = Vec::new();
        for name in names {
            let some = self.firewall.named(name).and_then(|devices| devices.within);
            all.extend(some.ok_or_else(|| format!("{name} is no device that is known"))?);
        }
        let all = Devices::of(all);
        match not {
            false => Ok(all),
            true => all
                .negated()
                .ok_or_else(|| "it is for no device".to_owned()),
        }
    }
}

fn join(when: Result<Match, String>, more: Result<Match, String>) -> Result<Match, String> {
    let (when, more) = (when?, more?);
    when.and(&more)
        .ok_or_else(|| "it asks for what cannot be together".to_owned())
}

fn family(name: &str) -> Family {
    match name {
        "ip" => Family::V4,
        "ip6" => Family::V6,
        _ => Family::Both,
    }
}

/// What a statement does.
fn then(kind: &str, value: &Value) -> Then {
    let target = || {
        value
            .get("target")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match kind {
        "accept" => Then::Decide(Verdict::Accept),
        "drop" => Then::Decide(Verdict::Drop),
        "reject" => Then::Decide(Verdict::Reject),
        "return" => Then::Return,
        "continue" => Then::Nothing,
        "jump" => Then::Jump(target()),
        "goto" => Then::Goto(target()),
        "masquerade" => match span(value.get("port")) {
            Ok(ports) => Then::Snat(Worn::Device { ports }),
            Err(why) => Then::Unclear(why),
        },
        "snat" | "dnat" if value.get("type_flags").is_some() => {
            Then::Unclear("each address becomes another: write `one_to_one` for each".to_owned())
        }
        "snat" | "dnat" => match (range(value.get("addr")), span(value.get("port"))) {
            (Some(addresses), Ok(ports)) if kind == "snat" => Then::Snat(Worn::Addresses {
                ranges: vec![addresses],
                ports,
            }),
            (Some(addresses), Ok(ports)) => super::iptables::destinations(&[Goal {
                addresses: Some(addresses),
                ports,
            }]),
            (None, _) => {
                Then::Unclear("the address that it is translated to is no plain one".to_owned())
            }
            (_, Err(why)) => Then::Unclear(why),
        },
        "log" => Then::Other("LOG".to_owned()),
        "redirect" => Then::Other("REDIRECT".to_owned()),
        "notrack" => Then::Other("NOTRACK".to_owned()),
        "queue" => Then::Other("QUEUE".to_owned()),
        "mangle" => Then::Other("MARK".to_owned()),
        "set" | "map" => Then::Other("SET".to_owned()),
        "xt" => {
            let name = value
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            Then::Unclear(by_iptables(name))
        }
        other => Then::Other(other.to_owned()),
    }
}

fn by_iptables(name: &str) -> String {
    format!("{name} was written by iptables, and nft does not tell what it says: use iptables-save")
}

fn reason(kind: &str) -> String {
    let known = why(super::untranslated::MATCHES, kind).or_else(|| why(TARGETS, kind));
    known.map_or_else(|| format!("a rule does not know \"{kind}\""), str::to_owned)
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// One address or a range.
fn range(value: Option<&Value>) -> Option<(IpAddr, IpAddr)> {
    let value = value?;
    if let Some(one) = address(value) {
        return Some((one, one));
    }
    if let Some(prefix) = value.get("prefix") {
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        let net = IpNet::new(address(prefix.get("addr")?)?, length).ok()?;
        return Some((net.network(), net.broadcast()));
    }
    let ends = value.get("range")?.as_array()?;
    let ends = (address(ends.first()?)?, address(ends.get(1)?)?);
    (ends.0.is_ipv4() == ends.1.is_ipv4() && ends.0 <= ends.1).then_some(ends)
}

/// One port or a range; none if nothing is written.
fn span(value: Option<&Value>) -> Result<Option<Ports>, String> {
    let Some(value) = value else { return Ok(None) };
    let span = port(value)
        .ok_or_else(|| "the port that it is translated to is no plain one".to_owned())?;
    Ok(Some(span).filter(|(first, _)| *first > 0))
}

fn port(value: &Value) -> Option<Ports> {
    let number = |value: &Value| match value {
        Value::String(name) => words::port(name),
        other => other.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        let span = (number(ends.first()?)?, number(ends.get(1)?)?);
        return (span.0 <= span.1).then_some(span);
    }
    number(value).map(|port| (port, port))
}

fn ports(members: &[Value], not: bool) -> Result<Vec<Ports>, String> {
    let all: Option<Vec<Ports>> = members.iter().map(port).collect();
    let all = all.ok_or("these are no ports")?;
    match not {
        false => Ok(all),
        true => Some(other_ports(&all))
            .filter(|left| !left.is_empty())
            .ok_or_else(|| "no port is left".to_owned()),
    }
}

fn protocols(names: &[String], not: bool) -> Result<std::collections::BTreeSet<u8>, String> {
    if not {
        return Err("a rule asks for protocols, not for all but one".to_owned());
    }
    let all = names
        .iter()
        .map(|name| words::protocol(name))
        .collect::<Option<_>>();
    all.ok_or_else(|| "a protocol is not understood".to_owned())
}

fn addresses(
    members: &[Value],
    right: &Value,
    family: Family,
    not: bool,
) -> Result<Addresses, String> {
    let mut nets: Vec<IpNet> = Vec::new();
    for member in members {
        let more = match member.get("prefix") {
            Some(prefix) => {
                let text = prefix
                    .get("addr")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let length = prefix.get("len").and_then(Value::as_u64).unwrap_or(999);
                net_or_range(&format!("{text}/{length}"))
            }
            None => match range(Some(member)) {
                Some((first, last)) => super::matching::range(first, last),
                None => member.as_str().and_then(net_or_range),
            },
        };
        nets.extend(
            more.ok_or_else(|| format!("{} is no plain address or prefix", value_said(member)))?,
        );
    }
    if nets.is_empty() {
        return Err(format!("the set {} is empty", value_said(right)));
    }
    let name = right.as_str().and_then(|text| text.strip_prefix('@'));
    Ok(match not {
        false => Addresses {
            name: name.map(str::to_owned),
            ..Addresses::within(nets)
        },
        // It asks for the family, too.
        true => Addresses {
            except: Addresses::within(nets).within.unwrap_or_default(),
            ..Addresses::within(family.all())
        },
    })
}

/// All texts and numbers of a value.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(all) => all.iter().flat_map(strings).collect(),
        Value::Object(all) => all.get("set").map(strings).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// A rule as nft would write it, nearly.
fn said(expressions: &Value) -> String {
    let mut words = Vec::new();
    for expression in expressions.as_array().into_iter().flatten() {
        let Some((kind, value)) = expression
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            continue;
        };
        match kind.as_str() {
            "counter" => {}
            "match" => {
                let side = |key: &str| value.get(key).map(value_said).unwrap_or_default();
                let not = if value.get("op").and_then(Value::as_str) == Some("!=") {
                    "!= "
                } else {
                    ""
                };
                words.push(format!("{} {not}{}", side("left"), side("right")));
            }
            "jump" | "goto" => words.push(format!(
                "{kind} {}",
                value_said(value.get("target").unwrap_or(value))
            )),
            "snat" | "dnat" | "masquerade" | "redirect" => {
                let part = |key: &str| value.get(key).map(value_said);
                let to = match (part("addr"), part("port")) {
                    (Some(address), Some(port)) => format!(" to {address}:{port}"),
                    (Some(address), None) => format!(" to {address}"),
                    (None, Some(port)) => format!(" to :{port}"),
                    (None, None) => String::new(),
                };
                words.push(format!("{kind}{to}"));
            }
            "vmap" => {
                let part = |key: &str| value.get(key).map(value_said).unwrap_or_default();
                words.push(format!("{} vmap {}", part("key"), part("data")));
            }
            "xt" => words.push(format!(
                "xt {}",
                value.get("name").map(value_said).unwrap_or_default()
            )),
            _ => words.push(kind.clone()),
        }
    }
    words.join(" ")
}

/// A value as nft would write it, nearly.
fn value_said(value: &Value) -> String {
    let joined = |all: &[Value], by: &str| all.iter().map(value_said).collect::<Vec<_>>().join(by);
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(all) => joined(all, ","),
        Value::Object(all) => match all.iter().next() {
            Some((kind, inner)) => match (kind.as_str(), inner) {
                ("meta", inner) => value_said(inner.get("key").unwrap_or(inner)),
                ("ct", inner) => format!("ct {}", value_said(inner.get("key").unwrap_or(inner))),
                ("payload", inner) => {
                    let part = |key: &str| inner.get(key).map(value_said).unwrap_or_default();
                    format!("{} {}", part("protocol"), part("field"))
                }
                ("prefix", inner) => {
                    let part = |key: &str| inner.get(key).map(value_said).unwrap_or_default();
                    format!("{}/{}", part("addr"), part("len"))
                }
                ("range", Value::Array(ends)) => joined(ends, "-"),
                ("set", Value::Array(all)) => format!("{{ {} }}", joined(all, ", ")),
                (_, Value::Null) => kind.clone(),
                (kind, _) => kind.to_owned(),
            },
            None => String::new(),
        },
        other => other.to_string(),
    }
}
