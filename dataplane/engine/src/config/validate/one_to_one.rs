//! `nat.one_to_one`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::address::not_a_host;
use super::check::{Check, place};
use crate::config::{
    File, FileOneToOne, Guest, Interface, InterfaceKind, OneToOne, Prefix, Segment, Snat,
};

/// The longest IPv6 prefix that can be translated without changing a checksum (RFC 6296 §3.5).
const LONGEST: u8 = 64;

impl Check {
    /// Checks all addresses and prefixes that stand for each other. `snat`: the other translations, each
    /// with its place in the file.
    pub(super) fn one_to_one(
        &mut self,
        file: &File,
        interfaces: &[Interface],
        (guests, snat): (&[Guest], &[(usize, Snat)]),
    ) -> Vec<OneToOne> {
        let (mut inside, mut outside) = (BTreeMap::new(), BTreeMap::new());
        let mut all: Vec<OneToOne> = Vec::new();
        for (n, entry) in file.nat.one_to_one.iter().enumerate() {
            let at = |key: &str| place!["nat", "one_to_one", n, key];
            let found = match is_host(entry.inside) && is_host(entry.outside) {
                true => self.addresses_of(n, entry, interfaces),
                false => self.prefixes_of(n, entry, interfaces, guests),
            };
            let remedy = "remove one of the entries";
            let what = format!("{} stands for two addresses", shown(entry.outside));
            self.unique(&mut outside, entry.outside, at("outside"), &what, remedy);
            let Some(interface) = found else { continue };
            let name = &interfaces[interface].name;
            let what = format!(
                "two addresses of \"{name}\" stand for {}",
                shown(entry.inside)
            );
            let place = (entry.inside, interface);
            self.unique(&mut inside, place, at("inside"), &what, remedy);
            self.is_free(at("outside"), entry.outside, file, snat);
            let found = OneToOne {
                interface,
                inside: entry.inside.0.trunc(),
                outside: entry.outside.0.trunc(),
            };
            let part = all.iter().find(|other| {
                overlap(other.outside, found.outside) && other.outside != found.outside
            });
            if let Some(part) = part {
                let problem = format!("{} and {} overlap", found.outside, part.outside);
                self.fault(at("outside"), problem, "write prefixes that do not");
            }
            all.push(found);
        }
        all
    }

    /// Two addresses: the personality that has the one outside.
    fn addresses_of(
        &mut self,
        n: usize,
        entry: &FileOneToOne,
        interfaces: &[Interface],
    ) -> Option<usize> {
        let at = |key: &str| place!["nat", "one_to_one", n, key];
        let (inside, outside) = (entry.inside.0.addr(), entry.outside.0.addr());
        let is_own = |i: &Interface| i.addresses.iter().any(|net| net.addr() == inside);
        if inside.is_ipv4() != outside.is_ipv4() {
            self.different_families(at("outside"));
        } else if not_a_host(inside).is_some() || interfaces.iter().any(is_own) {
            self.fault(
                at("inside"),
                format!("{inside} is not a guest's address"),
                "write the address of the guest that the other one stands for",
            );
        }
        if entry.dev.is_some() {
            let remedy = "leave it out: it is the personality that has the address outside";
            self.fault(at("dev"), "`dev` is for prefixes", remedy);
        }
        let interface = self.personality_with(at("outside"), outside, interfaces)?;
        self.is_unshared(at("outside"), outside, &interfaces[interface]);
        Some(interface)
    }

