//! Random rules and routes, as tapgate's file and as commands of iproute2.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::ask::Answer;
use crate::random::Random;

/// Devices, each with a network of both families: 10.0.n.0/24 and 2001:db8:n::/64.
pub const DEVICES: u64 = 4;
/// Tables beside `main`.
const TABLES: u64 = 5;
/// The kernel's number of the first.
const FIRST_TABLE: u64 = 1_000;
/// The priority of `main`.
const MAIN: u32 = 32_766;

/// Prefixes within each other, and beside.
const PREFIXES: [[&str; 10]; 2] = [
    [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/15",
        "10.0.2.0/23",
        "10.0.3.0/24",
        "10.0.1.5/32",
        "198.51.100.0/24",
        "198.51.100.128/25",
        "198.51.100.130/32",
        "203.0.113.0/24",
    ],
    [
        "::/0",
        "2001:db8::/32",
        "2001:db8::/46",
        "2001:db8:2::/47",
        "2001:db8:3::/64",
        "2001:db8:1::5/128",
        "2001:db8:ff00::/40",
        "2001:db8:ff80::/41",
        "2001:db8:ff82::1/128",
        "2001:db9::/32",
    ],
];
const HOSTS: [[&str; 9]; 2] = [
    [
        "10.0.0.5",
        "10.0.1.5",
        "10.0.1.6",
        "10.0.2.7",
        "10.0.3.9",
        "198.51.100.1",
        "198.51.100.130",
        "203.0.113.77",
        "192.0.2.1",
    ],
    [
        "2001:db8:0::5",
        "2001:db8:1::5",
        "2001:db8:1::6",
        "2001:db8:2::7",
        "2001:db8:3::9",
        "2001:db8:ff00::1",
        "2001:db8:ff82::1",
        "2001:db9::77",
        "2001:dba::1",
    ],
];

#[derive(Debug)]
pub struct Sets {
    /// By table.
    routes: Vec<Vec<Route>>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Route {
    to: &'static str,
    metric: u32,
    kind: Kind,
}

/// What a route says of packets that take it.
#[derive(Debug, Default)]
struct Said {
    src: Option<IpAddr>,
    mtu: Option<u32>,
    advmss: Option<u32>,
}

#[derive(Debug)]
enum Kind {
    /// Device, next hop and weight of each.
    Unicast(Vec<(u64, Option<IpAddr>, u64)>, Said),
    Ends(&'static str),
}

#[derive(Debug, Default)]
struct Rule {
    priority: u32,
    /// Which families it is for.
    families: Vec<usize>,
    /// Keys and values as `ip rule` has them; of tapgate's file the values are strings.
    conditions: Vec<(&'static str, String)>,
    not: bool,
    verdict: Verdict,
}

#[derive(Debug, Default)]
enum Verdict {
    Lookup(u64, Option<u8>),
    Goto(u32),
    Ends(&'static str),
    #[default]
    Nop,
}

pub fn destination(family: usize, random: &mut Random) -> IpAddr {
    HOSTS[family][random.below(9) as usize].parse().unwrap()
}

/// Of what is forwarded: never one of the router's own.
pub fn source(family: usize, random: &mut Random) -> IpAddr {
    destination(family, random)
}

/// The router's address on a device.
pub fn own(family: usize, device: u64) -> IpAddr {
    let text = match family {
        0 => format!("10.0.{device}.254"),
        _ => format!("2001:db8:{device}::fe"),
    };
    text.parse().unwrap()
}

fn next_hop(family: usize, device: u64, random: &mut Random) -> IpAddr {
    let host = 1 + random.below(4);
    let text = match family {
        0 => format!("10.0.{device}.{host}"),
        _ => format!("2001:db8:{device}::{host:x}"),
    };
    text.parse().unwrap()
}

impl Sets {
    pub fn random(random: &mut Random) -> Self {
        let routes = (0..TABLES).map(|_| {
            let mut routes: Vec<Route> = Vec::new();
            for _ in 0..random.below(12) {
                let route = Route::random(random);
                let same = |other: &Route| (other.to, other.metric) == (route.to, route.metric);
                if !routes.iter().any(same) {
                    routes.push(route);
                }
            }
            routes
        });
        let routes = routes.collect();
        let mut rules: BTreeMap<u32, Rule> = BTreeMap::new();
        // Few are asked one after the other, many are not.
        let count = match random.chance(25) {
            true => 34 + random.below(40),
            false => random.below(14),
        };
        for _ in 0..count {
            let priority = 1 + random.below(40_000) as u32;
            if priority != MAIN {
                rules.insert(priority, Rule::random(priority, random));
            }
        }
        // One that is there for both families leads to one that is.
        let both: Vec<u32> = rules
            .values()
            .filter(|r| r.families.len() == 2)
            .map(|r| r.priority)
            .collect();
        for rule in rules.values_mut() {
            if random.chance(15) {
                let later: Vec<u32> = both
                    .iter()
                    .copied()
                    .chain([MAIN])
                    .filter(|p| *p > rule.priority)
                    .collect();
                if !later.is_empty() {
                    rule.verdict = Verdict::Goto(later[random.below(later.len() as u64) as usize]);
                }
            }
        }
        Self {
            routes,
            rules: rules.into_values().collect(),
        }
    }

