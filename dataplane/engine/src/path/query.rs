//! What is asked about a packet, and why it may not go.

use super::hairpin::remote;
use crate::base::addr::{InterfaceId, PortId};
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::nat::Mapped;
use crate::model::snapshot::Snapshot;
use crate::model::tables::NoWay;
use crate::state::shard::{Shard, Tracked};
use crate::wire::error::IcmpError;
use crate::wire::flow::Flow;
use crate::wire::packet::Transport;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'s, A> {
    /// The packet's flow, as it came in.
    pub(crate) flow: Flow<A>,
    /// What it carries.
    pub(crate) transport: Transport,
    /// The interface it came in by.
    pub(crate) interface: &'s Interface,
    /// Whom the port that it is for stands for, where an entry of `nat.snat` lets strangers in.
    pub(crate) mapped: Option<Mapped<A>>,
    /// The port it came in by. `None`: that is no longer known, and the source is not
    /// checked.
    pub(crate) ingress: Option<PortId>,
    /// Its type of service or traffic class.
    pub(crate) tos: u8,
    /// The interface that its session leaves by, if it has one: of several routes to a prefix, and of several
    /// next hops, it keeps its own while that is in use.
    pub(crate) keeps: Option<InterfaceId>,
    /// What only a packet at hand has: a session is judged without.
    pub(crate) bounds: Option<Bounds>,
}

/// What a packet at hand must keep within.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Its TTL or hop limit.
    pub(crate) ttl: u8,
    /// Its size on a wire, in bytes, if it may not be fragmented.
    pub(crate) unfragmented: Option<usize>,
}

/// Whom the port stands for that a packet is for, which came in by `interface` and which no session
/// knows.
#[inline(always)]
pub(crate) fn mapped<A: Tracked>(
    flow: &Flow<A>,
    interface: &Interface,
    (snapshot, shard): (&Snapshot, &Shard),
) -> Option<Mapped<A>> {
    match snapshot.translations().let_in() {
        true => look_up(flow, interface, (snapshot, shard)),
        false => None,
    }
}

#[cold]
fn look_up<A: Tracked>(
    flow: &Flow<A>,
    interface: &Interface,
    (snapshot, shard): (&Snapshot, &Shard),
) -> Option<Mapped<A>> {
    let personality = snapshot.holder(flow.destination.into())?;
    let remote = remote(flow, (interface, personality), snapshot);
    let external = (flow.destination, flow.destination_port);
    A::flows(shard).mapped(external, flow.protocol, A::from_ip(remote)?)
}

/// Why a packet may not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What is counted.
    pub(crate) reason: DropReason,
    /// What its sender is told, if anything.
    pub(crate) told: Option<IcmpError>,
    /// The place of the rule of the policy that has this written into the log.
    pub(crate) logged_by: Option<u16>,
}

impl From<DropReason> for Refusal {
    /// Nobody is told.
    fn from(reason: DropReason) -> Self {
        Self {
            reason,
            told: None,
            logged_by: None,
        }
    }
}

impl Refusal {
    pub(crate) const fn told(reason: DropReason, error: IcmpError) -> Self {
        Self {
            reason,
            told: Some(error),
            logged_by: None,
        }
    }

    /// There is no way, in the terms of ICMP. Administrative drops are silent towards the internet
    /// (decision 6).
    pub(crate) fn no_way(no_way: NoWay, interface: &Interface) -> Self {
        let told = match no_way {
            NoWay::NoRoute | NoWay::RuleUnreachable => Some(IcmpError::NoRoute),
            NoWay::RouteUnreachable => Some(IcmpError::RejectRoute),
            NoWay::Prohibited => (!interface.personality).then_some(IcmpError::Prohibited),
            NoWay::Blackhole => None,
        };
        Self {
            reason: no_way.reason(),
            told,
            logged_by: None,
        }
    }

    /// The TTL is used up.
    pub(crate) const TTL: Self = Self::told(DropReason::TtlExceeded, IcmpError::TtlExceeded);
    /// The next hop cannot be asked for.
    pub(crate) const NO_NEIGHBOR: Self = Self {
        reason: DropReason::NeighborTableFull,
        told: None,
        logged_by: None,
    };
}
