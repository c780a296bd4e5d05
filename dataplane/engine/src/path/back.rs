//! The way of answers: what came to a personality is answered by it (T21), as the rules say for it, and where they
//! say nothing by its gateway.

use crate::base::ip::Address;
use crate::model::interface::Interface;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::tables::NoWay;
use crate::model::trace::{Step, Trace};
use crate::wire::packet::Family;

/// The way of what the router itself answers to `sender`, with this type of service, whose packet came in by
/// `interface`: a link-local sender is on that link. For the rules, what answers by a personality is bound to it
/// (`oif`): a way by another is none, and a refusal is one.
///
/// # Errors
/// There is none.
pub(crate) fn way_back<'w, 's: 'w, A: Family>(
    snapshot: &'s Snapshot,
    interface: &'w Interface,
    (source, sender, tos): (A, A, u8),
    trace: &mut impl Trace,
) -> Result<Way<'w>, NoWay> {
    if sender.is_link_local() {
        return Ok(Way::to(interface, sender.into()));
    }
    let selector = Selector {
        oif: interface.personality.then_some(interface.id),
        tos,
        ..Selector::ours(source, sender, A::ICMP)
    };
    match route(snapshot, selector, trace) {
        Err(NoWay::NoRoute) if interface.personality => {
            by_personality(interface, sender, trace).ok_or(NoWay::NoRoute)
        }
        found => found,
    }
}

/// The way by the personality that something came to, whatever the rules say of others.
pub(crate) fn by_personality<'w, A: Address>(
    interface: &'w Interface,
    sender: A,
    trace: &mut impl Trace,
) -> Option<Way<'w>> {
    let next_hop = interface.next_hop_for(sender)?.into();
    trace.step(|| Step::AnswersBy {
        interface: interface.id,
        next_hop,
    });
    Some(Way::to(interface, next_hop))
}
