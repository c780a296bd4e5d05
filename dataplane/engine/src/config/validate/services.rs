//! `[networks.X] dhcp`, `dhcp6` and `ra`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::address::not_a_host;
use super::check::{Check, place};
use crate::config::services::{DomainName, Ra, Services};
use crate::config::{Network, Prefix, Segment};

/// Most servers of a kind, and most prefixes.
const MOST: usize = 8;
/// Most routes.
const MOST_ROUTES: usize = 16;
/// Bytes of a list of domains: one DHCP option's (RFC 2132 §2).
const MOST_DOMAINS: usize = 255;
/// Shortest lease, in seconds: a guest must have time to renew it.
const SHORTEST_LEASE: u32 = 60;
/// Smallest MTU of IPv6 (RFC 8200 §5).
pub(super) const IPV6_MTU: u32 = 1280;

impl Check {
    /// Checks what network `name` tells its guests; `mtu` is the smallest of its ports'.
    pub(super) fn services(&mut self, name: &String, network: &Network, mtu: u32) -> Services {
        let at = |service: &str, key: &str| place!["networks", name, service, key];
        let services = Services {
            dhcp: network.dhcp.clone(),
            dhcp6: network.dhcp6.clone(),
            ra: network.ra.clone(),
            metadata: network.metadata.is_some(),
        };
        self.metadata(name, network);
        if let Some(dhcp) = &services.dhcp {
            if !network.addresses.iter().any(|a| a.0.addr().is_ipv4()) {
                self.fault(
                    place!["networks", name, "dhcp"],
                    format!("network \"{name}\" has no IPv4 address to be its guests' gateway"),
                    "add one to its `addresses`, or remove `dhcp`",
                );
            }
            self.servers(at("dhcp", "dns"), &dhcp.dns);
            self.servers(at("dhcp", "ntp"), &dhcp.ntp);
            self.domains(at("dhcp", "search"), &dhcp.search);
            self.lease_time(at("dhcp", "lease"), dhcp.lease_seconds);
        }
        if let Some(dhcp6) = &services.dhcp6 {
            self.servers(at("dhcp6", "dns"), &dhcp6.dns);
            self.servers(at("dhcp6", "ntp"), &dhcp6.ntp);
            self.domains(at("dhcp6", "search"), &dhcp6.search);
            self.lease_time(at("dhcp6", "lease"), dhcp6.lease_seconds);
            if services.ra.is_none() {
                self.fault(
                    place!["networks", name, "dhcp6"],
                    "DHCPv6 tells guests no gateway, and they do not ask unless an advertisement says so",
                    "add `ra = {}` beside it",
                );
            }
        }
        if let Some(ra) = &services.ra {
            self.servers(at("ra", "dns"), &ra.dns);
            self.domains(at("ra", "domains"), &ra.domains);
            self.advertisement(name, ra);
            if mtu < IPV6_MTU {
                self.fault(
                    place!["networks", name, "ra"],
                    format!(
                        "IPv6 needs an MTU of {IPV6_MTU} bytes; the smallest on the network's ports is {mtu}"
                    ),
                    "raise the ports' `mtu`, or remove `ra`",
                );
            }
        }
        Services {
            ra: services.ra.map(Ra::spelled),
            ..services
        }
    }

    fn advertisement(&mut self, name: &String, ra: &Ra) {
        let at = |key: &str| place!["networks", name, "ra", key];
        self.interval_and_lifetime(name, ra);
        self.most(at("prefixes"), ra.prefixes.len(), MOST);
        let mut seen = BTreeMap::new();
        for (n, entry) in ra.prefixes.iter().enumerate() {
            let at = |key: &str| place!["networks", name, "ra", "prefixes", n, key];
            self.advertised(at("prefix"), entry.prefix, &mut seen);
            if let IpNet::V6(net) = entry.prefix.0 {
                self.usable_prefix(at("prefix"), net, entry.autonomous);
            }
            if entry.preferred > entry.valid {
                self.fault(
                    at("preferred"),
                    format!(
                        "an address cannot be preferred for {} s and valid for {} s",
                        entry.preferred, entry.valid
                    ),
                    "write a `preferred` that is not above `valid`",
                );
            }
        }
        self.most(at("routes"), ra.routes.len(), MOST_ROUTES);
        let mut seen = BTreeMap::new();
        for (n, route) in ra.routes.iter().enumerate() {
            let here = place!["networks", name, "ra", "routes", n, "prefix"];
            self.advertised(here, route.prefix, &mut seen);
        }
    }

