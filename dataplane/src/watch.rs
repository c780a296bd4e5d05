//! `tapgate explain --watch`: the forwarding thread notes what it decides about packets that somebody waits
//! to see.
//!
//! One watches at a time. Without one it costs a batch one look. With one, each frame is parsed once more,
//! and of those that match at most [`RATE`] a second are traced, as long as the watcher takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tapgate_engine::Engine;
use tapgate_engine::addr::PortId;
use tapgate_engine::base::bucket::Bucket;
use tapgate_engine::explain::{Pattern, Seen};
use tapgate_engine::frame::{Frame, Verdict};
use tapgate_engine::model::trace::Steps;
use tapgate_engine::process;
use tapgate_engine::run::{drain_by, process_traced};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::state::router::Router;
use tapgate_engine::state::shard::Shard;
use tapgate_engine::time::Instant;
use tapgate_protocol::{WatchQuery, Watched};

use crate::dataplane::Dataplane;
use crate::explain::{UNCONFIGURED, explanation};
use crate::port::Ports;
use crate::show::ENDED;
use crate::worker::Caller;

/// Packets that are traced in a second,
const RATE: u64 = 100;
/// and at once.
const BURST: u64 = 16;
/// Traces that wait to be fetched.
const ROOM: usize = 64;
/// How long at most a question waits for a packet, so that who asked and is gone is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What the forwarding thread knows of who watches.
#[derive(Debug)]
pub struct Watching {
    watcher: u64,
    pattern: Pattern,
    bucket: Bucket,
    traces: Sender<Traced>,
    missed: Arc<AtomicU64>,
    is_over: bool,
}

/// A packet, and what became of it.
#[derive(Debug)]
struct Traced {
    seen: Seen,
    steps: Steps,
    verdict: Verdict,
    snapshot: Arc<Snapshot>,
}

/// Somebody watches; until this is dropped.
#[derive(Debug)]
pub struct Watch {
    watcher: u64,
    query: WatchQuery,
    caller: Caller,
    traces: Receiver<Traced>,
    missed: Arc<AtomicU64>,
}

impl Watching {
    /// Who watches.
    pub fn watcher(&self) -> u64 {
        self.watcher
    }

    /// Nobody fetches the traces any more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Routes a batch.
    #[cold]
    pub fn batch(
        &mut self,
        (frames, outputs): (&mut [Frame<'_>], &mut [Option<PortId>]),
        port: PortId,
        snapshot: &Arc<Snapshot>,
        (router, shard): (&mut Router, &mut Shard),
        now: Instant,
    ) {
        for (frame, output) in frames.iter_mut().zip(outputs) {
            let both = (&mut *router, &mut *shard);
            if let Verdict::Emit(to) = self.route(frame, port, snapshot, both, now) {
                *output = Some(to);
            }
        }
    }

    /// Sends what waits to be sent, packets that waited for their next hop among it.
    #[cold]
    pub fn drain(
        &mut self,
        engine: &mut Engine,
        ports: &mut Ports,
        snapshot: &Arc<Snapshot>,
        now: Instant,
    ) {
        let route = |frame: &mut Frame<'_>, origin, both: (&mut Router, &mut Shard)| {
            self.route(frame, origin, snapshot, both, now)
        };
        let both = (&mut engine.router, &mut engine.shard);
        drain_by(snapshot, both, now, route, |port, frame| {
            ports.send(port, frame);
        });
    }

    fn route(
        &mut self,
        frame: &mut Frame<'_>,
        port: PortId,
        snapshot: &Arc<Snapshot>,
        both: (&mut Router, &mut Shard),
        now: Instant,
    ) -> Verdict {
        let Some(seen) = self.pattern.seen(frame, port) else {
            return process(frame, port, snapshot, both, now);
        };
        if self.traces.is_full() || !self.bucket.take_some(1, (RATE, BURST), now) {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return process(frame, port, snapshot, both, now);
        }
        let (steps, verdict) = process_traced(frame, port, snapshot, both, now);
        let traced = Traced {
            seen,
            steps,
            verdict,
            snapshot: Arc::clone(snapshot),
        };
        if let Err(TrySendError::Disconnected(_)) = self.traces.try_send(traced) {
            self.is_over = true;
        }
        verdict
    }
}

impl Dataplane {
    /// Begins to watch, in the place of whoever did so far.
    ///
    /// # Errors
    /// Nothing is configured, or there is no such port.
    pub fn watch(&self, query: WatchQuery) -> Result<Watch, String> {
        static WATCHERS: AtomicU64 = AtomicU64::new(0);
        let state = self.state();
        let running = state.running.as_ref().ok_or(UNCONFIGURED)?;
        let snapshot = running.snapshots.load();
        let port = |name: &String| {
            let found = snapshot.port_id(name);
            found.ok_or_else(|| format!("there is no port \"{name}\""))
        };
        let pattern = Pattern {
            port: query.port.as_ref().map(port).transpose()?,
            from: query.from,
            to: query.to,
            protocol: query.protocol,
            source_port: query.source_port,
            destination_port: query.destination_port,
        };
        let caller = running.worker.caller();
        drop(state);
        let watcher = WATCHERS.fetch_add(1, Ordering::Relaxed);
        let (sender, traces) = bounded(ROOM);
        let missed = Arc::<AtomicU64>::default();
        let watching = Watching {
            watcher,
            pattern,
            bucket: Bucket::default(),
            traces: sender,
            missed: Arc::clone(&missed),
            is_over: false,
        };
        let begun = caller.ask(move |worker| worker.watch_packets(watching));
        begun.ok_or(ENDED)?;
        Ok(Watch {
            watcher,
            query,
            caller,
            traces,
            missed,
        })
    }
}

impl Watch {
    /// What is watched for.
    pub fn query(&self) -> &WatchQuery {
        &self.query
    }

    /// The packets that were seen since this was asked last, and how many matched and were not traced. Waits
    /// for one, at most as long as `wait` and half a second.
    ///
    /// # Errors
    /// Somebody else watches now, or the forwarding thread has ended.
    pub fn seen(&self, wait: Duration) -> Result<(Vec<Watched>, u64), String> {
        let first = match self.traces.recv_timeout(wait.min(LONGEST_WAIT)) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                return Err("somebody else watches now, or the dataplane ends".to_owned());
            }
        };
        let all = first.into_iter().chain(self.traces.try_iter().take(ROOM));
        let packets = all.map(|traced| traced.told()).collect();
        Ok((packets, self.missed.swap(0, Ordering::Relaxed)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watcher = self.watcher;
        self.caller
            .ask(move |worker| worker.unwatch_packets(watcher));
    }
}

impl Traced {
    fn told(&self) -> Watched {
        let Seen {
            port,
            from,
            to,
            protocol,
            source_port,
            destination_port,
            length,
        } = self.seen;
        Watched {
            port: self.snapshot.port_name(port).to_owned(),
            from,
            to,
            protocol,
            source_port,
            destination_port,
            length: length as u64,
            explanation: explanation(&self.steps, self.verdict, &self.snapshot),
        }
    }
}

#[cfg(test)]
mod tests;
