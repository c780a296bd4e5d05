//! `[routing] rules`.

use std::collections::BTreeMap;

use super::check::{Check, place};
use crate::config::condition::Condition;
use crate::config::{
    File, FileRule, Interface, MAIN, MAIN_PRIORITY, Rule, RuleVerdict, Segment, Table,
};

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
        for (n, rule) in file.routing.rules.iter().enumerate() {
            self.priority(n, rule.priority, &mut seen);
            let condition = self.condition(n, rule, interfaces);
            if let Some(verdict) = self.verdict(n, rule, tables) {
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
        let iif = rule.iif.as_ref();
        Condition {
            from: rule.from.map(|prefix| prefix.0.trunc()),
            to: rule.to.map(|prefix| prefix.0.trunc()),
            iif: iif.and_then(|name| self.routed(at("iif"), name, interfaces)),
        }
    }

    /// What becomes of a packet that rule `n` applies to; `None` if the rule does not say it.
    fn verdict(&mut self, n: usize, rule: &FileRule, tables: &[Table]) -> Option<RuleVerdict> {
        let at = |key: &str| place!["routing", "rules", n, key];
        if rule.suppress_prefixlength.is_some() && rule.lookup.is_none() {
            self.fault(
                at("suppress_prefixlength"),
                "\"suppress_prefixlength\" is about a table's routes, and no table is looked up",
                "add `lookup = \"TABLE\"`, or remove it",
            );
        }
        match (&rule.lookup, rule.action) {
            (Some(name), None) => {
                let table = tables.iter().position(|table| table.name == *name);
                if table.is_none() {
                    let known: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                    self.undefined(at("lookup"), "table", name, &known, "[tables]");
                }
                Some(RuleVerdict::Lookup {
                    table: table?,
                    suppress_prefixlength: rule.suppress_prefixlength,
                })
            }
            (None, Some(action)) => Some(RuleVerdict::End(action)),
            _ => {
                self.fault(
                    place!["routing", "rules", n],
                    "a rule says what to do, once",
                    "write exactly one of `lookup = \"TABLE\"` and `action = \"unreachable\"`",
                );
                None
            }
        }
    }
}
