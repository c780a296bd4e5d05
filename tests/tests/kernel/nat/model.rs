//! A random configuration of translations and policy, as tapgate's file and as rules of nft.

mod nft;
mod toml;

use std::net::IpAddr;

use crate::random::Random;

/// The ports: the uplink, then those of the guests.
pub const PORTS: [&str; 4] = ["wan", "ga", "gb", "gc"];
/// The MAC that the router wears on each port.
pub const ROUTER: [&str; 4] = [
    "02:00:00:00:00:aa",
    "02:00:00:00:01:fe",
    "02:00:00:00:01:fe",
    "02:00:00:00:02:fe",
];
/// The MAC of who is there: the provider's gateway and the guests.
pub const STATION: [&str; 4] = [
    "02:00:00:00:00:fe",
    "02:00:00:00:01:01",
    "02:00:00:00:01:02",
    "02:00:00:00:02:01",
];
/// The router's address on each port, by family.
const GATEWAY: [[&str; 4]; 2] = [
    ["203.0.113.10", "10.0.1.254", "10.0.1.254", "10.0.2.254"],
    [
        "2001:db8:9::10",
        "2001:db8:1::fe",
        "2001:db8:1::fe",
        "2001:db8:2::fe",
    ],
];
const GUEST: [[&str; 4]; 2] = [
    ["203.0.113.1", "10.0.1.1", "10.0.1.2", "10.0.2.1"],
    [
        "2001:db8:9::1",
        "2001:db8:1::1",
        "2001:db8:1::2",
        "2001:db8:2::1",
    ],
];
const EXTERNAL: [[&str; 3]; 2] = [
    ["203.0.113.10", "203.0.113.11", "203.0.113.12"],
    ["2001:db8:9::10", "2001:db8:9::11", "2001:db8:9::12"],
];
/// What guest `b` has outside, untranslated.
const PUBLIC: [&str; 2] = ["203.0.113.21", "2001:db8:9::21"];
/// Its port.
pub const OWNER: usize = 2;
/// The guests' networks: of `a` and `b`, and of `c`.
const NETWORK: [[&str; 2]; 2] = [
    ["10.0.1.0/24", "10.0.2.0/24"],
    ["2001:db8:1::/64", "2001:db8:2::/64"],
];
const REMOTE: [&str; 2] = ["198.51.100.", "2001:db8:ffff::"];
/// Sources and destinations of rules.
const PREFIXES: [[&str; 6]; 2] = [
    [
        "10.0.1.0/24",
        "10.0.1.2/32",
        "10.0.2.0/24",
        "198.51.100.0/24",
        "198.51.100.2/31",
        "0.0.0.0/0",
    ],
    [
        "2001:db8:1::/64",
        "2001:db8:1::2/128",
        "2001:db8:2::/64",
        "2001:db8:ffff::/64",
        "2001:db8:ffff::2/127",
        "::/0",
    ],
];
/// Destinations that are reached untranslated.
const EXCEPT: [&str; 2] = ["198.51.100.4/31", "2001:db8:ffff::4/127"];
/// Hosts on the internet: the last part of their addresses.
pub const REMOTES: u64 = 5;
/// A protocol without ports.
pub const PLAIN: u8 = 99;

/// A configuration.
#[derive(Debug)]
pub struct Model {
    /// The second network wears the second external address.
    split: bool,
    /// The first network's entry names the personality in place of an address.
    masquerade: bool,
    /// The last of the hosts outside are reached untranslated.
    except: bool,
    /// The third external address is that of guest `c`.
    one_to_one: bool,
    pub forwards: Vec<Forward>,
    rules: Vec<Rule>,
    defaults: Vec<Rule>,
}

/// Ports that are redirected.
#[derive(Debug, Clone)]
pub struct Forward {
    /// 0: IPv4, 1: IPv6.
    pub family: usize,
    /// Which external address.
    external: usize,
    pub protocol: u8,
    /// The first and the last.
    pub ports: (u16, u16),
    guest: usize,
    /// The first inside, if it is another.
    target: Option<u16>,
    /// Which sources alone.
    from: Option<&'static str>,
}

/// A rule of the policy, or a default: these have sides alone.
#[derive(Debug, Clone, Default)]
struct Rule {
    accept: bool,
    from: Option<&'static str>,
    to: Option<&'static str>,
    /// The family of its prefixes.
    family: usize,
    source: Option<&'static str>,
    destination: Option<&'static str>,
    protocol: Option<u8>,
    echo: bool,
    ports: Option<(u16, u16)>,
    source_ports: Option<(u16, u16)>,
}

