//! What is in force without being written, and has no words in the file's language: for
//! `tapgate show config --expanded`, each with the place in the file that it belongs to.

use std::collections::BTreeMap;

use serde::Serialize;
use tapgate_engine::config::policy::Rule;
use tapgate_engine::config::{Config, Guest, MAIN, MAIN_PRIORITY, RouteAction, Segment};
use tapgate_engine::snapshot::Snapshot;

/// Something that is in force.
#[derive(Debug, Clone, Serialize)]
pub struct Remark {
    /// Where it belongs: keys and indices from the top of the file; what is there need not be written.
    pub at: Vec<Segment>,
    /// What it is.
    pub text: String,
}

impl Remark {
    /// About the whole file.
    pub fn of_all(text: &str) -> Self {
        Self {
            at: Vec::new(),
            text: text.to_owned(),
        }
    }
}

macro_rules! place {
    ($($segment:expr),*) => { vec![$(Segment::from($segment)),*] };
}

/// What holds between two sides where no rule says anything.
const UNRULED: [&str; 5] = [
    "where no rule above decides: guests of one network reach each other, and the `public` addresses and forwarded ports of all;",
    "guests open flows to the internet; inside addresses of another network are refused them (other-network);",
    "from outside, `public` addresses and forwarded ports are reached; inside addresses are not, whatever rules say;",
    "bridged guests open flows to the uplink's segment, and are reached from there;",
    "answers and errors follow their flow; the router's own services are not asked about",
];

/// All of it.
pub fn remarks(config: &Config) -> Vec<Remark> {
    let mut remarks = Remarks(Vec::new());
    remarks.add(
        Vec::new(),
        "Written by `tapgate show config --expanded`. A condition that is absent holds for all, a key that is absent is off",
    );
    remarks.link_local(config);
    remarks.guests(config);
    remarks.main(config);
    remarks.rules(config);
    remarks.translations(config);
    remarks.policy(config);
    remarks.0
}

struct Remarks(Vec<Remark>);

impl Remarks {
    fn add(&mut self, at: Vec<Segment>, text: impl Into<String>) {
        let text = text.into();
        self.0.push(Remark { at, text });
    }

    /// Link-local addresses that nobody wrote.
    fn link_local(&mut self, config: &Config) {
        let snapshot = Snapshot::build(config, None);
        for interface in config.interfaces() {
            let compiled = snapshot.interface_id(&interface.name);
            let compiled = compiled.and_then(|id| snapshot.interface(id));
            let Some(own) = compiled.and_then(|interface| interface.link_local) else {
                continue;
            };
            if !interface.addresses.iter().any(|net| net.addr() == own) {
                let section = match interface.kind.is_personality() {
                    true => "personalities",
                    false => "networks",
                };
                let at = place![section, &interface.name, "addresses"];
                self.add(at, format!("also {own}/64, as there is IPv6 on the link"));
            }
        }
    }

    fn guests(&mut self, config: &Config) {
        for guest in config.guests() {
            let network = &config.interfaces()[guest.network];
            let at = |key: &str| place!["guests", &guest.name, key];
            if guest.mac.is_none() {
                self.add(at("mac"), "mac: learnt, from its port only");
            }
            for (what, limit) in [
                ("sessions", guest.limits.sessions),
                ("ports", guest.limits.ports),
            ] {
                if limit.is_none() {
                    let text =
                        format!("limits.{what}: as many as it leaves to others, alone half of all");
                    self.add(at("limits"), text);
                }
            }
            if let Some(address) = guest
                .dhcp6_address
                .filter(|_| network.services.dhcp6.is_some())
            {
                self.add(at("dhcp"), format!("DHCPv6 hands out {address}"));
            }
        }
    }

