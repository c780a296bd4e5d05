//! `[nat] snat`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::check::{Check, MOST_NAMES, place};
use crate::config::{File, FileSnat, Interface, InterfaceKind, PortRange, Segment, Snat};

impl Check {
    /// Checks all source translations.
    pub(super) fn snat(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Snat> {
        // Prefix, interface and index of the entries so far.
        let mut seen: Vec<(IpNet, usize, usize)> = Vec::new();
        let mut snat = Vec::new();
        for (n, entry) in file.nat.snat.iter().enumerate() {
            let at = |key: &str| place!["nat", "snat", n, key];
            if entry.from.has_host_bits() {
                self.fault(
                    at("from"),
                    format!("{} has bits set beyond its prefix length", entry.from),
                    format!("write {}", entry.from.0.trunc()),
                );
            }
            if entry.from.0.addr().is_ipv4() != entry.to.is_ipv4() {
                self.fault(
                    at("to"),
                    "`from` and `to` are of different families",
                    "write an address of the same family",
                );
            }
            let Some(interface) = self.personality_with(at("to"), entry.to, interfaces) else {
                continue;
            };
            let from = entry.from.0.trunc();
            self.is_used(n, (from, interface), &interfaces[interface].name, &seen);
            seen.push((from, interface, n));
            let ports = self.external_ports(at("ports"), entry, &interfaces[interface]);
            snat.push(Snat {
                from,
                interface,
                to: entry.to,
                ports,
            });
        }
        snat
    }

    /// Entry `n` translates something: none before it covers all that it does.
    fn is_used(
        &mut self,
        n: usize,
        (from, interface): (IpNet, usize),
        name: &str,
        seen: &[(IpNet, usize, usize)],
    ) {
        let covers =
            |earlier: &&(IpNet, usize, usize)| earlier.1 == interface && earlier.0.contains(&from);
        if let Some((earlier, _, first)) = seen.iter().find(covers) {
            self.conflict(
                place!["nat", "snat", n, "from"],
                place!["nat", "snat", *first, "from"],
                format!(
                    "this entry is never used: {earlier} before it covers {from} where it leaves by \"{name}\""
                ),
                "remove one, or write the longer prefix first",
            );
        }
    }

    /// The ports that an entry translates to: of an address shared with the host, those that are
    /// not the host's.
    fn external_ports(
        &mut self,
        at: Vec<Segment>,
        entry: &FileSnat,
        interface: &Interface,
    ) -> PortRange {
        let shared = match interface.kind {
            InterfaceKind::Personality { shared, .. } => shared,
            InterfaceKind::Network { .. } => None,
        };
        let ports = entry.ports.or(shared).unwrap_or_default();
        if let Some(shared) = shared
            && !(shared.contains(ports.first) && shared.contains(ports.last))
        {
            self.fault(
                at,
                format!(
                    "{ports} is not within {shared}, the ports of {} that are not the host's",
                    entry.to
                ),
                format!("leave it out, or write ports within {shared}"),
            );
        }
        ports
    }

    /// The personality that has `address`.
    pub(super) fn personality_with(
        &mut self,
        at: Vec<Segment>,
        address: IpAddr,
        interfaces: &[Interface],
    ) -> Option<usize> {
        let found = interfaces.iter().position(|interface| {
            interface.kind.is_personality()
                && interface.addresses.iter().any(|net| net.addr() == address)
        });
        if found.is_none() {
            let known = personal_addresses(interfaces);
            let remedy = match known.is_empty() {
                true => "give a personality that address".to_owned(),
                false => format!("write one of {}", known.join(", ")),
            };
            self.fault(at, format!("{address} is no personality's address"), remedy);
        }
        found
    }
}

/// The addresses that personalities have, as far as they fit into a remedy.
fn personal_addresses(interfaces: &[Interface]) -> Vec<String> {
    interfaces
        .iter()
        .filter(|interface| interface.kind.is_personality())
        .flat_map(|interface| interface.addresses.iter().map(|net| net.addr().to_string()))
        .take(MOST_NAMES)
        .collect()
}
