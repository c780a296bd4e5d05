//! `nat.one_to_one`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::not_a_host;
use super::check::{Check, place};
use crate::config::{File, Interface, InterfaceKind, OneToOne, Segment, Snat};

impl Check {
    /// Checks all addresses that stand for each other. `snat`: the other translations, each with its
    /// place in the file.
    pub(super) fn one_to_one(
        &mut self,
        file: &File,
        interfaces: &[Interface],
        snat: &[(usize, Snat)],
    ) -> Vec<OneToOne> {
        let (mut inside, mut outside) = (BTreeMap::new(), BTreeMap::new());
        let mut all = Vec::new();
        for (n, entry) in file.nat.one_to_one.iter().enumerate() {
            let at = |key: &str| place!["nat", "one_to_one", n, key];
            let is_own = |i: &Interface| i.addresses.iter().any(|net| net.addr() == entry.inside);
            if entry.inside.is_ipv4() != entry.outside.is_ipv4() {
                self.fault(
                    at("outside"),
                    "`inside` and `outside` are of different families",
                    "write an address of the same family",
                );
            } else if not_a_host(entry.inside).is_some() || interfaces.iter().any(is_own) {
                self.fault(
                    at("inside"),
                    format!("{} is not a guest's address", entry.inside),
                    "write the address of the guest that the other one stands for",
                );
            }
            let what = format!("{} stands for two addresses", entry.outside);
            let remedy = "remove one of the entries";
            self.unique(&mut outside, entry.outside, at("outside"), &what, remedy);
            let Some(interface) = self.personality_with(at("outside"), entry.outside, interfaces)
            else {
                continue;
            };
            let name = &interfaces[interface].name;
            let what = format!("two addresses of \"{name}\" stand for {}", entry.inside);
            self.unique(
                &mut inside,
                (entry.inside, interface),
                at("inside"),
                &what,
                remedy,
            );
            self.is_unshared(at("outside"), entry.outside, &interfaces[interface]);
            self.is_free(at("outside"), entry.outside, file, snat);
            all.push(OneToOne {
                interface,
                inside: entry.inside,
                outside: entry.outside,
            });
        }
        all
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

    /// It is nothing else's.
    fn is_free(&mut self, at: Vec<Segment>, outside: IpAddr, file: &File, snat: &[(usize, Snat)]) {
        let worn = snat.iter().find(|(_, entry)| entry.to.contains(&outside));
        if let Some((n, _)) = worn {
            let key = match file.nat.snat[*n].to.is_empty() {
                true => "dev",
                false => "to",
            };
            self.conflict(
                at.clone(),
                place!["nat", "snat", *n, key],
                format!("{outside} is also what other sources are translated to"),
                "leave it to one of the two",
            );
        }
        let mut forward = file.nat.forward.iter();
        if let Some(n) = forward.position(|entry| entry.address == outside) {
            self.conflict(
                at,
                place!["nat", "forward", n, "address"],
                format!("{outside} stands for one guest, and its ports are forwarded"),
                "leave it to one of the two",
            );
        }
    }
}
