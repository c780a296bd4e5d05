//! One rule of the policy.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::check::Check;
use super::policy::Names;
use crate::config::policy::{
    Action, CheckedRule, ICMP, Origin, PortSpan, Rule, RuleLimits, Side, WITH_PORTS,
};

use crate::config::value::{OneOrMore, PortRange};
use crate::config::{File, Prefix, Segment};

/// Any port.
const ANY: PortSpan = (0, u16::MAX);

impl Check {
    /// Checks the rule that is written at `place`.
    pub(super) fn policy_rule(
        &mut self,
        place: &[Segment],
        origin: Origin,
        rule: &Rule,
        file: &File,
        names: &Names<'_>,
    ) -> CheckedRule {
        let at = |key: &str| under(place, key);
        self.services_named(rule, at);
        self.verbs(rule, at);
        CheckedRule {
            origin,
            action: rule.action,
            log: rule.log,
            mark: rule.mark.unwrap_or(0),
            limits: limits(place, rule),
            from: self.sides(at("from"), &rule.from, names),
            to: self.sides(at("to"), &rule.to, names),
            services: services(rule),
            source_ports: source_ports(rule),
            source: self.addressed(at("source"), &rule.source, file),
            destination: self.addressed(at("destination"), &rule.destination, file),
        }
    }

    /// Ports and types go with the protocols that have them.
    fn services_named(&mut self, rule: &Rule, at: impl Fn(&str) -> Vec<Segment>) {
        let protocols = protocols(rule);
        let all_in = |known: &[u8]| {
            !protocols.is_empty() && protocols.iter().all(|protocol| known.contains(protocol))
        };
        for (key, ports) in [("port", &rule.port), ("source_port", &rule.source_port)] {
            if !ports.is_empty() && !all_in(&WITH_PORTS) {
                self.fault(
                    at(key),
                    "it names ports, but no protocol that has them",
                    "write `proto = \"tcp\"` or \"udp\", or leave the ports out",
                );
            }
        }
        if !rule.icmp_type.is_empty() && !all_in(&ICMP) {
            let remedy = "write `proto = \"icmp\"`, or leave the types out";
            self.fault(at("icmp_type"), "it names ICMP types, but not ICMP", remedy);
        }
    }

    /// What goes with flows that are let through.
    fn verbs(&mut self, rule: &Rule, at: impl Fn(&str) -> Vec<Segment>) {
        for (key, value) in [
            ("mark", rule.mark),
            ("rate", rule.rate),
            ("connections", rule.connections),
        ] {
            if value.is_some() && rule.action != Action::Accept {
                self.fault(
                    at(key),
                    format!("it lets nothing through that {key} could be for"),
                    format!("write `action = \"accept\"`, or leave {key} out"),
                );
            } else if value == Some(0) {
                let problem = match key {
                    "mark" => "0 is no mark".to_owned(),
                    _ => format!("with {key} = 0 nothing gets through"),
                };
                let remedy = "write 1 or more, or leave it out";
                self.fault(at(key), problem, remedy);
            }
        }
    }

    fn sides(
        &mut self,
        at: Vec<Segment>,
        written: &OneOrMore<String>,
        names: &Names<'_>,
    ) -> Vec<Side> {
        let written = written.0.iter().enumerate();
        written
            .filter_map(|(n, name)| self.side(under(&at, n), name, names))
            .collect()
    }

    /// Prefixes, and what is in sets.
    fn addressed(
        &mut self,
        at: Vec<Segment>,
        written: &OneOrMore<String>,
        file: &File,
    ) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for (n, text) in written.0.iter().enumerate() {
            let at = || under(&at, n);
            if let Ok(prefix) = text.parse::<Prefix>() {
                self.whole(at(), prefix);
                nets.push(prefix.0.trunc());
            } else if let Some(set) = file.policy.sets.get(text) {
                if set.is_empty() {
                    let remedy = "put an address into it, or leave the rule out";
                    self.fault(at(), format!("the set \"{text}\" is empty"), remedy);
                }
                nets.extend(set.iter().map(|prefix| prefix.0.trunc()));
            } else {
                let known: Vec<&str> = file.policy.sets.keys().map(String::as_str).collect();
                let what = "address, prefix or set";
                self.undefined(at(), what, text, &known, "[policy.sets]");
            }
        }
        nets
    }
}

/// The limits of the rule at `place`. Which of a list it is does not matter: a rule may move.
fn limits(place: &[Segment], rule: &Rule) -> Option<RuleLimits> {
    if rule.rate.is_none() && rule.connections.is_none() {
        return None;
    }
    let list = place.iter().filter_map(|segment| match segment {
        Segment::Key(key) => Some(key),
        Segment::Index(_) => None,
    });
    let unlimited = Rule {
        log: false,
        mark: None,
        rate: None,
        connections: None,
        ..rule.clone()
    };
    Some(RuleLimits {
        rule: FixedState::default().hash_one((list.collect::<Vec<_>>(), unlimited)),
        rate: rule.rate,
        connections: rule.connections,
    })
}

/// A place within another.
fn under(place: &[Segment], next: impl Into<Segment>) -> Vec<Segment> {
    let mut place = place.to_vec();
    place.push(next.into());
    place
}

fn protocols(rule: &Rule) -> Vec<u8> {
    let named = rule.proto.0.iter();
    named.flat_map(|name| name.numbers()).copied().collect()
}

fn services(rule: &Rule) -> Vec<(u8, PortSpan)> {
    let of = |protocol: u8| {
        let spans: Vec<PortSpan> = match ICMP.contains(&protocol) {
            true => {
                let kinds = rule.icmp_type.0.iter();
                let number = kinds.map(|kind| u16::from(kind.of(protocol)));
                number.map(|number| (number, number)).collect()
            }
            false => spans(&rule.port),
        };
        let spans = if spans.is_empty() { vec![ANY] } else { spans };
        spans.into_iter().map(move |span| (protocol, span))
    };
    protocols(rule).into_iter().flat_map(of).collect()
}

fn source_ports(rule: &Rule) -> Vec<(u8, PortSpan)> {
    let of = |protocol: u8| {
        let spans = spans(&rule.source_port).into_iter();
        spans.map(move |span| (protocol, span))
    };
    protocols(rule).into_iter().flat_map(of).collect()
}

fn spans(ports: &OneOrMore<PortRange>) -> Vec<PortSpan> {
    let ranges = ports.0.iter();
    ranges.map(|range| (range.first, range.last)).collect()
}
