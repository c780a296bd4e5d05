//! ARP: answers for own and guests' addresses, and what is learnt from others (RFC 826).

use std::net::IpAddr;

use super::answers::{self, Answer};
use super::claims::{claiming, conflict, count_objection, not_ours};
use super::virtuals;
use crate::base::addr::MacAddr;
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::trace::{Step, Trace, Whose};
use crate::path::admit;
use crate::state::context::Context;
use crate::state::egress;
use crate::wire::arp::{Arp, FRAME};
use crate::wire::frame::{Frame, Link, Offload, OwnedFrame, Verdict};

/// An ARP packet. Not a part of `process`, whose registers forwarding needs.
#[inline(never)]
pub(crate) fn receive<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    link: Link,
) -> Result<Verdict, DropReason> {
    let arp = Arp::parse(frame.bytes)?;
    check(ctx, &arp, link)?;
    let (sender, target) = (arp.sender.into(), arp.target.into());
    if virtuals::heard(ctx, sender, link, sender == target)? {
        return Ok(Verdict::Consumed);
    }
    if arp.sender.is_unspecified() {
        virtuals::probed(ctx.snapshot, target, link)?;
    }
    admit(ctx, &arp, link)?;
    let nobody = match arp.sender == arp.target || arp.reply {
        true => DropReason::ArpUnsolicited,
        false => DropReason::ArpNotForUs,
    };
    let to_us = ctx
        .snapshot
        .hearing(link)
        .find(|interface| interface.owns(arp.target.into()));
    learn(ctx, &arp, link, to_us);
    if arp.reply {
        return to_us.map(|_| Verdict::Consumed).ok_or(nobody);
    }
    let (interface, whose, delay) = match answers::answer_for(ctx, arp.target.into(), link, nobody)
    {
        Answer::Own(interface) => (interface, Whose::Ours, None),
        Answer::Proxied(interface) => (interface, Whose::Anothers, answers::proxy_delay(ctx, link)),
        Answer::Wait(id) => {
            let copy = OwnedFrame::from(&*frame);
            return Ok(egress::hold(ctx, copy, Some(link.port), id));
        }
        Answer::Silence(reason) => return Err(reason),
    };
    count_objection(ctx, interface, (sender, target), link);
    answers::may_answer(ctx, link.port)?;
    ctx.trace.step(|| Step::ArpAnswered {
        sender,
        target,
        whose,
    });
    frame.truncate(FRAME);
    frame.offload = Offload::default(); // the answer is ours
    arp.answered_by(interface.mac).write(frame.bytes);
    ctx.shard.counters.arp_requests_answered += 1;
    if let Some(longest) = delay {
        let begin = ctx.shard.outbox.len();
        egress::send(ctx, OwnedFrame::from(&*frame), interface, link.station());
        answers::delay(ctx, begin, longest);
        return Ok(Verdict::Consumed);
    }
    egress::emit(ctx, frame, interface, link.station())
}

/// What every ARP packet must satisfy.
fn check<T: Trace>(ctx: &mut Context<'_, T>, arp: &Arp, link: Link) -> Result<(), DropReason> {
    let snapshot = ctx.snapshot;
    if snapshot.is_own(link) {
        return Err(DropReason::OwnFrame);
    }
    // A06: the sender must be who sent the frame, one station, and not one of us.
    if arp.sender_mac != link.source || !arp.sender_mac.is_unicast() {
        return Err(DropReason::ArpSenderMismatch);
    }
    if link.destination != MacAddr::BROADCAST
        && snapshot
            .wearer(link.port, link.vlan, link.destination)
            .is_none()
    {
        return Err(DropReason::UnknownMac);
    }
    not_ours(ctx, arp.sender.into(), link, DropReason::ArpSenderIsUs)
}

/// What a guest must not say, and what nobody must about what we are claiming.
fn admit<T: Trace>(ctx: &mut Context<'_, T>, arp: &Arp, link: Link) -> Result<(), DropReason> {
    let snapshot = ctx.snapshot;
    if let Some(network) = snapshot.network_on(link.port) {
        let (place, reason) = ((link.port, network), DropReason::SpoofedArp);
        admit::speaker(ctx, place, arp.sender, reason)?;
    }
    // Somebody else wants what we are claiming (RFC 5227 §2.1.1; A04).
    if arp.sender.is_unspecified()
        && let Some(interface) = claiming(snapshot, ctx.router, arp.target.into(), link)
    {
        let (target, reason) = (arp.target.into(), DropReason::ArpSenderIsUs);
        return Err(conflict(ctx, interface, target, link, reason));
    }
    Ok(())
}

/// RFC 826's merge (A02): a known sender is updated whatever it says; an unknown one is remembered
/// only if it speaks to us and is on the link. Other senders are answered but never learnt from
/// (A06), and neither is 0.0.0.0, a probe's sender (A03).
fn learn<T: Trace>(ctx: &mut Context<'_, T>, arp: &Arp, link: Link, asked: Option<&Interface>) {
    let sender = IpAddr::V4(arp.sender);
    let (from, snapshot, now) = (link.station(), ctx.snapshot, ctx.now);
    if arp.sender.is_unspecified() {
        return;
    }
    for interface in snapshot.on_port(link.port, link.vlan) {
        let to_it = asked.is_some_and(|asked| asked.id == interface.id);
        let neighbors = &mut ctx.router.neighbors;
        let released = if arp.reply && to_it && link.destination == interface.mac {
            neighbors.confirm(interface.id, sender, from, now)
        } else if to_it && !arp.reply && snapshot.may_be_learnt(interface, link.port, sender) {
            neighbors.learn(interface.id, sender, from, now)
        } else {
            neighbors.hear(interface.id, sender, from, now).0
        };
        egress::release(ctx, released, interface, from);
    }
}