/// Zones, personality, networks and guests as rules name them, and the kernel's devices.
const SIDES: [(&str, &str); 8] = [
    ("inside", "{ ga, gb }"),
    ("outside", "{ wan }"),
    ("x", "{ wan }"),
    ("lan", "{ ga, gb }"),
    ("dmz", "{ gc }"),
    ("ga", "{ ga }"),
    ("gb", "{ gb }"),
    ("gc", "{ gc }"),
];

impl Model {
    pub fn random(random: &mut Random) -> Self {
        let forwards = (0..random.below(7)).map(|n| Forward::random(random, n as u16));
        let forwards = forwards.collect();
        let one_to_one = random.chance(50);
        // Three in ten have no policy.
        let rules = if random.chance(30) {
            0
        } else {
            random.below(6)
        };
        Self {
            split: random.chance(50),
            masquerade: random.chance(30),
            except: random.chance(30),
            one_to_one,
            forwards,
            rules: (0..rules).map(|_| Rule::random(random)).collect(),
            defaults: (0..random.below(1 + rules.min(3)))
                .map(|_| Rule::side(random))
                .collect(),
        }
    }

    pub fn guest(family: usize, port: usize) -> IpAddr {
        GUEST[family][port].parse().expect("an address")
    }

    /// The address that guest `b` has outside.
    pub fn public(family: usize) -> IpAddr {
        PUBLIC[family].parse().expect("an address")
    }

    pub fn external(family: usize, number: usize) -> IpAddr {
        EXTERNAL[family][number].parse().expect("an address")
    }

    pub fn gateway(family: usize, port: usize) -> IpAddr {
        GATEWAY[family][port].parse().expect("an address")
    }

    pub fn remote(family: usize, number: u64) -> IpAddr {
        let text = format!("{}{number}", REMOTE[family]);
        text.parse().expect("an address")
    }

    /// The external address that stands for guest `c` alone.
    pub fn alone(&self, family: usize) -> Option<IpAddr> {
        self.one_to_one.then(|| Self::external(family, 2))
    }

    /// The external address of a network, but for a masquerade.
    fn worn(&self, family: usize, network: usize) -> Option<&'static str> {
        match network {
            0 if self.masquerade && family == 0 => None,
            1 if self.split => Some(EXTERNAL[family][1]),
            _ => Some(EXTERNAL[family][0]),
        }
    }
}

impl Forward {
    /// The `n`th: its ports are no other's.
    fn random(random: &mut Random, n: u16) -> Self {
        let family = random.below(2) as usize;
        let first = 100 + n * 10;
        let source = random.chance(30).then(|| random.below(6) as usize);
        Self {
            family,
            external: random.below(2) as usize,
            protocol: [6, 17][random.below(2) as usize],
            ports: (first, first + random.below(3) as u16),
            guest: 1 + random.below(3) as usize,
            target: random.chance(50).then(|| 5_000 + n * 10),
            from: source.map(|n| PREFIXES[family][n]),
        }
    }

    pub fn address(&self) -> IpAddr {
        Model::external(self.family, self.external)
    }
}

impl Rule {
    fn side(random: &mut Random) -> Self {
        let mut side = |share| {
            random
                .chance(share)
                .then(|| SIDES[random.below(SIDES.len() as u64) as usize].0)
        };
        let (from, to) = (side(60), side(60));
        Self {
            accept: random.chance(60),
            from,
            to,
            ..Self::default()
        }
    }

    fn random(random: &mut Random) -> Self {
        let family = random.below(2) as usize;
        let mut prefix = || {
            random
                .chance(25)
                .then(|| PREFIXES[family][random.below(6) as usize])
        };
        let (source, destination) = (prefix(), prefix());
        let protocol = random
            .chance(60)
            .then(|| [6, 17, 1, PLAIN][random.below(4) as usize]);
        let has_ports = matches!(protocol, Some(6 | 17));
        let span = |random: &mut Random, first: u16| {
            let low = first + random.below(30) as u16;
            (low, low + random.below(60) as u16)
        };
        let start = [100, 5_000, 20_000][random.below(3) as usize];
        let ports = (has_ports && random.chance(60)).then(|| span(random, start));
        let source_ports = (has_ports && random.chance(40)).then(|| {
            let low = 1_000 * (1 + random.below(30) as u16);
            (low, low + 10_000)
        });
        let side = loop {
            let side = Self::side(random);
            // What drops everything leaves nothing to compare.
            let all = (side.from.or(side.to).or(source).or(destination), protocol) == (None, None);
            if !all {
                break side;
            }
        };
        Self {
            family,
            source,
            destination,
            protocol,
            echo: protocol == Some(1) && random.chance(60),
            ports,
            source_ports,
            ..side
        }
    }
}

fn word(protocol: u8) -> &'static str {
    match protocol {
        6 => "tcp",
        17 => "udp",
        _ => "icmp",
    }
}