    /// Connected prefixes and guests' own, which `main` has without a word.
    fn main(&mut self, config: &Config) {
        let at = || place!["tables", MAIN];
        let names = |interfaces: &[usize]| {
            let names = interfaces
                .iter()
                .map(|index| &*config.interfaces()[*index].name);
            names.collect::<Vec<_>>().join(" or ")
        };
        let table = &config.tables()[0];
        let written = config.file().tables.get(MAIN).map_or(0, Vec::len);
        let connected = table.routes.len().saturating_sub(written);
        for route in &table.routes[..connected] {
            if let RouteAction::Forward(forward) = &route.action {
                let (to, dev) = (route.to, names(&forward.hops[0].interfaces));
                self.add(
                    at(),
                    format!("{MAIN}: {{ to = \"{to}\", dev = \"{dev}\" }}, connected"),
                );
            }
        }
        for guest in config.guests() {
            let network = &config.interfaces()[guest.network];
            let dev = match network.kind.bridged() {
                None => format!("dev = \"{}\"", network.name),
                Some(_) => "by a personality on its segment that may send the packet".to_owned(),
            };
            for to in guest.owned() {
                let name = &guest.name;
                self.add(
                    at(),
                    format!("{MAIN}: {{ to = \"{to}\", {dev} }}, guest \"{name}\""),
                );
            }
        }
    }

    fn rules(&mut self, config: &Config) {
        let rules = &config.file().routing.rules;
        let mut priorities: Vec<u32> = rules.iter().map(|rule| rule.priority).collect();
        priorities.sort_unstable();
        let before = priorities.partition_point(|priority| *priority < MAIN_PRIORITY);
        let at = |n: usize| place!["routing", "rules", n];
        self.add(
            at(0),
            "{ priority = 0, lookup = \"local\" }: what is for the router's own addresses",
        );
        let main = format!("{{ priority = {MAIN_PRIORITY}, lookup = \"{MAIN}\" }}");
        self.add(at(before), main);
    }

    fn translations(&mut self, config: &Config) {
        for (n, entry) in config.one_to_one().iter().enumerate() {
            if !entry.is_of_prefixes() {
                let name = &config.interfaces()[entry.interface].name;
                self.add(
                    place!["nat", "one_to_one", n],
                    format!("of personality \"{name}\""),
                );
            }
        }
        for (n, entry) in config.snat().iter().enumerate() {
            let name = &config.interfaces()[entry.interface].name;
            self.add(
                place!["nat", "snat", n],
                format!("for what leaves by \"{name}\""),
            );
        }
    }

    fn policy(&mut self, config: &Config) {
        let policy = &config.file().policy;
        for (number, name) in (0..).zip(policy.zones.keys()) {
            let by_network = |(n, guest): (usize, &Guest)| {
                let checked = config.policy();
                let is_in = checked.guest_zones[n].is_none()
                    && checked.interface_zones[guest.network] == Some(number);
                is_in.then(|| guest.name.clone())
            };
            let guests = config.guests().iter().enumerate();
            let guests: Vec<String> = guests.filter_map(by_network).collect();
            if !guests.is_empty() {
                let text = format!("with the guests of its networks: {}", guests.join(", "));
                self.add(place!["policy", "zones", name], text);
            }
        }
        for (n, rule) in policy.rules.iter().enumerate() {
            self.sets(config, place!["policy", "rules", n], rule);
        }
        for (name, group) in &policy.groups {
            let lists = [
                ("in", &group.into[..]),
                ("out", group.out.as_deref().unwrap_or_default()),
            ];
            for (key, rules) in lists {
                for (n, rule) in rules.iter().enumerate() {
                    self.sets(config, place!["policy", "groups", name, key, n], rule);
                }
            }
        }
        let at = policy.default.len();
        let at = match at {
            0 => place!["policy", "default"],
            _ => place!["policy", "default", at],
        };
        for line in UNRULED {
            self.add(at.clone(), line);
        }
    }

    /// The addresses behind the names in a rule.
    fn sets(&mut self, config: &Config, at: Vec<Segment>, rule: &Rule) {
        let mut named = BTreeMap::new();
        for name in rule.source.0.iter().chain(&rule.destination.0) {
            if let Some(set) = config.file().policy.sets.get(name) {
                let prefixes: Vec<String> = set.iter().map(ToString::to_string).collect();
                named.insert(name, prefixes.join(", "));
            }
        }
        for (name, prefixes) in named {
            self.add(at.clone(), format!("{name}: {prefixes}"));
        }
    }
}
