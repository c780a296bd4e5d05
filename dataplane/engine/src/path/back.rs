//! The way of answers: what came to a personality is answered by it (T21), by the rules where these lead out by
//! it, else by its gateway.

use crate::base::ip::Address;
use crate::config::RuleVerdict;
use crate::model::interface::Interface;
use crate::model::route::{Selector, Way, route};
use crate::model::snapshot::Snapshot;
use crate::model::tables::NoWay;
use crate::model::trace::{Step, Trace};
use crate::wire::packet::Family;

/// The way of what the router itself answers to `sender`, whose packet came in by `interface`: a link-local
/// sender is on that link. For the rules, what answers by a personality is bound to it (`oif`); of these, only
/// one that names it keeps it from answering.
///
/// # Errors
/// There is none.
pub(crate) fn way_back<'w, 's: 'w, A: Family>(
    snapshot: &'s Snapshot,
    interface: &'w Interface,
    (source, sender): (A, A),
    trace: &mut impl Trace,
) -> Result<Way<'w>, NoWay> {
    if sender.is_link_local() {
        return Ok(Way::to(interface, sender.into()));
    }
    let selector = Selector::ours(source, sender, A::ICMP);
    if !interface.personality {
        return route(snapshot, selector, trace);
    }
    let bound = selector.bound_to(interface.id);
    match route(snapshot, bound, trace) {
        Err(no_way) if is_refused(snapshot, &bound) => Err(no_way),
        Err(no_way) => by_personality(interface, sender, trace).ok_or(no_way),
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

/// Whether a rule that names the interface which a packet is bound to refuses it.
fn is_refused<A: Address>(snapshot: &Snapshot, bound: &Selector<A>) -> bool {
    let subject = bound.subject();
    let mut rules = snapshot.rules().asked_of(&subject);
    std::iter::from_fn(|| rules.next()).any(|rule| {
        let names_it = rule.condition.oif.is_some() && !rule.condition.not;
        names_it && matches!(rule.verdict, RuleVerdict::End(_))
    })
}
