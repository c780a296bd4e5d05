//! Configurations over a small universe: five guests on five ports in up to three networks, two
//! personalities, rules, translations, redirections, both families.

use std::fmt::Write;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use tapgate_engine::addr::MacAddr;

/// Hosts in the universe, and ports that they can be behind.
pub const HOSTS: usize = 5;
/// The networks' prefixes.
const NETS: [(&str, &str); 3] = [
    ("10.0.1.0/24", "2001:db8:1::/64"),
    ("10.0.2.0/24", "2001:db8:2::/64"),
    ("10.0.3.0/24", "2001:db8:3::/64"),
];
/// What is wanted outside.
pub const REMOTE: [&str; 2] = ["192.0.2.9", "2001:db8:ffff::9"];
/// Redirected: address, protocol, port.
pub const FORWARDS: [(&str, u8, u16); 3] = [
    ("203.0.113.10", 17, 5_353),
    ("203.0.113.10", 6, 2_222),
    ("2001:db8:a::1", 6, 2_222),
];
/// Which addresses sources are translated to: address, and whether it is the second personality's.
const WORN: [(&str, bool); 4] = [
    ("203.0.113.10", false),
    ("203.0.113.11", false),
    ("198.51.100.10", true),
    ("2001:db8:a::1", false),
];
const RANGES: [&str; 4] = ["1024-65535", "4000-4007", "4004-4999", "20000-20099"];

/// A configuration. Its parts are exchanged one by one.
#[derive(Debug, Clone)]
pub struct World {
    /// By network: its name, or that it is not there.
    nets: [Option<&'static str>; 3],
    /// By guest port: its network, or that it is not there.
    ports: [Option<usize>; HOSTS],
    sources: [&'static str; HOSTS],
    guests: [Option<Guest>; HOSTS],
    /// The first personality's name, and one more address of it.
    first: (&'static str, Option<String>),
    /// The second one's name, and whether it is on the second uplink.
    second: Option<(&'static str, bool)>,
    rules: Vec<Rule>,
    snat: Vec<Snat>,
    /// By place in [`FORWARDS`]: the host that it goes to.
    forwards: [Option<usize>; 3],
}

#[derive(Debug, Clone)]
struct Guest {
    port: usize,
    mac: bool,
    v4: bool,
    /// Its IPv6 address: inside (false), public (true), not its own.
    v6: Option<bool>,
    /// The second personality answers, if there is one.
    second: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    from: Option<&'static str>,
    to: Option<&'static str>,
    iif: Option<usize>,
    does: &'static str,
}

#[derive(Debug, Clone)]
struct Snat {
    net: usize,
    worn: usize,
    range: usize,
}

/// From, to (and whether that is the second personality's), ports.
type Translation = (&'static str, (&'static str, bool), &'static str);

/// Where a frame comes in: the port, and the router's MAC there.
pub type Place = (String, MacAddr);

/// A host's address: IPv4 or IPv6.
pub fn address(host: usize, v6: bool) -> IpAddr {
    let net = net_of(host) + 1;
    let text = match v6 {
        false => format!("10.0.{net}.{}", host + 1),
        true => format!("2001:db8:{net}::{}", host + 1),
    };
    text.parse().unwrap()
}

/// A host's MAC.
pub fn mac(host: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, host as u8])
}

/// Hosts 0 and 1 are made for the first network, 2 and 3 for the second, 4 for the third.
fn net_of(host: usize) -> usize {
    host / 2
}

fn net_mac(net: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, net as u8 + 1])
}

/// The personalities' MACs.
const MACS: [MacAddr; 2] = [
    MacAddr([2, 0, 0, 0, 0, 0xaa]),
    MacAddr([2, 0, 0, 0, 0, 0xbb]),
];

