//! How long single calls take while a table fills with four million sessions, when it is full, and when
//! it empties: the longest of each kind, by the thread's own CPU time.
//!
//! Everything is done [`ROUNDS`] times in the same way, and of each call the least counts. So what a
//! machine that does other things adds to some of them does not count, and what they always take does.

use std::time::Duration;

use serde::Serialize;
use tapgate_benches::{NEW_FLOWS, Router, UDP_FRAME, write_new_udp, write_udp};
use tapgate_engine::frame::Verdict;
use tapgate_engine::snapshot::Snapshot;

use crate::table::cpu;

const ROUNDS: usize = 3;
/// Packets of sessions that are there, and flows that are one too many.
const SOME: u32 = 200_000;
/// When all sessions have expired.
const LATER: Duration = Duration::from_secs(3_600);

/// The calls of one kind.
#[derive(Debug, Serialize)]
pub struct Row {
    pub setup: &'static str,
    pub calls: &'static str,
    pub number: usize,
    pub mean_us: f64,
    pub longest_us: f64,
    /// How many sessions there were before the longest.
    pub fill: usize,
}

/// A kind of flow by its name, and the router that is filled with so many.
type Setup = (&'static str, fn(u32) -> Router);

/// What is measured, with the router that it is measured in.
const SETUPS: [Setup; 3] = [
    ("plain", Router::new),
    ("endpoint-dependent mapping", Router::endpoint_dependent),
    ("a rule with `connections`", Router::counting),
];

/// One call: what it took, in nanoseconds, and how many sessions there were before it.
type Call = (u32, u32);

/// The calls of each kind, in order.
#[derive(Default)]
struct Log(Vec<(&'static str, Vec<Call>)>);

/// Fills, uses and empties a router with room for `sessions`.
pub fn measure(sessions: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    for (setup, made) in SETUPS {
        let mut least = Log::default();
        for _ in 0..ROUNDS {
            let mut log = Log::default();
            round(&mut made(sessions), sessions, &mut log);
            least.merge(log);
        }
        rows.extend(
            least
                .0
                .into_iter()
                .map(|(calls, list)| row(setup, calls, &list)),
        );
    }
    rows
}

fn round(router: &mut Router, sessions: u32, log: &mut Log) {
    let mut bytes = [0; UDP_FRAME];
    for flow in 0..sessions {
        write_udp(&mut bytes, flow);
        if log.time("a new flow", router, |router| router.from_guest(&mut bytes)) == Verdict::Hold {
            router.resolve_next_hops();
            write_udp(&mut bytes, flow);
            router.from_guest(&mut bytes);
        }
    }
    let known = |flow: u32| flow.wrapping_mul(0x9e37_79b1) % sessions;
    for flow in 0..SOME {
        write_udp(&mut bytes, known(flow));
        log.time("a packet, table full", router, |router| {
            router.from_guest(&mut bytes)
        });
    }
    for flow in 0..SOME.min(NEW_FLOWS) {
        write_new_udp(&mut bytes, flow);
        log.time("a new flow, table full", router, |router| {
            router.from_guest(&mut bytes)
        });
    }
    router.discard_outbox();
    polls(router, "a poll, nothing expires", 5, log);
    let next = Snapshot::build(router.snapshot.config(), Some(&router.snapshot));
    log.time("adoption", router, |router| {
        router.engine.adopt(&next, router.now)
    });
    router.snapshot = next;
    for flow in 0..SOME {
        // The last ones: the first have made room.
        write_udp(&mut bytes, sessions - 1 - flow);
        log.time("a packet after it", router, |router| {
            router.from_guest(&mut bytes)
        });
    }
    polls(router, "a poll after it", 20, log);
    router.now = router.now + LATER;
    polls(router, "a poll, all expire", 60, log);
    assert!(
        router.engine.shard.next_deadline().is_none(),
        "all have expired"
    );
}

/// What becomes due in so many seconds.
fn polls(router: &mut Router, calls: &'static str, seconds: u64, log: &mut Log) {
    let end = router.now + Duration::from_secs(seconds);
    // Sweeping is due as long as there are sessions.
    while let Some(due) = router
        .engine
        .shard
        .next_deadline()
        .filter(|due| *due <= end)
    {
        router.now = router.now.max(due);
        log.time(calls, router, |router| {
            router.engine.poll(&router.snapshot, router.now);
            router.engine.drain(&router.snapshot, router.now, |_, _| {});
        });
    }
}

impl Log {
    fn time<R>(
        &mut self,
        calls: &'static str,
        router: &mut Router,
        call: impl FnOnce(&mut Router) -> R,
    ) -> R {
        let fill = router.engine.shard.sessions() as u32;
        let began = cpu();
        let result = call(router);
        let took = (cpu() - began).as_nanos() as u32;
        if self.0.last().is_none_or(|(last, _)| *last != calls) {
            self.0.push((calls, Vec::new()));
        }
        if let Some((_, list)) = self.0.last_mut() {
            list.push((took, fill));
        }
        result
    }

    /// Of each call the one that took less.
    fn merge(&mut self, other: Self) {
        if self.0.is_empty() {
            *self = other;
            return;
        }
        for ((calls, list), (same, others)) in self.0.iter_mut().zip(other.0) {
            assert_eq!(
                (*calls, list.len()),
                (same, others.len()),
                "the rounds are alike"
            );
            for (call, other) in list.iter_mut().zip(others) {
                *call = (*call).min(other);
            }
        }
    }
}

fn row(setup: &'static str, calls: &'static str, list: &[Call]) -> Row {
    let (longest, fill) = list.iter().copied().max().unwrap_or_default();
    let all: u64 = list.iter().map(|(took, _)| u64::from(*took)).sum();
    Row {
        setup,
        calls,
        number: list.len(),
        mean_us: all as f64 / list.len() as f64 / 1e3,
        longest_us: f64::from(longest) / 1e3,
        fill: fill as usize,
    }
}
