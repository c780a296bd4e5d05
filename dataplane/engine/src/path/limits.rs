//! Whether a flow that is allowed may be opened now: what its rule lets through, and how much its opener
//! may open.
//!
//! Asked for a first packet only, and not by `judge`: a flow that runs is not ended for what others do,
//! nor by a reload.

use super::judge::Plan;
use super::query::Refusal;
use crate::base::drops::DropReason;
use crate::config::policy::RuleLimits;
use crate::model::interface::{Arrival, Interface};
use crate::state::context::Context;
use crate::state::shard::Tracked;
use crate::wire::error::IcmpError;
use crate::wire::packet::TCP;

/// Whether a guest may turn to the plan's destination. Asked before its next hop is: a scan of a link is
/// one as well.
#[inline(always)]
pub(crate) fn turn<A: Tracked, T>(
    ctx: &mut Context<'_, T>,
    arrival: Arrival<'_>,
    plan: &Plan<'_, A>,
) -> Result<(), DropReason> {
    let (who, to) = (plan.payer.index(), plan.to.destination.into());
    let most = plan.limits.destinations();
    let destinations = &mut ctx.shard.destinations;
    match arrival.interface.is_outside(arrival.port) || destinations.admit(who, to, most, ctx.now) {
        true => Ok(()),
        false => Err(DropReason::GuestDestinations),
    }
}

/// Whether a flow may be opened as planned.
#[inline(always)]
pub(crate) fn admit<A: Tracked, T>(
    ctx: &mut Context<'_, T>,
    arrival: Arrival<'_>,
    plan: &Plan<'_, A>,
) -> Result<(), DropReason> {
    if !arrival.interface.is_outside(arrival.port) {
        let (opener, rate) = (plan.payer.index(), plan.limits.new_sessions());
        if !ctx.shard.openers.take(opener, rate, ctx.now) {
            return Err(DropReason::GuestSessionRate);
        }
        if plan.to.protocol == TCP {
            let ledger = A::flows_mut(ctx.shard).sessions.ledger_mut();
            if !ledger.may_connect(plan.payer, plan.limits.syns(), ctx.now) {
                return Err(DropReason::GuestUnansweredSyns);
            }
        }
    }
    match plan.rule.and_then(|rule| rule.limits) {
        Some(limits) => by_rule(ctx, plan, limits),
        None => Ok(()),
    }
}

/// What becomes of a packet that is beyond a limit: a guest is told, a stranger is not.
#[cold]
pub(crate) fn beyond<A, T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    plan: &Plan<'_, A>,
    reason: DropReason,
) -> Refusal {
    ctx.shard.refused.count(plan.payer, reason, ctx.now);
    Refusal {
        reason,
        told: (!interface.personality).then_some(IcmpError::Prohibited),
        logged_by: None,
    }
}

/// Whether the rule that lets it pass lets one more pass.
#[cold]
fn by_rule<A: Tracked, T>(
    ctx: &mut Context<'_, T>,
    plan: &Plan<'_, A>,
    limits: RuleLimits,
) -> Result<(), DropReason> {
    if let Some(most) = limits.connections {
        let connections = A::flows(ctx.shard).sessions.connections();
        if connections.of(limits.rule, plan.opener()) >= most {
            return Err(DropReason::PolicyConnections);
        }
    }
    if let Some(rate) = limits.rate
        && !ctx
            .shard
            .rates
            .take((limits.rule, plan.payer), rate, ctx.now)
    {
        return Err(DropReason::PolicyRate);
    }
    Ok(())
}
