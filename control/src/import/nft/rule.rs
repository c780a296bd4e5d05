//! One rule of nft.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::chains::{Line, Then, destinations};
use super::super::firewall::{Firewall, Origin, Verdict, Worn};
use super::super::line::Asked;
use super::super::matching::{Addresses, Devices, Family, Match, Service};
use super::super::untranslated::{MATCHES, TARGETS, why};
use super::super::words::{self, Goal, state};
use super::mark;
use super::said::value_said;
use super::values::{addresses, family, ports, protocols, range, span, strings};

/// A table by family and name.
pub(super) type Table = (String, String);
/// Elements of sets and maps, by table and name.
pub(super) type Elements = BTreeMap<(Table, String), Vec<Value>>;

/// What rules are read with.
pub(super) struct Reading<'r> {
    pub(super) firewall: &'r Firewall,
    pub(super) elements: &'r Elements,
    pub(super) table: &'r Table,
}

impl Reading<'_> {
    /// Reads one rule, which a verdict map makes several lines of.
    pub(super) fn rule(&self, expressions: &Value, family: Family, origin: &Origin) -> Vec<Line> {
        let mut when: Result<Match, String> = Ok(Match::default());
        let mut marks: Vec<Asked> = Vec::new();
        let mut lines: Vec<Line> = Vec::new();
        let line = |when: Result<Match, String>, marks: &[Asked], then: Then| Line {
            origin: origin.clone(),
            family,
            when,
            marks: marks.to_vec(),
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
                "match" => match self.mark(value) {
                    Some(Ok(asked)) => marks.push(asked),
                    Some(Err(why)) => when = when.and(Err(why)),
                    None => when = join(when, self.condition(value)),
                },
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
                        lines.push(line(join(when.clone(), more), &marks, then));
                    }
                }
                kind => {
                    let then = then(kind, value);
                    let ends = !matches!(then, Then::Other(_) | Then::Mark(_));
                    lines.push(line(when.clone(), &marks, then.clone()));
                    if let Then::Mark(marking) = then
                        && marks.iter().any(|asked| asked.of == marking.to)
                    {
                        let why = "it asks for a mark that it has changed by then";
                        when = when.and(Err(why.to_owned()));
                    }
                    if ends {
                        break;
                    }
                }
            }
        }
        lines
    }

    /// What a condition asks of a mark; `None`: nothing.
    fn mark(&self, value: &Value) -> Option<Result<Asked, String>> {
        let asked = |not| mark::asked(value.get("left")?, value.get("right")?, not);
        match negated(value) {
            Ok(not) => asked(not),
            Err(why) => asked(false).map(|_| Err(why)),
        }
    }

    fn condition(&self, value: &Value) -> Result<Match, String> {
        let not = negated(value)?;
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
                ("ip" | "ip6", "saddr") => {
                    when.source = addresses(&members, right, family(header), not)?
                }
                ("ip" | "ip6", "daddr") => {
                    when.destination = addresses(&members, right, family(header), not)?
                }
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
            let plain = Some(name).filter(|name| !name.starts_with('@'));
            let some = plain
                .and_then(|name| self.firewall.named(name))
                .and_then(|devices| devices.within);
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

/// Whether a condition is for all but what is on its right side.
fn negated(value: &Value) -> Result<bool, String> {
    match value.get("op").and_then(Value::as_str) {
        Some("==" | "in") | None => Ok(false),
        Some("!=") => Ok(true),
        Some(other) => Err(format!("\"{other}\" is not understood")),
    }
}

fn join(when: Result<Match, String>, more: Result<Match, String>) -> Result<Match, String> {
    let (when, more) = (when?, more?);
    when.and(&more)
        .ok_or_else(|| "it asks for what cannot be together".to_owned())
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
        "snat" | "dnat" if value.get("type_flags").is_some() => Then::Unclear(
            "each address becomes another: write `one_to_one` of the two prefixes".to_owned(),
        ),
        "snat" | "dnat" => match (range(value.get("addr")), span(value.get("port"))) {
            (Some(addresses), Ok(ports)) if kind == "snat" => Then::Snat(Worn::Addresses {
                ranges: vec![addresses],
                ports,
            }),
            (Some(addresses), Ok(ports)) => destinations(&[Goal {
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
        "mangle" => mark::then(value).unwrap_or_else(|| Then::Other(mangled(value).to_owned())),
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

/// What a statement changes, as iptables calls it.
fn mangled(value: &Value) -> &'static str {
    let is = |pointer: &str| value.pointer(pointer).is_some();
    match value.pointer("/key/payload/field").and_then(Value::as_str) {
        Some("dscp") => "DSCP",
        Some("ttl" | "hoplimit") => "TTL",
        _ if is("/key/tcp option") => "TCPMSS",
        _ => "CLASSIFY",
    }
}

fn by_iptables(name: &str) -> String {
    format!("{name} was written by iptables, and nft does not tell what it says: use iptables-save")
}

fn reason(kind: &str) -> String {
    let known = why(MATCHES, kind).or_else(|| why(TARGETS, kind));
    known.map_or_else(|| format!("a rule does not know \"{kind}\""), str::to_owned)
}
