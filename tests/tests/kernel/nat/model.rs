//! A random configuration of translations and policy, as tapgate's file and as rules of nft.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::random::Random;

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

    /// The file.
    pub fn toml(&self) -> String {
        let mut text = String::from("[ports]\n");
        for port in PORTS {
            let _ = writeln!(text, "{port} = {{ memory = true }}");
        }
        let _ = write!(
            text,
            r#"[router.limits]
new_sessions_per_second = 1000000
[personalities]
x = {{ port = "wan", mac = "{}", addresses = ["203.0.113.10/24", "203.0.113.11/24", "203.0.113.12/24", "2001:db8:9::10/64", "2001:db8:9::11/64", "2001:db8:9::12/64"], gateway = ["203.0.113.1", "2001:db8:9::1"] }}
[networks]
lan = {{ ports = ["ga", "gb"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "{}" }}
dmz = {{ ports = ["gc"], addresses = ["10.0.2.254/24", "2001:db8:2::fe/64"], mac = "{}" }}
[guests]
"#,
            ROUTER[0], ROUTER[1], ROUTER[3]
        );
        for port in 1..PORTS.len() {
            let (name, mac) = (PORTS[port], STATION[port]);
            let (v4, v6) = (GUEST[0][port], GUEST[1][port]);
            let _ = writeln!(
                text,
                "guest-{name} = {{ port = \"{name}\", mac = \"{mac}\", addresses = [\"{v4}\", \"{v6}\"] }}"
            );
        }
        text.push_str("[tables]\nmain = [{ to = \"default\", dev = \"x\" }, { to = \"::/0\", dev = \"x\" }]\n[nat]\nsnat = [\n");
        for (family, networks) in NETWORK.iter().enumerate() {
            for (n, network) in networks.iter().enumerate() {
                let by = match self.worn(family, n) {
                    Some(address) => format!("to = \"{address}\""),
                    None => "dev = \"x\"".to_owned(),
                };
                let except = match self.except {
                    true => format!(", except = [\"{}\"]", EXCEPT[family]),
                    false => String::new(),
                };
                let _ = writeln!(text, "  {{ from = \"{network}\", {by}{except} }},");
            }
        }
        text.push_str("]\none_to_one = [\n");
        for family in 0..2 {
            if let Some(outside) = self.alone(family) {
                let inside = Self::guest(family, 3);
                let _ = writeln!(
                    text,
                    "  {{ inside = \"{inside}\", outside = \"{outside}\" }},"
                );
            }
        }
        text.push_str("]\nforward = [\n");
        for forward in &self.forwards {
            let _ = writeln!(text, "  {},", forward.toml());
        }
        text.push_str("]\n");
        if !self.rules.is_empty() {
            text.push_str("[policy]\nzones = { inside = [\"lan\"], outside = [\"x\"] }\nrules = [\n");
            for rule in &self.rules {
                let _ = writeln!(text, "  {},", rule.toml());
            }
            text.push_str("]\ndefault = [\n");
            for rule in &self.defaults {
                let _ = writeln!(text, "  {},", rule.toml());
            }
            text.push_str("]\n");
        }
        text
    }

    /// The external address of a network, but for a masquerade.
    fn worn(&self, family: usize, network: usize) -> Option<&'static str> {
        match network {
            0 if self.masquerade && family == 0 => None,
            1 if self.split => Some(EXTERNAL[family][1]),
            _ => Some(EXTERNAL[family][0]),
        }
    }

    /// The same for the kernel; what tapgate does unsaid is said here.
    pub fn nft(&self) -> String {
        let mut text = String::from("table inet t {\n");
        self.nft_guard(&mut text);
        self.nft_forward(&mut text);
        self.nft_nat(&mut text);
        text.push_str("}\n");
        text
    }

    /// Guests send from their own addresses; nobody outside has one of ours. The router answers pings.
    fn nft_guard(&self, text: &mut String) {
        text.push_str("chain guard { type filter hook prerouting priority raw; policy accept;\n");
        for port in 1..PORTS.len() {
            for (family, word) in ["ip", "ip6"].iter().enumerate() {
                let (name, own) = (PORTS[port], GUEST[family][port]);
                let _ = writeln!(text, "iifname {name} {word} saddr != {own} drop");
            }
        }
        for (family, word) in ["ip", "ip6"].iter().enumerate() {
            let own = [&EXTERNAL[family][..], &NETWORK[family]].concat().join(", ");
            let _ = writeln!(text, "iifname wan {word} saddr {{ {own} }} drop");
        }
        text.push_str("}\nchain local { type filter hook input priority 0; policy drop;\n");
        text.push_str("icmp type echo-request accept\nicmpv6 type echo-request accept\n}\n");
    }

    fn nft_forward(&self, text: &mut String) {
        text.push_str("chain forward { type filter hook forward priority 0; policy accept;\n");
        text.push_str("ct state invalid drop\nct state established,related accept\n");
        text.push_str("iifname wan ct status & dnat == 0 drop\n");
        if !self.rules.is_empty() {
            for rule in self.rules.iter().chain(&self.defaults) {
                rule.nft(text);
            }
        }
        for (from, to) in [("{ ga, gb }", "{ gc }"), ("{ gc }", "{ ga, gb }")] {
            let _ = writeln!(
                text,
                "iifname {from} oifname {to} ct status & dnat == 0 drop"
            );
        }
        text.push_str("}\n");
    }

    fn nft_nat(&self, text: &mut String) {
        text.push_str("chain in { type nat hook prerouting priority dstnat; policy accept;\n");
        for (family, word) in ["ip", "ip6"].iter().enumerate() {
            if let Some(outside) = self.alone(family) {
                let inside = Self::guest(family, 3);
                let _ = writeln!(text, "{word} daddr {outside} dnat {word} to {inside}");
            }
        }
        for forward in &self.forwards {
            forward.nft(text);
        }
        text.push_str("}\nchain out { type nat hook postrouting priority srcnat; policy accept;\n");
        for (family, word) in ["ip", "ip6"].iter().enumerate() {
            // Who speaks to an address outside wears its own outside, also where the way leads back in.
            for seen in ["oifname wan", "oifname != wan ct status dnat"] {
                if let Some(outside) = self.alone(family) {
                    let inside = Self::guest(family, 3);
                    let _ = writeln!(text, "{seen} {word} saddr {inside} snat {word} to {outside}");
                }
                for (n, network) in NETWORK[family].iter().enumerate() {
                    let by = match self.worn(family, n) {
                        None if seen == "oifname wan" => "masquerade".to_owned(),
                        worn => format!("snat {word} to {}", worn.unwrap_or(EXTERNAL[family][0])),
                    };
                    let except = match self.except {
                        true => format!("{word} daddr != {} ", EXCEPT[family]),
                        false => String::new(),
                    };
                    let _ = writeln!(text, "{seen} {word} saddr {network} {except}{by}");
                }
            }
        }
        text.push_str("}\n");
    }

    /// `ip` commands that make the kernel such a router.
    pub fn commands() -> String {
        let mut text = String::new();
        for (n, port) in PORTS.iter().enumerate() {
            let _ = writeln!(text, "link set dev {port} address {} up", ROUTER[n]);
            let hosts = if n == 0 { ["24", "64"] } else { ["32", "128"] };
            for (family, length) in hosts.iter().enumerate() {
                let (gateway, station) = (GATEWAY[family][n], GUEST[family][n]);
                let nodad = if family == 1 { " nodad" } else { "" };
                let own: &[&str] = if n == 0 { &EXTERNAL[family] } else { &[gateway] };
                for address in own {
                    let _ = writeln!(text, "address add {address}/{length} dev {port}{nodad}");
                }
                if n > 0 {
                    let _ = writeln!(text, "route add {station}/{length} dev {port}");
                }
                let _ = writeln!(
                    text,
                    "neigh replace {station} lladdr {} dev {port} nud permanent",
                    STATION[n]
                );
            }
        }
        text.push_str("route add default via 203.0.113.1 dev wan\n");
        text.push_str("route add ::/0 via 2001:db8:9::1 dev wan\n");
        text
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

    fn toml(&self) -> String {
        let (first, last) = self.ports;
        let protocol = word(self.protocol);
        let guest = Model::guest(self.family, self.guest);
        let to = match (self.target, guest) {
            (None, guest) => guest.to_string(),
            (Some(port), guest) => std::net::SocketAddr::new(guest, port).to_string(),
        };
        let from = self.from.map(|from| format!(", from = [\"{from}\"]"));
        format!(
            "{{ address = \"{}\", proto = \"{protocol}\", port = \"{first}-{last}\", to = \"{to}\"{} }}",
            self.address(),
            from.unwrap_or_default(),
        )
    }

    fn nft(&self, text: &mut String) {
        let family = ["ip", "ip6"][self.family];
        let from = self.from.filter(|from| !from.ends_with("/0"));
        let from = from.map_or(String::new(), |from| format!("{family} saddr {from} "));
        let guest = Model::guest(self.family, self.guest);
        for port in self.ports.0..=self.ports.1 {
            let to = self.target.map_or(port, |first| first + port - self.ports.0);
            let target = std::net::SocketAddr::new(guest, to);
            let _ = writeln!(
                text,
                "{from}{family} daddr {} {} dport {port} dnat {family} to {target}",
                self.address(),
                word(self.protocol)
            );
        }
    }
}

