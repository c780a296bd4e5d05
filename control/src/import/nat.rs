//! From translations as other firewalls write them to the entries of `[nat]`.

mod destinations;
mod sources;

use std::net::IpAddr;

use ipnet::IpNet;

use super::firewall::{Dnat, Fate, Firewall, Origin, Snat, Worn};
use super::links::Links;
use super::matching::{Addresses, Ports, Service, few};

/// The entries of `[nat]`, each with the line that it is from.
#[derive(Debug, Default)]
pub(super) struct Nat {
    pub(super) snat: Vec<(SnatEntry, Origin)>,
    pub(super) one_to_one: Vec<(OneToOne, Origin)>,
    pub(super) forward: Vec<(Forward, Origin)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct SnatEntry {
    pub(super) from: IpNet,
    pub(super) personality: usize,
    /// Empty: the personality's own.
    pub(super) to: Vec<(IpAddr, IpAddr)>,
    pub(super) except: Vec<IpNet>,
    pub(super) ports: Option<Ports>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct OneToOne {
    pub(super) inside: IpAddr,
    pub(super) outside: IpAddr,
    pub(super) personality: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forward {
    pub(super) address: IpAddr,
    pub(super) protocol: u8,
    pub(super) port: Ports,
    pub(super) to: Vec<IpAddr>,
    pub(super) to_port: Option<u16>,
    pub(super) from: Vec<IpNet>,
}

/// Writes a firewall's translations; what has no entry is noted.
pub(super) fn translate(firewall: &mut Firewall, links: &mut Links) -> Nat {
    let snat = std::mem::take(&mut firewall.snat);
    let dnat = std::mem::take(&mut firewall.dnat);
    let one_to_one = std::mem::take(&mut firewall.one_to_one);
    let mut work = Work {
        nat: Nat::default(),
        firewall,
        links,
    };
    for (inside, outside, device, origin) in one_to_one {
        work.pair(inside, outside, Some(&device), &origin);
    }
    let paired = work.pairs(&snat, &dnat);
    work.own_addresses(&snat, &dnat);
    work.sources(&snat);
    work.links.complete_personalities();
    work.destinations(&dnat, &paired);
    let nat = work.nat;
    firewall.snat = snat;
    firewall.dnat = dnat;
    nat
}

struct Work<'w> {
    nat: Nat,
    firewall: &'w mut Firewall,
    links: &'w mut Links,
}

impl Work<'_> {
    /// Addresses that stand for each other: all of one goes to the other, and the other leaves as it.
    /// Which destination translations are that.
    fn pairs(&mut self, snat: &[Snat], dnat: &[Dnat]) -> Vec<bool> {
        let mut paired = vec![false; dnat.len()];
        for (n, entry) in dnat.iter().enumerate() {
            let all = entry.when.service == Service::default()
                && entry.when.source == Addresses::default()
                && entry.port.is_none();
            let (Some(outside), [inside], true) =
                (entry.when.destination.single(), &entry.to[..], all)
            else {
                continue;
            };
            let out = snat.iter().find(|source| {
                source.worn
                    == Worn::Addresses {
                        ranges: vec![(outside, outside)],
                        ports: None,
                    }
                    && source.when.source.single() == Some(*inside)
                    && source.when.service == Service::default()
                    && self.ways_out(source).next().is_some()
            });
            let Some(out) = out else { continue };
            let device = out
                .when
                .to
                .within
                .as_ref()
                .and_then(|names| names.first())
                .cloned();
            paired[n] = true;
            self.pair(*inside, outside, device.as_deref(), &entry.origin);
        }
        paired
    }

    fn pair(&mut self, inside: IpAddr, outside: IpAddr, device: Option<&str>, origin: &Origin) {
        let twice =
            |(entry, _): &(OneToOne, Origin)| entry.outside == outside || entry.inside == inside;
        if self.nat.one_to_one.iter().any(twice) {
            let why = "one of the two addresses stands for another already";
            return self.firewall.note(origin, Fate::Missing, why);
        }
        let device = device.and_then(|device| self.links.of(device));
        let personality = match self.links.owner(outside) {
            Some(owner) if self.links.personalities[owner].shared => {
                let why = format!(
                    "{outside} is the host's too, so it cannot stand for {inside}: forward single ports"
                );
                return self.firewall.note(origin, Fate::Missing, why);
            }
            Some(owner) => owner,
            None => {
                let link = device.unwrap_or_default();
                match self.links.personalities[link].shared {
                    true => self.links.beside(link, outside),
                    false => self.links.give(outside, link),
                }
            }
        };
        let entry = OneToOne {
            inside,
            outside,
            personality,
        };
        self.nat.one_to_one.push((entry, origin.clone()));
    }

    /// Gives every address that translations name to the device that they name with it.
    fn own_addresses(&mut self, snat: &[Snat], dnat: &[Dnat]) {
        for entry in snat {
            let Worn::Addresses { ranges, .. } = &entry.worn else {
                continue;
            };
            let Some(personality) = self.ways_out(entry).next() else {
                continue;
            };
            for address in ranges.iter().filter_map(few).flatten() {
                self.links.give(address, personality);
            }
        }
        for entry in dnat.iter().filter(|entry| !entry.to.is_empty()) {
            let Some(address) = entry.when.destination.single() else {
                continue;
            };
            let inside = self.links.networks.iter().flat_map(|n| &n.addresses);
            let is_inside = inside.into_iter().any(|net| net.contains(&address));
            let mut by = self.links.personalities.iter();
            let by = by.position(|p| entry.when.from.has(&p.device));
            if let (Some(personality), false) = (by, is_inside) {
                self.links.give(address, personality);
            }
        }
    }

    /// The personalities that an entry translates at.
    fn ways_out(&self, entry: &Snat) -> impl Iterator<Item = usize> + use<> {
        let mut seen: Vec<&str> = Vec::new();
        let mut found = Vec::new();
        for (n, personality) in self.links.personalities.iter().enumerate() {
            let device = personality.device.as_str();
            if entry.when.to.has(device) && !seen.contains(&device) {
                seen.push(device);
                found.push(n);
            }
        }
        found.into_iter()
    }
}
