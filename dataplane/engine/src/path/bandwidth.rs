//! How fast guests send and are sent to. What is beyond that is dropped, as by `tc … police`.

use std::net::IpAddr;

use crate::base::bucket::Bucket;
use crate::base::drops::DropReason;
use crate::base::time::Instant;
use crate::config::BitRate;
use crate::model::interface::Interface;
use crate::state::context::Context;
use crate::state::payer::Payer;

/// Bytes that pass at once, whatever the speed: a super-frame.
const AT_LEAST: u64 = 64 << 10;
/// What passes at once, as parts of what passes in a second: 200 ms. That long TCP is silent when all of a
/// super-frame was lost, and what it misses then it must be able to make up for.
const BURST: u64 = 5;
/// The place of what guests send, and of what they are sent, in `Shard::bandwidth`.
const OUT: usize = 0;
const INTO: usize = 1;

/// Takes a packet of `length` bytes of the bandwidth of the guests that it is from and to, which their
/// addresses tell, inside.
///
/// # Errors
/// It is beyond that of one, and the other's is left alone.
#[cold]
#[inline(never)]
pub(crate) fn take<T>(
    ctx: &mut Context<'_, T>,
    (ingress, egress): (&Interface, &Interface),
    (source, destination): (IpAddr, IpAddr),
    length: usize,
) -> Result<(), DropReason> {
    let from = ctx.snapshot.sender(ingress, source);
    let to = ctx.snapshot.sender(egress, destination);
    let out = from.and_then(|guest| Some((guest.number, guest.bandwidth.out?)));
    let into = to.and_then(|guest| Some((guest.number, guest.bandwidth.into?)));
    let now = ctx.now;
    if let Some((number, rate)) = out
        && !fits(
            ctx.shard.bandwidth[OUT].of(number.into()),
            rate,
            length,
            now,
        )
    {
        return Err(beyond(ctx, Payer::By(number)));
    }
    if let Some((number, rate)) = into
        && !fits(
            ctx.shard.bandwidth[INTO].of(number.into()),
            rate,
            length,
            now,
        )
    {
        if let Some((number, _)) = out {
            let out = ctx.shard.bandwidth[OUT].of(number.into());
            out.give_back(length as u64);
        }
        return Err(beyond(ctx, Payer::To(number)));
    }
    Ok(())
}

fn fits(bucket: &mut Bucket, rate: BitRate, length: usize, now: Instant) -> bool {
    let holds = (rate.bytes() / BURST).max(AT_LEAST);
    bucket.take_some(length as u64, (rate.bytes(), holds), now)
}

fn beyond<T>(ctx: &mut Context<'_, T>, payer: Payer) -> DropReason {
    ctx.shard
        .refused
        .count_silently(payer, DropReason::GuestBandwidth);
    DropReason::GuestBandwidth
}
