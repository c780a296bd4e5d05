//! What would become of a packet that the router itself sends.

use std::net::{IpAddr, Ipv4Addr};

use super::Small;
use super::frame::{Echo, Packet, bytes};
use crate::base::addr::{InterfaceId, MacAddr};
use crate::base::drops::DropReason;
use crate::base::time::Instant;
use crate::model::interface::Interface;
use crate::model::route::{Selector, Way};
use crate::model::snapshot::Snapshot;
use crate::model::tables::NoWay;
use crate::model::trace::{Silent, Step, Steps, Trace};
use crate::path::back::way_back;
use crate::path::refuse::{originate, way_out};
use crate::state::context::Context;
use crate::state::router::Router;
use crate::state::shard::{Output, Shard};
use crate::wire::flow::Flow;
use crate::wire::frame::{OwnedFrame, Verdict};
use crate::wire::packet::Family;

/// Most own addresses that a remedy lists.
const LISTED: usize = 12;

/// What would become of a packet of the router's own, as it sends answers: every decision, and the
/// verdict. Nothing changes. With a port in `packet` it answers what came in there: a guest is answered
/// only where it is, and a link-local address is on that link. An empty port: it answers nothing, and may
/// have the unspecified address for the source that the route says.
///
/// # Errors
/// There is no such port, the source is not the router's to speak from, or nothing is routed to the
/// destination.
pub fn explain_own(
    packet: &Packet<'_>,
    snapshot: &Snapshot,
    state: (&Router, &Shard),
    now: Instant,
) -> Result<(Steps, Verdict), String> {
    let heard = match packet.port {
        "" => None,
        name => Some(heard(snapshot, name, packet.from)?),
    };
    let own = heard.filter(|_| packet.from.is_unspecified());
    let own = own.and_then(|heard| match packet.to {
        IpAddr::V4(to) => heard.source_for(to).map(IpAddr::V4),
        IpAddr::V6(to) => heard.source_for(to).map(IpAddr::V6),
    });
    let packet = &Packet {
        from: own.unwrap_or(packet.from),
        ..packet.clone()
    };
    if heard.is_some() || !packet.from.is_unspecified() {
        speaks_from(snapshot, heard, packet.from)?;
    }
    is_routed(snapshot, packet.to)?;
    let asked = (packet, heard);
    match (packet.from, packet.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            run(asked, flow(packet, from, to), snapshot, state, now)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            run(asked, flow(packet, from, to), snapshot, state, now)
        }
        (from, to) => Err(format!(
            "{from} and {to} are of different families: give two IPv4 or two IPv6 addresses"
        )),
    }
}

fn run<A: Family>(
    (packet, heard): (&Packet<'_>, Option<&Interface>),
    flow: Flow<A>,
    snapshot: &Snapshot,
    (router, shard): (&Router, &Shard),
    now: Instant,
) -> Result<(Steps, Verdict), String> {
    if flow.destination.is_link_local() && heard.is_none() {
        return Err(format!(
            "{} is link-local, and may be on any link: say by --in which port it is behind",
            flow.destination
        ));
    }
    let mut small = Small::of(snapshot, (router, shard), now);
    let mut silent = Silent;
    let mut ctx = small.context(snapshot, &mut silent, now);
    if let Ok(way) = way(&mut ctx, heard, (flow, packet.tos)) {
        let place = (way.interface.id, way.next_hop);
        small.take_hop(&router.neighbors, place);
    }
    let mut steps = Steps::default();
    let mut ctx = small.context(snapshot, &mut steps, now);
    let sent = way(&mut ctx, heard, (flow, packet.tos)).and_then(|way| {
        let mut source = flow.source;
        if packet.from.is_unspecified() {
            let chosen = way.source_for(flow.destination);
            source = chosen.ok_or(DropReason::NoRoute)?;
            ctx.trace.step(|| Step::Source {
                address: source.into(),
            });
        }
        originate(&mut ctx, || frame_of(packet, source), (heard, source), &way)?;
        Ok(way.interface.id)
    });
    let verdict = match sent {
        Err(reason) => Verdict::Drop(reason),
        Ok(interface) => small.verdict(interface, &mut steps),
    };
    if let Verdict::Drop(reason) = verdict {
        steps.step(|| Step::Dropped(reason));
    }
    Ok((steps, verdict))
}

/// The packet, from the source that it has.
fn frame_of<A: Family>(packet: &Packet<'_>, source: A) -> OwnedFrame {
    let packet = Packet {
        from: source.into(),
        ..packet.clone()
    };
    let macs = (MacAddr::default(), MacAddr::default());
    OwnedFrame {
        bytes: bytes(macs, &packet, Echo::Reply).unwrap_or_default(),
        ..OwnedFrame::default()
    }
}

fn way<'w, 's: 'w, A: Family, T: Trace>(
    ctx: &mut Context<'s, T>,
    heard: Option<&'w Interface>,
    (flow, tos): (Flow<A>, u8),
) -> Result<Way<'w>, DropReason> {
    match heard {
        Some(heard) => {
            let asked = (flow.source, flow.destination, tos);
            way_back(ctx.snapshot, heard, asked, ctx.trace).map_err(NoWay::reason)
        }
        None => way_out(ctx, Selector::of(&flow, None, tos)),
    }
}

