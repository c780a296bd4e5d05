//! What a new configuration, or a device that came, changes in a shard's state.

use std::net::IpAddr;

use crate::addr::{GuestId, InterfaceId, PortId};
use crate::drops::DropReason;
use crate::neighbor::NeighborState;
use crate::owners::Guest;
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

impl Shard {
    /// Call once for each newly published snapshot, before the first frame under it: announces
    /// addresses that are new, drops neighbours and sessions of interfaces that are gone.
    pub fn adopt(&mut self, snapshot: &Snapshot, now: Instant) {
        let router = snapshot.config().router();
        self.v4.sessions.set_timeouts(&router.timeouts);
        self.v6.sessions.set_timeouts(&router.timeouts);
        self.budget.set_rate(router.icmp_errors_per_second);
        self.v4.nat.reserve(snapshot.reserved_ports());
        self.v6.nat.reserve(snapshot.reserved_ports());
        let old = std::mem::take(&mut self.interfaces);
        let same = |interface: &Interface| {
            snapshot.interface(interface.id).is_some_and(|new| {
                (&new.name, new.mac, new.vlan, &new.ports)
                    == (
                        &interface.name,
                        interface.mac,
                        interface.vlan,
                        &interface.ports,
                    )
            })
        };
        let changed: Vec<InterfaceId> = old
            .iter()
            .filter(|interface| !same(interface))
            .map(|interface| interface.id)
            .collect();
        // A guest may have moved, or have another MAC.
        let waited = self.neighbors.forget(|neighbor| {
            changed.contains(&neighbor.interface)
                || neighbor.state == NeighborState::Permanent
                || snapshot
                    .owners()
                    .owner(neighbor.address)
                    .is_some_and(|g| g.mac.is_some())
        });
        self.drops
            .add(DropReason::NeighborUnresolved, waited as u64);
        let renamed = |interface: &Interface| {
            snapshot
                .interface(interface.id)
                .is_none_or(|new| new.name != interface.name)
        };
        let gone: Vec<InterfaceId> = old
            .iter()
            .filter(|interface| renamed(interface))
            .map(|interface| interface.id)
            .collect();
        if !gone.is_empty() {
            self.counters.sessions_revoked +=
                self.v4.end_those_of(&gone) + self.v6.end_those_of(&gone);
        }
        self.claims.forget(|interface, address| {
            snapshot
                .interface(interface)
                .is_none_or(|interface| !interface.owns(address))
        });
        self.announcer
            .keep(|interface| snapshot.interface(interface).is_some());
        for interface in snapshot.interfaces() {
            let before = old.iter().find(|old| old.id == interface.id && same(old));
            self.claim_new(snapshot, interface, before, now);
            if before != Some(interface) {
                self.announce_all(snapshot, interface, now);
            }
        }
        let guests = snapshot.owners().guests().to_vec();
        let known = std::mem::replace(&mut self.guests, guests);
        let is_new = |guest: &&Guest| !known.iter().any(|old| old.is_still(guest));
        let new: Vec<GuestId> = self
            .guests
            .iter()
            .filter(is_new)
            .map(|guest| guest.id)
            .collect();
        if !known.is_empty() && !new.is_empty() {
            self.announce_guests(snapshot, &new, now);
        }
        self.listen(snapshot, now);
        self.interfaces = snapshot.interfaces().cloned().collect();
        self.advertisers.adopt(snapshot, now);
        self.declined.clear();
    }

    /// Begins to claim what `interface` has and `before` had not.
    fn claim_new(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        before: Option<&Interface>,
        now: Instant,
    ) {
        if interface.shared.is_some() || now < self.claims_from {
            return;
        }
        let is_new = |address: &IpAddr| before.is_none_or(|before| !before.owns(*address));
        let acd = snapshot.claims_ipv4(interface.id);
        let addresses: Vec<IpAddr> = interface.own.iter().filter(is_new).collect();
        for address in addresses {
            if address.is_ipv6() || acd {
                self.claims.begin(interface.id, address, now);
            }
        }
    }

    /// Call when a port's device came (back): who was heard there is forgotten, what is behind or on
    /// it is announced anew, and an uplink's own addresses are claimed anew, since it may be another
    /// link. A guest with another MAC need not say so: the announcement may spare it the question.
    pub fn port_attached(&mut self, port: PortId, snapshot: &Snapshot, now: Instant) {
        self.neighbors.forget(|neighbor| {
            neighbor.port == port
                && !matches!(
                    neighbor.state,
                    NeighborState::Incomplete | NeighborState::Permanent
                )
        });
        let on_it = snapshot
            .interfaces()
            .filter(|interface| interface.ports.contains(&port));
        for interface in on_it {
            if interface.personality {
                self.claim_new(snapshot, interface, None, now);
                self.listener.report_again(interface.id, now);
            }
            self.announce_all(snapshot, interface, now);
        }
        let behind = snapshot.owners().on_port(port).map(|guest| guest.id);
        let behind: Vec<GuestId> = behind.collect();
        if !behind.is_empty() {
            self.announce_guests(snapshot, &behind, now);
        }
        self.advertisers.attached(port, now);
    }
}
