//! Metadata: guests are told by HTTP who they are, on 169.254.169.254 and fe80::a9fe:a9fe.
//!
//! | asked | told |
//! |---|---|
//! | `GET` or `HEAD` of what there is (`tree.rs`) | it |
//! | `PUT /latest/api/token` | a token, which nobody has to show |
//! | anything else | 400, 403, 404, 405, 431 |
//!
//! Which guest asks, `path::metadata` has found out; its connections are in `state::metadata`.

mod tree;

use std::sync::Arc;

use crate::base::counters::Counters;
use crate::model::interface::Interface;
use crate::model::owners::Guest;
use crate::model::snapshot::Snapshot;
use crate::model::trace::Trace;
use crate::state::context::Context;
use crate::state::egress;
use crate::state::metadata::{Asker, BUFFER, Heard, Reply};
use crate::wire::http::{self, Method, Request, Status, request};
use tree::{About, find};

/// Where a token is had (EC2's instance metadata service, version 2).
const TOKEN: &str = "/latest/api/token";
/// For how many seconds EC2 gives one at most.
const LONGEST_TOKEN: u32 = 21_600;

/// Goes on with the connections of the next guest that has any to go on with. Whether there was one.
pub(crate) fn poll<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    let Some((number, mut endpoint)) = ctx.router.metadata.pop(ctx.now) else {
        return false;
    };
    let found = endpoint
        .asker()
        .and_then(|asker| whereabouts(ctx.snapshot, asker));
    let Some((asker, guest, network)) = found else {
        ctx.router.metadata.end(number);
        return true;
    };
    let about = About::new(ctx.snapshot, (guest, network), asker.station.0);
    let counters = &mut ctx.shard.counters;
    let late = endpoint.converse(ctx.now, |bytes| match &about {
        Some(about) => hear(bytes, about, counters),
        None => Heard::More,
    });
    ctx.shard.counters.metadata_timeouts += late;
    for frame in endpoint.take_frames() {
        egress::send(ctx, frame, network, asker.station);
    }
    ctx.router.metadata.put(number, endpoint, ctx.now);
    true
}

/// The guest that asks and its network, if it is still where it was when it asked.
fn whereabouts(snapshot: &Snapshot, asker: Asker) -> Option<(Asker, &Guest, &Interface)> {
    let guest = snapshot.owners().named(snapshot.guest_name(asker.guest))?;
    let network = snapshot.interface(asker.network)?;
    let is_there = guest.port == asker.station.1
        && guest.network == asker.network
        && network.services.metadata
        && guest.mac.is_none_or(|mac| mac == asker.station.0);
    is_there.then_some((asker, guest, network))
}

/// What is said to a request, as far as it came.
fn hear(bytes: &[u8], about: &About<'_>, counters: &mut Counters) -> Heard {
    let reply = match request(bytes) {
        Ok(None) if bytes.len() < BUFFER => return Heard::More,
        Ok(None) => Err((Status::HeadTooLarge, &[][..])),
        Ok(Some(request)) => answer(&request, about),
        Err(status) => Err((status, &[][..])),
    };
    Heard::Say(match reply {
        Ok(reply) => {
            counters.metadata_answers += 1;
            reply
        }
        Err((status, fields)) => {
            counters.metadata_refusals += 1;
            let content = Arc::from(format!("{}\n", status.text()).into_bytes());
            reply_of(status, content, fields)
        }
    })
}

type Refusal = (Status, &'static [(&'static str, &'static str)]);

fn answer(request: &Request<'_>, about: &About<'_>) -> Result<Reply, Refusal> {
    let is_token = request.path == TOKEN;
    match request.method {
        Method::Put if is_token => token(request),
        Method::Get | Method::Head if !is_token => {
            let content = find(request.path, about).ok_or((Status::NotFound, &[][..]))?;
            let mut reply = reply_of(Status::Ok, content, &[]);
            if request.method == Method::Head {
                reply.content = Arc::from([]);
            }
            Ok(reply)
        }
        _ if is_token => Err((Status::MethodNotAllowed, &[("Allow", "PUT")])),
        _ => Err((Status::MethodNotAllowed, &[("Allow", "GET, HEAD")])),
    }
}

/// A token, which SDKs and cloud-init want before they ask for anything. It need not be shown: a guest
/// is known by its port. A proxy gets none, as on EC2: it would give it to others.
fn token(request: &Request<'_>) -> Result<Reply, Refusal> {
    if request.is_forwarded {
        return Err((Status::Forbidden, &[]));
    }
    let seconds = request
        .token_seconds
        .and_then(|seconds| seconds.parse().ok());
    match seconds {
        Some(seconds @ 1..=LONGEST_TOKEN) => {
            let field = (
                "X-aws-ec2-metadata-token-ttl-seconds",
                &*seconds.to_string(),
            );
            Ok(reply_of(
                Status::Ok,
                Arc::from(*b"any-token-will-do"),
                &[field],
            ))
        }
        _ => Err((Status::BadRequest, &[])),
    }
}

fn reply_of(status: Status, content: Arc<[u8]>, fields: &[(&str, &str)]) -> Reply {
    Reply {
        head: http::response(status, content.len(), fields),
        content,
    }
}
