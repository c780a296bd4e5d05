//! What one frame costs in `tapgate_engine::process`, in nanoseconds, and one session in bytes.
//!
//! Frames are written anew before each group of [`GROUP`], outside the time measured, because the
//! router rewrites them in place; the clock is read twice per group. "warm" is the way the worker
//! does it: what the sessions of a batch need is brought into the cache before the first frame.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use tapgate_benches::{
    BATCH, GUESTS, NEW_FLOWS, PERSONALITIES, Router, TCP_SUPER_FRAME, UDP_FRAME, UDP6_FRAME,
    random, turn_around, write_malformed, write_new_udp, write_tcp, write_udp, write_udp6,
    write_without_route, write_without_translation,
};
use tapgate_engine::frame::Verdict;

/// Frames per reading of the clock.
const GROUP: usize = 4 * BATCH;
/// Frames of a sample, at least: criterion, to whom the time of making a large router is part of the
/// first, asks for one frame at a time of such.
const SAMPLE: u64 = 64 * GROUP as u64;
/// Room for sessions, at least.
const CAPACITY: u32 = 1 << 20;

fn main() {
    let mut benches = Benches {
        criterion: Criterion::default()
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .sample_size(20)
            .configure_from_args(),
        samples: Vec::new(),
    };
    drops(&mut benches);
    established(&mut benches, 1, 60.0);
    established(&mut benches, 1_000, 60.0);
    established(&mut benches, 1_000_000, 150.0);
    established(&mut benches, 4_000_000, 120.0);
    established6(&mut benches, 1, None);
    established6(&mut benches, 1_000_000, Some(150.0));
    replies(&mut benches);
    bulk(&mut benches);
    for sessions in [1_000, 1_000_000, 4_000_000] {
        let name = format!("new flow/{sessions}");
        new_flows(&mut benches, &name, sessions, Router::new);
    }
    for rules in [10, 1_000, 10_000] {
        let name = format!("new flow/1000, {rules} rules");
        let made = |room| Router::with_rules(room, rules);
        new_flows(&mut benches, &name, 1_000, made);
    }
    benches.criterion.final_summary();
    session_bytes();
}

fn established(benches: &mut Benches, sessions: u32, bar: f64) {
    let router = || {
        let mut router = Router::new(CAPACITY.max(sessions));
        router.open(sessions);
        router
    };
    let name = format!("established/{sessions}");
    at_random(
        benches,
        &name,
        Some(bar),
        router,
        (UDP_FRAME, write_udp),
        sessions,
    );
}

/// Flows of an IPv6 guest: checked where they come from, routed, not translated.
fn established6(benches: &mut Benches, sessions: u32, bar: Option<f64>) {
    let router = || {
        let mut router = Router::ipv6(CAPACITY);
        router.open6(sessions);
        router
    };
    let name = format!("established IPv6/{sessions}");
    at_random(
        benches,
        &name,
        bar,
        router,
        (UDP6_FRAME, write_udp6),
        sessions,
    );
}

/// Frames of flows `0..flows` in random order.
fn at_random(
    benches: &mut Benches,
    name: &str,
    bar: Option<f64>,
    made: impl Fn() -> Router,
    (length, write): (usize, fn(&mut [u8], u32)),
    flows: u32,
) {
    // A large one takes seconds: it is made if it is measured.
    let (mut state, mut router) = (1, None);
    // What lies in the cache needs no warming; of what does not, the bar is for the worker's way.
    let cold = bar.filter(|_| flows <= 1_000);
    for (way, warming, bar) in [("cold", Warming::None, cold), ("warm", Warming::Batch, bar)] {
        benches.measure(&format!("{name} {way}"), bar, |frames| {
            let load = Load {
                length,
                warming,
                write: |bytes: &mut [u8]| write(bytes, random(&mut state) % flows),
                process: Router::from_guest,
                expected: Router::leaves,
            };
            load.run(router.get_or_insert_with(&made), frames)
        });
    }
}

