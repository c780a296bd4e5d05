//! Rules, routes and neighbours in the words of `ip`, as it prints them and as it is told them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::firewall::Origin;
use super::system::{Hop, Inet, Neighbor, Refusal, Route, Rule, Target, Then};
use super::words;

/// Types of routes that lead to the host itself or to a group.
const HOSTS: [&str; 5] = ["local", "broadcast", "multicast", "anycast", "nat"];
/// A route's words that have a value and say nothing of where a packet goes.
const ASIDE: [&str; 19] = [
    "proto",
    "protocol",
    "scope",
    "pref",
    "expires",
    "error",
    "hoplimit",
    "rtt",
    "rttvar",
    "rto_min",
    "window",
    "cwnd",
    "initcwnd",
    "initrwnd",
    "nhid",
    "quickack",
    "congctl",
    "congestion",
    "features",
];
/// The same without a value.
const FLAGS: [&str; 9] = [
    "ecn",
    "linkdown",
    "dead",
    "offload",
    "rt_offload",
    "rt_trap",
    "trap",
    "pervasive",
    "notify",
];

/// Words, taken one after the other.
struct Words<'w> {
    words: std::slice::Iter<'w, String>,
}

impl<'w> Words<'w> {
    fn next(&mut self) -> Option<&'w str> {
        self.words.next().map(String::as_str)
    }

    /// The value of a word.
    fn value(&mut self, of: &str) -> Result<&'w str, String> {
        let value = self.words.next().map(String::as_str);
        value.ok_or_else(|| format!("there is nothing after {of}"))
    }

    /// The value of a metric, which path MTU discovery may be kept from changing.
    fn unlocked(&mut self, of: &str) -> Result<&'w str, String> {
        match self.value(of)? {
            "lock" => self.value(of),
            text => Ok(text),
        }
    }

    /// A number, in decimal or as 0x….
    fn number(&mut self, of: &str) -> Result<u32, String> {
        let text = self.value(of)?;
        number(text).ok_or_else(|| format!("{text} after {of} is not a number"))
    }

    fn address(&mut self, of: &str) -> Result<IpAddr, String> {
        let text = self.value(of)?;
        text.parse()
            .map_err(|_| format!("{text} after {of} is not an address"))
    }

    /// A prefix; none for all of a family.
    fn prefix(&mut self, of: &str) -> Result<Option<IpNet>, String> {
        let text = self.value(of)?;
        match text {
            "all" | "any" | "default" => Ok(None),
            text => prefix(text)
                .map(Some)
                .ok_or_else(|| format!("{text} after {of} is not a prefix")),
        }
    }
}

