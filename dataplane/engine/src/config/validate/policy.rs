//! `[policy]`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::check::{Check, place};
use crate::config::policy::{
    Checked, CheckedRule, Default, ICMP, Origin, PortSpan, Rule, Side, WITH_PORTS,
};
use crate::config::value::{OneOrMore, PortRange};
use crate::config::{File, Guest, Interface, Prefix, Segment};

/// Most rules: their numbers are 16 bits wide.
const MOST_RULES: usize = 65_000;
/// Any port.
const ANY: PortSpan = (0, u16::MAX);

/// Whatever has a name that rules may use.
type Names<'f> = BTreeMap<&'f str, Side>;

impl Check {
    /// Checks the policy as a whole.
    pub(super) fn policy(
        &mut self,
        file: &File,
        interfaces: &[Interface],
        guests: &[Guest],
    ) -> Checked {
        let policy = &file.policy;
        let count = policy.rules.len() + policy.default.len();
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
            rules: Vec::new(),
        };
        self.zones(file, &members, &mut checked);
        let mut names = members;
        let zones = policy.zones.keys().zip(0..);
        names.extend(zones.map(|(name, n)| (name.as_str(), Side::Zone(n))));
        for (n, rule) in policy.rules.iter().enumerate() {
            let rule = self.policy_rule(n, rule, file, &names);
            checked.rules.push(rule);
        }
        for (n, default) in policy.default.iter().enumerate() {
            let rule = self.policy_default(n, default, &names);
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
                    Side::Zone(_) => {}
                }
            }
        }
    }

    fn policy_rule(
        &mut self,
        n: usize,
        rule: &Rule,
        file: &File,
        names: &Names<'_>,
    ) -> CheckedRule {
        let at = |key: &str| place!["policy", "rules", n, key];
        let is_icmp = |number: &u8| ICMP.contains(number);
        let protocols: Vec<u8> = rule
            .proto
            .0
            .iter()
            .flat_map(|p| p.numbers())
            .copied()
            .collect();
        let with_ports = !protocols.is_empty() && protocols.iter().all(|p| WITH_PORTS.contains(p));
        for (key, ports) in [("port", &rule.port), ("source_port", &rule.source_port)] {
            if !ports.is_empty() && !with_ports {
                let remedy = "write `proto = \"tcp\"` or \"udp\", or leave the ports out";
                self.fault(
                    at(key),
                    "it names ports, but no protocol that has them",
                    remedy,
                );
            }
        }
        if !rule.icmp_type.is_empty() && (protocols.is_empty() || !protocols.iter().all(is_icmp)) {
            let remedy = "write `proto = \"icmp\"`, or leave the types out";
            self.fault(at("icmp_type"), "it names ICMP types, but not ICMP", remedy);
        }
        let services = protocols.iter().flat_map(|&protocol| {
            let spans: Vec<PortSpan> = match is_icmp(&protocol) {
                true => rule
                    .icmp_type
                    .0
                    .iter()
                    .map(|kind| {
                        let number = u16::from(kind.of(protocol));
                        (number, number)
                    })
                    .collect(),
                false => spans(&rule.port),
            };
            let spans = if spans.is_empty() { vec![ANY] } else { spans };
            spans.into_iter().map(move |span| (protocol, span))
        });
        let source_ports = protocols.iter().flat_map(|&protocol| {
            spans(&rule.source_port)
                .into_iter()
                .map(move |span| (protocol, span))
        });
        CheckedRule {
            origin: Origin::Rule(n),
            action: rule.action,
            from: self.sides(
                |m| place!["policy", "rules", n, "from", m],
                &rule.from,
                names,
            ),
            to: self.sides(|m| place!["policy", "rules", n, "to", m], &rule.to, names),
            services: services.collect(),
            source_ports: source_ports.collect(),
            source: self.addressed(
                |m| place!["policy", "rules", n, "source", m],
                &rule.source,
                file,
            ),
            destination: self.addressed(
                |m| place!["policy", "rules", n, "destination", m],
                &rule.destination,
                file,
            ),
        }
    }

    fn policy_default(&mut self, n: usize, default: &Default, names: &Names<'_>) -> CheckedRule {
        CheckedRule {
            origin: Origin::Default(n),
            action: default.action,
            from: self.sides(
                |m| place!["policy", "default", n, "from", m],
                &default.from,
                names,
            ),
            to: self.sides(
                |m| place!["policy", "default", n, "to", m],
                &default.to,
                names,
            ),
            source: Vec::new(),
            destination: Vec::new(),
            services: Vec::new(),
            source_ports: Vec::new(),
        }
    }

    fn sides(
        &mut self,
        at: impl Fn(usize) -> Vec<Segment>,
        written: &OneOrMore<String>,
        names: &Names<'_>,
    ) -> Vec<Side> {
        let written = written.0.iter().enumerate();
        written
            .filter_map(|(n, name)| self.side(at(n), name, names))
            .collect()
    }

    fn side(&mut self, at: Vec<Segment>, name: &str, names: &Names<'_>) -> Option<Side> {
        let found = names.get(name).copied();
        if found.is_none() {
            let known: Vec<&str> = names.keys().copied().collect();
            let section = "[policy.zones], [personalities], [networks] and [guests]";
            self.undefined(
                at,
                "zone, personality, network or guest",
                name,
                &known,
                section,
            );
        }
        found
    }

    /// Prefixes, and what is in sets.
    fn addressed(
        &mut self,
        at: impl Fn(usize) -> Vec<Segment>,
        written: &OneOrMore<String>,
        file: &File,
    ) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for (n, text) in written.0.iter().enumerate() {
            if let Ok(prefix) = text.parse::<Prefix>() {
                self.whole(at(n), prefix);
                nets.push(prefix.0.trunc());
            } else if let Some(set) = file.policy.sets.get(text) {
                if set.is_empty() {
                    let remedy = "put an address into it, or leave the rule out";
                    self.fault(at(n), format!("the set \"{text}\" is empty"), remedy);
                }
                nets.extend(set.iter().map(|prefix| prefix.0.trunc()));
            } else {
                let known: Vec<&str> = file.policy.sets.keys().map(String::as_str).collect();
                self.undefined(
                    at(n),
                    "address, prefix or set",
                    text,
                    &known,
                    "[policy.sets]",
                );
            }
        }
        nets
    }

    /// A prefix has no bits beyond its length.
    fn whole(&mut self, at: Vec<Segment>, prefix: Prefix) {
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

fn spans(ports: &OneOrMore<PortRange>) -> Vec<PortSpan> {
    ports
        .0
        .iter()
        .map(|range| (range.first, range.last))
        .collect()
}
