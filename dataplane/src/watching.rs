//! What the forwarding thread does for who watches packets (`watch.rs`).
//!
//! Without a watcher it costs a batch one look. With one, each frame is parsed once more, and of those that
//! match at most [`RATE`] a second are traced, as long as the watcher takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
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

use crate::port::Ports;

/// Packets that are traced in a second,
pub(crate) const RATE: u64 = 100;
/// and at once.
pub(crate) const BURST: u64 = 16;
/// Traces that wait to be fetched.
pub(crate) const ROOM: usize = 64;

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
pub struct Traced {
    /// As it came in.
    pub seen: Seen,
    /// Every decision about it.
    pub steps: Steps,
    /// The end.
    pub verdict: Verdict,
    /// What gives names to numbers in them.
    pub snapshot: Arc<Snapshot>,
}

/// What the forwarding thread tells who watches.
#[derive(Debug)]
pub struct Told {
    /// Packets as they pass.
    pub traces: Receiver<Traced>,
    /// Packets that matched and were not traced.
    pub missed: Arc<AtomicU64>,
}

impl Watching {
    /// Nothing was seen yet of what `watcher` asks for.
    pub fn new(watcher: u64, pattern: Pattern) -> (Self, Told) {
        let (sender, traces) = bounded(ROOM);
        let missed = Arc::<AtomicU64>::default();
        let watching = Self {
            watcher,
            pattern,
            bucket: Bucket::default(),
            traces: sender,
            missed: Arc::clone(&missed),
            is_over: false,
        };
        (watching, Told { traces, missed })
    }

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
