//! The vectors say what asking one rule after the other says.

use proptest::prelude::*;

use super::*;
use crate::base::addr::GuestId;
use crate::config::policy::Checked;
use crate::model::snapshot::Snapshot;

/// Networks n0 to n3 with two guests each, behind ports of their own; zones z0 (n0, n1) and z1 (g3);
/// groups s0 and s1, and s2, which says what its members may open.
fn text(rules: &str, groups: &[String; 4]) -> String {
    let (mut ports, mut networks, mut guests) = (String::new(), String::new(), String::new());
    for n in 0..4 {
        let (a, b) = (2 * n, 2 * n + 1);
        for (guest, last) in [(a, 1), (b, 2)] {
            ports += &format!("p{guest} = {{ memory = true }}\n");
            let groups = match guest {
                0 => "\"s0\"",
                5 => "\"s1\", \"s0\"",
                6 => "\"s2\"",
                _ => "",
            };
            guests += &format!(
                "g{guest} = {{ port = \"p{guest}\", addresses = [\"10.0.{n}.{last}\"], groups = [{groups}] }}\n"
            );
        }
        networks += &format!(
            "n{n} = {{ ports = [\"p{a}\", \"p{b}\"], addresses = [\"10.0.{n}.254/24\"] }}\n"
        );
    }
    let [s0, s1, s2, out] = groups;
    format!(
        "[ports]\n{ports}\n[networks]\n{networks}\n[guests]\n{guests}\n[policy]\n\
         zones = {{ z0 = [\"n0\", \"n1\"], z1 = [\"g3\"] }}\nrules = [{rules}]\n\
         groups = {{ s0 = {{ in = [{s0}] }}, s1 = {{ in = [{s1}] }}, s2 = {{ in = [{s2}], out = [{out}] }} }}\n\
         default = [{{ action = \"drop\", from = \"z1\" }}]"
    )
}

/// A rule; in a group without this side, and it accepts.
fn rule(member: Option<&'static str>) -> impl Strategy<Value = String> {
    let any = |key: &'static str, values: &'static [&'static str]| {
        proptest::option::weighted(0.5, proptest::sample::select(values)).prop_map(move |value| {
            value
                .filter(|_| member != Some(key))
                .map_or(String::new(), |value| format!(", {key} = {value}"))
        })
    };
    const SIDES: [&str; 6] = [
        "\"z0\"",
        "\"z1\"",
        "\"n2\"",
        "[\"n0\", \"g7\"]",
        "\"g0\"",
        "\"s0\"",
    ];
    const NETS: [&str; 5] = [
        "\"10.0.0.0/16\"",
        "\"10.0.1.0/24\"",
        "[\"10.0.0.1\", \"10.0.3.2\"]",
        "\"10.0.0.0/23\"",
        "\"0.0.0.0/0\"",
    ];
    const SERVICES: [&str; 6] = [
        "\"icmp\"",
        "\"tcp\", port = [1, \"5-9\", 7]",
        "\"udp\", port = \"3-6\"",
        "[\"tcp\", \"udp\"], source_port = \"2-4\"",
        "\"icmp\", icmp_type = [\"echo-request\", 5]",
        "47",
    ];
    let actions = match member {
        Some(_) => vec!["accept"],
        None => vec!["accept", "drop", "reject"],
    };
    let action = proptest::sample::select(actions);
    let parts = (
        action,
        any("from", &SIDES),
        any("to", &SIDES),
        any("source", &NETS),
        any("destination", &NETS),
        any("proto", &SERVICES),
    );
    parts.prop_map(|(action, from, to, source, destination, service)| {
        format!("{{ action = \"{action}\"{from}{to}{source}{destination}{service} }}")
    })
}

