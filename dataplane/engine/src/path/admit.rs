//! What a guest may send: from its own MAC, with its own addresses, and nothing that only routers
//! and servers say (RFC 2827, RFC 3704 §2; F20, D07).
//!
//! | | guests configured behind the port | none configured |
//! |---|---|---|
//! | strict | what they own | what is routed back to the port's network |
//! | loose | what there is any route to | the same |
//! | off | anything | anything |
//!
//! Unless nothing is checked, an address on a network that nobody is configured to own belongs to the
//! port that it was heard on first, as long as somebody answers for it there (FCFS SAVI, RFC 6620
//! §3.2.3). Another port's claim is refused, and has it asked at once. Link-local addresses may be the
//! same on many ports, each a link of its own; the neighbour table keeps the first
//! ([`Neighbors`](crate::state::neighbor::Neighbors)).

use std::net::IpAddr;

use crate::base::addr::PortId;
use crate::base::drops::DropReason;
use crate::base::ip::{Address, is_of_a_link};
use crate::config::SourceCheck;
use crate::model::interface::Interface;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Silent, Step, Trace, Violation};
use crate::state::context::Context;
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

/// As [`address()`], for who says it on the link; and the address does not live on another port.
pub(crate) fn speaker<A: Address, T: Trace>(
    ctx: &mut Context<'_, T>,
    place: (PortId, &Interface),
    claimed: A,
    reason: DropReason,
) -> Result<(), DropReason> {
    address(ctx.snapshot, place, claimed, reason, ctx.trace)?;
    first_come(ctx, place, claimed.into(), reason)
}

/// An address does not live on another port of the network.
#[inline]
pub(crate) fn first_come<T: Trace>(
    ctx: &mut Context<'_, T>,
    (ingress, interface): (PortId, &Interface),
    claimed: IpAddr,
    reason: DropReason,
) -> Result<(), DropReason> {
    if interface.personality || interface.ports.len() == 1 || is_of_a_link(claimed) {
        return Ok(());
    }
    let home = ctx.router.neighbors.port_of(interface.id, claimed);
    match home.filter(|home| *home != ingress) {
        Some(home) => contested(ctx, (ingress, interface), (claimed, home), reason),
        None => Ok(()),
    }
}

#[cold]
fn contested<T: Trace>(
    ctx: &mut Context<'_, T>,
    (ingress, interface): (PortId, &Interface),
    (claimed, home): (IpAddr, PortId),
    reason: DropReason,
) -> Result<(), DropReason> {
    let is_checked = ctx.snapshot.admission(ingress).is_checked();
    // Where a configured one lives is not for neighbours to say.
    if !is_checked || ctx.snapshot.owners().owner(claimed).is_some() {
        return Ok(());
    }
    let neighbors = &mut ctx.router.neighbors;
    neighbors.doubt(interface.id, claimed, ctx.now);
    let violation = Violation::Elsewhere(claimed, home);
    ctx.trace.step(|| Step::Violation(violation));
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
            let back = Selector::ours(A::UNSPECIFIED, address, 0);
            let back = route(snapshot, back, &mut Silent);
            // Somebody else's address is not this port's, whatever the routes say.
            let elsewhere = |way: Way<'_>| way.guest.is_some_and(|guest| guest.port != ingress);
            match check {
                SourceCheck::Strict => {
                    back.is_ok_and(|way| way.interface.id == interface.id && !elsewhere(way))
                }
                _ => back.is_ok(),
            }
        }
    }
}
