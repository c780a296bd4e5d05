//! Virtual addresses: what guests say of those that they list.

use std::net::IpAddr;

use crate::base::drops::DropReason;
use crate::model::owners::Guest;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::state::virtuals::Said;
use crate::wire::frame::Link;

/// The guest that a frame is from, if it may have the virtual address.
fn member(snapshot: &Snapshot, address: IpAddr, link: Link) -> Option<&Guest> {
    let sends =
        |guest: &&Guest| guest.port == link.port && guest.mac.is_none_or(|mac| mac == link.source);
    snapshot.owners().members(address).find(sends)
}

/// Somebody says that `address` is its own; `announced`: to everybody, and unasked. Whether it has it from
/// the next snapshot on by that.
///
/// # Errors
/// It has taken over too much lately.
pub(crate) fn heard<T: Trace>(
    ctx: &mut Context<'_, T>,
    address: IpAddr,
    link: Link,
    announced: bool,
) -> Result<bool, DropReason> {
    let snapshot = ctx.snapshot;
    let Some(guest) = member(snapshot, address, link) else {
        return Ok(false);
    };
    let Some(holder) = snapshot.owners().owner(address) else {
        return Ok(false);
    };
    let numbers = (holder.number, guest.number);
    match ctx
        .router
        .virtuals
        .heard(address, numbers, announced, ctx.now)
    {
        Said::Nothing => Ok(false),
        Said::Taken => {
            let guest = guest.id;
            ctx.trace.step(|| Step::TakesOver { address, guest });
            Ok(true)
        }
        Said::TooOften => Err(DropReason::TakenOverTooOften),
    }
}

/// A guest that probes for a virtual address which it may have must not find it taken.
pub(crate) fn probed(snapshot: &Snapshot, address: IpAddr, link: Link) -> Result<(), DropReason> {
    match member(snapshot, address, link) {
        Some(_) => Err(DropReason::AskedByOwner),
        None => Ok(()),
    }
}
