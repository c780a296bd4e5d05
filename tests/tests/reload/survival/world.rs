//! Configurations over a small universe: five guests on five ports in up to three networks, two
//! personalities, rules, translations, redirections, both families.

mod toml;

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
    /// What `[policy]` says.
    permits: &'static str,
}

/// What `[policy]` may say.
const PERMITS: [&str; 5] = [
    "",
    "default = [{ action = \"accept\" }]",
    "rules = [{ action = \"drop\", proto = \"udp\", source = \"10.0.2.0/24\" }]\ndefault = [{ action = \"accept\" }]",
    "rules = [{ action = \"reject\", proto = [\"tcp\", \"udp\"], port = [22, 53], destination = \"10.0.0.0/8\" }]",
    "rules = [{ action = \"accept\", proto = \"icmp\" }, { action = \"drop\", source = [\"10.0.1.0/24\", \"2001:db8:1::/64\"] }]",
];

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
    let policy = (
        vec(rule(), 0..4).boxed(),
        vec(snat(), 0..5).boxed(),
        select(&PERMITS[..]).boxed(),
    );
    let forward = || of(0..HOSTS);
    let forwards = (forward(), forward(), forward());
    let parts = (
        nets, ports, sources, guests, first, second, policy, forwards,
    );
    parts
        .prop_map(
            |(nets, ports, sources, guests, first, second, policy, forwards)| {
                let (rules, mut snat, permits) = policy;
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
                    permits,
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
        if theirs(17) {
            mixed.permits = other.permits;
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

    /// Whether a host that is behind a port is looked for there.
    pub fn is_at_home(&self, host: usize, v6: bool, port: usize) -> bool {
        let owned = self.port_of(host, v6, HOSTS) == port;
        owned || self.net(port) == Some(net_of(host))
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
}
