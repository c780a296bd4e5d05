//! The entry of a frame: one frame in, one verdict out. It reads like the list of what a router
//! does.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::base::time::Instant;
use crate::model::interface::Arrival;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Silent, Step, Steps, Trace};
use crate::path::bridge::{self, Crossing};
use crate::path::{admit, forward, fragments, local, offload};
use crate::speak::{arp, dhcp, mld, nd};
use crate::state::context::Context;
use crate::state::router::Router;
use crate::state::shard::{Shard, Tracked};
use crate::wire::frame::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Link, Verdict, vlan_id,
};
use crate::wire::mld::QUERY;
use crate::wire::nd::KINDS;
use crate::wire::packet::{Family, Packet, Transport};

/// Routes one frame. It is rewritten in place if the verdict says [`Verdict::Emit`]; drops are
/// already counted.
pub fn process(
    frame: &mut Frame<'_>,
    ingress: PortId,
    snapshot: &Snapshot,
    (router, shard): (&mut Router, &mut Shard),
    now: Instant,
) -> Verdict {
    let mut ctx = Context {
        snapshot,
        router,
        shard,
        now,
        trace: &mut Silent,
        ingress: Some(ingress),
    };
    run(&mut ctx, frame, ingress)
}

/// Routes one frame as [`process`] does, and notes every decision, that to drop it among them.
#[inline(never)]
pub fn process_traced(
    frame: &mut Frame<'_>,
    ingress: PortId,
    snapshot: &Snapshot,
    (router, shard): (&mut Router, &mut Shard),
    now: Instant,
) -> (Steps, Verdict) {
    let mut steps = Steps::default();
    let mut ctx = Context {
        snapshot,
        router,
        shard,
        now,
        trace: &mut steps,
        ingress: Some(ingress),
    };
    let verdict = run(&mut ctx, frame, ingress);
    if let Verdict::Drop(reason) = verdict {
        steps.step(|| Step::Dropped(reason));
    }
    (steps, verdict)
}

/// Routes one frame, and tells `ctx.trace` why.
#[inline(always)]
fn run<T: Trace>(ctx: &mut Context<'_, T>, frame: &mut Frame<'_>, ingress: PortId) -> Verdict {
    receive(ctx, frame, ingress).unwrap_or_else(|reason| {
        ctx.shard.count_drop(reason, Some(ingress));
        Verdict::Drop(reason)
    })
}

#[inline(always)]
fn receive<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    ingress: PortId,
) -> Result<Verdict, DropReason> {
    let Some(header) = frame.bytes.first_chunk::<ETHERNET>() else {
        return Err(DropReason::FrameTooShort);
    };
    let ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut link = Link {
        port: ingress,
        vlan: vlan_id(frame.vlan),
        source: MacAddr::from_slice(&header[6..12]),
        destination: MacAddr::from_slice(&header[0..6]),
    };
    if link.source.is_group() {
        return Err(DropReason::GroupSource);
    }
    admit::mac(ctx.snapshot, link, ctx.trace)?;
    if ctx.snapshot.admission(ingress).bridged {
        match bridge::receive(ctx, frame, link)? {
            Crossing::Passed(verdict) => return Ok(verdict),
            Crossing::Packet(arrival) => return across(ctx, frame, arrival),
            Crossing::Heard => return Ok(overhear(ctx, frame, link)),
            Crossing::Router(to) => link = to,
        }
    }
    match ethertype {
        ETHERTYPE_IPV4 => {
            let packet = Ipv4Addr::parse(frame)?;
            offload::accept(frame, &packet)?;
            frame.truncate(packet.end); // link padding is not forwarded (F02)
            if packet.is_dhcp_request()
                && let Some(network) = dhcp::asked4(ctx.snapshot, packet.flow.destination, link)
            {
                return dhcp::request4(ctx, frame, &packet, network, link);
            }
            ip(ctx, frame, &packet, link)
        }
        ETHERTYPE_IPV6 => {
            let packet = Ipv6Addr::parse(frame)?;
            offload::accept(frame, &packet)?;
            frame.truncate(packet.end);
            if packet.is_dhcp_request()
                && let Some(network) = dhcp::asked6(ctx.snapshot, packet.flow.destination, link)
            {
                return dhcp::request6(ctx, frame, &packet, network, link);
            }
            match packet.transport {
                Transport::IcmpOther(kind) if KINDS.contains(&kind) => {
                    nd::receive(ctx, frame, &packet, link)
                }
                Transport::IcmpOther(QUERY) => mld::query(ctx, frame, &packet, link),
                _ => ip(ctx, frame, &packet, link),
            }
        }
        ETHERTYPE_ARP => {
            offload::accept_none(frame)?;
            arp::receive(ctx, frame, link)
        }
        _ => Err(DropReason::UnknownEthertype),
    }
}

#[inline(always)]
fn ip<A: Tracked, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
    link: Link,
) -> Result<Verdict, DropReason> {
    let snapshot = ctx.snapshot;
    let Some(interface) = snapshot.wearer(link.port, link.vlan, link.destination) else {
        // What a forged DHCP server says to everybody is dropped as well, but counted by itself.
        admit::service(snapshot, link.port, &packet.flow, ctx.trace)?;
        return Err(not_ours(snapshot, link));
    };
    ctx.trace.step(|| Step::Interface {
        interface: interface.id,
        port: link.port,
        mac: link.destination,
    });
    let arrival = Arrival {
        port: link.port,
        interface,
    };
    if let Some(problem) = packet.problem {
        return Err(local::refuse_header(ctx, frame, packet, arrival, problem));
    }
    if packet.has_flow()
        && let Some(verdict) = forward::by_session(ctx, frame, packet, arrival)?
    {
        return Ok(verdict);
    }
    fragments::or_first(ctx, frame, packet, arrival)
}

/// A packet on a segment that guests are bridged to.
#[inline(never)]
fn across<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    frame: &mut Frame<'_>,
    arrival: Arrival<'s>,
) -> Result<Verdict, DropReason> {
    match frame.bytes.get(12..14) {
        Some([0x08, 0x00]) => {
            let packet = Ipv4Addr::parse(frame)?;
            fragments::or_first(ctx, frame, &packet, arrival)
        }
        _ => {
            let packet = Ipv6Addr::parse(frame)?;
            fragments::or_first(ctx, frame, &packet, arrival)
        }
    }
}

/// What all on a segment hear, guests that are bridged there among them, the router hears as well.
#[cold]
fn overhear<T: Trace>(ctx: &mut Context<'_, T>, frame: &mut Frame<'_>, link: Link) -> Verdict {
    let heard = match frame.bytes.get(12..14) {
        Some([0x08, 0x06]) => arp::receive(ctx, frame, link),
        _ => Ipv6Addr::parse(frame).and_then(|packet| match packet.transport {
            Transport::IcmpOther(QUERY) => mld::query(ctx, frame, &packet, link),
            _ => nd::receive(ctx, frame, &packet, link),
        }),
    };
    match heard {
        Ok(verdict @ Verdict::Emit(_)) => verdict,
        _ => Verdict::Replaced,
    }
}

#[cold]
fn not_ours(snapshot: &Snapshot, link: Link) -> DropReason {
    if snapshot.is_own(link) {
        DropReason::OwnFrame
    } else if link.destination.is_group() {
        DropReason::Broadcast
    } else {
        DropReason::UnknownMac
    }
}