fn replies(benches: &mut Benches) {
    let mut router = Router::new(CAPACITY);
    router.open(1);
    let mut reply = [0; UDP_FRAME];
    write_udp(&mut reply, 0);
    router.from_guest(&mut reply);
    turn_around(&mut reply);
    // The first one waits for the guest's MAC.
    router.from_provider(&mut reply.clone());
    router.resolve_next_hops();
    benches.measure("established/1 reply", Some(60.0), |frames| {
        let load = Load {
            length: UDP_FRAME,
            warming: Warming::Batch,
            write: |bytes: &mut [u8]| bytes.copy_from_slice(&reply),
            process: Router::from_provider,
            expected: Router::enters,
        };
        load.run(&mut router, frames)
    });
}

/// One flow of 64 KB super-frames: the cost is the header's, whatever the length.
fn bulk(benches: &mut Benches) {
    let mut router = Router::new(CAPACITY);
    router.open(1);
    router.open_bulk();
    benches.measure("bulk super-frame", None, |frames| {
        let load = Load {
            length: TCP_SUPER_FRAME,
            warming: Warming::Batch,
            write: write_tcp,
            process: Router::bulk_from_guest,
            expected: Router::leaves,
        };
        load.run(&mut router, frames)
    });
}

/// New flows, each with an external port of its own, in a router that has `sessions`; from time to time in a
/// new one.
fn new_flows(benches: &mut Benches, name: &str, sessions: u32, made: impl Fn(u32) -> Router) {
    let fresh = || {
        let mut router = made(sessions + CAPACITY);
        router.open(sessions);
        router
    };
    let (mut state, mut opened) = (None, 0);
    benches.measure(name, Some(700.0), |frames| {
        let mut timing = Timing {
            all: Duration::ZERO,
            fastest: f64::INFINITY,
        };
        let mut left = frames;
        while left > 0 {
            if opened == NEW_FLOWS {
                // The old one's memory first.
                (state, opened) = (None, 0);
            }
            let router = state.get_or_insert_with(&fresh);
            let now = left.min(u64::from(NEW_FLOWS - opened));
            let load = Load {
                length: UDP_FRAME,
                warming: Warming::Batch,
                write: |bytes: &mut [u8]| {
                    // Every number once, in no order.
                    write_new_udp(bytes, opened.wrapping_mul(0x9e37_79b1) % NEW_FLOWS);
                    opened += 1;
                },
                process: Router::from_guest,
                expected: Router::leaves,
            };
            let part = load.run(router, now);
            timing.all += part.all;
            timing.fastest = timing.fastest.min(part.fastest);
            left -= now;
        }
        timing
    });
}

fn drops(benches: &mut Benches) {
    let mut router = Router::new(CAPACITY);
    router.open(GUESTS);
    type Write = fn(&mut [u8]);
    let kinds = [
        ("miss: no route", write_without_route as Write),
        ("drop: egress guard", write_without_translation),
        ("drop: malformed", write_malformed),
    ];
    for (name, write) in kinds {
        benches.measure(name, None, |frames| {
            let load = Load {
                length: UDP_FRAME,
                warming: Warming::Batch,
                write,
                process: Router::from_guest,
                expected: |_: &Router, verdict| matches!(verdict, Verdict::Drop(_)),
            };
            let timing = load.run(&mut router, frames);
            router.discard_outbox();
            timing
        });
    }
}

/// Memory of a full table of IPv4 sessions, as the router counts it, and of the tables of external ports.
fn session_bytes() {
    const SESSIONS: u32 = 4_000_000;
    let mut router = Router::new(SESSIONS);
    router.open(SESSIONS);
    let [all, ports] = [
        router.engine.shard.memory(),
        router.engine.shard.port_memory(),
    ];
    let each = (all - ports) as f64 / f64::from(SESSIONS);
    let verdict = if each <= 128.0 { "met" } else { "NOT MET" };
    println!("memory: {each:.1} bytes a session of {SESSIONS}; bar: at most 128: {verdict}");
    let address = ports as f64 / 1024.0 / f64::from(PERSONALITIES);
    println!("memory: {address:.0} KiB for the external UDP ports of an address");
}

