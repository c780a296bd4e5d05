//! Virtual addresses of guests: `virtual` and `virtual_public`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::address::not_a_host;
use super::check::{Check, place};
use crate::base::ip::is_of_a_link;
use crate::config::metadata::METADATA_V4;
use crate::config::{File, FileGuest, Guest, Interface, Segment, VirtualAddress};

/// Virtual addresses that a guest may list.
const MOST: usize = 64;

/// Where an owned prefix is written: the guest, `addresses` or `public`, and which of them.
pub(super) type Written<'f> = (&'f String, &'static str, usize);

/// Who else has addresses.
pub(super) struct Others<'c> {
    /// The router's own, with the names of the interfaces that have them.
    pub(super) own: &'c HashMap<IpAddr, &'c str>,
    /// The provider's, with the personalities that have them as gateways.
    pub(super) gateways: &'c BTreeMap<IpAddr, &'c str>,
    /// What guests have for good.
    pub(super) owned: &'c HashMap<IpNet, Written<'c>>,
    pub(super) interfaces: &'c [Interface],
}

/// An address that a guest lists, and where.
pub(super) struct Listed {
    key: &'static str,
    place: usize,
    pub(super) address: VirtualAddress,
}

/// What a guest lists.
pub(super) fn listed(guest: &FileGuest) -> impl Iterator<Item = Listed> {
    let lists = [
        ("virtual", &guest.virtual_inside, false),
        ("virtual_public", &guest.virtual_public, true),
    ];
    lists.into_iter().flat_map(|(key, list, public)| {
        let all = list.iter().enumerate();
        all.map(move |(place, &address)| Listed {
            key,
            place,
            address: VirtualAddress { address, public },
        })
    })
}

impl Check {
    /// Virtual addresses must be hosts' and nobody's own; who lists one is where the others are that do, so that
    /// nothing but its holder changes when it moves.
    pub(super) fn virtual_addresses(&mut self, file: &File, guests: &[Guest], others: &Others<'_>) {
        let mut seen: HashMap<IpAddr, (&Guest, bool, Vec<Segment>)> = HashMap::new();
        for guest in guests {
            let Some(written) = file.guests.get(&guest.name) else {
                continue;
            };
            for (n, listed) in listed(written).enumerate() {
                let VirtualAddress { address, public } = listed.address;
                let at = place!["guests", &guest.name, listed.key, listed.place];
                if n == MOST {
                    self.fault(
                        at.clone(),
                        format!(
                            "guest \"{}\" lists more than {MOST} virtual addresses",
                            guest.name
                        ),
                        "leave some out: what one guest takes over, all others' flows are looked at for",
                    );
                }
                self.may_move(at.clone(), address, guest, others);
                let Some((first, was_public, there)) = seen.get(&address) else {
                    seen.insert(address, (guest, public, at));
                    continue;
                };
                if let Some(why) = differs((first, *was_public), (guest, public)) {
                    let (problem, remedy) = match first.name == guest.name {
                        true => (
                            format!("guest \"{}\" lists {address} twice", guest.name),
                            "leave one of them out",
                        ),
                        false => (
                            format!(
                                "guests \"{}\" and \"{}\" cannot both have {address}: {why}",
                                first.name, guest.name
                            ),
                            "a virtual address moves between guests of one network, and stays inside or public",
                        ),
                    };
                    self.conflict(at, there.clone(), problem, remedy);
                }
            }
        }
    }

    /// An address that `guest` may take over is a host's, and nobody's own.
    fn may_move(&mut self, at: Vec<Segment>, address: IpAddr, guest: &Guest, others: &Others<'_>) {
        if let Some(&(other, key, n)) = others.owned.get(&IpNet::from(address)) {
            self.conflict(
                at.clone(),
                place!["guests", other, key, n],
                format!("{address} is guest \"{other}\"'s for good"),
                "list it as a virtual one there too, or choose another",
            );
        }
        let (problem, remedy) = if let Some(why) = not_a_host(address) {
            (format!("{address} {why}"), "write a host's address")
        } else if is_of_a_link(address) {
            let problem = format!("{address} is link-local, which no router leads to");
            (problem, "leave it out")
        } else if address == IpAddr::from(METADATA_V4) && guest.instance.is_some() {
            let problem = format!("{address} is where guests ask for metadata");
            (problem, "choose another")
        } else if others.interfaces[guest.network].kind.bridged().is_some() {
            let problem = format!(
                "guest \"{}\" is bridged: what it has, the provider's network knows",
                guest.name
            );
            let remedy = "write it as `public` of one guest, or route the guests";
            (problem, remedy)
        } else if let Some(owner) = others.own.get(&address) {
            let problem = format!("{address} is \"{owner}\"'s own address");
            (problem, "give the guests another one")
        } else if let Some(personality) = others.gateways.get(&address) {
            let problem = format!("{address} is the gateway of \"{personality}\"");
            (problem, "write an address that the provider routes to you")
        } else {
            return;
        };
        self.fault(at, problem, remedy);
    }
}

/// Why two guests, each of which has an address outside or not, cannot have it in turn.
fn differs(first: (&Guest, bool), second: (&Guest, bool)) -> Option<&'static str> {
    let ((a, public), (b, also)) = (first, second);
    if a.name == b.name {
        Some("the same guest lists it twice")
    } else if a.network != b.network {
        Some("they are in different networks")
    } else if public != also {
        Some("one has it outside too and the other has not")
    } else if public && a.personality != b.personality {
        Some("different personalities answer for them")
    } else {
        None
    }
}
