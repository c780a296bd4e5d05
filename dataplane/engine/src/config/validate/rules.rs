//! `[routing] rules`.

use std::collections::{BTreeMap, HashSet};

use super::check::{Check, place};
use crate::config::condition::{Condition, ECN, LEGACY_TOS, OWN, Origin, Tos};
use crate::config::policy::WITH_PORTS;
use crate::config::{
    File, FileRule, Interface, MAIN, MAIN_PRIORITY, Rule, RuleAction, RuleEnd, RuleVerdict,
    Segment, Table,
};

/// The longest prefix of IPv6.
const LONGEST: u8 = 128;
/// The table of own addresses in Linux, which no rule asks here.
const LOCAL: &str = "local";
/// Rules, at most: of each the router keeps a bit for each prefix that a rule names, so that many take 64 MB.
const MOST: usize = 16_384;

impl Check {
    /// Checks all rules, and sorts them with the one for [`MAIN`] among them.
    pub(super) fn rules(
        &mut self,
        file: &File,
        interfaces: &[Interface],
        tables: &[Table],
    ) -> Vec<Rule> {
        let mut seen = BTreeMap::new();
        let mut rules = vec![Rule {
            priority: MAIN_PRIORITY,
            condition: Condition::ANY,
            verdict: RuleVerdict::Lookup {
                table: 0,
                suppress_prefixlength: None,
            },
        }];
        if file.routing.rules.len() > MOST {
            self.fault(
                place!["routing", "rules"],
                format!("{} rules are more than {MOST}", file.routing.rules.len()),
                "join rules that lead to the same table: a shorter prefix, or a range of ports",
            );
            return rules;
        }
        let all = file.routing.rules.iter().map(|rule| rule.priority);
        let all: HashSet<u32> = all.chain([MAIN_PRIORITY]).collect();
        for (n, rule) in file.routing.rules.iter().enumerate() {
            self.priority(n, rule.priority, &mut seen);
            let condition = self.condition(n, rule, interfaces);
            if let Some(verdict) = self.verdict(n, rule, (&all, tables)) {
                rules.push(Rule {
                    priority: rule.priority,
                    condition,
                    verdict,
                });
            }
        }
        rules.sort_by_key(|rule| rule.priority);
        rules
    }

    /// A priority is nobody else's: not [`MAIN`]'s, not the own addresses', not another rule's.
    fn priority(&mut self, n: usize, priority: u32, seen: &mut BTreeMap<u32, Vec<Segment>>) {
        let at = place!["routing", "rules", n, "priority"];
        if priority == MAIN_PRIORITY {
            self.fault(
                at,
                format!("{MAIN_PRIORITY} is the priority of table \"{MAIN}\""),
                "choose another; rules below it come before the connected prefixes, rules above it after",
            );
        } else if priority == 0 {
            self.fault(
                at,
                "0 is the priority of the router's own addresses",
                "write 1 or more",
            );
        } else {
            self.unique(
                seen,
                priority,
                at,
                &format!("two rules have priority {priority}"),
                "give each rule a priority of its own, so that their order is certain",
            );
        }
    }

    /// What a packet must be for rule `n` to apply.
    fn condition(
        &mut self,
        n: usize,
        rule: &FileRule,
        interfaces: &[Interface],
    ) -> Condition<usize> {
        let at = |key: &str| place!["routing", "rules", n, key];
        for (prefix, key) in [(rule.from, "from"), (rule.to, "to")] {
            if let Some(prefix) = prefix.filter(|prefix| prefix.has_host_bits()) {
                self.fault(
                    at(key),
                    format!("{prefix} has bits set beyond its prefix length"),
                    format!(
                        "write {}, or {} for the one address",
                        prefix.0.trunc(),
                        prefix.0.addr()
                    ),
                );
            }
        }
        if let (Some(from), Some(to)) = (rule.from, rule.to)
            && from.0.addr().is_ipv4() != to.0.addr().is_ipv4()
        {
            self.fault(
                at("to"),
                "`from` and `to` are of different families",
                "no packet could match: correct one of them",
            );
        }
        let iif = rule.iif.as_deref().and_then(|name| match name {
            OWN => Some(Origin::Own),
            _ => {
                let found = self.routed(at("iif"), name, interfaces);
                found.map(Origin::Interface)
            }
        });
        let oif = rule.oif.as_ref();
        let oif = oif.and_then(|name| self.routed(at("oif"), name, interfaces));
        if oif.is_some() && matches!(iif, Some(Origin::Interface(_))) && !rule.not {
            self.fault(
                at("oif"),
                "what came in by an interface is bound to none: no packet could match",
                format!("remove `iif`, or write `iif = \"{OWN}\"`: `oif` is for what the router answers by a personality"),
            );
        }
        self.ports_of_rule(n, rule);
        Condition {
            not: rule.not,
            from: rule.from.map(|prefix| prefix.0.trunc()),
            to: rule.to.map(|prefix| prefix.0.trunc()),
            iif,
            oif,
            fwmark: rule.fwmark,
            tos: self.tos(n, rule),
            ipproto: rule.ipproto,
            sport: rule.sport,
            dport: rule.dport,
        }
    }

