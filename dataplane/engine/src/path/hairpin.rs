//! Guests that speak to an address outside, and whose address they wear then (hairpin, RFC 4787 REQ-9).

use std::net::IpAddr;

use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::model::interface::Interface;
use crate::model::route::{Selector, route};
use crate::model::snapshot::Snapshot;
use crate::model::trace::Silent;
use crate::wire::flow::Flow;

/// The personality whose address a guest wears that came in by `interface` and turns at an address of
/// `personality`'s: by which it is known alone, else that one if it translates it, else the one by which it
/// would leave if the address were a stranger's.
#[cold]
pub(crate) fn hairpin<A: Address>(
    flow: &Flow<A>,
    (interface, personality): (&Interface, InterfaceId),
    snapshot: &Snapshot,
) -> InterfaceId {
    let (source, translations) = (flow.source.into(), snapshot.translations());
    if let Some(known_by) = translations.known_by(source, personality) {
        return known_by;
    }
    if translations.translates(source, personality) {
        return personality;
    }
    let selector = Selector::of(flow, Some(interface.id), 0);
    let way = route(snapshot, selector, &mut Silent);
    let egress = way.ok().map(|way| way.interface);
    let egress = egress.filter(|interface| interface.personality);
    egress.map_or(personality, |interface| interface.id)
}

/// The sender's address as it is outside: from inside, the one that it wears at an address of
/// `personality`'s.
pub(crate) fn remote<A: Address>(
    flow: &Flow<A>,
    (interface, personality): (&Interface, &Interface),
    snapshot: &Snapshot,
) -> IpAddr {
    let ends = (flow.source.into(), flow.destination.into());
    if interface.personality {
        return ends.0;
    }
    let worn = hairpin(flow, (interface, personality.id), snapshot);
    let translations = snapshot.translations();
    translations.seen_as(ends, worn, snapshot.owners())
}