    /// RFC 4861 §6.2.1 (N21).
    fn interval_and_lifetime(&mut self, name: &String, ra: &Ra) {
        let at = |key: &str| place!["networks", name, "ra", key];
        if !(4..=1800).contains(&ra.interval) {
            self.fault(
                at("interval"),
                format!("{} s is out of range (RFC 4861 §6.2.1)", ra.interval),
                "write 4 to 1800, or leave it out for 600",
            );
        }
        if let Some(lifetime) = ra.lifetime
            && lifetime != 0
            && !(ra.interval..=9000).contains(&lifetime)
        {
            self.fault(
                at("lifetime"),
                format!("{lifetime} s is out of range (RFC 4861 §6.2.1)"),
                format!(
                    "write {} (`interval`) to 9000, 0 if this is no default gateway, or leave it out",
                    ra.interval
                ),
            );
        }
    }

    /// Guests can use `net`, and make their own addresses from it if they are to.
    fn usable_prefix(&mut self, at: Vec<Segment>, net: Ipv6Net, autonomous: bool) {
        if net.prefix_len() >= 10 && net.addr().is_unicast_link_local() {
            self.fault(
                at.clone(),
                format!(
                    "{net} is link-local, which hosts have without being told (RFC 4861 §6.2.1)"
                ),
                "remove it",
            );
        }
        if autonomous && net.prefix_len() != 64 {
            self.fault(
                at,
                format!("guests cannot make addresses from {net}: they need a /64"),
                "write a /64, or add `autonomous = false`",
            );
        }
    }

    /// `prefix` must be one of IPv6, without host bits, and written once.
    fn advertised(
        &mut self,
        at: Vec<Segment>,
        prefix: Prefix,
        seen: &mut BTreeMap<IpNet, Vec<Segment>>,
    ) {
        if prefix.0.addr().is_ipv4() {
            self.fault(
                at,
                format!("{prefix} is of IPv4, which knows no router advertisements"),
                "write an IPv6 prefix; `dhcp` is for IPv4",
            );
            return;
        }
        if prefix.has_host_bits() {
            self.fault(
                at.clone(),
                format!("{prefix} has bits set beyond its prefix length"),
                format!("write {}", prefix.0.trunc()),
            );
        }
        if prefix.0.addr().is_multicast() {
            self.fault(
                at.clone(),
                format!("{prefix} is multicast"),
                "write a unicast prefix",
            );
        }
        let what = format!("{} is advertised twice", prefix.0.trunc());
        self.unique(seen, prefix.0.trunc(), at, &what, "remove one of them");
    }

    fn servers<A: Copy + Into<IpAddr>>(&mut self, at: Vec<Segment>, servers: &[A]) {
        self.most(at.clone(), servers.len(), MOST);
        for (n, server) in servers.iter().enumerate() {
            let address = (*server).into();
            if let Some(why) = not_a_host(address) {
                let mut here = at.clone();
                here.push(Segment::Index(n));
                self.fault(here, format!("{address} {why}"), "write a server's address");
            }
        }
    }

    fn domains(&mut self, at: Vec<Segment>, domains: &[DomainName]) {
        let length: usize = domains.iter().map(|domain| domain.wire().len()).sum();
        if length > MOST_DOMAINS {
            self.fault(
                at,
                format!("these domains take {length} bytes"),
                format!("write fewer or shorter ones: at most {MOST_DOMAINS} bytes together"),
            );
        }
    }