    pub fn toml(&self) -> String {
        let mut text = String::new();
        for n in 0..DEVICES {
            let _ = writeln!(
                text,
                "[ports.p{n}]\nmemory = true\nsource = \"off\"\n[networks.n{n}]\nports = [\"p{n}\"]\n\
                 mac = \"02:00:00:00:00:0{n}\"\naddresses = [\"10.0.{n}.254/24\", \"2001:db8:{n}::fe/64\"]"
            );
        }
        text.push_str("[tables]\n");
        for (n, routes) in self.routes.iter().enumerate() {
            let routes: Vec<String> = routes.iter().map(Route::toml).collect();
            let _ = writeln!(text, "t{n} = [\n  {}\n]", routes.join(",\n  "));
        }
        for rule in &self.rules {
            text += &rule.toml();
        }
        text
    }

    /// What gives the kernel those of a family (0: IPv4).
    pub fn commands(&self, family: usize) -> String {
        let mut text = String::new();
        for (n, routes) in self.routes.iter().enumerate() {
            for route in routes.iter().filter(|route| route.family() == family) {
                let _ = writeln!(text, "route add {}", route.command(n));
            }
        }
        for rule in self.rules_of(family) {
            let _ = writeln!(text, "rule add {}", rule.command(family));
        }
        text
    }

    /// What takes them from it.
    pub fn removal(&self, family: usize) -> String {
        let mut text = String::new();
        for rule in self.rules_of(family) {
            let _ = writeln!(text, "rule del priority {}", rule.priority);
        }
        for (n, routes) in self.routes.iter().enumerate() {
            if routes.iter().any(|route| route.family() == family) {
                let _ = writeln!(text, "route flush table {}", FIRST_TABLE + n as u64);
            }
        }
        text
    }

    fn rules_of(&self, family: usize) -> impl Iterator<Item = &Rule> {
        let rules = self.rules.iter();
        rules.filter(move |rule| rule.families.contains(&family))
    }