    /// Rules see the ports of TCP and UDP alone.
    fn ports_of_rule(&mut self, n: usize, rule: &FileRule) {
        let Some(protocol) = rule.ipproto.filter(|_| !rule.not) else {
            return;
        };
        let has_ports = |number: &u8| WITH_PORTS.contains(number);
        for (key, asked) in [("sport", rule.sport), ("dport", rule.dport)] {
            if asked.is_some() && !protocol.numbers().iter().any(has_ports) {
                self.fault(
                    place!["routing", "rules", n, key],
                    format!("rules see ports of TCP and UDP alone: no packet of protocol {protocol} could match"),
                    format!("remove `{key}`, or write `ipproto = \"tcp\"` or \"udp\""),
                );
            }
        }
    }

    /// The type of service that rule `n` asks for, as Linux takes it.
    fn tos(&mut self, n: usize, rule: &FileRule) -> Option<Tos> {
        let at = |key: &str| place!["routing", "rules", n, key];
        if rule.tos.is_some() && rule.dscp.is_some() {
            self.fault(
                at("tos"),
                "`tos` and `dscp` are the same bits of a packet",
                "remove one of them",
            );
        }
        if let Some(dscp) = rule.dscp.filter(|dscp| *dscp > 63) {
            self.fault(
                at("dscp"),
                format!("a DSCP has six bits, and {dscp} has more"),
                "write 0 to 63",
            );
        }
        let ipv6 = [rule.from, rule.to].into_iter().flatten();
        let ipv6 = ipv6.into_iter().any(|prefix| prefix.0.addr().is_ipv6());
        let allowed = if ipv6 { !ECN } else { LEGACY_TOS };
        if let Some(tos) = rule.tos.filter(|tos| tos & !allowed != 0) {
            self.fault(
                at("tos"),
                format!("{tos:#x} has bits that no packet is compared by"),
                match tos & ECN {
                    0 => format!(
                        "write `dscp = {}` for all six bits, or a `tos` of 0x4 to 0x1c",
                        tos >> 2
                    ),
                    _ => "the lower two bits are ECN: write a multiple of 4".to_owned(),
                },
            );
        }
        let dscp = rule.dscp.map(Tos::Dscp);
        // As to Linux, 0 is any.
        dscp.or(rule.tos.filter(|tos| *tos != 0).map(Tos::Tos))
    }

    /// What becomes of a packet that rule `n` applies to; `None` if the rule does not say it.
    fn verdict(
        &mut self,
        n: usize,
        rule: &FileRule,
        (all, tables): (&HashSet<u32>, &[Table]),
    ) -> Option<RuleVerdict> {
        let at = |key: &str| place!["routing", "rules", n, key];
        if rule.suppress_prefixlength.is_some() && rule.lookup.is_none() {
            self.fault(
                at("suppress_prefixlength"),
                "\"suppress_prefixlength\" is about a table's routes, and no table is looked up",
                "add `lookup = \"TABLE\"`, or remove it",
            );
        }
        let is_none = |length: &u8| *length > LONGEST;
        if let Some(length) = rule.suppress_prefixlength.filter(is_none) {
            self.fault(
                at("suppress_prefixlength"),
                format!("{length} is no prefix length: all routes would be suppressed"),
                format!("write 0 to {LONGEST}: 0 passes over default routes"),
            );
        }
        match (&rule.lookup, rule.goto, rule.action) {
            (Some(name), None, None) => {
                // After the first one, which is `MAIN`, they are in the order of the file's map.
                let by_name = tables[1..].binary_search_by(|table| table.name.cmp(name));
                let table = match name == MAIN {
                    true => Some(0),
                    false => by_name.ok().map(|place| place + 1),
                };
                if name == LOCAL {
                    self.fault(
                        at("lookup"),
                        "the router's own addresses come first, without a rule",
                        "remove the rule; connected prefixes are in `main`",
                    );
                } else if table.is_none() {
                    let known: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                    self.undefined(at("lookup"), "table", name, &known, "[tables]");
                }
                Some(RuleVerdict::Lookup {
                    table: table?,
                    suppress_prefixlength: rule.suppress_prefixlength,
                })
            }
            (None, Some(target), None) => {
                if target <= rule.priority {
                    self.fault(
                        at("goto"),
                        format!("rule {target} does not come after rule {}", rule.priority),
                        "name a later rule: rules are asked in one direction, so that there is an end",
                    );
                } else if !all.contains(&target) {
                    self.fault(
                        at("goto"),
                        format!("there is no rule {target}"),
                        format!("name the priority of a later rule, or add `{{ priority = {target}, action = \"nop\" }}`"),
                    );
                }
                Some(RuleVerdict::Goto(target))
            }
            (None, None, Some(action)) => Some(match action {
                RuleAction::Nop => RuleVerdict::Nop,
                RuleAction::Blackhole => RuleVerdict::End(RuleEnd::Blackhole),
                RuleAction::Unreachable => RuleVerdict::End(RuleEnd::Unreachable),
                RuleAction::Prohibit => RuleVerdict::End(RuleEnd::Prohibit),
            }),
            _ => {
                self.fault(
                    place!["routing", "rules", n],
                    "a rule says what to do, once",
                    "write exactly one of `lookup = \"TABLE\"`, `goto = PRIORITY` and `action = \"unreachable\"`",
                );
                None
            }
        }
    }
}
