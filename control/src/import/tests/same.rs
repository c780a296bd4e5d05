//! What is written lets in what iptables let in: the chains, read here as the kernel reads them, and the
//! policy that was written are asked about the same flows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use tapgate_engine::config::Config;
use tapgate_engine::config::policy::{Action, CheckedRule, Side};

use super::*;

/// A flow's first packet.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

/// What a walk through a chain comes to.
enum End {
    Verdict(bool),
    Fallen,
}

/// Rules by chain, as words.
type Rules = BTreeMap<String, Vec<Vec<String>>>;

#[test]
fn what_is_written_lets_in_the_same() {
    let mut numbers = Numbers(4);
    for name in [
        "many.save",
        "docker.save",
        "single-address.save",
        "port-forward.save",
    ] {
        let text = input(name);
        let options = Options {
            uplinks: vec![("eth0".to_owned(), None)],
            ..Options::default()
        };
        let read = iptables::read(&[(name.to_owned(), text.clone())]).unwrap();
        let written = translate(read, &options);
        assert_eq!(written.faults, [""; 0], "{name}");
        assert!(
            written.notes.iter().all(|note| note.fate != Fate::Wider),
            "{name}"
        );
        let config = check_text(&written.text).unwrap();
        let (rules, passes) = filter(&text);
        let devices: Vec<String> = config.interfaces().iter().map(|i| i.name.clone()).collect();
        let addresses = addresses(&text);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let address = |numbers: &mut Numbers| addresses[numbers.below(addresses.len())];
            let flow = Flow {
                from: devices[numbers.below(devices.len())].clone(),
                to: devices[numbers.below(devices.len())].clone(),
                source: address(&mut numbers),
                destination: address(&mut numbers),
                protocol: [1, 6, 17, 47][numbers.below(4)],
                port: [7, 22, 25, 53, 80, 123, 443, 8000, 8010, 8011][numbers.below(10)],
            };
            let kernel = match walk(&rules, "FORWARD", &flow) {
                End::Verdict(accepts) => accepts,
                End::Fallen => passes,
            };
            assert_eq!(kernel, lets_in(&config, &flow), "{name}: {flow:?}");
            *if kernel { &mut accepted } else { &mut refused } += 1;
        }
        assert!(
            accepted > 500 && refused > 500,
            "{name}: {accepted}, {refused}"
        );
    }
}

/// The filter table's chains, and whether FORWARD lets in what it says nothing of.
fn filter(text: &str) -> (Rules, bool) {
    let table = text
        .split('*')
        .find(|table| table.starts_with("filter"))
        .unwrap();
    let mut rules = Rules::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("-A ")) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let chain = words.next().unwrap();
        rules.entry(chain).or_default().push(words.collect());
    }
    (rules, table.contains(":FORWARD ACCEPT"))
}

/// Addresses at and beside the ends of all prefixes that are named.
fn addresses(text: &str) -> Vec<Ipv4Addr> {
    let nets = text
        .split_whitespace()
        .filter_map(|word| word.parse::<Ipv4Net>().ok());
    let mut all: Vec<u32> = nets
        .flat_map(|net| {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [
                first.wrapping_sub(1),
                first,
                first / 2 + last / 2,
                last,
                last.wrapping_add(1),
            ]
        })
        .collect();
    all.push(u32::from(Ipv4Addr::new(9, 9, 9, 9)));
    all.into_iter().map(Ipv4Addr::from).collect()
}

fn walk(rules: &Rules, chain: &str, flow: &Flow) -> End {
    for rule in rules.get(chain).into_iter().flatten() {
        if !asks_for(rule, flow) {
            continue;
        }
        let after = |word: &str| {
            rule.iter()
                .position(|w| w == word)
                .map(|at| rule[at + 1].as_str())
        };
        if let Some(target) = after("-g") {
            return walk(rules, target, flow);
        }
        match after("-j") {
            Some("ACCEPT") => return End::Verdict(true),
            Some("DROP" | "REJECT") => return End::Verdict(false),
            Some("RETURN") => return End::Fallen,
            Some(target) => {
                if let End::Verdict(accepts) = walk(rules, target, flow) {
                    return End::Verdict(accepts);
                }
            }
            None => {}
        }
    }
    End::Fallen
}

/// Whether a rule is for a flow. One of those from outside was redirected, none of the others.
pub(super) fn asks_for(rule: &[String], flow: &Flow) -> bool {
    let mut words = rule.iter().map(String::as_str);
    let mut not = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        let holds = match word {
            "!" => {
                not = true;
                continue;
            }
            "-j" | "-g" => return true,
            "-m" => {
                value();
                true
            }
            "-i" => value() == flow.from,
            "-o" => value() == flow.to,
            "-s" => value().parse::<Ipv4Net>().unwrap().contains(&flow.source),
            "-d" => value()
                .parse::<Ipv4Net>()
                .unwrap()
                .contains(&flow.destination),
            "-p" => flow.protocol == words::protocol(value()).unwrap(),
            "--dport" | "--dports" => value().split(',').any(|ports| {
                let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
                (first.parse().unwrap()..=last.parse().unwrap()).contains(&flow.port)
            }),
            "--icmp-type" => value() == "8",
            "--ctstate" => value() == "DNAT" && flow.from == "eth0",
            other => panic!("{other}"),
        };
        if holds == not {
            return false;
        }
        not = false;
    }
    true
}

fn lets_in(config: &Config, flow: &Flow) -> bool {
    deciding(config, flow).is_some_and(|rule| rule.action == Action::Accept)
}

/// The rule of the policy that decides; ICMP is an echo request.
pub(super) fn deciding<'c>(config: &'c Config, flow: &Flow) -> Option<&'c CheckedRule> {
    let policy = config.policy();
    let place = |name: &str| {
        config
            .interfaces()
            .iter()
            .position(|i| i.name == name)
            .unwrap()
    };
    let (from, to) = (place(&flow.from), place(&flow.to));
    let service = if flow.protocol == 1 { 8 } else { flow.port };
    let is = |sides: &[Side], at: usize| {
        let one = |side: &Side| match side {
            Side::Zone(zone) => policy.interface_zones[at] == Some(*zone),
            Side::Interface(index) => *index == at,
            Side::Guest(_) | Side::Group(_) => false,
        };
        sides.is_empty() || sides.iter().any(one)
    };
    let within = |nets: &[IpNet], address: Ipv4Addr| {
        nets.is_empty()
            || nets
                .iter()
                .any(|net| net.contains(&std::net::IpAddr::V4(address)))
    };
    let asked = |rule: &&CheckedRule| {
        let service = rule.services.iter().any(|(protocol, (first, last))| {
            *protocol == flow.protocol && (*first..=*last).contains(&service)
        });
        is(&rule.from, from)
            && is(&rule.to, to)
            && within(&rule.source, flow.source)
            && within(&rule.destination, flow.destination)
            && (rule.services.is_empty() || service)
    };
    policy.rules.iter().find(asked)
}