    fn lease_time(&mut self, at: Vec<Segment>, lease: u32) {
        if lease < SHORTEST_LEASE {
            self.fault(
                at,
                format!("a lease of {lease} s is too short"),
                format!("write {SHORTEST_LEASE} or more, or leave it out for 3600"),
            );
        }
    }

    fn most(&mut self, at: Vec<Segment>, entries: usize, most: usize) {
        if entries > most {
            self.fault(
                at,
                format!("{entries} entries do not fit into one message"),
                format!("write at most {most}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::config::{Config, ConfigErrors, File};

    /// The faults of a network with this service.
    fn faults(service: &str, value: Value) -> Vec<String> {
        let mut config = json!({
            "ports": { "g": { "memory": true } },
            "networks": { "a": { "ports": ["g"], "addresses": ["10.0.1.254/24"], "ra": {} } },
        });
        config["networks"]["a"][service] = value;
        let file: File = serde_json::from_value(config).unwrap();
        match Config::try_from(file) {
            Ok(_) => Vec::new(),
            Err(ConfigErrors(errors)) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// Exactly one fault; it is at `place` and says `what`.
    #[track_caller]
    fn one(service: &str, value: Value, place: &str, what: &str) {
        let faults = faults(service, value);
        assert_eq!(faults.len(), 1, "{faults:#?}");
        let place = format!("networks.a.{place}: ");
        assert!(faults[0].starts_with(&place), "{faults:#?}");
        assert!(faults[0].contains(what), "{faults:#?}");
    }

    #[test]
    fn what_is_right_is_taken_and_survives_the_journey() {
        let config = json!({
            "ports": { "g": { "memory": true } },
            "networks": { "a": {
                "ports": ["g"], "addresses": ["10.0.1.254/24"],
                "dhcp": { "dns": ["9.9.9.9"], "domain": "example.net.", "search": ["a.example"] },
                "dhcp6": { "dns": ["2620:fe::fe"], "lease": 60 },
                "ra": {
                    "prefixes": [{ "prefix": "2001:db8::/64", "on_link": true, "valid": 604800 }],
                    "routes": [{ "prefix": "::/0", "preference": "low", "lifetime": 0 }],
                    "interval": 4, "lifetime": 4,
                },
            } },
        });
        let config: Config = serde_json::from_value(config).unwrap();
        let again = serde_json::from_slice(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(config, again);
        let services = &config.interfaces()[0].services;
        let domain = services.dhcp.as_ref().unwrap().domain.as_ref().unwrap();
        assert_eq!(domain.as_str(), "example.net");
        assert_eq!(domain.wire(), b"\x07example\x03net\0");
        assert_eq!(services.ra.as_ref().unwrap().prefixes[0].preferred, 604_800);
    }

    #[test]
    fn dhcp() {
        let with = |value, place, what| one("dhcp", value, place, what);
        with(json!({ "lease": 59 }), "dhcp.lease", "write 60 or more");
        with(json!({ "dns": ["0.0.0.0"] }), "dhcp.dns[0]", "this network");
        with(json!({ "ntp": ["224.0.1.1"] }), "dhcp.ntp[0]", "multicast");
        let nine = vec!["9.9.9.9"; 9];
        with(json!({ "dns": nine }), "dhcp.dns", "write at most 8");
        let long = vec!["a-long-name.example.net"; 11];
        with(
            json!({ "search": long }),
            "dhcp.search",
            "at most 255 bytes",
        );
        let file = json!({
            "ports": { "g": { "memory": true } },
            "networks": { "a": { "ports": ["g"], "addresses": ["2001:db8::1/64"], "dhcp": {} } },
        });
        let file: File = serde_json::from_value(file).unwrap();
        let fault = Config::try_from(file).unwrap_err().to_string();
        assert!(fault.contains("no IPv4 address"), "{fault}");
    }

    #[test]
    fn domain_names() {
        for bad in ["", ".", "a..b", "a b", "ä.example", &"x".repeat(64)] {
            let file = json!({ "networks": { "a": {
                "ports": [], "addresses": [], "dhcp": { "domain": bad },
            } } });
            let fault = serde_json::from_value::<File>(file).unwrap_err();
            assert!(fault.to_string().contains("is not a domain name"), "{bad}");
        }
    }

    #[test]
    fn dhcp6() {
        one(
            "dhcp6",
            json!({ "dns": ["ff02::1"] }),
            "dhcp6.dns[0]",
            "multicast",
        );
        one("dhcp6", json!({ "lease": 1 }), "dhcp6.lease", "too short");
        let file = json!({
            "ports": { "g": { "memory": true } },
            "networks": { "a": { "ports": ["g"], "addresses": ["10.0.1.254/24"], "dhcp6": {} } },
        });
        let file: File = serde_json::from_value(file).unwrap();
        let fault = Config::try_from(file).unwrap_err().to_string();
        assert!(fault.contains("add `ra = {}`"), "{fault}");
    }

    /// N21: the bounds of RFC 4861 §6.2.1.
    #[test]
    fn n21_intervals_and_lifetimes_out_of_bounds_are_refused() {
        for bad in [3, 1801] {
            one(
                "ra",
                json!({ "interval": bad }),
                "ra.interval",
                "write 4 to 1800",
            );
        }
        for bad in [599, 9001] {
            one(
                "ra",
                json!({ "lifetime": bad }),
                "ra.lifetime",
                "(`interval`) to 9000",
            );
        }
        for good in [0, 600, 9000] {
            assert!(faults("ra", json!({ "lifetime": good })).is_empty());
        }
    }

    /// N22: prefixes that no host could use are refused.
    #[test]
    fn n22_prefixes() {
        let with = |value: Value, place: &str, what| {
            one(
                "ra",
                json!({ "prefixes": [value] }),
                &format!("ra.prefixes[0].{place}"),
                what,
            );
        };
        with(
            json!({ "prefix": "fe80::/64" }),
            "prefix",
            "is link-local, which hosts have",
        );
        with(json!({ "prefix": "2001:db8::/56" }), "prefix", "need a /64");
        with(
            json!({ "prefix": "2001:db8::1/64" }),
            "prefix",
            "write 2001:db8::/64",
        );
        with(json!({ "prefix": "10.0.0.0/8" }), "prefix", "is of IPv4");
        with(
            json!({ "prefix": "ff00::/64" }),
            "prefix",
            "write a unicast prefix",
        );
        with(
            json!({ "prefix": "2001:db8::/64", "preferred": 61, "valid": 60 }),
            "preferred",
            "not above `valid`",
        );
        let twice = json!({ "prefix": "2001:db8::/64" });
        one(
            "ra",
            json!({ "prefixes": [twice, twice] }),
            "ra.prefixes[1].prefix",
            "advertised twice",
        );
        let other = json!([{ "prefix": "2001:db8::/56", "autonomous": false }]);
        assert!(faults("ra", json!({ "prefixes": other })).is_empty());
    }

    /// N23: no duplicate prefix among routes.
    #[test]
    fn n23_routes() {
        let route = json!({ "prefix": "2001:db8:1::/48" });
        one(
            "ra",
            json!({ "routes": [route, route] }),
            "ra.routes[1].prefix",
            "advertised twice",
        );
        one(
            "ra",
            json!({ "routes": [{ "prefix": "2001:db8::1/48" }] }),
            "ra.routes[0].prefix",
            "write 2001:db8::/48",
        );
    }

    #[test]
    fn ra_needs_an_mtu_of_ipv6() {
        let file = json!({
            "ports": { "g": { "memory": true, "mtu": 1279 } },
            "networks": { "a": { "ports": ["g"], "addresses": ["10.0.1.254/24"], "ra": {} } },
        });
        let file: File = serde_json::from_value(file).unwrap();
        let fault = Config::try_from(file).unwrap_err().to_string();
        assert!(fault.contains("IPv6 needs an MTU of 1280"), "{fault}");
    }
}