    /// Two prefixes: the personality that the one outside is routed to.
    fn prefixes_of(
        &mut self,
        n: usize,
        entry: &FileOneToOne,
        interfaces: &[Interface],
        guests: &[Guest],
    ) -> Option<usize> {
        let at = |key: &str| place!["nat", "one_to_one", n, key];
        let (inside, outside) = (entry.inside.0, entry.outside.0);
        for (key, prefix) in [("inside", entry.inside), ("outside", entry.outside)] {
            if prefix.has_host_bits() {
                let problem = format!("{prefix} has bits set beyond its prefix length");
                self.fault(at(key), problem, format!("write {}", prefix.0.trunc()));
            }
        }
        if inside.addr().is_ipv4() != outside.addr().is_ipv4() {
            self.different_families(at("outside"));
        } else if inside.prefix_len() != outside.prefix_len() {
            self.fault(
                at("outside"),
                format!("{inside} and {outside} are not of the same length"),
                "write prefixes of the same length",
            );
        } else if inside.addr().is_ipv6() && inside.prefix_len() > LONGEST {
            self.fault(
                at("inside"),
                format!("{inside} is longer than /{LONGEST}"),
                "write one entry for each address, without prefix lengths",
            );
        }
        let on_link = interfaces
            .iter()
            .flat_map(|interface| &interface.addresses)
            .find(|own| overlap(**own, outside));
        if let Some(own) = on_link {
            self.fault(
                at("outside"),
                format!("{outside} overlaps {own}, which is on a link: nobody answers for it there"),
                "write a prefix that the provider routes to the personality, or one entry for each address",
            );
        }
        let public = |guest: &&Guest| guest.outside().any(|own| overlap(own, outside));
        if let Some(guest) = guests.iter().find(public) {
            self.fault(
                at("outside"),
                format!("guest \"{}\" has public addresses in {outside}", guest.name),
                "leave them to one of the two",
            );
        }
        let Some(dev) = &entry.dev else {
            let remedy = "write `dev`, the personality that the prefix outside is routed to";
            self.fault(at("dev"), "prefixes need a personality", remedy);
            return None;
        };
        let index = self.interface(at("dev"), dev, interfaces)?;
        if !interfaces[index].kind.is_personality() {
            self.fault(
                at("dev"),
                format!("\"{dev}\" is no personality"),
                "write the personality that the prefix outside is routed to",
            );
        }
        Some(index)
    }

    fn different_families(&mut self, at: Vec<Segment>) {
        self.fault(
            at,
            "`inside` and `outside` are of different families",
            "write an address of the same family",
        );
    }

    /// An address that stands for a guest's is not the host's.
    fn is_unshared(&mut self, at: Vec<Segment>, outside: IpAddr, interface: &Interface) {
        if let InterfaceKind::Personality {
            shared: Some(_), ..
        } = interface.kind
        {
            let name = &interface.name;
            self.fault(
                at,
                format!("the host has {outside} too: \"{name}\" is shared with it"),
                "write an address that is not the host's, or forward single ports",
            );
        }
    }

    /// What stands for a guest's is nothing else's.
    fn is_free(&mut self, at: Vec<Segment>, outside: Prefix, file: &File, snat: &[(usize, Snat)]) {
        let holds = |address: &IpAddr| outside.0.contains(address);
        let worn = snat.iter().find(|(_, entry)| entry.to.iter().any(holds));
        if let Some((n, _)) = worn {
            let key = match file.nat.snat[*n].to.is_empty() {
                true => "dev",
                false => "to",
            };
            self.conflict(
                at.clone(),
                place!["nat", "snat", *n, key],
                format!(
                    "{} is also what other sources are translated to",
                    shown(outside)
                ),
                "leave it to one of the two",
            );
        }
        let mut forward = file.nat.forward.iter();
        if let Some(n) = forward.position(|entry| holds(&entry.address)) {
            self.conflict(
                at,
                place!["nat", "forward", n, "address"],
                format!(
                    "{} stands for one guest, and its ports are forwarded",
                    shown(outside)
                ),
                "leave it to one of the two",
            );
        }
    }
}

fn is_host(prefix: Prefix) -> bool {
    prefix.0.prefix_len() == prefix.0.max_prefix_len()
}

/// An address without its length.
fn shown(prefix: Prefix) -> String {
    match is_host(prefix) {
        true => prefix.0.addr().to_string(),
        false => prefix.to_string(),
    }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
