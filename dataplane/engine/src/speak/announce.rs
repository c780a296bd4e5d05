//! Announcements: telling the link where addresses are, before anybody asks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::say;
use crate::base::addr::{InterfaceId, PortId};
use crate::model::interface::Interface;
use crate::model::snapshot::Snapshot;
use crate::model::trace::Trace;
use crate::state::context::Context;
use crate::state::router::Router;

/// Announces everything that `interface` answers for, in a burst.
pub(crate) fn all<T>(ctx: &mut Context<'_, T>, interface: &Interface) {
    if let Some(presence) = ctx.snapshot.presence(interface.id) {
        let addresses = &presence.addresses;
        let addresses = ready(ctx.snapshot, ctx.router, interface.id, addresses);
        ctx.router
            .announcer
            .add_all(interface.id, addresses, ctx.now);
    }
}

/// Announces the public addresses of the guests behind `port`, in a burst.
pub(crate) fn guests_behind<T>(ctx: &mut Context<'_, T>, port: PortId) {
    let owners = ctx.snapshot.owners();
    let mut outside: BTreeMap<InterfaceId, Vec<IpAddr>> = BTreeMap::new();
    for guest in owners.on_port(port) {
        if let Some(personality) = guest.personality {
            let addresses = outside.entry(personality).or_default();
            addresses.extend(owners.public_of(guest));
        }
    }
    for (personality, addresses) in outside {
        let addresses = ready(ctx.snapshot, ctx.router, personality, &addresses);
        ctx.router.announcer.add(personality, addresses, ctx.now);
    }
}

/// Those of `addresses` that `interface` may announce now. What is still being claimed is announced
/// when that is won.
pub(crate) fn ready(
    snapshot: &Snapshot,
    router: &Router,
    interface: InterfaceId,
    addresses: &[IpAddr],
) -> Vec<IpAddr> {
    let Some(interface) = snapshot.interface(interface) else {
        return Vec::new();
    };
    let speaks = router.claims.source_on(interface).is_some();
    let is_ready = |address: &IpAddr| match address {
        _ if interface.owns(*address) => router.claims.is_ours(interface.id, *address),
        IpAddr::V4(_) => true,
        // From an address of the interface, since a guest's is not ours to speak from (N12).
        IpAddr::V6(_) => speaks,
    };
    addresses.iter().copied().filter(is_ready).collect()
}

/// An own address was claimed and is ours: it is announced, and what else could not be before.
pub(crate) fn won<T>(ctx: &mut Context<'_, T>, interface: InterfaceId, address: IpAddr) {
    let mut addresses = vec![address];
    let claims = &ctx.router.claims;
    let source = ctx.snapshot.interface(interface);
    let source = source.and_then(|interface| claims.source_on(interface));
    if source.map(IpAddr::V6) == Some(address) {
        let guests = ctx.snapshot.owners().public_on(interface).iter();
        let theirs = guests.map(|(address, _)| *address);
        addresses.extend(theirs.filter(IpAddr::is_ipv6));
    }
    ctx.router.announcer.add(interface, addresses, ctx.now);
}

/// Announces one address, unless it is still being claimed.
pub(crate) fn once<T: Trace>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    address: IpAddr,
    takeover: bool,
) {
    // A guest may have gone in the meantime.
    let theirs = ctx.snapshot.owners().is_public(address, interface.id);
    if !ctx.router.claims.is_ours(interface.id, address) || !interface.owns(address) && !theirs {
        return;
    }
    let ports = interface.ports.as_slice();
    match address {
        // Some peers update from one form only (RFC 5227 §3).
        IpAddr::V4(address) => {
            for form in [say::Form::Request, say::Form::Reply] {
                say::arp_announcement(ctx, interface, address, form, ports);
            }
        }
        IpAddr::V6(address) => {
            say::neighbor_announcement(ctx, interface, address, takeover, ports);
        }
    }
}

/// Tells whoever is behind `port`, where somebody else claims `address`, whose it is: by one frame
/// (RFC 5227 §2.4; A05).
pub(crate) fn defend<T: Trace>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    address: IpAddr,
    port: PortId,
) {
    let port = std::slice::from_ref(&port);
    match address {
        IpAddr::V4(address) => {
            say::arp_announcement(ctx, interface, address, say::Form::Request, port);
        }
        IpAddr::V6(address) => say::neighbor_announcement(ctx, interface, address, true, port),
    }
}

/// Has the next interface's addresses repeated, or sends the next announcements that are due. Whether
/// there were any.
pub(crate) fn poll<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    let interval = ctx.snapshot.config().router().announce_interval;
    if let Some(from) = ctx.router.announcer.repeats_from(interval, ctx.now) {
        remind(ctx, from);
        return true;
    }
    let Some(due) = ctx.router.announcer.poll(ctx.now) else {
        return false;
    };
    if let Some(interface) = ctx.snapshot.interface(due.interface) {
        for address in due.addresses {
            once(ctx, interface, address, due.takeover);
        }
    }
    true
}

/// Has everything announced once more that the first interface from `from` on answers for.
fn remind<T>(ctx: &mut Context<'_, T>, from: InterfaceId) {
    let next = ctx.snapshot.interfaces().find(|next| next.id >= from);
    let next = next.map(|interface| interface.id);
    if let Some(interface) = next
        && let Some(presence) = ctx.snapshot.presence(interface)
    {
        let addresses = presence.addresses.clone();
        ctx.router.announcer.remind(interface, addresses, ctx.now);
    }
    ctx.router.announcer.repeated(next);
}
