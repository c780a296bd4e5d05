//! What a new snapshot changes in the state that outlives snapshots.
//!
//! It is computed where the snapshot is built, by merging sorted lists, so that adopting it on the
//! forwarding thread costs what has changed and no more.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::interface::Interface;
use super::interfaces::Interfaces;
use super::nat::Translations;
use super::owners::{Guest, Owners};
use super::presence::Presence;
use crate::base::addr::{GuestId, InterfaceId, PortId};
use crate::config::services::Ra;

/// What is different from an earlier snapshot.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// The generation of the earlier snapshot; 0: there was none, and everything is new.
    pub(crate) since: u32,
    /// Interfaces that are gone or are not on the same link any more: other MAC, VLAN or uplink.
    /// Sorted.
    pub(crate) relinked: Vec<InterfaceId>,
    /// Ports that are no longer of an interface that stays. Sorted.
    pub(crate) unplugged: Vec<(InterfaceId, PortId)>,
    /// Own addresses that are new and have to be claimed.
    pub(crate) claims: Vec<(InterfaceId, IpAddr)>,
    /// Addresses to be announced: all of an interface,
    pub(crate) appearing: Vec<(InterfaceId, Vec<IpAddr>)>,
    /// and those of guests that are new or elsewhere.
    pub(crate) moving: Vec<(InterfaceId, Vec<IpAddr>)>,
    /// Multicast groups joined and left.
    pub(crate) groups: Vec<Groups>,
    /// Where router advertisements change.
    pub(crate) advertising: Vec<Advertising>,
    /// Next hops that stood for guests that went, moved or changed their MAC.
    pub(crate) stations: Vec<(InterfaceId, IpAddr)>,
    /// Addresses inside that another guest has now.
    pub(crate) taken_over: Vec<(InterfaceId, IpAddr)>,
    /// Other ports are redirected.
    pub(crate) redirects: bool,
}

/// What is compared: a snapshot's parts.
#[derive(Clone, Copy)]
pub(crate) struct Side<'s> {
    pub(crate) generation: u32,
    pub(crate) interfaces: &'s Interfaces,
    pub(crate) presence: &'s [Presence],
    pub(crate) owners: &'s Owners,
    pub(crate) translations: &'s Translations,
}

/// The multicast groups that an interface joins and leaves.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) interface: InterfaceId,
    pub(crate) joined: Vec<Ipv6Addr>,
    pub(crate) left: Vec<Ipv6Addr>,
}

/// What is advertised to the guests of a port from now on.
#[derive(Debug, Clone)]
pub(crate) struct Advertising {
    pub(crate) interface: InterfaceId,
    pub(crate) port: PortId,
    pub(crate) what: Advertise,
}

/// See [`Advertising`].
#[derive(Debug, Clone)]
pub(crate) enum Advertise {
    /// This.
    Now(Arc<Ra>),
    /// No longer anything: guests are told.
    Farewell,
    /// Nothing: the port is gone.
    Gone,
}

impl Change {
    /// No change but in what no state depends on.
    pub(crate) fn nothing(since: u32) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// A virtual address is `holder`'s now.
    pub(crate) fn moves(&mut self, address: IpAddr, public: bool, holder: &Guest) {
        self.taken_over.push((holder.network, address));
        if let Some(personality) = holder.personality.filter(|_| public) {
            self.moving.push((personality, vec![address]));
        }
    }

    /// From `old` to `new`; from nothing if there is no `old`.
    pub(crate) fn between(old: Option<Side<'_>>, new: Side<'_>) -> Self {
        let mut change = Self::nothing(old.map_or(0, |old| old.generation));
        // Both lists are in the order of their numbers.
        let olds = old.into_iter().flat_map(|old| old.interfaces.iter());
        for (was, is) in merge(olds, new.interfaces.iter(), |interface| interface.id) {
            // A number that was given to another name is another interface.
            let (gone, was) = match (was, is) {
                (Some(was), Some(is)) if was.name != is.name => (Some(was), None),
                (Some(was), None) => (Some(was), None),
                (was, _) => (None, was),
            };
            if let Some(gone) = gone {
                change.interface_goes(gone);
            }
            if let Some(is) = is {
                change.interface_is(was, is, (old, new));
            }
        }
        change.unplugged.sort_unstable();
        change.guests_change(old, new);
        change.redirects =
            old.is_none_or(|old| old.translations.redirects != new.translations.redirects);
        change
    }

    fn interface_goes(&mut self, gone: &Interface) {
        self.relinked.push(gone.id);
        if gone.services.ra.is_some() {
            for &port in &gone.ports {
                self.advertise(gone.id, port, Advertise::Gone);
            }
        }
    }

