//! What an interface answers for: the addresses that it announces and the groups it belongs to.

use std::net::{IpAddr, Ipv6Addr};

use super::interface::Interface;
use super::owners::Owners;
use crate::wire::nd::solicited_node;

/// What one interface answers for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Every single address: its own, unless the host's kernel has them too, and its guests'.
    pub addresses: Vec<IpAddr>,
    /// The solicited-node groups of all of them, sorted. Those of addresses that are shared with the
    /// host's kernel are among them; the kernel reports them too, which does no harm.
    pub groups: Vec<Ipv6Addr>,
}

impl Presence {
    pub(crate) fn of(interface: &Interface, owners: &Owners) -> Self {
        let own = interface.own.iter().filter(|_| interface.shared.is_none());
        let guests = || owners.public_on(interface.id).iter();
        let addresses = own.chain(guests().map(|(address, _)| *address)).collect();
        let of_guests = guests().filter_map(|(address, _)| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let ours = interface.own.v6.iter().copied();
        let mut groups: Vec<Ipv6Addr> = ours.chain(of_guests).map(solicited_node).collect();
        groups.sort_unstable();
        groups.dedup();
        Self { addresses, groups }
    }
}
