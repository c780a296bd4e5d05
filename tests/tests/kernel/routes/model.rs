//! Random rules and tables, what they mean by a linear scan, and how they are written for tapgate.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use proptest::prelude::*;
use tapgate_engine::addr::MacAddr;

/// Networks 10.0.0.0/24 to 10.0.3.0/24, the router at .254 in each.
pub const NETWORKS: u8 = 4;
/// Hosts that packets go to and next hops: .1 to .6 in each network.
const HOSTS: u8 = 6;

/// A configuration: tables by index, rules in no order.
#[derive(Debug, Clone)]
pub struct Model {
    pub tables: Vec<Vec<Route>>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub to: Ipv4Net,
    pub action: Action,
}

#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Out by a network; via a host in it, or the destination itself is on the link.
    Forward {
        network: u8,
        via: Option<u8>,
    },
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
}

#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub priority: u32,
    pub from: Option<Ipv4Net>,
    pub to: Option<Ipv4Net>,
    pub iif: Option<u8>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    Lookup { table: usize, suppress: Option<u8> },
    Blackhole,
    Unreachable,
    Prohibit,
}

/// The first packet of a flow: from, to, and the network it comes in by.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub iif: u8,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Forwarded {
        network: u8,
        next_hop: Ipv4Addr,
    },
    /// ICMP 3/0.
    NetUnreachable,
    /// ICMP 3/1.
    HostUnreachable,
    /// ICMP 3/13.
    Prohibited,
    Silent,
}

impl Model {
    pub fn any() -> impl Strategy<Value = Self> {
        let table = proptest::collection::vec(Route::any(), 0..8).prop_map(distinct);
        let tables = proptest::collection::vec(table, 1..5);
        let rules = proptest::collection::vec(Rule::any(), 0..8);
        (tables, rules).prop_map(|(tables, mut rules)| {
            rules.sort_by_key(|rule| rule.priority);
            rules.dedup_by_key(|rule| rule.priority);
            for rule in &mut rules {
                if let Verdict::Lookup { table, .. } = &mut rule.verdict {
                    *table %= tables.len();
                }
            }
            Self { tables, rules }
        })
    }

    /// What `ip rule` and `ip route` mean: RFC 1812 §5.2.4.3 within a table, rules in order.
    pub fn outcome(&self, flow: &Flow) -> Outcome {
        let mut rules = self.rules.clone();
        rules.push(Rule {
            priority: 32_766,
            from: None,
            to: None,
            iif: None,
            verdict: Verdict::Lookup {
                table: usize::MAX,
                suppress: None,
            },
        });
        rules.sort_by_key(|rule| rule.priority);
        for rule in rules {
            let matches = rule.from.is_none_or(|from| from.contains(&flow.from))
                && rule.to.is_none_or(|to| to.contains(&flow.to))
                && rule.iif.is_none_or(|iif| iif == flow.iif);
            if !matches {
                continue;
            }
            let (table, suppress) = match rule.verdict {
                Verdict::Lookup { table, suppress } => (table, suppress),
                Verdict::Blackhole => return Outcome::Silent,
                Verdict::Unreachable => return Outcome::NetUnreachable,
                Verdict::Prohibit => return Outcome::Prohibited,
            };
            let connected;
            let routes = match self.tables.get(table) {
                Some(routes) => routes,
                None => {
                    connected = connected_routes();
                    &connected
                }
            };
            let mut best: Option<&Route> = None;
            for route in routes {
                let longer = best.is_none_or(|best| best.to.prefix_len() < route.to.prefix_len());
                if route.to.contains(&flow.to) && longer {
                    best = Some(route);
                }
            }
            match best.map(|route| (route.to, route.action)) {
                None | Some((_, Action::Throw)) => {}
                Some((_, Action::Blackhole)) => return Outcome::Silent,
                Some((_, Action::Unreachable)) => return Outcome::HostUnreachable,
                Some((_, Action::Prohibit)) => return Outcome::Prohibited,
                Some((to, Action::Forward { network, via })) => {
                    // Linux suppresses routes that lead somewhere, and only those.
                    if suppress.is_some_and(|longest| to.prefix_len() <= longest) {
                        continue;
                    }
                    let next_hop = via.map_or(flow.to, |host| Ipv4Addr::new(10, 0, network, host));
                    return Outcome::Forwarded { network, next_hop };
                }
            }
        }
        Outcome::NetUnreachable
    }