/// Boxed by parts: a strategy of so many is too large for a test's stack.
pub fn world() -> BoxedStrategy<World> {
    let net = |a: &'static str, b: &'static str| {
        prop_oneof![6 => Just(Some(a)), 1 => Just(Some(b)), 1 => Just(None)].boxed()
    };
    let nets = (net("n1", "m1"), net("n2", "m2"), net("n3", "m3"));
    let port = |own: usize| {
        prop_oneof![8 => Just(Some(own)), 2 => (0..3_usize).prop_map(Some), 1 => Just(None)].boxed()
    };
    let ports = (port(0), port(0), port(1), port(1), port(2));
    let source = || prop_oneof![3 => Just("strict"), 1 => Just("loose"), 1 => Just("off")].boxed();
    let sources = (source(), source(), source(), source(), source());
    let guests = (guest(0), guest(1), guest(2), guest(3), guest(4));
    let more = select(vec![
        "203.0.113.12/32".to_owned(),
        format!("{}/32", REMOTE[0]),
        format!("{}/128", REMOTE[1]),
        format!("{}/32", address(1, false)),
    ]);
    let first = (
        prop_oneof![5 => Just("A"), 1 => Just("AA")],
        weighted(0.2, more),
    )
        .boxed();
    let second = weighted(
        0.7,
        (prop_oneof![5 => Just("B"), 1 => Just("BB")], any::<bool>()),
    )
    .boxed();
    let policy = (vec(rule(), 0..4).boxed(), vec(snat(), 0..5).boxed());
    let forward = || of(0..HOSTS);
    let forwards = (forward(), forward(), forward());
    let parts = (
        nets, ports, sources, guests, first, second, policy, forwards,
    );
    parts
        .prop_map(
            |(nets, ports, sources, guests, first, second, (rules, mut snat), forwards)| {
                // What is not translated otherwise mostly is in the end.
                snat.extend((0..3).map(|net| Snat {
                    net,
                    worn: 0,
                    range: 0,
                }));
                World {
                    nets: nets.into(),
                    ports: ports.into(),
                    sources: sources.into(),
                    guests: guests.into(),
                    first,
                    second,
                    rules,
                    snat,
                    forwards: forwards.into(),
                }
            },
        )
        .boxed()
}

fn guest(host: usize) -> BoxedStrategy<Option<Guest>> {
    let port = prop_oneof![4 => Just(host), 2 => 0..HOSTS];
    let v6 = prop_oneof![1 => Just(None), 1 => Just(Some(false)), 3 => Just(Some(true))];
    let guest = (
        port,
        any::<bool>(),
        weighted(0.9, Just(())),
        v6,
        any::<bool>(),
    );
    weighted(
        0.7,
        guest.prop_map(|(port, mac, v4, v6, second)| Guest {
            port,
            mac,
            v4: v4.is_some(),
            v6,
            second,
        }),
    )
    .boxed()
}

fn rule() -> impl Strategy<Value = Rule> {
    let v4 = (
        of(select(vec![
            "10.0.1.0/24",
            "10.0.2.0/24",
            "10.0.1.1/32",
            "10.0.2.3/32",
        ])),
        of(select(vec!["192.0.2.9/32", "10.0.2.0/24", "10.0.1.2/32"])),
    );
    let v6 = (
        of(select(vec!["2001:db8:1::/64", "2001:db8:2::3/128"])),
        of(select(vec![
            "2001:db8:ffff::/64",
            "2001:db8:2::/64",
            "2001:db8:1::1/128",
        ])),
    );
    let does = prop_oneof![
        3 => Just("lookup = \"out\""),
        3 => Just("lookup = \"alt\""),
        1 => Just("action = \"blackhole\""),
        1 => Just("action = \"prohibit\""),
    ];
    let ends = prop_oneof![2 => v4, 1 => v6];
    (ends, of(0..5_usize), does).prop_map(|((from, to), iif, does)| Rule {
        from,
        to,
        iif,
        does,
    })
}

fn snat() -> impl Strategy<Value = Snat> {
    let fields = (0..3_usize, 0..WORN.len(), 0..RANGES.len());
    fields.prop_map(|(net, worn, range)| Snat { net, worn, range })
}

impl World {
    /// The parts of `self`, but those of `other` where a bit of `which` is set.
    pub fn with(&self, other: &Self, which: u32) -> Self {
        let theirs = |part: usize| which >> part & 1 == 1;
        let mut mixed = self.clone();
        for part in (0..3).filter(|part| theirs(*part)) {
            mixed.nets[part] = other.nets[part];
            mixed.forwards[part] = other.forwards[part];
        }
        for host in 0..HOSTS {
            if theirs(3 + host) {
                mixed.guests[host] = other.guests[host].clone();
            }
            if theirs(8 + host) {
                (mixed.ports[host], mixed.sources[host]) = (other.ports[host], other.sources[host]);
            }
        }
        if theirs(13) {
            mixed.first = other.first.clone();
        }
        if theirs(14) {
            mixed.second = other.second;
        }
        if theirs(15) {
            mixed.rules = other.rules.clone();
        }
        if theirs(16) {
            mixed.snat = other.snat.clone();
        }
        mixed
    }

