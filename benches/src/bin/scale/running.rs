//! The dataplane as it is, in this process, with memory ports.

use std::fs::{read_dir, read_to_string};
use std::time::{Duration, Instant as Clock};

use serde::Serialize;
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_engine::config::Config;

use crate::probe;
use crate::setup::{self, Setup, Step, port_name};
use crate::table::{Spread, micros};

/// How long after `configure` the flow is watched: what is announced then is part of it.
const SETTLE: Duration = Duration::from_millis(300);
/// How long after a start everything that it made due has been done.
const QUIET_AFTER: Duration = Duration::from_secs(10);
/// How long the idle dataplane is watched.
const IDLE: Duration = Duration::from_secs(10);

/// What one kind of change costs.
#[derive(Debug, Serialize)]
pub struct Row {
    pub change: &'static str,
    /// `Dataplane::configure`.
    pub apply_us: Spread,
    /// The longest a frame was on its way meanwhile.
    pub pause_us: Spread,
    /// The same with the same flow for as long, without a change.
    pub quiet_us: Spread,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// The first `Dataplane::configure`.
    pub start_us: f64,
    /// How long the machine itself stands still in [`SETTLE`], with nothing of ours running.
    pub machine_us: Spread,
    pub rows: Vec<Row>,
    pub idle: Idle,
}

/// What the process used while nothing happened.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// Milliseconds of CPU a second.
    pub cpu_ms_per_second: f64,
    /// Times a thread went to sleep, a second.
    pub wake_ups_per_second: f64,
}

/// Measures a start, each change `rounds` times, and idling.
pub fn measure(setup: Setup, rounds: usize) -> Result<Measured, String> {
    let file = setup.file();
    let before = setup::config(file.clone());
    let machine = probe::machine(2 * rounds, SETTLE);
    let dataplane = Dataplane::new().map_err(|error| error.to_string())?;
    let began = Clock::now();
    dataplane.configure(&before)?;
    let start_us = micros(began.elapsed());
    let far = |name: &str| dataplane.memory_port(name).ok_or("a port is missing");
    let ends = (&far("uplink")?, &far(&port_name(0))?);
    std::thread::sleep(QUIET_AFTER);
    let idle = idle();

    let mut rows = Vec::new();
    for step in Step::ALL {
        let after = setup.changed(&file, step);
        let (mut applies, mut pauses, mut quiets) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..2 * rounds {
            let config: &Config = if round % 2 == 0 { &after } else { &before };
            let (pause, took) = probe::longest_while(ends, SETTLE, || {
                let began = Clock::now();
                dataplane.configure(config).map(|_| began.elapsed())
            });
            let took = took?;
            let (quiet, ()) = probe::longest_while(ends, SETTLE, || std::thread::sleep(took));
            applies.push(micros(took));
            pauses.push(micros(pause));
            quiets.push(micros(quiet));
        }
        rows.push(Row {
            change: step.name(),
            apply_us: Spread::of(applies),
            pause_us: Spread::of(pauses),
            quiet_us: Spread::of(quiets),
        });
    }
    dataplane.stop();
    Ok(Measured {
        start_us,
        machine_us: Spread::of(machine.into_iter().map(micros).collect()),
        rows,
        idle,
    })
}

fn idle() -> Idle {
    let (began, before) = (Clock::now(), used());
    std::thread::sleep(IDLE);
    let (after, seconds) = (used(), began.elapsed().as_secs_f64());
    Idle {
        cpu_ms_per_second: (after.0 - before.0) as f64 / 1e6 / seconds,
        wake_ups_per_second: (after.1 - before.1) as f64 / seconds,
    }
}

/// Nanoseconds of CPU and sleeps of all threads of the process.
fn used() -> (u64, u64) {
    let tasks = read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.fold((0, 0), |(cpu, sleeps), task| {
        let read = |name| read_to_string(task.path().join(name)).unwrap_or_default();
        let number = |text: &str| text.trim().parse::<u64>().unwrap_or_default();
        let ran = number(read("schedstat").split(' ').next().unwrap_or_default());
        let status = read("status");
        let slept = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .map_or(0, number);
        (cpu + ran, sleeps + slept)
    })
}
