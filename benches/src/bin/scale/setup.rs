//! The large configuration, and the changes made to it.

use serde_json::{Map, Value, json};
use tapgate_engine::config::{Config, File};

/// Guests behind each port.
pub const GUESTS_A_PORT: u32 = 10;
/// Public addresses with a MAC, table and rule each.
const PERSONALITIES: u32 = 20;
/// Ports redirected to guests.
const FORWARDS: u32 = 100;

/// How the ports are put into networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All in one network.
    OneNetwork,
    /// Each in a network of its own.
    NetworkEach,
}

/// What is changed about the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Nothing,
    Guest,
    Port,
    Move,
    Rule,
}

impl Step {
    pub const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Guest,
        Self::Port,
        Self::Move,
        Self::Rule,
    ];

    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing changed",
            Self::Guest => "one guest added",
            Self::Port => "a port with 10 guests added",
            Self::Move => "one guest moved",
            Self::Rule => "a rule added",
        }
    }
}

/// A configuration of so many ports with [`GUESTS_A_PORT`] guests each.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub shape: Shape,
    pub ports: u32,
}

impl Setup {
    /// The file of the configuration.
    pub fn file(self) -> File {
        let (mut personalities, mut tables) = (Map::new(), Map::new());
        let mut rules = Vec::new();
        for n in 0..PERSONALITIES {
            let (name, table) = (format!("p{n}"), format!("t{n}"));
            let personality = json!({
                "port": "uplink", "mac": mac(0xaa00_0000 + n), "onlink": true,
                "addresses": [format!("203.0.113.{n}/32"), format!("2001:db8:ff::{n:x}/128")],
                "gateway": ["192.0.2.1", "fe80::fe"],
            });
            let from = format!("2001:db8:0:{n:x}::/64");
            rules.push(json!({ "priority": 1_000 + n, "from": from, "lookup": table }));
            tables.insert(
                table,
                json!([{ "to": "default", "dev": name }, { "to": "::/0", "dev": name }]),
            );
            personalities.insert(name, personality);
        }
        tables.insert(
            "main".to_owned(),
            json!([{ "to": "default", "dev": "p0" }, { "to": "::/0", "dev": "p0" }]),
        );
        let forward = |n| {
            let to = format!("{}:22", inside(n));
            json!({ "address": "203.0.113.0", "proto": "tcp", "port": 10_000 + n, "to": to })
        };
        let forwards: Vec<Value> = (0..FORWARDS.min(self.guests())).map(forward).collect();
        let file = json!({
            "router": { "neighbors": 32_768 },
            "ports": { "uplink": { "memory": true } },
            "personalities": personalities,
            "tables": tables,
            "routing": { "rules": rules },
            "nat": { "snat": [{ "from": "10.128.0.0/9", "to": "203.0.113.0" }], "forward": forwards },
        });
        let mut file: File = serde_json::from_value(file).expect("the file is well-formed");
        if self.shape == Shape::OneNetwork {
            add_network(&mut file, "lan", "10.255.255.254/9", Vec::new());
        }
        for port in 0..self.ports {
            self.add_port(&mut file, port);
        }
        file
    }

    /// The configuration with something changed. `number` tells several such changes apart.
    pub fn changed(self, file: &File, step: Step) -> Config {
        let mut file = file.clone();
        match step {
            Step::Nothing => {}
            Step::Guest => add_guest(&mut file, 0, (self.ports + 1) * GUESTS_A_PORT),
            Step::Port => self.add_port(&mut file, self.ports),
            Step::Move => {
                let guest = file.guests.get_mut(&guest_name(GUESTS_A_PORT));
                guest.expect("there are two ports").port = port_name(0);
            }
            Step::Rule => {
                let rule = json!({ "priority": 500, "from": "10.128.0.0/24", "lookup": "t1" });
                let rule = serde_json::from_value(rule).expect("the rule is well-formed");
                file.routing.rules.push(rule);
            }
        }
        config(file)
    }

    pub fn guests(self) -> u32 {
        self.ports * GUESTS_A_PORT
    }

    fn add_port(self, file: &mut File, port: u32) {
        let name = port_name(port);
        let memory = serde_json::from_value(json!({ "memory": true }));
        file.ports
            .insert(name.clone(), memory.expect("the port is well-formed"));
        match self.shape {
            Shape::OneNetwork => {
                let network = file.networks.get_mut("lan");
                network.expect("the network is there").ports.push(name);
            }
            Shape::NetworkEach => {
                let gateway = format!("10.{}.{}.254/24", 128 + port / 256, port % 256);
                add_network(file, &format!("n{port}"), &gateway, vec![name]);
            }
        }
        for guest in port * GUESTS_A_PORT..(port + 1) * GUESTS_A_PORT {
            add_guest(file, port, guest);
        }
    }
}

/// The checked configuration.
pub fn config(file: File) -> Config {
    Config::try_from(file).unwrap_or_else(|faults| panic!("the configuration is wrong: {faults:?}"))
}

pub fn port_name(port: u32) -> String {
    format!("v{port}")
}

fn guest_name(guest: u32) -> String {
    format!("g{guest}")
}

/// The IPv6 address that a guest has outside.
pub fn public(guest: u32) -> std::net::Ipv6Addr {
    let personality = (guest % PERSONALITIES) as u16;
    let low = [(guest >> 16) as u16, guest as u16];
    [0x2001, 0xdb8, 0, personality, 0, 1, low[0], low[1]].into()
}

/// The MAC that a packet to a guest's public address is sent to.
pub fn personality_mac(guest: u32) -> [u8; 6] {
    octets(0xaa00_0000 + guest % PERSONALITIES)
}

fn inside(guest: u32) -> std::net::Ipv4Addr {
    let port = guest / GUESTS_A_PORT;
    [
        10,
        128 + (port / 256) as u8,
        port as u8,
        (1 + guest % GUESTS_A_PORT) as u8,
    ]
    .into()
}

fn add_network(file: &mut File, name: &str, gateway: &str, ports: Vec<String>) {
    let network = json!({
        "ports": ports, "addresses": [gateway],
        "dhcp": { "dns": ["9.9.9.9"] }, "ra": { "dns": ["2620:fe::fe"] },
    });
    let network = serde_json::from_value(network).expect("the network is well-formed");
    file.networks.insert(name.to_owned(), network);
}

fn add_guest(file: &mut File, port: u32, number: u32) {
    let guest = json!({
        "port": port_name(port), "mac": mac(number),
        "addresses": [inside(number)],
        "public": [public(number)],
        "personality": format!("p{}", number % PERSONALITIES),
    });
    let guest = serde_json::from_value(guest).expect("the guest is well-formed");
    file.guests.insert(guest_name(number), guest);
}

fn octets(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x02, 0x01, a, b, c, d]
}

fn mac(number: u32) -> String {
    octets(number).map(|octet| format!("{octet:02x}")).join(":")
}
