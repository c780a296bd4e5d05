//! What a guest may send: from its own MAC, with its own addresses, and nothing that only routers
//! and servers say (RFC 2827, RFC 3704 §2; F20, D07).
//!
//! | | guests configured behind the port | none configured |
//! |---|---|---|
//! | strict | what they own | what is routed back to the port's network |
//! | loose | what there is any route to | the same |
//! | off | anything | anything |

use std::net::IpAddr;

use crate::base::addr::PortId;
use crate::base::drops::DropReason;
use crate::base::ip::{Address, is_of_a_link};
use crate::config::SourceCheck;
use crate::model::interface::Interface;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Silent, Step, Trace, Violation};
use crate::wire::flow::Flow;
use crate::wire::frame::Link;
use crate::wire::packet::UDP;

/// A frame's source MAC must be one that the port's guests have.
#[inline]
pub(crate) fn mac(
    snapshot: &Snapshot,
    link: Link,
    trace: &mut impl Trace,
) -> Result<(), DropReason> {
    let macs = &snapshot.admission(link.port).macs;
    if macs.is_empty() || macs.contains(&link.source) {
        return Ok(());
    }
    trace.step(|| Step::Violation(Violation::Mac(link.source)));
    Err(DropReason::SpoofedMac)
}

/// A guest behind `ingress`, on `interface`, says that `address` is its own. If it is not, that is
/// refused for `reason`.
pub(crate) fn address<A: Address>(
    snapshot: &Snapshot,
    (ingress, interface): (PortId, &Interface),
    address: A,
    reason: DropReason,
    trace: &mut impl Trace,
) -> Result<(), DropReason> {
    if may_claim(snapshot, ingress, interface, address) {
        return Ok(());
    }
    trace.step(|| Step::Violation(Violation::Address(address.into())));
    Err(reason)
}

/// A guest must not play the DHCP server (RFC 2131 §4.1, RFC 8415 §7.2).
pub(crate) fn service<A: Address>(
    snapshot: &Snapshot,
    ingress: PortId,
    flow: &Flow<A>,
    trace: &mut impl Trace,
) -> Result<(), DropReason> {
    const SERVERS: [(u16, u16); 2] = [(67, 68), (547, 546)];
    let plays_server =
        flow.protocol == UDP && SERVERS.contains(&(flow.source_port, flow.destination_port));
    if !plays_server || !snapshot.admission(ingress).is_checked() {
        return Ok(());
    }
    trace.step(|| Step::Violation(Violation::Dhcp));
    Err(DropReason::RogueServer)
}

fn may_claim<A: Address>(
    snapshot: &Snapshot,
    ingress: PortId,
    interface: &Interface,
    address: A,
) -> bool {
    let admission = snapshot.admission(ingress);
    let claimed: IpAddr = address.into();
    match admission.source {
        None | Some(SourceCheck::Off) => true,
        // The unspecified address is used by duplicate-address detection and DHCP, and a link-local
        // one never leaves the link.
        _ if claimed.is_unspecified() || is_of_a_link(claimed) => true,
        Some(SourceCheck::Strict) if admission.guests => match snapshot.owners().owner(claimed) {
            Some(guest) => guest.port == ingress,
            None => snapshot.owners().alive_in(claimed) == Some(interface.id),
        },
        Some(check) => {
            let back = Selector::ours(A::UNSPECIFIED, address);
            let back = route(snapshot, back, &mut Silent);
            // Somebody else's address is not this port's, whatever the routes say.
            let elsewhere = |way: Way<'_, A>| way.guest.is_some_and(|guest| guest.port != ingress);
            match check {
                SourceCheck::Strict => {
                    back.is_ok_and(|way| way.interface.id == interface.id && !elsewhere(way))
                }
                _ => back.is_ok(),
            }
        }
    }
}