/// Cuts a line into words.
pub(super) fn cut(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A number, in decimal or as 0x….
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A prefix without host bits, or one address.
pub(super) fn prefix(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>();
    let net = net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.ok().map(|net| net.trunc())
}

/// A table by the name that all sources share.
pub(super) fn table(text: &str) -> String {
    match text {
        "254" => "main",
        "253" => "default",
        "255" => "local",
        other => other,
    }
    .to_owned()
}

/// Reads a rule: `from 10.0.1.0/24 lookup 101 pref 100`. `family` is what it is for if no prefix tells it.
///
/// # Errors
/// It is none.
pub(super) fn rule(
    text: &[String],
    family: Option<Inet>,
    priority: impl Fn(Inet) -> u32,
    origin: &Origin,
) -> Result<Rule, String> {
    let mut words = Words { words: text.iter() };
    let mut given = None;
    let mut rule = Rule {
        family: Inet::V4,
        priority: 0,
        not: false,
        from: None,
        to: None,
        iif: None,
        oif: None,
        fwmark: None,
        tos: None,
        dscp: None,
        ipproto: None,
        sport: None,
        dport: None,
        suppress_prefixlength: None,
        then: Then::Lookup("main".to_owned()),
        others: Vec::new(),
        origin: origin.clone(),
    };
    while let Some(word) = words.next() {
        match word {
            "not" => rule.not = true,
            "from" => rule.from = words.prefix(word)?,
            "to" => rule.to = words.prefix(word)?,
            "pref" | "priority" | "preference" | "order" | "prio" => {
                given = Some(words.number(word)?);
            }
            "iif" | "dev" => rule.iif = Some(words.value(word)?.to_owned()),
            "oif" => rule.oif = Some(words.value(word)?.to_owned()),
            "fwmark" => {
                let text = words.value(word)?;
                let (mark, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
                let both = number(mark).zip(number(mask));
                rule.fwmark = Some(both.ok_or_else(|| format!("{text} is not a mark"))?);
            }
            "tos" | "dsfield" => rule.tos = Some(byte(words.number(word)?, word)?),
            "dscp" => rule.dscp = Some(byte(words.number(word)?, word)?),
            "ipproto" => {
                let text = words.value(word)?;
                let known = words::protocol(text);
                rule.ipproto = Some(known.ok_or_else(|| format!("{text} is not a protocol"))?);
            }
            "sport" => rule.sport = Some(ports(words.value(word)?)?),
            "dport" => rule.dport = Some(ports(words.value(word)?)?),
            "table" | "lookup" => rule.then = Then::Lookup(table(words.value(word)?)),
            "goto" => rule.then = Then::Goto(words.number(word)?),
            "nop" => rule.then = Then::Nop,
            "type" => {}
            "suppress_prefixlength" | "sup_pl" => {
                rule.suppress_prefixlength = Some(byte(words.number(word)?, word)?);
            }
            "protocol" => drop(words.value(word)?),
            "[detached]" | "[unresolved]" => {}
            word => match Refusal::named(word) {
                Some(refusal) => rule.then = Then::End(refusal),
                None => rule.others.push(word.to_owned()),
            },
        }
    }
    let told = rule.from.or(rule.to).map(|net| Inet::of(net.addr()));
    rule.family = told.or(family).unwrap_or(Inet::V4);
    rule.priority = given.unwrap_or_else(|| priority(rule.family));
    Ok(rule)
}

/// Reads a route: `default via 192.0.2.1 dev A table 101 onlink`.
///
/// # Errors
/// It is none.
pub(super) fn route(text: &[String], family: Inet, origin: &Origin) -> Result<Route, String> {
    let mut words = Words { words: text.iter() };
    let mut route = Route {
        table: "main".to_owned(),
        to: family.all(),
        target: Target::Hops(Vec::new()),
        metric: None,
        src: None,
        mtu: None,
        advmss: None,
        connected: false,
        others: Vec::new(),
        origin: origin.clone(),
    };
    let (mut hop, mut hops, mut to, mut kind) = (Hop::default(), Vec::new(), None, None);
    while let Some(word) = words.next() {
        match word {
            "via" => {
                let text = words.value(word)?;
                hop.via = Some(match text {
                    "inet" | "inet6" => words.address(text)?,
                    text => text
                        .parse()
                        .map_err(|_| format!("{text} after via is not an address"))?,
                });
            }
            "dev" | "oif" => hop.dev = Some(words.value(word)?.to_owned()),
            "onlink" => hop.onlink = true,
            "weight" => hop.weight = Some(words.number(word)?),
            "nexthop" => hops.push(std::mem::take(&mut hop)),
            "table" => route.table = table(words.value(word)?),
            "metric" | "preference" | "priority" => route.metric = Some(words.number(word)?),
            "src" => route.src = Some(words.address(word)?),
            "mtu" | "advmss" => {
                let text = words.unlocked(word)?;
                let value = number(text).ok_or_else(|| format!("{text} is not a size"))?;
                match word {
                    "mtu" => route.mtu = Some(value),
                    _ => route.advmss = Some(value),
                }
            }
            "proto" | "protocol" => route.connected = words.value(word)? == "kernel",
            "to" => to = Some(words.value(word)?.to_owned()),
            word if ASIDE.contains(&word) => drop(words.unlocked(word)?),
            word if FLAGS.contains(&word) => {}
            "unicast" if to.is_none() => {}
            word if to.is_none() && is_type(word) => kind = Some(word),
            word if to.is_none() => to = Some(word.to_owned()),
            word => route.others.push(word.to_owned()),
        }
    }
    hops.push(hop);
    // What stands before the first `nexthop` is a hop only if there are no others.
    if hops.len() > 1 {
        hops.remove(0);
    }
    let via = hops.iter().find_map(|hop| hop.via).map(Inet::of);
    route.to = match to.as_deref() {
        None => return Err("there is no destination".to_owned()),
        Some("default" | "any" | "all") => match text.iter().any(|word| word == "inet6") {
            true => family.all(),
            false => via.unwrap_or(family).all(),
        },
        Some(text) => prefix(text).ok_or_else(|| format!("{text} is not a prefix"))?,
    };
    route.target = match kind {
        None => Target::Hops(hops),
        Some("throw") => Target::Throw,
        Some(kind) => match Refusal::named(kind) {
            Some(refusal) => Target::Refuse(refusal),
            None => Target::Host(kind.to_owned()),
        },
    };
    Ok(route)
}

/// Reads a neighbour: `proxy 192.0.2.7 dev eth0`, `192.0.2.7 dev br0 lladdr 02:00:00:00:00:07`; whether it is
/// answered for.
///
/// # Errors
/// It is none.
pub(super) fn neighbor(text: &[String], origin: &Origin) -> Result<(Neighbor, bool), String> {
    let mut words = Words { words: text.iter() };
    let (mut address, mut device, mut mac, mut proxy) = (None, None, None, false);
    while let Some(word) = words.next() {
        match word {
            "proxy" => proxy = true,
            "dev" => device = Some(words.value(word)?.to_owned()),
            "lladdr" => mac = Some(words.value(word)?.to_ascii_lowercase()),
            "to" => address = Some(words.address(word)?),
            "nud" | "protocol" => drop(words.value(word)?),
            word => address = address.or_else(|| word.parse().ok()),
        }
    }
    let neighbor = Neighbor {
        address: address.ok_or("there is no address")?,
        device: device.ok_or("there is no device")?,
        fixed: mac.is_some(),
        mac,
        origin: origin.clone(),
    };
    Ok((neighbor, proxy))
}

fn is_type(word: &str) -> bool {
    word == "throw" || HOSTS.contains(&word) || Refusal::named(word).is_some()
}

fn byte(number: u32, of: &str) -> Result<u8, String> {
    u8::try_from(number).map_err(|_| format!("{number} after {of} is too large"))
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let both = first.parse().ok().zip(last.parse().ok());
    both.filter(|(first, last): &(u16, u16)| first <= last)
        .ok_or_else(|| format!("{text} is not a port or a range of ports"))
}