    /// Whether both are next hops of one route that has several.
    pub fn are_of_one_route(&self, ours: &Answer, theirs: &Answer) -> bool {
        let is_among = |answer: &Answer, hops: &[(u64, Option<IpAddr>, u64)]| match answer {
            Answer::Way {
                device, next_hop, ..
            } => hops
                .iter()
                .any(|(dev, via, _)| dev == device && via.is_none_or(|via| via == *next_hop)),
            _ => false,
        };
        let sizes = |answer: &Answer| match answer {
            Answer::Way { sizes, .. } => Some(*sizes),
            _ => None,
        };
        self.routes.iter().flatten().any(|route| match &route.kind {
            Kind::Unicast(hops, said) if hops.len() > 1 => {
                let same = sizes(ours) == Some((said.mtu, said.advmss));
                same && sizes(theirs) == sizes(ours)
                    && is_among(ours, hops)
                    && is_among(theirs, hops)
            }
            _ => false,
        })
    }
}

impl Route {
    fn random(random: &mut Random) -> Self {
        let family = random.below(2) as usize;
        let kind = match random.below(10) {
            0 => Kind::Ends("blackhole"),
            1 => Kind::Ends("unreachable"),
            2 => Kind::Ends("prohibit"),
            3 => Kind::Ends("throw"),
            n => {
                let several = if n == 9 { 2 + random.below(2) } else { 1 };
                let hops = (0..several).map(|_| {
                    let device = random.below(DEVICES);
                    // IPv4 by a router of IPv6, now and then.
                    let family = family.max(usize::from(random.chance(10)));
                    let via = several > 1 || random.chance(80);
                    let via = via.then(|| next_hop(family, device, random));
                    (device, via, 1 + random.below(3))
                });
                let mut hops: Vec<_> = hops.collect();
                hops.sort_unstable();
                hops.dedup_by_key(|(device, via, _)| (*device, *via));
                let src = (hops.len() == 1 && random.chance(20))
                    .then(|| own(family, random.below(DEVICES)));
                let mtu = random
                    .chance(30)
                    .then(|| [1_280, 1_400, 1_500][random.below(3) as usize]);
                let advmss = random
                    .chance(20)
                    .then(|| [536, 1_300][random.below(2) as usize]);
                Kind::Unicast(hops, Said { src, mtu, advmss })
            }
        };
        Self {
            to: PREFIXES[family][random.below(10) as usize],
            metric: [0, 0, 5, 10][random.below(4) as usize],
            kind,
        }
    }

    fn family(&self) -> usize {
        usize::from(self.to.contains(':'))
    }

    fn toml(&self) -> String {
        let mut text = format!("{{ to = \"{}\"", self.to);
        if self.metric > 0 {
            let _ = write!(text, ", metric = {}", self.metric);
        }
        let hop = |(device, via, _): &(u64, Option<IpAddr>, u64)| {
            let via = via.map_or(String::new(), |via| format!(", via = \"{via}\""));
            format!("dev = \"n{device}\"{via}")
        };
        match &self.kind {
            Kind::Ends(kind) => {
                let _ = write!(text, ", type = \"{kind}\"");
            }
            Kind::Unicast(hops, said) => {
                match &hops[..] {
                    [one] => text += &format!(", {}", hop(one)),
                    several => {
                        let hops = several
                            .iter()
                            .map(|it| format!("{{ {}, weight = {} }}", hop(it), it.2));
                        text += &format!(", nexthops = [{}]", Vec::from_iter(hops).join(", "));
                    }
                }
                text += &said
                    .src
                    .map_or(String::new(), |src| format!(", src = \"{src}\""));
                for (key, size) in [("mtu", said.mtu), ("advmss", said.advmss)] {
                    text += &size.map_or(String::new(), |size| format!(", {key} = {size}"));
                }
            }
        }
        text + " }"
    }

