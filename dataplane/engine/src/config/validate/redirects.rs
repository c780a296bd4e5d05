//! `nat.forward`.

use std::collections::BTreeMap;

use super::address::not_a_host;
use super::check::{Check, place};
use crate::config::{File, FileForward, Interface, Redirect, Segment};

impl Check {
    pub(super) fn redirects(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Redirect> {
        let mut seen = BTreeMap::new();
        let mut redirects = Vec::new();
        for (n, entry) in file.nat.forward.iter().enumerate() {
            let at = |key: &str| place!["nat", "forward", n, key];
            self.server(at("to"), entry, interfaces);
            for (key, port) in [("port", entry.port), ("to", entry.to.port())] {
                if port == 0 {
                    self.fault(at(key), "0 is not a port", "write 1 to 65535");
                }
            }
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
            let at = at("address");
            let Some(interface) = self.personality_with(at, entry.address, interfaces) else {
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

    /// What a port is forwarded to is a guest's.
    fn server(&mut self, at: Vec<Segment>, entry: &FileForward, interfaces: &[Interface]) {
        let to = entry.to.ip();
        let is_own = |i: &Interface| i.addresses.iter().any(|net| net.addr() == to);
        if entry.address.is_ipv4() != to.is_ipv4() {
            self.fault(
                at,
                "`address` and `to` are of different families",
                "write an address of the same family",
            );
        } else if not_a_host(to).is_some() || interfaces.iter().any(is_own) {
            self.fault(
                at,
                format!("{to} is not a guest's address"),
                "write the address and port of the guest that serves it",
            );
        }
    }
}