/// The flow that a packet between these addresses is of.
fn flow<A>(packet: &Packet<'_>, source: A, destination: A) -> Flow<A> {
    Flow {
        source,
        destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        protocol: packet.protocol,
    }
}

impl Small {
    fn context<'c, T>(
        &'c mut self,
        snapshot: &'c Snapshot,
        trace: &'c mut T,
        now: Instant,
    ) -> Context<'c, T> {
        Context {
            snapshot,
            router: &mut self.router,
            shard: &mut self.shard,
            now,
            trace,
            ingress: None,
        }
    }

    /// What became of a packet that was to leave by `interface`: it lies in the outbox, waits, or was
    /// counted as dropped.
    fn verdict(&self, interface: InterfaceId, steps: &mut Steps) -> Verdict {
        if let Some(Output { port, frame }) = self.shard.outbox.last() {
            steps.step(|| Step::Out {
                port: *port,
                interface,
                to: MacAddr::from_slice(&frame.bytes),
            });
            return Verdict::Emit(*port);
        }
        let mut dropped = self.shard.drops.iter().filter(|(_, frames)| *frames > 0);
        match dropped.next() {
            Some((DropReason::EgressGuard, _)) => {
                steps.step(|| Step::Guarded {
                    source: None,
                    interface,
                });
                Verdict::Drop(DropReason::EgressGuard)
            }
            Some((reason, _)) => Verdict::Drop(reason),
            None => Verdict::Hold,
        }
    }
}

/// The interface on a port that hears what is sent to `own`, or the first there.
fn heard<'s>(snapshot: &'s Snapshot, port: &str, own: IpAddr) -> Result<&'s Interface, String> {
    let Some(id) = snapshot.port_id(port) else {
        return Err(format!("there is no port \"{port}\""));
    };
    let mut on_port = snapshot.all_on(id);
    let first = on_port.next().ok_or_else(|| {
        format!("no personality and no network is on port \"{port}\": what comes in there is not answered")
    })?;
    let owner = snapshot.all_on(id).find(|interface| interface.owns(own));
    Ok(owner.unwrap_or(first))
}

/// Whether packets to `destination` are routed at all.
fn is_routed(snapshot: &Snapshot, destination: IpAddr) -> Result<(), String> {
    if snapshot.holder(destination).is_some() {
        return Err(format!(
            "{destination} is the router's own: nothing is sent to it, give another --to"
        ));
    }
    if destination.is_multicast() || destination == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!(
            "{destination} is a group's: what the router says to groups leaves by the link that it is about, without a route"
        ));
    }
    Ok(())
}

/// Whether `source` is one of the router's own addresses.
fn speaks_from(
    snapshot: &Snapshot,
    heard: Option<&Interface>,
    source: IpAddr,
) -> Result<(), String> {
    let router = snapshot.config().router().id;
    if snapshot.holder(source).is_some()
        || heard.is_some_and(|heard| heard.owns(source))
        || source == IpAddr::V4(router)
    {
        return Ok(());
    }
    let own = snapshot
        .interfaces()
        .flat_map(|interface| &interface.addresses);
    let mut own: Vec<String> = own.map(|net| net.addr().to_string()).collect();
    if own.len() > LISTED {
        own.truncate(LISTED);
        own.push("…".to_owned());
    }
    Err(format!(
        "the router does not speak from {source}: give one of its own addresses with --from, as {}",
        own.join(", ")
    ))
}
