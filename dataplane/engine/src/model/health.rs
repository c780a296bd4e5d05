//! Which next hops are known not to work. This part of a snapshot changes most often, and without
//! the others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::base::addr::InterfaceId;

/// Next hops that are out of use. Routes by them are passed over, as if they were not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    down: BTreeSet<(InterfaceId, IpAddr)>,
}

impl Health {
    /// Takes a next hop out of use, or back into it.
    pub fn set_down(&mut self, interface: InterfaceId, next_hop: IpAddr, down: bool) {
        match down {
            true => self.down.insert((interface, next_hop)),
            false => self.down.remove(&(interface, next_hop)),
        };
    }

    /// Whether a next hop is out of use.
    #[inline]
    pub fn is_down(&self, interface: InterfaceId, next_hop: IpAddr) -> bool {
        !self.down.is_empty() && self.down.contains(&(interface, next_hop))
    }
}
