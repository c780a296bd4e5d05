//! Where a frame of a segment came in, whose the addresses on that segment are, and where it may go.

use std::net::IpAddr;

use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::model::interface::{Arrival, Interface};
use crate::model::owners::Guest;
use crate::model::trace::{Step, Trace, Violation};
use crate::state::context::Context;
use crate::wire::frame::{Link, Verdict};

/// What becomes of a frame on a segment that guests are bridged to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Crossing<'s> {
    /// It has passed.
    Passed(Verdict),
    /// It is a packet of a flow: sessions and the policy decide.
    Packet(Arrival<'s>),
    /// It is for the router, sent to this MAC.
    Router(Link),
    /// All guests have got a copy, and the router hears it as well.
    Heard,
}

/// Where a frame came in.
pub(super) struct Place<'s> {
    pub(super) network: &'s Interface,
    /// The guest that it is from; `None`: it came in by the uplink.
    pub(super) sender: Option<&'s Guest>,
    pub(super) link: Link,
}

impl<'s> Place<'s> {
    pub(super) fn to_group(&self) -> bool {
        self.link.destination.is_group()
    }

    /// The guest of this segment that has `address`.
    pub(super) fn guest<T>(&self, ctx: &Context<'s, T>, address: IpAddr) -> Option<&'s Guest> {
        ctx.snapshot.owners().on_segment(self.network.id, address)
    }

    /// Whether it is for the router, at the MAC of the personality that has, or answers for, `address`.
    pub(super) fn router<T>(&self, ctx: &Context<'s, T>, address: IpAddr) -> Option<&'s Interface> {
        ctx.snapshot.answerer(self.network.bridge?, address)
    }

    /// Whoever sent the frame may say that `address` is its own: it is the guest's, and on the uplink no
    /// guest's. The unspecified one is nobody's.
    pub(super) fn owns<T: Trace>(
        &self,
        ctx: &mut Context<'s, T>,
        address: IpAddr,
        reason: DropReason,
    ) -> Result<(), DropReason> {
        let owner = self.guest(ctx, address).map(|guest| guest.id);
        match self.sender {
            _ if address.is_unspecified() => Ok(()),
            None if owner.is_some() => Err(DropReason::InsideSource),
            Some(sender) if owner != Some(sender.id) => {
                ctx.trace
                    .step(|| Step::Violation(Violation::Address(address)));
                Err(reason)
            }
            _ => Ok(()),
        }
    }
}

/// The uplink, for a frame to `to` that came in by `ingress`: not back where it came from, and not to a
/// MAC that is on this side.
pub(super) fn uplink<T>(
    ctx: &Context<'_, T>,
    network: &Interface,
    to: MacAddr,
    ingress: PortId,
) -> Result<PortId, DropReason> {
    let segment = network.bridge.ok_or(DropReason::EgressGuard)?;
    let is_here = ctx.snapshot.owners().bridged(network.id, to).is_some();
    if segment.uplink == ingress || is_here {
        return Err(DropReason::WrongPersonality);
    }
    Ok(segment.uplink)
}