/// The same by asking one rule after the other.
fn linear(checked: &Checked, config: &Config, asked: &Question) -> Option<(Origin, Action)> {
    let is_side = |side: &Side, end: &End| {
        let guest = end.guest.map(GuestId::index);
        let interface = end.interface.index();
        let own = guest.and_then(|guest| checked.guest_zones[guest]);
        match side {
            Side::Guest(index) => guest == Some(*index),
            Side::Interface(index) => interface == *index,
            Side::Group(group) => guest.is_some_and(|g| checked.guest_groups[g].contains(group)),
            Side::Zone(zone) => own.or(checked.interface_zones[interface]) == Some(*zone),
        }
    };
    assert_eq!(config.guests().len(), 8);
    let sides = |sides: &[Side], end| sides.is_empty() || sides.iter().any(|s| is_side(s, end));
    let nets = |nets: &[IpNet], end: &End| {
        nets.is_empty() || nets.iter().any(|net| net.contains(&end.address))
    };
    let ports = |spans: &[(u8, PortSpan)], port: u16| {
        let has = |(protocol, (first, last)): &(u8, PortSpan)| {
            *protocol == asked.protocol && (*first..=*last).contains(&port)
        };
        spans.is_empty() || spans.iter().any(has)
    };
    let matches = |rule: &&CheckedRule| {
        sides(&rule.from, &asked.from)
            && sides(&rule.to, &asked.to)
            && nets(&rule.source, &asked.from)
            && nets(&rule.destination, &asked.to)
            && ports(&rule.services, asked.service)
            && ports(&rule.source_ports, asked.source_port)
    };
    let among = |is: fn(&Origin) -> bool| {
        let rules = checked.rules.iter().filter(move |rule| is(&rule.origin));
        rules
            .clone()
            .find(matches)
            .map(|rule| (rule.origin, rule.action))
    };
    let groups = |end: &End| match end.guest {
        Some(guest) => &checked.guest_groups[guest.index()][..],
        None => &[],
    };
    if let Some(found) = among(|origin| matches!(origin, Origin::Rule(_))) {
        return Some(found);
    }
    let restricted = groups(&asked.from)
        .iter()
        .any(|group| checked.groups[usize::from(*group)].1);
    if restricted && among(|origin| matches!(origin, Origin::Group(_, Facing::Out, _))).is_none() {
        return Some((Origin::Closed(Facing::Out), Action::Drop));
    }
    if !groups(&asked.to).is_empty() {
        let into = among(|origin| matches!(origin, Origin::Group(_, Facing::In, _)));
        return into.or(Some((Origin::Closed(Facing::In), Action::Drop)));
    }
    among(|origin| matches!(origin, Origin::Default(_)))
}

/// Every guest of each of the two sides, with some protocols and ports.
fn questions() -> Vec<Question> {
    let end = |guest: u16, known: bool| End {
        interface: InterfaceId(guest / 2),
        guest: known.then_some(GuestId(guest)),
        address: format!("10.0.{}.{}", guest / 2, guest % 2 + 1)
            .parse()
            .unwrap(),
    };
    let mut all = Vec::new();
    for (from, to) in (0..8).flat_map(|from| (0..8).map(move |to| (from, to))) {
        for (n, protocol) in [1, 6, 17, 47, 6, 17].into_iter().enumerate() {
            let service = (from + 3 * to + n as u16) % 11;
            all.push(Question {
                from: end(from, n % 3 > 0),
                to: end(to, n % 2 > 0),
                protocol,
                service: if protocol == 47 { 0 } else { service },
                source_port: u16::from(protocol != 1) * (to % 6),
            });
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_vectors_find_the_first_rule_that_matches(
        rules in proptest::collection::vec(rule(None), 0..200),
        groups in [
            proptest::collection::vec(rule(Some("to")), 0..70),
            proptest::collection::vec(rule(Some("to")), 0..7),
            proptest::collection::vec(rule(Some("to")), 0..7),
            proptest::collection::vec(rule(Some("from")), 0..7),
        ],
    ) {
        let groups = groups.map(|rules| rules.join(", "));
        let config: Config = toml::from_str(&text(&rules.join(", "), &groups)).unwrap();
        let snapshot = Snapshot::build(&config, None);
        let policy = snapshot.policy();
        for asked in questions() {
            let expected = linear(config.policy(), &config, &asked);
            let decided = policy.decide(&asked).map(|ruling| (ruling.origin, ruling.action));
            prop_assert_eq!(decided, expected, "{:?}", asked);
            let passed_over = policy.passed_over(&asked);
            let is_before = |(origin, _): &(Origin, Mismatch)| match (origin, expected) {
                (Origin::Rule(n), Some((Origin::Rule(m), _))) => *n < m,
                _ => true,
            };
            prop_assert!(passed_over.iter().all(is_before));
        }
    }
}
