//! Whether a flow may be opened: what the rules of the policy say, and what holds where they say
//! nothing.
//!
//! | from | to | |
//! |---|---|---|
//! | a network | the same network | passes |
//! | a network | an inside address of another | refused |
//! | a network | a public address, a forwarded port | passes |
//! | a network | an uplink | passes |
//! | an uplink | a public address, a forwarded port | passes |
//! | an uplink | an inside address | refused, whatever the rules say (`judge`, H05) |
//! | a bridged guest | its segment | passes |
//! | its segment | a bridged guest | passes |

use super::query::{Query, Refusal};
use crate::base::drops::DropReason;
use crate::config::policy::Action;
use crate::model::policy::{End, Question, Ruling};
use crate::model::route::Way;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace};
use crate::wire::error::IcmpError;
use crate::wire::flow::Flow;
use crate::wire::packet::{Family, Transport};

/// Whether a packet may open a flow, and the rule that says so, if one does. `to` is its flow with the
/// destination that it really has.
#[inline(always)]
pub(crate) fn permit<'s, A: Family>(
    query: &Query<'_, A>,
    to: &Flow<A>,
    way: &Way<'_>,
    snapshot: &'s Snapshot,
    trace: &mut impl Trace,
) -> Result<Option<&'s Ruling>, Refusal> {
    let policy = snapshot.policy();
    let asked = (!policy.is_empty()).then(|| question(query, to, way, snapshot));
    let decided = asked.as_ref().and_then(|asked| policy.decide(asked));
    let allowed = match decided {
        Some(ruling) => ruling.action == Action::Accept,
        None => !joins_networks(query, to, way, snapshot),
    };
    trace.step(|| Step::Policy {
        decided: decided.copied(),
        allowed,
        passed_over: asked.map_or_else(Vec::new, |asked| policy.passed_over(&asked)),
    });
    match decided {
        _ if allowed => Ok(decided),
        Some(ruling) => Err(Refusal {
            reason: DropReason::Policy,
            told: (ruling.action == Action::Reject).then_some(IcmpError::Prohibited),
            logged_by: ruling.log.then_some(ruling.place),
        }),
        None => Err(Refusal::told(
            DropReason::OtherNetwork,
            IcmpError::Prohibited,
        )),
    }
}

/// Whether the answers to a packet would be let through as packets that open a flow: what the policy
/// says of them without remembering it.
#[cold]
pub(crate) fn permits_answers<A: Family>(
    query: &Query<'_, A>,
    way: &Way<'_>,
    snapshot: &Snapshot,
) -> bool {
    let Question { from, to, .. } = question(query, &query.flow, way, snapshot);
    let back = query.flow.reversed();
    let asked = Question {
        from: to,
        to: from,
        protocol: back.protocol,
        service: match query.transport {
            Transport::EchoRequest => A::ECHO_REPLY.into(),
            _ => back.destination_port,
        },
        source_port: back.source_port,
    };
    match snapshot.policy().decide(&asked) {
        Some(ruling) => ruling.action == Action::Accept,
        None => {
            let inside = |end: &End| {
                let interface = snapshot.interface(end.interface);
                interface.is_some_and(|interface| !interface.personality)
            };
            let apart = from.interface != to.interface && inside(&from) && inside(&to);
            !apart || snapshot.is_public(from.address)
        }
    }
}

fn question<A: Family>(
    query: &Query<'_, A>,
    to: &Flow<A>,
    way: &Way<'_>,
    snapshot: &Snapshot,
) -> Question {
    let source = query.flow.source.into();
    let guest = snapshot.sender(query.interface, source);
    Question {
        from: End {
            interface: query.interface.id,
            guest: guest.map(|guest| guest.id),
            address: source,
        },
        to: End {
            interface: way.interface.id,
            guest: way.guest.map(|guest| guest.id),
            address: to.destination.into(),
        },
        protocol: to.protocol,
        service: match query.transport {
            Transport::EchoRequest => A::ECHO_REQUEST.into(),
            Transport::EchoReply => A::ECHO_REPLY.into(),
            Transport::IcmpOther(kind) => kind.into(),
            _ => to.destination_port,
        },
        source_port: match query.transport {
            Transport::Tcp(_) | Transport::Udp => to.source_port,
            _ => 0,
        },
    }
}

/// From one network to an inside address of another, and not by an address that it has outside.
fn joins_networks<A: Family>(
    query: &Query<'_, A>,
    to: &Flow<A>,
    way: &Way<'_>,
    snapshot: &Snapshot,
) -> bool {
    let (from, egress) = (query.interface, way.interface);
    !from.personality
        && !egress.personality
        && from.id != egress.id
        && query.flow.destination == to.destination
        && !snapshot.is_public(to.destination.into())
}