struct Benches {
    criterion: Criterion,
    /// Nanoseconds per frame and frames, of each sample of the bench that runs.
    samples: Vec<(f64, u64)>,
}

/// What routing a number of frames took.
struct Timing {
    all: Duration,
    /// Nanoseconds per frame in the fastest [`GROUP`]: what it takes when nobody disturbs.
    fastest: f64,
}

impl Benches {
    /// Times `routine`, which routes as many frames as it is told and returns the time of it, and
    /// compares with `bar`, in nanoseconds per frame.
    fn measure(&mut self, name: &str, bar: Option<f64>, mut routine: impl FnMut(u64) -> Timing) {
        self.samples.clear();
        let mut fastest = f64::INFINITY;
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|asked| {
                let frames = asked.max(SAMPLE);
                let timing = routine(frames);
                let each = timing.all.as_nanos() as f64 / frames as f64;
                self.samples.push((each, frames));
                fastest = fastest.min(timing.fastest);
                timing.all.mul_f64(asked as f64 / frames as f64)
            });
        });
        let median = self.median();
        if median.is_nan() {
            return; // filtered out
        }
        let verdict = match bar {
            Some(bar) if median <= bar => format!("; bar: at most {bar} ns: met"),
            Some(bar) => format!("; bar: at most {bar} ns: NOT MET"),
            None => String::new(),
        };
        println!("{name:<28} median {median:.1} ns, undisturbed {fastest:.1} ns{verdict}");
    }

    /// The median of the samples, each as often as it has frames.
    fn median(&mut self) -> f64 {
        self.samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = self.samples.iter().map(|(_, frames)| frames).sum::<u64>() / 2;
        let mut seen = 0;
        for &(each, frames) in &self.samples {
            seen += frames;
            if seen >= half {
                return each;
            }
        }
        f64::NAN
    }
}

#[derive(Clone, Copy)]
enum Warming {
    /// Frames are routed as they are.
    None,
    /// `Shard::warm` comes before each batch, and counts.
    Batch,
}

/// Frames to route, and what must become of them.
struct Load<W, P, E> {
    length: usize,
    warming: Warming,
    write: W,
    process: P,
    expected: E,
}

impl<W, P, E> Load<W, P, E>
where
    W: FnMut(&mut [u8]),
    P: Fn(&mut Router, &mut [u8]) -> Verdict,
    E: Fn(&Router, Verdict) -> bool,
{
    /// Routes `frames` frames; the time it took.
    fn run(mut self, router: &mut Router, frames: u64) -> Timing {
        // As in a ring: every frame starts a cache line.
        let stride = self.length.next_multiple_of(64);
        let mut buffer = vec![0; GROUP * stride];
        let mut timing = Timing {
            all: Duration::ZERO,
            fastest: f64::INFINITY,
        };
        let mut left = frames;
        while left > 0 {
            let group = &mut buffer[..stride * left.min(GROUP as u64) as usize];
            for frame in group.chunks_exact_mut(stride) {
                (self.write)(&mut frame[..self.length]);
            }
            let mut unexpected = 0;
            let start = Instant::now();
            for batch in group.chunks_mut(BATCH * stride) {
                if let Warming::Batch = self.warming {
                    let frames = batch.chunks_exact(stride);
                    router
                        .engine
                        .shard
                        .warm(frames.map(|frame| &frame[..self.length]));
                }
                // The length, and not the slice: a slice put through `black_box` is stored in
                // halves and loaded whole, for which the processor waits 15 cycles.
                let length = black_box(self.length);
                for frame in batch.chunks_exact_mut(stride) {
                    let verdict = (self.process)(router, &mut frame[..length]);
                    unexpected += u64::from(!(self.expected)(router, verdict));
                }
            }
            let time = start.elapsed();
            timing.all += time;
            if left >= GROUP as u64 {
                let each = time.as_nanos() as f64 / GROUP as f64;
                timing.fastest = timing.fastest.min(each);
            }
            assert_eq!(unexpected, 0, "frames met another fate than they should");
            left -= (group.len() / stride) as u64;
        }
        timing
    }
}
