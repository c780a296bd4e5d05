//! Words that several sources share: protocols, services, ports, addresses with ports.

use std::fs;
use std::net::IpAddr;
use std::sync::OnceLock;

use super::matching::{Ports, State};

const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ipv6-crypt", 50),
    ("ah", 51),
    ("ipv6-auth", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("icmp6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// Services that every Debian knows, for machines without `/etc/services`.
const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap2", 143),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("submission", 587),
    ("imaps", 993),
    ("pop3s", 995),
    ("openvpn", 1194),
    ("mysql", 3306),
    ("postgresql", 5432),
];

const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("pong", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("ping", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
];

const ICMP6_TYPES: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("ping", 128),
    ("echo-reply", 129),
    ("router-solicitation", 133),
    ("nd-router-solicit", 133),
    ("router-advertisement", 134),
    ("nd-router-advert", 134),
    ("neighbour-solicitation", 135),
    ("nd-neighbor-solicit", 135),
    ("neighbour-advertisement", 136),
    ("nd-neighbor-advert", 136),
];

/// A switch as systemd and netplan read it.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A protocol's number.
pub(super) fn protocol(text: &str) -> Option<u8> {
    find(PROTOCOLS, &text.to_ascii_lowercase()).or_else(|| text.parse().ok())
}

/// An ICMP type. A code is none of this policy's words, except where it is the only one that there is.
pub(super) fn icmp_type(text: &str, protocol: u8) -> Option<u8> {
    let (kind, code) = match text.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (text, None),
    };
    let names = if protocol == 58 {
        ICMP6_TYPES
    } else {
        ICMP_TYPES
    };
    let kind = kind.parse().ok().or_else(|| find(names, kind))?;
    let echo = matches!((protocol, kind), (1, 0 | 8) | (58, 128 | 129));
    (code.is_none() || (echo && code == Some("0"))).then_some(kind)
}

/// A port by number or name.
pub(super) fn port(text: &str) -> Option<u16> {
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().ok();
    }
    find(SERVICES, text).or_else(|| {
        let known = services().iter().find(|(name, _)| name == text);
        known.map(|(_, port)| *port)
    })
}

/// A port, or `first:last` where each may be left out.
pub(super) fn ports(text: &str) -> Option<Ports> {
    let Some((first, last)) = text.split_once([':']) else {
        let port = port(text)?;
        return Some((port, port));
    };
    let first = if first.is_empty() { 0 } else { port(first)? };
    let last = if last.is_empty() {
        u16::MAX
    } else {
        port(last)?
    };
    (first <= last).then_some((first, last))
}

/// Ports and ranges with commas between them.
pub(super) fn port_list(text: &str) -> Option<Vec<Ports>> {
    text.split(',')
        .map(|part| ports(&part.replace('-', ":")).or_else(|| ports(part)))
        .collect()
}

/// Addresses from one to another, and the ports behind them: `a`, `a-b`, `a:p`, `[a]:p-q`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    /// None: the address stays.
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
    pub(super) ports: Option<Ports>,
}

/// Reads a [`Goal`].
pub(super) fn goal(text: &str) -> Option<Goal> {
    let (addresses, ports) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, ports) = rest.split_once(']')?;
            (address, ports.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.split_once(':') {
            Some((address, ports)) => (address, Some(ports)),
            None => (text, None),
        },
    };
    let ports = match ports {
        None => None,
        Some(ports) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let span: Ports = (port(first)?, port(last)?);
            Some(span).filter(|(first, last)| 0 < *first && first <= last)
        }
    };
    let addresses = match addresses {
        "" => None,
        some => {
            let (first, last) = some.split_once('-').unwrap_or((some, some));
            let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
            Some((first, last)).filter(|(a, b)| a.is_ipv4() == b.is_ipv4() && a <= b)
        }
    };
    let wrong =
        (text.contains(']') && addresses.is_none()) || (addresses.is_none() && ports.is_none());
    (!wrong).then_some(Goal { addresses, ports })
}

/// What states of connection tracking mean for first packets.
pub(super) fn state<'w>(names: impl Iterator<Item = &'w str>, not: bool) -> Result<State, String> {
    let names: Vec<String> = names.map(|name| name.trim().to_ascii_uppercase()).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    if names.iter().any(|n| {
        ![
            "NEW",
            "ESTABLISHED",
            "RELATED",
            "INVALID",
            "UNTRACKED",
            "DNAT",
        ]
        .contains(&n.as_str())
    }) {
        return Err("a rule does not ask what became of the source".to_owned());
    }
    Ok(match (not, has("NEW"), has("DNAT")) {
        (false, true, _) => State::First,
        (false, false, true) => State::Redirected,
        (false, false, false) if has("ESTABLISHED") || has("RELATED") => State::Answers,
        (false, false, false) => State::Stray,
        (true, true, _) => State::Answers,
        (true, false, true) => State::NotRedirected,
        (true, false, false) => State::First,
    })
}

/// A text as a terminal may have it: control characters are spelt out.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    let known = table.iter().find(|(known, _)| *known == name);
    known.map(|(_, value)| *value)
}

/// What `/etc/services` says.
fn services() -> &'static [(String, u16)] {
    static READ: OnceLock<Vec<(String, u16)>> = OnceLock::new();
    READ.get_or_init(|| {
        let text = fs::read_to_string("/etc/services").unwrap_or_default();
        let mut all = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else {
                continue;
            };
            let number = port.split('/').next().and_then(|port| port.parse().ok());
            let names = std::iter::once(name).chain(words);
            all.extend(
                number
                    .into_iter()
                    .flat_map(|n| names.clone().map(move |name| (name.to_owned(), n))),
            );
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_translations_lead() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let one = |text| goal(text).map(|goal| (goal.addresses, goal.ports));
        assert_eq!(one("10.0.0.1:22"), Some((Some((v4, v4)), Some((22, 22)))));
        assert_eq!(one("10.0.0.1"), Some((Some((v4, v4)), None)));
        assert_eq!(one(":80-90"), Some((None, Some((80, 90)))));
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(
            one("[2001:db8::1]:22"),
            Some((Some((v6, v6)), Some((22, 22))))
        );
        assert_eq!(one("2001:db8::1"), Some((Some((v6, v6)), None)));
        assert_eq!(one(""), None);
        assert_eq!(one("10.0.0.9-10.0.0.1"), None);
        assert_eq!(one("[10.0.0.1"), None);
    }
}
