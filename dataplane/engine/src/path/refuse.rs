//! Telling senders that their packets did not arrive (RFC 1812 §4.3, RFC 4443 §2.4).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::back::way_back;
use super::hop::{self, Hop};
use super::judge::{self};
use super::query::Refusal;
use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::base::ip::Address;
use crate::model::interface::Interface;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::payer::Payer;
use crate::wire::error::IcmpError;
use crate::wire::frame::{ETHERNET, Frame, OwnedFrame, vlan_id};
use crate::wire::packet::{Family, Packet, Part, Transport};
use crate::wire::{icmp, nd};

/// Drops a packet that came in by `interface`, and tells its sender what `refusal` has to say, where
/// it may be told.
pub(crate) fn refuse<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    interface: &Interface,
    refusal: Refusal,
) -> DropReason {
    if let Some(error) = refusal.told {
        tell(ctx, frame, packet, interface, error);
    }
    refusal.reason
}

#[cold]
fn tell<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    interface: &Interface,
    error: IcmpError,
) {
    if !may_be_told(packet, ctx.snapshot) {
        return;
    }
    let class = error.class();
    let in_all = ctx.snapshot.config().router().icmp_errors_per_second;
    let source = packet.flow.source.into();
    let (payer, limits) = judge::payer(ctx.snapshot, (interface, ctx.ingress), source);
    // Strangers have a half of all, so that guests are told even while strangers flood.
    let is_guests = !interface.personality || matches!(payer, Payer::By(_));
    let rate = match is_guests {
        true => limits.icmp_errors().min(in_all),
        false => in_all.div_ceil(2),
    };
    let budgets = &mut ctx.shard.told[class];
    if !budgets.take(payer.index(), rate, ctx.now)
        || !ctx.shard.budgets[class].take(in_all, ctx.now)
    {
        ctx.shard.counters.icmp_errors_limited += 1;
        return;
    }
    let (kind, code, _) = A::error_header(error);
    let sender = packet.flow.source.into();
    ctx.trace.step(|| Step::Told { sender, kind, code });
    if send(ctx, frame, packet, interface, error).is_some() {
        ctx.shard.counters.icmp_errors_sent += 1;
    }
}

/// Tells the sender of a packet that waited what it waited for in vain: that its next hop does not
/// answer (F05, N09), or that other fragments did not come (G01).
pub(crate) fn tell_late<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    origin: PortId,
    error: IcmpError,
) {
    let wearer = MacAddr::from_slice(frame.bytes);
    let snapshot = ctx.snapshot;
    let Some(interface) = snapshot.wearer(origin, vlan_id(frame.vlan), wearer) else {
        return;
    };
    if let Ok(packet) = Ipv4Addr::parse(frame) {
        tell(ctx, frame, &packet, interface, error);
    } else if let Ok(packet) = Ipv6Addr::parse(frame)
        // A solicitation waits while its target is asked for inside (`proxy`). When the target does
        // not answer, neither do we.
        && !matches!(packet.transport, Transport::IcmpOther(kind) if nd::KINDS.contains(&kind))
    {
        tell(ctx, frame, &packet, interface, error);
    }
}

fn send<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    interface: &Interface,
    error: IcmpError,
) -> Option<()> {
    let snapshot = ctx.snapshot;
    let (asked, sender) = (packet.flow.destination, packet.flow.source);
    let own = interface.owns(asked.into()) || snapshot.holder(asked.into()).is_some();
    let mut source = if own {
        asked
    } else {
        interface
            .source_for(sender)
            .or_else(|| router_id(snapshot))?
    };
    let mut way = way_back(snapshot, interface, (source, sender, 0), ctx.trace).ok()?;
    if !way.interface.owns(source.into()) && source != asked {
        // F10: from the address of the interface it leaves by.
        source = way.source_for(sender).or_else(|| router_id(snapshot))?;
        way = way_back(snapshot, interface, (source, sender, 0), ctx.trace).ok()?;
    }
    let quoted = frame.bytes.get(ETHERNET..packet.end)?;
    let make = || icmp::error((source, sender), error, quoted);
    originate(ctx, make, (Some(interface), source), &way).ok()
}

/// The way of a packet of our own.
pub(crate) fn way_out<'s, A: Address, T: Trace>(
    ctx: &mut Context<'s, T>,
    selector: Selector<A>,
) -> Result<Way<'s>, DropReason> {
    route(ctx.snapshot, selector, ctx.trace).map_err(|no_way| no_way.reason())
}

/// Sends a packet of our own making from `source`, if it may leave by `way`; it waits if it must.
/// `heard`: where the packet came in that it answers, if it answers one.
///
/// # Errors
/// It may not leave.
pub(crate) fn originate<A: Address, T: Trace>(
    ctx: &mut Context<'_, T>,
    make: impl FnOnce() -> OwnedFrame,
    (heard, source): (Option<&Interface>, A),
    way: &Way<'_>,
) -> Result<(), DropReason> {
    if heard.is_some_and(|heard| !answers_back(heard, way.interface)) {
        return Err(DropReason::WrongInterface);
    }
    if !ctx.router.claims.is_ours(way.interface.id, source.into()) {
        return Err(DropReason::AddressTentative);
    }
    match hop::resolve(ctx, way) {
        Some(Hop::Known(_, mac, port)) => egress::send(ctx, make(), way.interface, (mac, port)),
        Some(Hop::Pending(id)) => {
            egress::hold(ctx, make(), None, id);
        }
        None => ctx.shard.drops.add(DropReason::NeighborTableFull, 1),
    }
    Ok(())
}

/// The source of errors that leave by an interface without an address of the family.
fn router_id<A: Address>(snapshot: &Snapshot) -> Option<A> {
    A::from_ip(snapshot.config().router().id.into())
}

/// Whether a packet that came in by `interface` may be answered by `way`. A guest is answered only
/// where its packet came from: with a forged source it could else have us write to anybody.
pub(crate) fn answers_back(interface: &Interface, way: &Interface) -> bool {
    interface.personality || interface.id == way.id
}

/// Whether the sender of `packet` may be written to: RFC 1812 §4.3.2.7 (F11), RFC 4443 §2.4 (e)
/// (S05).
fn may_be_told<A: Family>(packet: &Packet<A>, snapshot: &Snapshot) -> bool {
    let (source, destination) = (packet.flow.source, packet.flow.destination);
    packet.transport != Transport::IcmpError
        && packet.part != Part::Later
        && source.may_be_told()
        && !snapshot.is_group(source)
        && !snapshot.is_group(destination)
}