    fn interface_is(
        &mut self,
        was: Option<&Interface>,
        is: &Interface,
        (old, new): (Option<Side<'_>>, Side<'_>),
    ) {
        let same_link = |was: &&Interface| {
            let ports = !is.personality || was.ports == is.ports;
            ports && (was.mac, was.vlan) == (is.mac, is.vlan)
        };
        let on_link = was.filter(same_link);
        if was.is_some() && on_link.is_none() {
            self.relinked.push(is.id);
        }
        if let Some(was) = on_link {
            let gone = was.ports.iter().filter(|port| !is.ports.contains(port));
            self.unplugged.extend(gone.map(|port| (is.id, *port)));
        }
        if is.shared.is_none() {
            let is_new = |address: &IpAddr| on_link.is_none_or(|was| !was.owns(*address));
            let addresses = is.claimed().filter(is_new);
            self.claims
                .extend(addresses.map(|address| (is.id, address)));
        }
        let presence = new.presence.get(is.id.index());
        if on_link != Some(is)
            && let Some(presence) = presence
        {
            self.appearing.push((is.id, presence.addresses.clone()));
        }
        let groups = |side: Side<'_>| {
            let presence = side.presence.get(is.id.index());
            presence.map_or_else(Vec::new, |presence| presence.groups.clone())
        };
        let before = was.and(old).map(groups).unwrap_or_default();
        self.groups_change(is.id, &before, &groups(new));
        self.advertising_changes(was, is);
    }

    fn groups_change(&mut self, interface: InterfaceId, before: &[Ipv6Addr], now: &[Ipv6Addr]) {
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for pair in merge(before.iter(), now.iter(), |group| **group) {
            match pair {
                (None, Some(group)) => joined.push(*group),
                (Some(group), None) => left.push(*group),
                _ => {}
            }
        }
        if !joined.is_empty() || !left.is_empty() {
            self.groups.push(Groups {
                interface,
                joined,
                left,
            });
        }
    }

    fn advertising_changes(&mut self, was: Option<&Interface>, is: &Interface) {
        let ra_of = |interface: &Interface| interface.services.ra.clone();
        let (before, now) = (was.and_then(ra_of), is.services.ra.clone());
        if before.is_none() && now.is_none() {
            return;
        }
        let sorted = |interface: Option<&Interface>| {
            let mut ports = interface.map_or_else(Vec::new, |interface| interface.ports.clone());
            ports.sort_unstable();
            ports
        };
        // From another address it is another router's (RFC 4861 §6.2.8).
        let same = before == now && was.is_some_and(|was| was.link_local == is.link_local);
        let now = now.map(Arc::new);
        let (had, has) = (sorted(was), sorted(Some(is)));
        for pair in merge(had.iter(), has.iter(), |port| **port) {
            match (pair, &now) {
                ((Some(_), Some(_)), _) if same => {}
                ((_, Some(port)), Some(ra)) => {
                    self.advertise(is.id, *port, Advertise::Now(ra.clone()));
                }
                ((_, Some(port)), None) => self.advertise(is.id, *port, Advertise::Farewell),
                ((Some(port), None), _) => self.advertise(is.id, *port, Advertise::Gone),
                ((None, None), _) => {}
            }
        }
    }

    fn advertise(&mut self, interface: InterfaceId, port: PortId, what: Advertise) {
        self.advertising.push(Advertising {
            interface,
            port,
            what,
        });
    }

    /// What guests that are new, or elsewhere, have outside is announced.
    fn guests_change(&mut self, old: Option<Side<'_>>, new: Side<'_>) {
        let olds = old.map_or(&[][..], |old| old.owners.guests());
        let mut fresh: Vec<GuestId> = Vec::new();
        for pair in merge(olds.iter(), new.owners.guests().iter(), |guest| &guest.name) {
            match pair {
                (Some(was), Some(is)) if was.is_still(is) => continue,
                (_, Some(is)) => fresh.push(is.id),
                _ => {}
            }
            if let (Some(was), _) = pair {
                let stations = was.anchors().map(|address| (was.network, address));
                self.stations.extend(stations);
                let olds = old.into_iter().flat_map(|old| old.interfaces.iter());
                for beside in olds.filter(|i| was.bridge.is_some_and(|it| i.is_on(it))) {
                    let stations = was.anchors().map(|address| (beside.id, address));
                    self.stations.extend(stations);
                }
            }
        }
        for (address, holder) in new.owners.holders() {
            let held = old.and_then(|old| Some((old.owners.find(address)?.0, old.owners)));
            let before = held.map(|(owned, owners)| &owners.guest(owned.guest).name);
            if before.is_some_and(|before| *before != holder.name) {
                let public = new
                    .owners
                    .find(address)
                    .is_some_and(|(owned, _)| owned.public);
                self.moves(address, public, holder);
            }
        }
        // At the start, interfaces announce all they have.
        if olds.is_empty() || fresh.is_empty() {
            return;
        }
        for interface in new
            .interfaces
            .iter()
            .filter(|interface| interface.personality)
        {
            let theirs = new.owners.public_on(interface.id).iter();
            let theirs = theirs.filter(|(_, guest)| fresh.binary_search(guest).is_ok());
            let addresses: Vec<IpAddr> = theirs.map(|(address, _)| *address).collect();
            if !addresses.is_empty() {
                self.moving.push((interface.id, addresses));
            }
        }
    }
}

/// Pairs what two lists, both sorted by `key`, have in common, and tells what only one has.
fn merge<'a, T: 'a, K: Ord>(
    left: impl Iterator<Item = &'a T>,
    right: impl Iterator<Item = &'a T>,
    key: impl Fn(&&'a T) -> K,
) -> Vec<(Option<&'a T>, Option<&'a T>)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    let mut pairs = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => key(l).cmp(&key(r)),
        };
        let was = order.is_le().then(|| left.next()).flatten();
        let is = order.is_ge().then(|| right.next()).flatten();
        pairs.push((was, is));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_pairs_what_both_have() {
        let pairs = merge([1, 3, 5].iter(), [2, 3, 6].iter(), |n| **n);
        let plain: Vec<_> = pairs
            .iter()
            .map(|(l, r)| (l.copied(), r.copied()))
            .collect();
        assert_eq!(
            plain,
            [
                (Some(1), None),
                (None, Some(2)),
                (Some(3), Some(3)),
                (Some(5), None),
                (None, Some(6))
            ]
        );
    }
}
