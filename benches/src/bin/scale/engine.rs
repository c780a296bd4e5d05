//! What the forwarding thread does for a new configuration, without anything around it. Times are of
//! the thread's own CPU, so that a busy machine does not matter much.

use std::time::Duration;

use serde::Serialize;
use tapgate_engine::Engine;
use tapgate_engine::config::File;
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::session::{SessionMemory, Sessions};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

use crate::probe;
use crate::setup::{self, Setup, Step};
use crate::table::{Spread, cpu, micros};

/// How long after a configuration what it made due is followed, in the router's time.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// What one kind of change costs the forwarding thread.
#[derive(Debug, Serialize)]
pub struct Row {
    pub change: &'static str,
    /// `Snapshot::build`, which is not done on the forwarding thread.
    pub build_us: Spread,
    /// `Engine::adopt`.
    pub adopt_us: Spread,
    /// The longest single `poll` with its `drain` in the time after it.
    pub poll_us: Spread,
    /// The most frames that one of them sends.
    pub frames_at_once: usize,
}

/// What a start costs.
#[derive(Debug, Serialize)]
pub struct Start {
    pub check_us: f64,
    pub build_us: f64,
    pub engine_us: f64,
    pub poll_us: f64,
    pub frames_at_once: usize,
}

/// Measures a start and each change `rounds` times.
pub fn measure(setup: Setup, rounds: usize) -> (Start, Vec<Row>) {
    let file = setup.file();
    let unchecked = file.clone();
    let began = cpu();
    let config = setup::config(unchecked);
    let check_us = micros(cpu() - began);
    let began = cpu();
    let base = Snapshot::build(&config, None);
    let build_us = micros(cpu() - began);

    let mut now = Instant::from_millis(1_000_000);
    let memory = Sessions {
        v4: SessionMemory::owned(1 << 16),
        v6: SessionMemory::owned(1 << 16),
        inherited: false,
    };
    let began = cpu();
    let mut engine = Engine::new(&base, memory, 0x5eed, now);
    let engine_us = micros(cpu() - began);
    let polls = follow(&mut engine, &base, &mut now);
    let start = Start {
        check_us,
        build_us,
        engine_us,
        poll_us: micros(polls.0),
        frames_at_once: polls.1,
    };
    // Every guest is in use: it has a session, and is among the neighbours.
    refresh(setup, &mut engine, &base, now);
    let mut current = base;
    let mut rows = Vec::new();
    for step in Step::ALL {
        let state = (&mut engine, &mut current, &mut now);
        rows.push(changes(setup, &file, step, state, rounds));
    }
    (start, rows)
}

/// Makes a change and takes it back, again and again.
fn changes(
    setup: Setup,
    file: &File,
    step: Step,
    (engine, current, now): (&mut Engine, &mut Snapshot, &mut Instant),
    rounds: usize,
) -> Row {
    let (before, after) = (
        setup.changed(file, Step::Nothing),
        setup.changed(file, step),
    );
    let (mut builds, mut adopts, mut polls) = (Vec::new(), Vec::new(), Vec::new());
    let mut frames_at_once = 0;
    for round in 0..2 * rounds {
        let config = if round % 2 == 0 { &after } else { &before };
        let began = cpu();
        let next = Snapshot::build(config, Some(current));
        builds.push(micros(cpu() - began));
        refresh(setup, engine, current, *now);
        let began = cpu();
        engine.adopt(&next, *now);
        adopts.push(micros(cpu() - began));
        *current = next;
        let (longest, frames) = follow(engine, current, now);
        polls.push(micros(longest));
        frames_at_once = frames_at_once.max(frames);
    }
    Row {
        change: step.name(),
        build_us: Spread::of(builds),
        adopt_us: Spread::of(adopts),
        poll_us: Spread::of(polls),
        frames_at_once,
    }
}

/// A frame for each guest, so that all are in use under the running configuration.
fn refresh(setup: Setup, engine: &mut Engine, snapshot: &Snapshot, now: Instant) {
    let uplink = snapshot.port_id("uplink").expect("it is configured");
    for guest in 0..setup.guests() {
        let mut bytes = probe::frame(guest);
        let mut frame = Frame {
            bytes: &mut bytes,
            vlan: None,
            offload: Offload::default(),
            headroom: &mut [],
        };
        let verdict = engine.process(&mut frame, uplink, snapshot, now);
        assert!(
            matches!(verdict, Verdict::Emit(_)),
            "guest {guest}: {verdict:?}"
        );
    }
    engine.drain(snapshot, now, |_, _| {});
}

/// Does what becomes due: the longest time at once, and the most frames at once.
fn follow(engine: &mut Engine, snapshot: &Snapshot, now: &mut Instant) -> (Duration, usize) {
    let end = *now + AFTERWARDS;
    let (mut longest, mut most) = (Duration::ZERO, 0);
    while let Some(due) = engine.next_deadline().filter(|due| *due <= end) {
        *now = due.max(*now);
        let mut frames = 0;
        let began = cpu();
        engine.poll(snapshot, *now);
        engine.drain(snapshot, *now, |_, _| frames += 1);
        longest = longest.max(cpu() - began);
        most = most.max(frames);
    }
    *now = end;
    (longest, most)
}
