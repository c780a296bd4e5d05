//! Configurations as files.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::{FORWARDS, HOSTS, MACS, World, address, mac, net_mac};

impl World {
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
            let to = SocketAddr::new(to, 22);
            let _ = writeln!(
                text,
                "  {{ address = \"{from}\", proto = \"{proto}\", port = {port}, to = \"{to}\" }},"
            );
        }
        let _ = writeln!(text, "]\n[policy]\n{}", self.permits);
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