impl Rule {
    fn side(random: &mut Random) -> Self {
        let mut side =
            |share| random.chance(share).then(|| SIDES[random.below(SIDES.len() as u64) as usize].0);
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
        let mut prefix =
            || random.chance(25).then(|| PREFIXES[family][random.below(6) as usize]);
        let (source, destination) = (prefix(), prefix());
        let protocol = random.chance(60).then(|| [6, 17, 1, PLAIN][random.below(4) as usize]);
        let has_ports = matches!(protocol, Some(6 | 17));
        let span = |random: &mut Random, first: u16| {
            let low = first + random.below(30) as u16;
            (low, low + random.below(60) as u16)
        };
        let start = [100, 5_000, 20_000][random.below(3) as usize];
        let ports = (has_ports && random.chance(60)).then(|| span(random, start));
        let source_ports = (has_ports && random.chance(15)).then(|| {
            let low = random.below(40_000) as u16;
            (low, low + 20_000)
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

    fn toml(&self) -> String {
        let action = if self.accept { "accept" } else { "drop" };
        let mut text = format!("{{ action = \"{action}\"");
        for (key, value) in [
            ("from", self.from),
            ("to", self.to),
            ("source", self.source),
            ("destination", self.destination),
            ("proto", self.protocol.filter(|it| *it != PLAIN).map(word)),
            ("icmp_type", self.echo.then_some("echo-request")),
        ] {
            if let Some(value) = value.map(guest_name) {
                let _ = write!(text, ", {key} = \"{value}\"");
            }
        }
        if self.protocol == Some(PLAIN) {
            let _ = write!(text, ", proto = {PLAIN}");
        }
        for (key, span) in [("port", self.ports), ("source_port", self.source_ports)] {
            if let Some((first, last)) = span {
                let _ = write!(text, ", {key} = \"{first}-{last}\"");
            }
        }
        text + " }"
    }

    fn nft(&self, text: &mut String) {
        let family = ["ip", "ip6"][self.family];
        let mut line = String::new();
        for (key, side) in [("iifname", self.from), ("oifname", self.to)] {
            let devices = SIDES.iter().find(|(name, _)| Some(*name) == side);
            if let Some((_, devices)) = devices {
                let _ = write!(line, "{key} {devices} ");
            }
        }
        for (key, prefix) in [("saddr", self.source), ("daddr", self.destination)] {
            match prefix {
                Some("0.0.0.0/0") => line.push_str("meta nfproto ipv4 "),
                Some("::/0") => line.push_str("meta nfproto ipv6 "),
                Some(prefix) => {
                    let _ = write!(line, "{family} {key} {prefix} ");
                }
                None => {}
            }
        }
        match self.protocol {
            Some(1) if self.echo => {}
            Some(1) => line.push_str("meta l4proto { 1, 58 } "),
            Some(protocol) => {
                let _ = write!(line, "meta l4proto {protocol} ");
            }
            None => {}
        }
        for (key, span) in [("dport", self.ports), ("sport", self.source_ports)] {
            if let Some((first, last)) = span {
                let _ = write!(line, "th {key} {first}-{last} ");
            }
        }
        let action = if self.accept { "accept" } else { "drop" };
        let kinds: &[&str] = match self.echo {
            true => &["icmp type echo-request ", "icmpv6 type echo-request "],
            false => &[""],
        };
        let pinned = self.source.or(self.destination).is_some();
        for (number, kind) in kinds.iter().enumerate() {
            if pinned && self.echo && number != self.family {
                continue;
            }
            let _ = writeln!(text, "{line}{kind}{action}");
        }
    }
}

/// Guests have names of their own in the file.
fn guest_name(value: &str) -> String {
    match value {
        "ga" | "gb" | "gc" => format!("guest-{value}"),
        other => other.to_owned(),
    }
}

fn word(protocol: u8) -> &'static str {
    match protocol {
        6 => "tcp",
        17 => "udp",
        _ => "icmp",
    }
}
