//! Guests' segments to the metadata service: who asks is found out here, by port, MAC and address.
//! What is answered is in `speak::metadata`.

use std::net::IpAddr;

use crate::base::addr::{MacAddr, PortId};
use crate::base::checksum;
use crate::base::drops::DropReason;
use crate::base::ip::is_of_a_link;
use crate::config::metadata::{METADATA_V4, METADATA_V6};
use crate::model::interface::Arrival;
use crate::model::owners::Guest;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::state::metadata::{Asker, Ends, PORT, Segment};
use crate::state::payer::Payer;
use crate::wire::frame::{Checksum, Frame, Verdict};
use crate::wire::packet::{Family, Packet, Part, TCP};

/// Whether a TCP packet to the router itself is for the metadata service of the network that it came
/// in by.
pub(crate) fn is_for<A: Family>(packet: &Packet<A>, arrival: Arrival<'_>) -> bool {
    let to: IpAddr = packet.flow.destination.into();
    arrival.interface.services.metadata
        && packet.part == Part::Whole
        && packet.flow.destination_port == PORT
        && (to == METADATA_V4 || to == METADATA_V6)
}

/// A segment of a guest's to the metadata service.
#[cold]
pub(crate) fn receive<A: Family, T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<A>,
    arrival: Arrival<'_>,
) -> Result<Verdict, DropReason> {
    let flow = &packet.flow;
    let station = (MacAddr::from_slice(&frame.bytes[6..]), arrival.port);
    let guest = asker(ctx.snapshot, station, flow.source.into()).ok_or(DropReason::NotTheGuest)?;
    verify(frame, packet)?;
    ctx.trace.step(|| Step::Metadata { guest: guest.id });
    let asker = Asker {
        guest: guest.number,
        network: arrival.interface.id,
        station,
        mtu: arrival.interface.mtu,
    };
    let segment = Segment {
        ends: Ends {
            from: (flow.source.into(), flow.source_port),
            to: flow.destination.into(),
        },
        bytes: &frame.bytes[packet.l4..packet.end],
    };
    match ctx.router.metadata.receive(asker, &segment, ctx.now) {
        Ok(opened) => {
            ctx.shard.counters.metadata_connections += u64::from(opened);
            Ok(Verdict::Consumed)
        }
        Err(reason) => {
            let payer = Payer::By(guest.number);
            ctx.shard.refused.count(payer, reason, ctx.now);
            Err(reason)
        }
    }
}

/// The guest that speaks from `source`: it owns the address, on that port and with that MAC. A
/// link-local address is nobody's in the owner table: the MAC says whose it is, or that there is only
/// one guest on the port.
fn asker(snapshot: &Snapshot, (mac, port): (MacAddr, PortId), source: IpAddr) -> Option<&Guest> {
    let owners = snapshot.owners();
    let mut there = owners.on_port(port);
    let guest = match is_of_a_link(source) {
        true if there.len() == 1 => there.next(),
        true => there.find(|guest| guest.mac == Some(mac)),
        false => owners.owner(source),
    };
    let is_its = |guest: &&Guest| {
        guest.port == port && guest.mac.is_none_or(|known| known == mac) && guest.instance.is_some()
    };
    guest.filter(is_its)
}

/// The checksum of what a guest's kernel left to be finished is not there yet.
fn verify<A: Family>(frame: &Frame<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let segment = &frame.bytes[packet.l4..packet.end];
    let right = match frame.offload.checksum {
        Checksum::Partial { .. } | Checksum::Verified => true,
        Checksum::Present => {
            let (source, destination) = (packet.flow.source, packet.flow.destination);
            let seed = checksum::pseudo_header(
                source.octets().as_ref(),
                destination.octets().as_ref(),
                TCP,
                segment.len(),
            );
            checksum::fold(checksum::sum(segment, seed)) == 0xffff
        }
    };
    right.then_some(()).ok_or(DropReason::MetadataMalformed)
}
