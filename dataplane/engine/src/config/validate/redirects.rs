//! `nat.forward`.

use super::address::not_a_host;
use super::check::{Check, place};
use crate::config::{File, FileForward, Interface, Prefix, Redirect, Segment, Target};

impl Check {
    pub(super) fn redirects(&mut self, file: &File, interfaces: &[Interface]) -> Vec<Redirect> {
        let mut redirects = Vec::new();
        for (n, entry) in file.nat.forward.iter().enumerate() {
            let at = |key: &str| place!["nat", "forward", n, key];
            if entry.to.is_empty() {
                let remedy = "write the address of the guest that serves it";
                self.fault(at("to"), "it goes nowhere", remedy);
            }
            for target in &entry.to.0 {
                self.server(at("to"), (entry, target), interfaces);
            }
            let like = Prefix(entry.address.into());
            self.prefixes(
                &entry.from,
                |m| place!["nat", "forward", n, "from", m],
                like,
            );
            self.is_reached(n, &file.nat.forward);
            let Some(interface) = self.personality_with(at("address"), entry.address, interfaces)
            else {
                continue;
            };
            let first = entry.port.first;
            redirects.push(Redirect {
                interface,
                address: entry.address,
                protocol: entry.proto,
                ports: entry.port,
                from: entry.from.iter().map(|prefix| prefix.0.trunc()).collect(),
                to: entry.to.0.iter().map(|to| to.spelled(first)).collect(),
            });
        }
        redirects
    }

    /// Ports of several entries are the same or other ones, and each entry is for other sources than
    /// all of those before it.
    fn is_reached(&mut self, n: usize, entries: &[FileForward]) {
        let entry = &entries[n];
        let meets = |earlier: &FileForward| {
            (earlier.address, earlier.proto) == (entry.address, entry.proto)
                && earlier.port.first <= entry.port.last
                && entry.port.first <= earlier.port.last
        };
        let is_hidden = |earlier: &FileForward| {
            let covers = |from: &Prefix| earlier.from.iter().any(|by| by.0.contains(&from.0));
            let all = !entry.from.is_empty() && entry.from.iter().all(covers);
            earlier.port != entry.port || earlier.from.is_empty() || all
        };
        let found = entries[..n].iter().position(|e| meets(e) && is_hidden(e));
        if let Some(first) = found {
            let earlier = &entries[first];
            let what = format!(
                "{} port {} of {}",
                entry.proto.name(),
                entry.port,
                entry.address
            );
            let (problem, remedy) = match earlier.port == entry.port {
                true => (
                    format!("{what} is forwarded twice"),
                    "remove one of the entries, or have each be for other sources by `from`",
                ),
                false => (
                    format!("{what} is in part forwarded already: {}", earlier.port),
                    "write ranges that are apart",
                ),
            };
            let place = |n: usize| place!["nat", "forward", n, "port"];
            self.conflict(place(n), place(first), problem, remedy);
        }
    }

    /// What a port is forwarded to is a guest's.
    fn server(
        &mut self,
        at: Vec<Segment>,
        (entry, target): (&FileForward, &Target),
        interfaces: &[Interface],
    ) {
        let to = target.address;
        let more = entry.port.last - entry.port.first;
        if target
            .port
            .is_some_and(|port| port.checked_add(more).is_none())
        {
            let problem = format!("{} from {target} on are not ports", more + 1);
            self.fault(at.clone(), problem, "write a lower port");
        }
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
