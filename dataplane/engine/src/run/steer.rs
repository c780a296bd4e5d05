//! Which worker a frame is for.
//!
//! Both directions of a flow belong to one worker, because its session does. On the way out the
//! inside source says which; on the way in the external port, or the guest's address where nothing
//! is translated; between two guests the lower address. What belongs to no flow (ARP, neighbour
//! discovery, DHCP, metadata) is for the first worker, which has the router's own state.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;

use crate::base::addr::PortId;
use crate::base::ip::Address;
use crate::config::metadata::{METADATA_V4, METADATA_V6};
use crate::model::routing::MAIN_TABLE;
use crate::model::snapshot::Snapshot;
use crate::model::tables::Action;
use crate::state::ports::Share;
use crate::wire::flow::Flow;
use crate::wire::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame};
use crate::wire::icmp::quoted_flow;
use crate::wire::packet::{Family, Transport};

/// The worker, of `workers`, that a frame which came in by `ingress` is for.
pub fn steer(frame: &Frame<'_>, ingress: PortId, snapshot: &Snapshot, workers: u16) -> u16 {
    let ethertype = frame.bytes.get(12..14).and_then(<[u8]>::first_chunk);
    match ethertype.map(|bytes| u16::from_be_bytes(*bytes)) {
        Some(ETHERTYPE_IPV4) => of_packet::<Ipv4Addr>(frame, ingress, snapshot, workers),
        Some(ETHERTYPE_IPV6) => of_packet::<Ipv6Addr>(frame, ingress, snapshot, workers),
        _ => 0,
    }
}

fn of_packet<A: Family>(
    frame: &Frame<'_>,
    ingress: PortId,
    snapshot: &Snapshot,
    workers: u16,
) -> u16 {
    let Ok(packet) = A::parse(frame) else {
        return 0;
    };
    let flow = match packet.transport {
        // An error goes the way of answers to what it quotes.
        Transport::IcmpError => match quoted_flow(frame.bytes, &packet) {
            Some(quoted) => quoted.reversed(),
            None => return 0,
        },
        Transport::IcmpOther(_) => return 0,
        _ if packet.is_dhcp_request() => return 0,
        Transport::Tcp(_) if is_metadata(packet.flow.destination.into()) => return 0,
        _ => packet.flow,
    };
    if snapshot.is_uplink(ingress) {
        inbound(&flow, ingress, snapshot, workers)
    } else {
        outbound(&flow, ingress, snapshot, workers)
    }
}

/// The router answers there where a network has metadata, with state that the first worker has.
fn is_metadata(address: IpAddr) -> bool {
    address == METADATA_V4 || address == METADATA_V6
}

fn inbound<A: Address>(flow: &Flow<A>, ingress: PortId, snapshot: &Snapshot, workers: u16) -> u16 {
    let to: IpAddr = flow.destination.into();
    let translations = snapshot.translations();
    let personality = snapshot.holder(to).filter(|i| i.ports.contains(&ingress));
    if let Some(inward) = personality.and_then(|i| translations.inward(flow, i)) {
        return by_address(inward.flow.destination, workers);
    }
    if translations.gives(to, None) {
        return Share::worker_of(flow.destination_port, workers);
    }
    by_address(flow.destination, workers)
}

/// From a network. Both directions of what turns at an address outside (hairpin) are for one worker
/// too: that of the external port if there is one, else that of the two guests.
fn outbound<A: Address>(flow: &Flow<A>, ingress: PortId, snapshot: &Snapshot, workers: u16) -> u16 {
    let translations = snapshot.translations();
    // A bridged guest comes in by the personality that answers for the destination.
    let beside = || {
        let segment = snapshot.segment(ingress, None)?.bridge?;
        snapshot.answerer(segment, flow.destination.into())
    };
    let arrives_by = snapshot.network_on(ingress).or_else(beside);
    let inward = arrives_by.and_then(|interface| translations.inward(flow, interface));
    if inward.is_none() && translations.gives(flow.destination.into(), None) {
        return Share::worker_of(flow.destination_port, workers);
    }
    let destination = inward.map_or(flow.destination, |inward| inward.flow.destination);
    let inside = match is_inside(destination.into(), snapshot) {
        true => flow.source.min(destination),
        false => flow.source,
    };
    by_address(inside, workers)
}

/// Whether an address is a guest's, or in a network.
fn is_inside(address: IpAddr, snapshot: &Snapshot) -> bool {
    let leads_to = |action: Action| match action {
        Action::Forward(group) => snapshot.group(group).hops.first()?.interfaces.first(),
        _ => None,
    };
    let in_network = || {
        let found = snapshot.table(MAIN_TABLE).covering(address).next();
        let first = found.and_then(|found| leads_to(found.routes[0].action));
        let interface = first.and_then(|id| snapshot.interface(*id));
        interface.is_some_and(|interface| !interface.personality)
    };
    snapshot.owners().owner(address).is_some() || in_network()
}

fn by_address<A: Address>(address: A, workers: u16) -> u16 {
    let hash = FixedState::default().hash_one(address);
    ((hash >> 32) % u64::from(workers.max(1))) as u16
}