    /// The network that a port is in.
    fn net(&self, port: usize) -> Option<usize> {
        self.ports[port].filter(|net| self.nets[*net].is_some())
    }

    fn guest(&self, host: usize) -> Option<&Guest> {
        let guest = self.guests[host].as_ref();
        guest.filter(|guest| self.net(guest.port).is_some() && (guest.v4 || guest.v6.is_some()))
    }

    /// The port a host is behind: the one that the configuration says if it owns the address, else
    /// `otherwise`.
    pub fn port_of(&self, host: usize, v6: bool, otherwise: usize) -> usize {
        match self.guest(host) {
            Some(guest) if (v6 && guest.v6.is_some()) || (!v6 && guest.v4) => guest.port,
            _ => otherwise,
        }
    }

    /// How the router is spoken to from a guest port.
    pub fn inside(&self, port: usize) -> Option<Place> {
        self.net(port).map(|net| (format!("g{port}"), net_mac(net)))
    }

    /// How the router is spoken to from outside, at the first or the second personality.
    pub fn outside(&self, second: bool) -> Option<Place> {
        let uplink = match second {
            false => "up1",
            true if self.second?.1 => "up2",
            true => "up1",
        };
        Some((uplink.to_owned(), MACS[usize::from(second)]))
    }

    /// The name of a personality.
    pub fn personality(&self, second: bool) -> Option<&'static str> {
        match second {
            false => Some(self.first.0),
            true => self.second.map(|(name, _)| name),
        }
    }

    /// The personality that answers for a host's public address.
    pub fn public_on(&self, host: usize) -> Option<bool> {
        let guest = self.guest(host).filter(|guest| guest.v6 == Some(true))?;
        Some(guest.second && self.second.is_some())
    }

    /// The ports that `source` may wear as `worn`.
    pub fn range(&self, source: IpAddr, worn: IpAddr) -> Option<(u16, u16)> {
        let worn = WORN
            .iter()
            .find(|(address, _)| address.parse() == Ok(worn))?;
        let mut entries = self.translations();
        let (.., range) = entries.find(|(prefix, (_, second), _)| {
            let prefix: ipnet::IpNet = prefix.parse().unwrap();
            prefix.contains(&source) && *second == worn.1
        })?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }

    /// From which prefix to what, the ports; an entry that another one covers is left out.
    fn translations(&self) -> impl Iterator<Item = Translation> {
        let mut found: Vec<Translation> = Vec::new();
        for snat in &self.snat {
            let worn = WORN[snat.worn];
            let (v4, v6) = NETS[snat.net];
            let prefix = if worn.0.contains(':') { v6 } else { v4 };
            let there = !worn.1 || self.second.is_some();
            let covered =
                |(other, (_, second), _): &Translation| (*other, *second) == (prefix, worn.1);
            if there && !found.iter().any(covered) {
                found.push((prefix, worn, RANGES[snat.range]));
            }
        }
        found.into_iter()
    }

    /// The configuration file.
    pub fn toml(&self) -> String {
        let mut text = String::from(
            "[router]\nsessions = 256\nicmp_errors_per_second = 1000000\n[ports]\nup1 = { memory = true }\n",
        );
        let second_uplink = self.second.is_some_and(|(_, own)| own);
        if second_uplink {
            text.push_str("up2 = { memory = true }\n");
        }
        for port in (0..HOSTS).filter(|port| self.net(*port).is_some()) {
            let source = self.sources[port];
            let _ = writeln!(text, "g{port} = {{ memory = true, source = \"{source}\" }}");
        }
        // A guest's address is not the router's own as well.
        let taken =
            |more: &&String| self.guest(1).is_some_and(|guest| guest.v4) && more.starts_with("10.");
        let more = self.first.1.iter().filter(|more| !taken(more));
        let more = more.map(|more| format!(", \"{more}\""));
        let _ = writeln!(
            text,
            "[personalities]\n{} = {{ port = \"up1\", mac = \"{}\", addresses = [\"203.0.113.10/24\", \"203.0.113.11/24\", \"2001:db8:a::1/64\"{}], gateway = [\"203.0.113.1\", \"2001:db8:a::fe\"] }}",
            self.first.0,
            MACS[0],
            more.collect::<String>()
        );
        if let Some((name, own)) = self.second {
            let _ = writeln!(
                text,
                "{name} = {{ port = \"{}\", mac = \"{}\", addresses = [\"198.51.100.10/24\", \"2001:db8:b::1/64\"], gateway = [\"198.51.100.1\", \"2001:db8:b::fe\"] }}",
                if own { "up2" } else { "up1" },
                MACS[1]
            );
        }
        text.push_str("[networks]\n");
        for (net, name) in self.nets.iter().enumerate() {
            let ports = (0..HOSTS).filter(|port| self.net(*port) == Some(net));
            let ports: Vec<String> = ports.map(|port| format!("\"g{port}\"")).collect();
            if let Some(name) = name
                && !ports.is_empty()
            {
                let _ = writeln!(
                    text,
                    "{name} = {{ ports = [{}], mac = \"{}\", addresses = [\"10.0.{n}.254/24\", \"2001:db8:{n}::254/64\"] }}",
                    ports.join(", "),
                    net_mac(net),
                    n = net + 1
                );
            }
        }
        self.write_guests(&mut text);
        self.write_policy(&mut text);
        text
    }

    fn write_guests(&self, text: &mut String) {
        text.push_str("[guests]\n");
        for host in 0..HOSTS {
            let Some(guest) = self.guest(host) else {
                continue;
            };
            let _ = write!(text, "h{host} = {{ port = \"g{}\"", guest.port);
            if guest.mac {
                let _ = write!(text, ", mac = \"{}\"", mac(host));
            }
            let v4 = guest.v4.then(|| address(host, false));
            let v6 = guest.v6.map(|_| address(host, true));
            let public = guest.v6 == Some(true);
            let list = |addresses: Vec<IpAddr>| {
                format!(
                    "{:?}",
                    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>()
                )
            };
            let inside: Vec<IpAddr> = v4.into_iter().chain(v6.filter(|_| !public)).collect();
            let _ = write!(text, ", addresses = {}", list(inside));
            if let (true, Some(v6), Some(second)) = (public, v6, self.public_on(host)) {
                let name = self.personality(second).unwrap();
                let _ = write!(
                    text,
                    ", public = {}, personality = \"{name}\"",
                    list(vec![v6])
                );
            }
            text.push_str(" }\n");
        }
    }

    fn write_policy(&self, text: &mut String) {
        let first = self.first.0;
        let alt = self.second.map_or(first, |(name, _)| name);
        let _ = writeln!(
            text,
            "[tables]\nout = [{{ to = \"default\", dev = \"{first}\" }}, {{ to = \"::/0\", dev = \"{first}\" }}]\nalt = [{{ to = \"default\", dev = \"{alt}\" }}, {{ to = \"::/0\", dev = \"{alt}\" }}]\n[routing]\nrules = ["
        );
        for (place, rule) in self.rules.iter().enumerate() {
            let _ = write!(text, "  {{ priority = {}, {}", 100 + place, rule.does);
            for (key, prefix) in [("from", rule.from), ("to", rule.to)] {
                if let Some(prefix) = prefix {
                    let _ = write!(text, ", {key} = \"{prefix}\"");
                }
            }
            if let Some(name) = rule.iif.and_then(|iif| self.interface(iif)) {
                let _ = write!(text, ", iif = \"{name}\"");
            }
            text.push_str(" },\n");
        }
        text.push_str("  { priority = 40000, lookup = \"out\" },\n]\n[nat]\nsnat = [\n");
        for (from, (to, _), ports) in self.translations() {
            let _ = writeln!(
                text,
                "  {{ from = \"{from}\", to = \"{to}\", ports = \"{ports}\" }},"
            );
        }
        text.push_str("]\nforward = [\n");
        for (host, (from, protocol, port)) in self.forwards.iter().zip(FORWARDS) {
            let Some(host) = host else { continue };
            let to = address(*host, from.contains(':'));
            let proto = if protocol == 6 { "tcp" } else { "udp" };
            let to = std::net::SocketAddr::new(to, 22);
            let _ = writeln!(
                text,
                "  {{ address = \"{from}\", proto = \"{proto}\", port = {port}, to = \"{to}\" }},"
            );
        }
        text.push_str("]\n");
    }

    /// An interface's name, where it is there: three networks, two personalities.
    fn interface(&self, interface: usize) -> Option<&'static str> {
        match interface {
            0..3 => {
                let used = (0..HOSTS).any(|port| self.net(port) == Some(interface));
                self.nets[interface].filter(|_| used)
            }
            other => self.personality(other == 4),
        }
    }
}