    fn command(&self, table: usize) -> String {
        let ipv6 = self.family() == 1;
        let kind = match &self.kind {
            Kind::Ends(kind) => kind,
            Kind::Unicast(..) => "unicast",
        };
        // Of IPv6 no metric is 1024.
        let (table, metric) = (FIRST_TABLE + table as u64, self.metric + u32::from(ipv6));
        let mut text = format!("{kind} {} table {table} metric {metric}", self.to);
        let hop = |(device, via, _): &(u64, Option<IpAddr>, u64)| {
            let via = via.map_or(String::new(), |via| {
                format!("via inet{} {via} ", if via.is_ipv6() { "6" } else { "" })
            });
            format!("{via}dev v{device}")
        };
        if let Kind::Unicast(hops, said) = &self.kind {
            // Before the next hops: what stands behind one is said of that.
            text += &said.src.map_or(String::new(), |src| format!(" src {src}"));
            for (key, size) in [("mtu", said.mtu), ("advmss", said.advmss)] {
                text += &size.map_or(String::new(), |size| format!(" {key} {size}"));
            }
            match &hops[..] {
                [one] => text += &format!(" {}", hop(one)),
                several => {
                    for it in several {
                        text += &format!(" nexthop {} weight {}", hop(it), it.2);
                    }
                }
            }
        }
        text
    }
}

impl Rule {
    fn random(priority: u32, random: &mut Random) -> Self {
        let mut rule = Self {
            priority,
            families: vec![0, 1],
            not: random.chance(15),
            ..Self::default()
        };
        let family = random.below(2) as usize;
        for key in ["from", "to"] {
            if random.chance(25) {
                rule.families = vec![family];
                let prefix = PREFIXES[family][1 + random.below(9) as usize];
                rule.conditions.push((key, prefix.to_owned()));
            }
        }
        let mut add = |percent: u64, key: &'static str, values: &[&str]| {
            if random.chance(percent) {
                let value = values[random.below(values.len() as u64) as usize];
                rule.conditions.push((key, value.to_owned()));
            }
        };
        add(20, "iif", &["v0", "v1", "v2", "v3", "lo"]);
        add(
            15,
            "fwmark",
            &["0x1", "0x2", "0x11", "0x10/0xf0", "0x0/0xff", "0x20/0x30"],
        );
        add(12, "tos", &["0x4", "0x8", "0x10", "0x1c"]);
        add(12, "ipproto", &["tcp", "udp", "icmp", "132"]);
        add(10, "sport", &["22", "80-443", "1-5000"]);
        add(12, "dport", &["22", "80-443", "1024-65534"]);
        rule.without_ports_of_others();
        let came = rule
            .conditions
            .iter()
            .any(|(key, value)| *key == "iif" && value != "lo");
        if !came && random.chance(12) {
            rule.conditions
                .push(("oif", format!("v{}", random.below(DEVICES))));
        }
        rule.verdict = match random.below(10) {
            0 => Verdict::Ends(["blackhole", "unreachable", "prohibit"][random.below(3) as usize]),
            1 => Verdict::Nop,
            n => {
                let suppress = [0, 8, 24, 47][random.below(4) as usize];
                Verdict::Lookup(random.below(TABLES), (n == 2).then_some(suppress))
            }
        };
        rule
    }

    /// A rule that asks for ports of a protocol in which none are seen is refused.
    fn without_ports_of_others(&mut self) {
        let others = ["icmp", "132"];
        let mut all = self.conditions.iter();
        let is_other =
            |(key, value): &(&str, String)| *key == "ipproto" && others.contains(&&**value);
        if all.any(is_other) && !self.not {
            self.conditions
                .retain(|(key, _)| !["sport", "dport"].contains(key));
        }
    }

    fn toml(&self) -> String {
        let mut text = format!("[[routing.rules]]\npriority = {}\n", self.priority);
        for (key, value) in &self.conditions {
            let value = match (*key, value.strip_prefix('v')) {
                ("iif" | "oif", Some(number)) => format!("\"n{number}\""),
                ("tos", _) => value.clone(),
                ("ipproto", _) if value == "132" => value.clone(),
                _ => format!("\"{value}\""),
            };
            let _ = writeln!(text, "{key} = {value}");
        }
        if self.not {
            text += "not = true\n";
        }
        let _ = match self.verdict {
            Verdict::Lookup(table, None) => writeln!(text, "lookup = \"t{table}\""),
            Verdict::Lookup(table, Some(longest)) => {
                writeln!(
                    text,
                    "lookup = \"t{table}\"\nsuppress_prefixlength = {longest}"
                )
            }
            Verdict::Goto(target) => writeln!(text, "goto = {target}"),
            Verdict::Ends(action) => writeln!(text, "action = \"{action}\""),
            Verdict::Nop => writeln!(text, "action = \"nop\""),
        };
        text
    }

    fn command(&self, family: usize) -> String {
        let mut text = format!("priority {}", self.priority);
        if self.not {
            text += " not";
        }
        for (key, value) in &self.conditions {
            let value = match (*key, value.as_str(), family) {
                ("ipproto", "icmp", 1) => "58",
                (_, value, _) => value,
            };
            text += &format!(" {key} {value}");
        }
        text += &match self.verdict {
            Verdict::Lookup(table, suppress) => {
                let suppress = suppress.map(|longest| format!(" suppress_prefixlength {longest}"));
                format!(
                    " lookup {}{}",
                    FIRST_TABLE + table,
                    suppress.unwrap_or_default()
                )
            }
            Verdict::Goto(target) => format!(" goto {target}"),
            Verdict::Ends(action) => format!(" {action}"),
            Verdict::Nop => " nop".to_owned(),
        };
        text
    }
}
