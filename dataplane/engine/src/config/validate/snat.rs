//! `[nat] snat`.

use ipnet::IpNet;

use super::check::{Check, place};
use super::redirects::personal_addresses;
use crate::config::{File, Interface, InterfaceKind, Snat};

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
            let owner = interfaces.iter().position(|interface| {
                interface.kind.is_personality()
                    && interface
                        .addresses
                        .iter()
                        .any(|prefix| prefix.addr() == entry.to)
            });
            let Some(interface) = owner else {
                let known = personal_addresses(interfaces);
                let remedy = match known.is_empty() {
                    true => "give a personality that address".to_owned(),
                    false => format!("write one of {}", known.join(", ")),
                };
                self.fault(
                    at("to"),
                    format!("{} is no personality's address", entry.to),
                    remedy,
                );
                continue;
            };
            let from = entry.from.0.trunc();
            let covers = |earlier: &(IpNet, usize, usize)| {
                earlier.1 == interface && earlier.0.contains(&from)
            };
            if let Some((earlier, _, first)) = seen.iter().find(|earlier| covers(earlier)) {
                self.conflict(
                    at("from"),
                    place!["nat", "snat", *first, "from"],
                    format!(
                        "this entry is never used: {earlier} before it covers {from} where it leaves by \"{}\"",
                        interfaces[interface].name
                    ),
                    "remove one, or write the longer prefix first",
                );
            }
            seen.push((from, interface, n));
            let shared = match interfaces[interface].kind {
                InterfaceKind::Personality { shared, .. } => shared,
                InterfaceKind::Network { .. } => None,
            };
            let ports = entry.ports.or(shared).unwrap_or_default();
            if let Some(shared) = shared
                && !(shared.contains(ports.first) && shared.contains(ports.last))
            {
                self.fault(
                    at("ports"),
                    format!(
                        "{ports} is not within {shared}, the ports of {} that are not the host's",
                        entry.to
                    ),
                    format!("leave it out, or write ports within {shared}"),
                );
            }
            snat.push(Snat {
                from,
                interface,
                to: entry.to,
                ports,
            });
        }
        snat
    }
}
