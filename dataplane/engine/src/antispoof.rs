//! What a guest may send: from its own MAC, with its own addresses, and nothing that only routers
//! and servers say (RFC 2827, RFC 3704 §2; F20, D07).
//!
//! | | guests configured behind the port | none configured |
//! |---|---|---|
//! | strict | what they own | what is routed back to the port's network |
//! | loose | what there is any route to | the same |
//! | off | anything | anything |

use std::net::{IpAddr, Ipv6Addr};

use crate::addr::{MacAddr, PortId};
use crate::config::SourceCheck;
use crate::drops::DropReason;
use crate::explain::{Silent, Trace};
use crate::family::Address;
use crate::fib;
use crate::packet::{Packet, Transport};
use crate::process::Router;
use crate::snapshot::Interface;

/// What may come in by a port, compiled.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Which source addresses; none is checked on uplinks.
    pub source: Option<SourceCheck>,
    /// The only MACs; any when empty.
    pub macs: Vec<MacAddr>,
    /// Guests are configured behind it.
    pub guests: bool,
}

impl<T: Trace> Router<'_, T> {
    /// A frame's source MAC must be one that the port's guests have.
    #[inline]
    pub(crate) fn admit_mac(&mut self, ingress: PortId, source: MacAddr) -> Result<(), DropReason> {
        let macs = &self.snapshot.admission(ingress).macs;
        if macs.is_empty() || macs.contains(&source) {
            return Ok(());
        }
        Err(self.violation(ingress, DropReason::SpoofedMac, || {
            format!("{source} is not the MAC of a guest on that port")
        }))
    }

    /// Whether a guest behind `ingress`, on `interface`, may say `address` is its own; `reason` if
    /// not.
    pub(crate) fn admit<A: Address>(
        &mut self,
        ingress: PortId,
        interface: &Interface,
        address: A,
        reason: DropReason,
    ) -> Result<(), DropReason> {
        if self.may_claim(ingress, interface, address) {
            return Ok(());
        }
        Err(self.violation(ingress, reason, || {
            format!("{address} does not belong to a guest on that port")
        }))
    }

    /// A guest must not play the DHCP server (RFC 2131 §4.1, RFC 8415 §7.2).
    pub(crate) fn admit_service<A: Address>(
        &mut self,
        ingress: PortId,
        packet: &Packet<A>,
    ) -> Result<(), DropReason> {
        const SERVERS: [(u16, u16); 2] = [(67, 68), (547, 546)];
        let ports = (packet.flow.source_port, packet.flow.destination_port);
        let plays_server = packet.transport == Transport::Udp && SERVERS.contains(&ports);
        if !plays_server || !self.is_checked(ingress) {
            return Ok(());
        }
        Err(self.violation(ingress, DropReason::RogueServer, || {
            "a guest must not answer DHCP".to_owned()
        }))
    }

    /// Whether anything is checked on `ingress` at all.
    pub(crate) fn is_checked(&self, ingress: PortId) -> bool {
        let source = self.snapshot.admission(ingress).source;
        source.is_some_and(|source| source != SourceCheck::Off)
    }

    /// Counts a violation for the port, and says what it was.
    #[cold]
    pub(crate) fn violation(
        &mut self,
        ingress: PortId,
        reason: DropReason,
        what: impl FnOnce() -> String,
    ) -> DropReason {
        self.trace.step("source", what);
        *self.shard.violations.entry((ingress, reason)).or_default() += 1;
        reason
    }

    fn may_claim<A: Address>(&self, ingress: PortId, interface: &Interface, address: A) -> bool {
        let admission = self.snapshot.admission(ingress);
        let claimed: IpAddr = address.into();
        match admission.source {
            None | Some(SourceCheck::Off) => true,
            // Duplicate-address detection, DHCP; and what never leaves the link.
            _ if claimed.is_unspecified() || is_link_local(claimed) => true,
            Some(SourceCheck::Strict) if admission.guests => {
                let owner = self.snapshot.owners().owner(claimed);
                match owner {
                    Some(guest) => guest.port == ingress,
                    None => self.snapshot.owners().alive_in(claimed) == Some(interface.id),
                }
            }
            Some(check) => {
                // Somebody else's address is not this port's, whatever the routes say.
                let elsewhere =
                    |way: fib::Way<'_, A>| way.guest.is_some_and(|guest| guest.port != ingress);
                let back = fib::route(self.snapshot, A::UNSPECIFIED, address, None, &mut Silent);
                match check {
                    SourceCheck::Strict => {
                        back.is_ok_and(|way| way.interface.id == interface.id && !elsewhere(way))
                    }
                    _ => back.is_ok(),
                }
            }
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if Ipv6Addr::is_unicast_link_local(&address))
}
