//! `[nat] snat`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::check::{Check, MOST_NAMES, place};
use super::mappings::LEAST_IN_BLOCKS;
use crate::config::{File, FileSnat, Interface, InterfaceKind, PortRange, Prefix, Segment, Snat};

/// Most addresses that one entry gives out.
const MOST_WORN: usize = 4_096;

impl Check {
    /// Checks all source translations. Those that can be made out, each with its place in the file.
    pub(super) fn snat(&mut self, file: &File, interfaces: &[Interface]) -> Vec<(usize, Snat)> {
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
            self.prefixes(
                &entry.except,
                |m| place!["nat", "snat", n, "except", m],
                entry.from,
            );
            let Some((interface, to)) = self.worn(n, entry, interfaces) else {
                continue;
            };
            let from = entry.from.0.trunc();
            self.is_used(n, (from, interface), &interfaces[interface].name, &seen);
            // What an earlier entry leaves out is another's.
            if entry.except.is_empty() {
                seen.push((from, interface, n));
            }
            let ports = self.external_ports(at("ports"), entry, &interfaces[interface]);
            let except = entry.except.iter().map(|prefix| prefix.0.trunc()).collect();
            let checked = Snat {
                from,
                interface,
                to,
                except,
                ports,
                mapping: entry.mapping,
                filtering: entry.filtering,
                block: entry.block,
            };
            self.behaviour(n, &checked);
            self.shares_well(n, &checked, &snat);
            snat.push((n, checked));
        }
        snat
    }

    /// The addresses that entry `n` gives out, and the personality that has them.
    fn worn(
        &mut self,
        n: usize,
        entry: &FileSnat,
        interfaces: &[Interface],
    ) -> Option<(usize, Vec<IpAddr>)> {
        let at = |key: &str| place!["nat", "snat", n, key];
        let same_family = |address: &IpAddr| address.is_ipv4() == entry.from.0.addr().is_ipv4();
        if entry.to.is_empty() {
            let Some(dev) = &entry.dev else {
                let remedy = "write `to`, the address to wear, or `dev`, the personality whose address is worn";
                self.fault(at("to"), "it says neither `to` nor `dev`", remedy);
                return None;
            };
            let index = self.routed(at("dev"), dev, interfaces)?;
            let interface = &interfaces[index];
            let mut own = interface.addresses.iter().map(|net| net.addr());
            let first = own
                .find(same_family)
                .filter(|_| interface.kind.is_personality());
            if first.is_none() {
                self.fault(
                    at("dev"),
                    format!("\"{dev}\" is no personality with an address of the family of `from`"),
                    "write the personality that the packets leave by",
                );
            }
            return Some((index, vec![first?]));
        }
        if entry.dev.is_some() {
            let remedy = "leave it out: the entry applies where `to` is a personality's address";
            self.fault(at("dev"), "it says both `to` and `dev`", remedy);
        }
        let mut worn = Vec::new();
        for range in &entry.to.0 {
            let Some(addresses) = range.addresses(MOST_WORN) else {
                let problem = format!("{range} are too many addresses");
                self.fault(at("to"), problem, format!("write at most {MOST_WORN}"));
                return None;
            };
            worn.extend(addresses);
        }
        if !worn.iter().all(same_family) {
            self.fault(
                at("to"),
                "`from` and `to` are of different families",
                "write an address of the same family",
            );
        }
        let interface = self.personality_with(at("to"), *worn.first()?, interfaces)?;
        let has = |address: &IpAddr| {
            let mut own = interfaces[interface].addresses.iter();
            own.any(|net| net.addr() == *address)
        };
        if let Some(foreign) = worn.iter().find(|address| !has(address)) {
            self.fault(
                at("to"),
                format!(
                    "{foreign} is not among the addresses of \"{}\"",
                    interfaces[interface].name
                ),
                "give it to that personality, or write an entry for each personality",
            );
        }
        Some((interface, worn))
    }

    /// Prefixes of the family of `like`, without host bits.
    pub(super) fn prefixes(
        &mut self,
        prefixes: &[Prefix],
        at: impl Fn(usize) -> Vec<Segment>,
        like: Prefix,
    ) {
        for (n, prefix) in prefixes.iter().enumerate() {
            if prefix.has_host_bits() {
                let problem = format!("{prefix} has bits set beyond its prefix length");
                self.fault(at(n), problem, format!("write {}", prefix.0.trunc()));
            }
            if prefix.0.addr().is_ipv4() != like.0.addr().is_ipv4() {
                let problem = format!("{prefix} is of another family than {like}");
                self.fault(at(n), problem, "write a prefix of the same family");
            }
        }
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
        let mut ports = entry.ports.or(shared).unwrap_or_default();
        if entry.block.is_some() && entry.ports.is_none() {
            ports.first = ports.first.max(LEAST_IN_BLOCKS);
        }
        if let Some(shared) = shared
            && !(shared.contains(ports.first) && shared.contains(ports.last))
        {
            self.fault(
                at,
                format!(
                    "{ports} is not within {shared}, the ports of \"{}\" that are not the host's",
                    interface.name
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
