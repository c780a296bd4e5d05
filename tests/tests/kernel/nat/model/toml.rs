//! The configuration as tapgate's file.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{
    EXCEPT, Forward, GUEST, Model, NETWORK, OWNER, PLAIN, PORTS, PUBLIC, ROUTER, Rule, STATION,
    word,
};

impl Model {
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
            let public = match port {
                OWNER => format!(", public = {PUBLIC:?}"),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "guest-{name} = {{ port = \"{name}\", mac = \"{mac}\", addresses = [\"{v4}\", \"{v6}\"]{public} }}"
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
            text.push_str(
                "[policy]\nzones = { inside = [\"lan\"], outside = [\"x\"] }\nrules = [\n",
            );
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
}

impl Forward {
    pub(super) fn toml(&self) -> String {
        let (first, last) = self.ports;
        let protocol = word(self.protocol);
        let guest = Model::guest(self.family, self.guest);
        let to = match (self.target, guest) {
            (None, guest) => guest.to_string(),
            (Some(port), guest) => SocketAddr::new(guest, port).to_string(),
        };
        let from = self.from.map(|from| format!(", from = [\"{from}\"]"));
        format!(
            "{{ address = \"{}\", proto = \"{protocol}\", port = \"{first}-{last}\", to = \"{to}\"{} }}",
            self.address(),
            from.unwrap_or_default(),
        )
    }
}

impl Rule {
    pub(super) fn toml(&self) -> String {
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
}

/// Guests have names of their own in the file.
fn guest_name(value: &str) -> String {
    match value {
        "ga" | "gb" | "gc" => format!("guest-{value}"),
        other => other.to_owned(),
    }
}
