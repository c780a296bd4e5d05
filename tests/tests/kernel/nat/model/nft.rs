//! The same for the kernel: rules of nft, which say what tapgate does unsaid, and addresses.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{
    EXCEPT, EXTERNAL, Forward, GATEWAY, GUEST, Model, NETWORK, OWNER, PORTS, PUBLIC, ROUTER, Rule,
    SIDES, STATION, word,
};

impl Model {
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
                let public = match port {
                    OWNER => format!(", {}", PUBLIC[family]),
                    _ => String::new(),
                };
                let own = format!("{{ {own}{public} }}");
                let _ = writeln!(text, "iifname {name} {word} saddr != {own} drop");
            }
        }
        for (family, word) in ["ip", "ip6"].iter().enumerate() {
            let own = [
                &EXTERNAL[family][..],
                &NETWORK[family],
                &PUBLIC[family..=family],
            ]
            .concat()
            .join(", ");
            let _ = writeln!(text, "iifname wan {word} saddr {{ {own} }} drop");
        }
        text.push_str("}\nchain local { type filter hook input priority 0; policy drop;\n");
        text.push_str("icmp type echo-request accept\nicmpv6 type echo-request accept\n}\n");
    }

    fn nft_forward(&self, text: &mut String) {
        text.push_str("chain forward { type filter hook forward priority 0; policy accept;\n");
        text.push_str("ct state invalid drop\nct state established,related accept\n");
        text.push_str(
            "ip daddr 203.0.113.21 meta mark set 1\nip6 daddr 2001:db8:9::21 meta mark set 1\n",
        );
        text.push_str("ct status dnat meta mark set 1\niifname wan meta mark 0 drop\n");
        if !self.rules.is_empty() {
            for rule in self.rules.iter().chain(&self.defaults) {
                rule.nft(text);
            }
        }
        for (from, to) in [("{ ga, gb }", "{ gc }"), ("{ gc }", "{ ga, gb }")] {
            let _ = writeln!(text, "iifname {from} oifname {to} meta mark 0 drop");
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
                    let _ = writeln!(
                        text,
                        "{seen} {word} saddr {inside} snat {word} to {outside}"
                    );
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
                let own: &[&str] = if n == 0 {
                    &EXTERNAL[family]
                } else {
                    &[gateway]
                };
                for address in own {
                    let _ = writeln!(text, "address add {address}/{length} dev {port}{nodad}");
                }
                if n > 0 {
                    let _ = writeln!(text, "route add {station}/{length} dev {port}");
                }
                if n == OWNER {
                    let public = PUBLIC[family];
                    let _ = writeln!(text, "route add {public}/{length} dev {port}");
                    let _ = writeln!(
                        text,
                        "neigh replace {public} lladdr {} dev {port} nud permanent",
                        STATION[n]
                    );
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
    pub(super) fn nft(&self, text: &mut String) {
        let family = ["ip", "ip6"][self.family];
        let from = self.from.filter(|from| !from.ends_with("/0"));
        let from = from.map_or(String::new(), |from| format!("{family} saddr {from} "));
        let guest = Model::guest(self.family, self.guest);
        for port in self.ports.0..=self.ports.1 {
            let to = self
                .target
                .map_or(port, |first| first + port - self.ports.0);
            let target = SocketAddr::new(guest, to);
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
    pub(super) fn nft(&self, text: &mut String) {
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
