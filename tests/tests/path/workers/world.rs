//! Eight guests in two networks behind one personality.

use std::net::IpAddr;

use tapgate_engine::addr::MacAddr;

/// How many guests there are.
pub const HOSTS: u8 = 8;

/// Guests 0 to 3 in network a, 4 to 7 in b. IPv6 is public in a, translated in b.
pub fn text() -> String {
    let mut ports = String::new();
    let mut guests = String::new();
    for host in 0..HOSTS {
        ports.push_str(&format!("g{host} = {{ memory = true }}\n"));
        let (v4, v6) = (address(host, false), address(host, true));
        let owned = match host {
            0..4 => format!("addresses = [\"{v4}\"], public = [\"{v6}\"]"),
            _ => format!("addresses = [\"{v4}\", \"{v6}\"]"),
        };
        let mac = mac(host);
        guests.push_str(&format!(
            "h{host} = {{ port = \"g{host}\", mac = \"{mac}\", {owned} }}\n"
        ));
    }
    format!(
        r#"
[router]
sessions = 1024
icmp_errors_per_second = 1000000
[ports]
up = {{ memory = true }}
{ports}
[personalities]
A = {{ port = "up", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24", "2001:db8:a::1/64"], gateway = ["203.0.113.1", "fe80::9"], onlink = true }}
[networks]
a = {{ ports = ["g0", "g1", "g2", "g3"], addresses = ["10.0.1.254/24", "2001:db8:1::254/64"], mac = "02:00:00:00:00:01" }}
b = {{ ports = ["g4", "g5", "g6", "g7"], addresses = ["10.0.2.254/24", "2001:db8:2::254/64"], mac = "02:00:00:00:00:02" }}
[guests]
{guests}
[tables]
out = [{{ to = "default", dev = "A" }}, {{ to = "::/0", dev = "A" }}]
[routing]
rules = [{{ priority = 40000, lookup = "out" }}]
[nat]
snat = [
  {{ from = "10.0.0.0/8", to = "203.0.113.10", ports = "4000-4063" }},
  {{ from = "2001:db8:2::/64", to = "2001:db8:a::1", ports = "4000-4063" }},
]
forward = [
  {{ address = "203.0.113.10", proto = "udp", port = 4010, to = "10.0.1.2:22" }},
  {{ address = "203.0.113.10", proto = "tcp", port = 2222, to = "10.0.2.5:22" }},
  {{ address = "2001:db8:a::1", proto = "tcp", port = 2222, to = "[2001:db8:1::3]:22" }},
]
[policy]
default = [{{ action = "accept" }}]
"#
    )
}

/// A guest's address.
pub fn address(host: u8, v6: bool) -> IpAddr {
    let net = 1 + host / 4;
    let text = match v6 {
        false => format!("10.0.{net}.{}", host + 1),
        true => format!("2001:db8:{net}::{}", host + 1),
    };
    text.parse().unwrap()
}

/// A guest's MAC.
pub fn mac(host: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, host])
}

/// A host on the internet.
pub fn remote(which: bool, v6: bool) -> IpAddr {
    let text = match (which, v6) {
        (false, false) => "198.51.100.9",
        (true, false) => "198.51.100.10",
        (false, true) => "2001:db8:ffff::9",
        (true, true) => "2001:db8:ffff::10",
    };
    text.parse().unwrap()
}
