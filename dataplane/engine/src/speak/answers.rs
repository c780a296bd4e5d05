//! Who is answered, by ARP and neighbour discovery alike, about which address.
//!
//! For an address that guest G behind port P owns:
//!
//! | asked by | probe (DAD, ACD) | any other request, unicast or not |
//! |---|---|---|
//! | P itself, whatever the MAC | silent: G must not find its own address taken | silent |
//! | another guest's port | defended, with the network gateway's MAC | the gateway's MAC |
//! | the uplink of G's personality, a public address | defended, with the personality's MAC | the personality's MAC |
//! | any other uplink or VLAN, or an inside address | silent | silent |
//!
//! A guest that asks for a personality's gateway, which it cannot reach itself, is answered, and its
//! probe defended, with the network gateway's MAC: a guest that was set up for a bridge needs no
//! change. On an uplink the gateway answers for itself.
//!
//! A frame from a MAC that is not G's is dropped at P before this is asked (`path::admit`). When a
//! new configuration moves G, its new port is P. Own addresses are answered for wherever they are,
//! once they are claimed (`state::claims`); those shared with the host's kernel never, since it
//! answers.

use std::net::IpAddr;

use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::trace::{Step, Trace};
use crate::state::context::Context;
use crate::state::egress;
use crate::state::neighbor::{NeighborId, Resolution};
use crate::state::shard::Output;
use crate::wire::frame::Link;

/// What is said to a request for an address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'s> {
    /// It is this interface's own.
    Own(&'s Interface),
    /// This interface answers on behalf of a guest.
    Proxied(&'s Interface),
    /// A network is being asked whether it is alive there; the request waits for the answer.
    Wait(NeighborId),
    /// Nothing, and why not.
    Silence(DropReason),
}

/// What is said to a request for `target`. `nobody`: the reason for silence about an address that
/// we do not answer for.
pub(crate) fn answer_for<'s, T: Trace>(
    ctx: &mut Context<'s, T>,
    target: IpAddr,
    link: Link,
    nobody: DropReason,
) -> Answer<'s> {
    let snapshot = ctx.snapshot;
    let mut hearing = snapshot.hearing(link);
    if let Some(interface) = hearing.clone().find(|interface| interface.owns(target)) {
        return if interface.shared.is_some() {
            Answer::Silence(DropReason::LeftToHost)
        } else if !ctx.router.claims.is_ours(interface.id, target) {
            Answer::Silence(DropReason::AddressTentative)
        } else {
            Answer::Own(interface)
        };
    }
    if let Some((owned, _)) = snapshot.owners().find(target) {
        let guest = snapshot.owners().guest(owned.guest);
        if guest.port == link.port {
            return Answer::Silence(DropReason::AskedByOwner);
        }
        let answers = |interface: &&Interface| match interface.personality {
            true => owned.public && guest.personality == Some(interface.id),
            false => true,
        };
        return match hearing.find(answers) {
            Some(interface) => {
                let guest = guest.id;
                ctx.trace.step(|| Step::AskedForGuest { target, guest });
                Answer::Proxied(interface)
            }
            None => Answer::Silence(nobody),
        };
    }
    if snapshot.is_gateway(target)
        && let Some(interface) = hearing.clone().find(|interface| !interface.personality)
    {
        ctx.trace.step(|| Step::AskedForGateway { target });
        return Answer::Proxied(interface);
    }
    for interface in hearing {
        let Some(network) = snapshot.owners().alive_behind(target, interface.id) else {
            continue;
        };
        let neighbors = &mut ctx.router.neighbors;
        return match neighbors.resolve(network, target, Some(link.port), ctx.now) {
            Resolution::Known(..) => Answer::Proxied(interface),
            Resolution::Pending(id) => Answer::Wait(id),
            Resolution::Full => Answer::Silence(DropReason::NeighborTableFull),
        };
    }
    Answer::Silence(nobody)
}

/// Remembers the MAC of who asked, if it is on the link: packets to it are likely to follow.
pub(crate) fn learn<T: Trace>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    asker: IpAddr,
    station: (MacAddr, PortId),
) {
    if ctx.snapshot.may_be_learnt(interface, station.1, asker) {
        let neighbors = &mut ctx.router.neighbors;
        let held = neighbors.learn(interface.id, asker, station, ctx.now);
        egress::release(ctx, held, interface, station);
    }
}

/// The longest time, in milliseconds, by which an answer on behalf of a guest is delayed. `None`:
/// it is not, because the request was sent to us alone, and no other proxy can have heard it.
pub(crate) fn proxy_delay<T>(ctx: &Context<'_, T>, link: Link) -> Option<u32> {
    let longest = ctx.snapshot.config().router().proxy_delay;
    (longest > 0 && link.destination.is_group()).then_some(longest)
}

/// Keeps the answers that were just put into the outbox, from `from` on, for a random time.
pub(crate) fn delay<T>(ctx: &mut Context<'_, T>, from: usize, longest: u32) {
    for Output { port, frame } in ctx.shard.outbox.drain(from..) {
        if !ctx.router.delayed.keep(port, frame, longest, ctx.now) {
            ctx.shard.drops.add(DropReason::AnswerLimited, 1);
        }
    }
}

/// Sends the answers whose time has come.
pub(crate) fn poll<T>(ctx: &mut Context<'_, T>) {
    while let Some((port, frame)) = ctx.router.delayed.poll(ctx.now) {
        ctx.shard.outbox.push(Output { port, frame });
    }
}

/// Whether the port may be answered once more. Uplinks always may.
pub(crate) fn may_answer<T>(ctx: &mut Context<'_, T>, port: PortId) -> Result<(), DropReason> {
    if ctx.snapshot.is_uplink(port) {
        return Ok(());
    }
    let rate = ctx.snapshot.config().router().answers_per_second;
    match ctx.router.answered.take(port.index(), rate, ctx.now) {
        true => Ok(()),
        false => Err(DropReason::AnswerLimited),
    }
}