    /// The configuration file.
    pub fn toml(&self) -> String {
        let mut text = "[router]\nicmp_errors_per_second = 1000000\nsessions = 1024\n".to_owned();
        for n in 0..NETWORKS {
            let mac = network_mac(n);
            let _ = writeln!(text, "[ports.p{n}]\nmemory = true\nsource = \"off\"");
            let _ = writeln!(text, "[networks.n{n}]\nports = [\"p{n}\"]\nmac = \"{mac}\"");
            let _ = writeln!(text, "addresses = [\"10.0.{n}.254/24\"]");
        }
        text.push_str("[[policy.default]]\naction = \"accept\"\n[tables]\n");
        for (n, table) in self.tables.iter().enumerate() {
            let routes: Vec<String> = table.iter().map(Route::toml).collect();
            let _ = writeln!(text, "t{n} = [{}]", routes.join(", "));
        }
        for rule in &self.rules {
            text.push_str("[[routing.rules]]\n");
            let _ = writeln!(text, "priority = {}", rule.priority);
            for (key, prefix) in [("from", rule.from), ("to", rule.to)] {
                if let Some(prefix) = prefix {
                    let _ = writeln!(text, "{key} = \"{prefix}\"");
                }
            }
            if let Some(iif) = rule.iif {
                let _ = writeln!(text, "iif = \"n{iif}\"");
            }
            let _ = match rule.verdict {
                Verdict::Lookup {
                    table,
                    suppress: None,
                } => writeln!(text, "lookup = \"t{table}\""),
                Verdict::Lookup {
                    table,
                    suppress: Some(suppress),
                } => {
                    writeln!(
                        text,
                        "lookup = \"t{table}\"\nsuppress_prefixlength = {suppress}"
                    )
                }
                Verdict::Blackhole => writeln!(text, "action = \"blackhole\""),
                Verdict::Unreachable => writeln!(text, "action = \"unreachable\""),
                Verdict::Prohibit => writeln!(text, "action = \"prohibit\""),
            };
        }
        text
    }
}

impl Route {
    fn any() -> impl Strategy<Value = Self> {
        let forward = (0..NETWORKS, proptest::option::weighted(0.8, 1..=HOSTS))
            .prop_map(|(network, via)| Action::Forward { network, via });
        let action = prop_oneof![
            6 => forward,
            1 => Just(Action::Blackhole),
            1 => Just(Action::Unreachable),
            1 => Just(Action::Prohibit),
            1 => Just(Action::Throw),
        ];
        (prefix(), action).prop_map(|(to, action)| Self { to, action })
    }

    fn toml(&self) -> String {
        let to = self.to;
        let kind = match self.action {
            Action::Forward {
                network,
                via: Some(host),
            } => {
                return format!(
                    "{{ to = \"{to}\", dev = \"n{network}\", via = \"10.0.{network}.{host}\" }}"
                );
            }
            Action::Forward { network, via: None } => {
                return format!("{{ to = \"{to}\", dev = \"n{network}\" }}");
            }
            Action::Blackhole => "blackhole",
            Action::Unreachable => "unreachable",
            Action::Prohibit => "prohibit",
            Action::Throw => "throw",
        };
        format!("{{ to = \"{to}\", type = \"{kind}\" }}")
    }
}

impl Rule {
    fn any() -> impl Strategy<Value = Self> {
        let lookup = (any::<usize>(), proptest::option::weighted(0.3, 0..=32u8))
            .prop_map(|(table, suppress)| Verdict::Lookup { table, suppress });
        let verdict = prop_oneof![
            8 => lookup,
            1 => Just(Verdict::Blackhole),
            1 => Just(Verdict::Unreachable),
            1 => Just(Verdict::Prohibit),
        ];
        let priority = prop_oneof![1..32_766u32, 32_767..70_000u32];
        let selector = || proptest::option::of(prefix());
        let iif = proptest::option::weighted(0.3, 0..NETWORKS);
        (priority, selector(), selector(), iif, verdict).prop_map(
            |(priority, from, to, iif, verdict)| Self {
                priority,
                from,
                to,
                iif,
                verdict,
            },
        )
    }
}

impl Flow {
    pub fn any() -> impl Strategy<Value = Self> {
        (place(), place(), 0..NETWORKS).prop_map(|(from, to, iif)| Self { from, to, iif })
    }
}

/// The MAC of a network's gateway.
pub fn network_mac(network: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, network])
}

fn connected_routes() -> Vec<Route> {
    let connected = |network| Route {
        to: Ipv4Net::new(Ipv4Addr::new(10, 0, network, 0), 24).unwrap(),
        action: Action::Forward { network, via: None },
    };
    (0..NETWORKS).map(connected).collect()
}

/// An address that routes and rules are about: in one of the networks, or elsewhere.
fn place() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        (0..NETWORKS, 1..=HOSTS).prop_map(|(network, host)| Ipv4Addr::new(10, 0, network, host)),
        (0..4u8, 1..=HOSTS).prop_map(|(net, host)| Ipv4Addr::new(198, 51, 100 + net, host)),
        (0..4u8, 1..=HOSTS).prop_map(|(net, host)| Ipv4Addr::new(172, 16, net * 64, host)),
    ]
}

/// A prefix that covers such an address, so that flows meet it.
fn prefix() -> impl Strategy<Value = Ipv4Net> {
    let length = prop_oneof![Just(0), Just(32), Just(24), 6..33u8];
    (place(), length).prop_map(|(place, length)| Ipv4Net::new(place, length).unwrap().trunc())
}

fn distinct(mut routes: Vec<Route>) -> Vec<Route> {
    routes.sort_by_key(|route| route.to);
    routes.dedup_by_key(|route| route.to);
    routes
}
