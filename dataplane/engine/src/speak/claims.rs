//! Claiming own addresses and defending them: [`Claims`] decides, and this sends.
//!
//! [`Claims`]: crate::state::claims::Claims

use std::net::IpAddr;

use super::{announce, say};
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace, Violation};
use crate::state::claims;
use crate::state::context::Context;
use crate::state::router::Router;
use crate::wire::frame::Link;

/// The interface on the sender's link whose address `address` is: its own, or one it answers for.
fn claimant(snapshot: &Snapshot, address: IpAddr, link: Link) -> Option<&Interface> {
    if let Some(holder) = snapshot.holder(address)
        && holder.ports.contains(&link.port)
    {
        return Some(holder);
    }
    let has = |interface: &&Interface| {
        interface.owns(address)
            || interface.personality
                && snapshot.owners().find(address).is_some()
                && snapshot.owners().is_public(address, interface.id)
    };
    snapshot.on_port(link.port, link.vlan).find(has)
}

/// The interface on the link that is claiming `address` for itself right now.
pub(crate) fn claiming<'s>(
    snapshot: &'s Snapshot,
    router: &Router,
    address: IpAddr,
    link: Link,
) -> Option<&'s Interface> {
    snapshot
        .on_port(link.port, link.vlan)
        .find(|interface| interface.owns(address) && !router.claims.is_ours(interface.id, address))
}

/// Whoever sent a frame says by it that `address` is its own. If that is ours, or a guest's for whom
/// we answer there, it is a conflict.
///
/// # Errors
/// It is one, and the frame is dropped: a guest's as [`DropReason::GatewayClaimed`], any other for
/// `reason`. Or the frame came by an uplink, where nobody can have `address`: it is our own elsewhere,
/// a guest's, or in a network (A06, H05).
pub(crate) fn not_ours<T: Trace>(
    ctx: &mut Context<'_, T>,
    address: IpAddr,
    link: Link,
    reason: DropReason,
) -> Result<(), DropReason> {
    match claimant(ctx.snapshot, address, link) {
        Some(interface) => Err(conflict(ctx, interface, address, link, reason)),
        None if ctx.snapshot.is_uplink(link.port) && ctx.snapshot.is_ours(address) => {
            Err(DropReason::InsideSource)
        }
        None => Ok(()),
    }
}

/// Somebody else on the link says that `address`, which is ours or a guest's, is its own. Why its
/// frame is dropped.
pub(crate) fn conflict<T: Trace>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    address: IpAddr,
    link: Link,
    reason: DropReason,
) -> DropReason {
    ctx.shard.counters.address_conflicts += 1;
    // The host's kernel defends what it shares with us.
    let kernels = interface.shared.is_some() && interface.owns(address);
    let claims = &mut ctx.router.claims;
    let defend = claims.contested(interface.id, address, link.source, ctx.now);
    if defend && !kernels {
        ctx.shard.counters.address_defences += 1;
        announce::defend(ctx, interface, address, link.port);
    }
    match interface.personality {
        true => reason,
        false => gateway_claimed(ctx, address),
    }
}

/// Counts a guest's probe for an address of its network's gateway, which is answered as any other.
pub(crate) fn count_objection<T: Trace>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    (sender, target): (IpAddr, IpAddr),
    link: Link,
) {
    if sender.is_unspecified() && !interface.personality && interface.owns(target) {
        let reason = gateway_claimed(ctx, target);
        ctx.shard.count_violation(reason, Some(link.port));
    }
}

/// A guest claims, or probes for, an address of its network's gateway (H06).
fn gateway_claimed<T: Trace>(ctx: &mut Context<'_, T>, address: IpAddr) -> DropReason {
    ctx.trace
        .step(|| Step::Violation(Violation::Gateway(address)));
    DropReason::GatewayClaimed
}

/// Sends the next probe that is due, or announces what was won. Whether there was anything.
pub(crate) fn poll<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    match ctx.router.claims.poll(ctx.now) {
        None => return false,
        Some(claims::Step::Probe(interface, address, nonce)) => {
            if let Some(interface) = ctx.snapshot.interface(interface) {
                match address {
                    IpAddr::V4(address) => say::arp_probe(ctx, interface, address),
                    IpAddr::V6(address) => say::duplicate_probe(ctx, interface, address, nonce),
                }
            }
        }
        Some(claims::Step::Won(interface, address)) => {
            announce::won(ctx, interface, address);
            let router = &mut ctx.router;
            let link_local = ctx.snapshot.interface(interface);
            if link_local.and_then(|i| i.link_local).map(IpAddr::V6) == Some(address) {
                router.memberships.report_again(interface, ctx.now);
            }
        }
    }
    true
}
