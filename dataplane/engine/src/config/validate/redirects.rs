//! `nat.forward`.

use std::collections::BTreeMap;

use super::address::not_a_host;
use super::check::{Check, MOST_NAMES, place};
use crate::config::{File, Interface, InterfaceKind, Redirect};

impl Check {
    pub(super) fn redirects(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Redirect> {
        let mut seen = BTreeMap::new();
        let mut redirects = Vec::new();
        for (n, entry) in file.nat.forward.iter().enumerate() {
            let at = |key: &str| place!["nat", "forward", n, key];
            if entry.address.is_ipv4() != entry.to.is_ipv4() {
                self.fault(
                    at("to"),
                    "`address` and `to` are of different families",
                    "write an address of the same family",
                );
            } else if not_a_host(entry.to.ip()).is_some()
                || interfaces
                    .iter()
                    .any(|i| i.addresses.iter().any(|net| net.addr() == entry.to.ip()))
            {
                self.fault(
                    at("to"),
                    format!("{} is not a guest's address", entry.to.ip()),
                    "write the address and port of the guest that serves it",
                );
            }
            for (key, port) in [("port", entry.port), ("to", entry.to.port())] {
                if port == 0 {
                    self.fault(at(key), "0 is not a port", "write 1 to 65535");
                }
            }
            let owner = interfaces.iter().position(|interface| {
                interface.kind.is_personality()
                    && interface
                        .addresses
                        .iter()
                        .any(|net| net.addr() == entry.address)
            });
            let what = format!(
                "{} port {} of {} is forwarded twice",
                entry.proto.name(),
                entry.port,
                entry.address
            );
            self.unique(
                &mut seen,
                (entry.address, entry.proto, entry.port),
                at("port"),
                &what,
                "remove one of the entries",
            );
            let Some(interface) = owner else {
                let own = personal_addresses(interfaces);
                let remedy = match own.is_empty() {
                    true => "give a personality that address".to_owned(),
                    false => format!("write one of {}", own.join(", ")),
                };
                self.fault(
                    at("address"),
                    format!("{} is no personality's address", entry.address),
                    remedy,
                );
                continue;
            };
            redirects.push(Redirect {
                interface,
                address: entry.address,
                protocol: entry.proto,
                port: entry.port,
                to: entry.to,
            });
        }
        redirects
    }
}

/// The addresses that personalities have, as far as they fit into a remedy.
pub(super) fn personal_addresses(interfaces: &[Interface]) -> Vec<String> {
    interfaces
        .iter()
        .filter(|interface| matches!(interface.kind, InterfaceKind::Personality { .. }))
        .flat_map(|interface| interface.addresses.iter().map(|net| net.addr().to_string()))
        .take(MOST_NAMES)
        .collect()
}
