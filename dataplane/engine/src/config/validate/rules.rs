//! `[routing] rules`.

use std::collections::BTreeMap;

use super::check::{Check, place};
use crate::config::condition::Condition;
use crate::config::{File, Interface, MAIN, MAIN_PRIORITY, Rule, RuleVerdict, Table};

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
            let at = |key: &str| place!["routing", "rules", n, key];
            if rule.priority == MAIN_PRIORITY {
                self.fault(
                    at("priority"),
                    format!("{MAIN_PRIORITY} is the priority of table \"{MAIN}\""),
                    "choose another; rules below it come before the connected prefixes, rules above it after",
                );
            } else if rule.priority == 0 {
                self.fault(
                    at("priority"),
                    "0 is the priority of the router's own addresses",
                    "write 1 or more",
                );
            } else {
                self.unique(
                    &mut seen,
                    rule.priority,
                    at("priority"),
                    &format!("two rules have priority {}", rule.priority),
                    "give each rule a priority of its own, so that their order is certain",
                );
            }
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
            let iif = rule.iif.as_ref().and_then(|name| {
                let found = interfaces
                    .iter()
                    .position(|interface| interface.name == *name);
                if found.is_none() {
                    let known: Vec<&str> = interfaces.iter().map(|i| i.name.as_str()).collect();
                    self.undefined(
                        at("iif"),
                        "personality or network",
                        name,
                        &known,
                        "[personalities] and [networks]",
                    );
                }
                found
            });
            if rule.suppress_prefixlength.is_some() && rule.lookup.is_none() {
                self.fault(
                    at("suppress_prefixlength"),
                    "\"suppress_prefixlength\" is about a table's routes, and no table is looked up",
                    "add `lookup = \"TABLE\"`, or remove it",
                );
            }
            let verdict = match (&rule.lookup, rule.action) {
                (Some(name), None) => {
                    let Some(table) = tables.iter().position(|table| table.name == *name) else {
                        let known: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                        self.undefined(at("lookup"), "table", name, &known, "[tables]");
                        continue;
                    };
                    RuleVerdict::Lookup {
                        table,
                        suppress_prefixlength: rule.suppress_prefixlength,
                    }
                }
                (None, Some(action)) => RuleVerdict::End(action),
                _ => {
                    self.fault(
                        place!["routing", "rules", n],
                        "a rule says what to do, once",
                        "write exactly one of `lookup = \"TABLE\"` and `action = \"unreachable\"`",
                    );
                    continue;
                }
            };
            rules.push(Rule {
                priority: rule.priority,
                condition: Condition {
                    from: rule.from.map(|prefix| prefix.0.trunc()),
                    to: rule.to.map(|prefix| prefix.0.trunc()),
                    iif,
                },
                verdict,
            });
        }
        rules.sort_by_key(|rule| rule.priority);
        rules
    }
}
