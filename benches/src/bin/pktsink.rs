//! Measures what a device receives over a time, and what the whole machine spent meanwhile.
//!
//! It only reads counters before and after. The frames themselves are for the lab to drop at the
//! device's ingress, so that the sink costs little, and the same for every router under test.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use tapgate_benches::tool;

/// Counts frames received by a device and CPU time spent by the machine, and prints both as JSON.
#[derive(Parser)]
struct Options {
    /// The receiving device.
    #[arg(long)]
    dev: String,
    /// For how long to count.
    #[arg(long)]
    seconds: f64,
}

#[derive(Serialize)]
struct Measured {
    frames: u64,
    seconds: f64,
    frames_per_second: f64,
    /// CPUs busy on average, generator, router, sink, interrupts and everybody else included.
    busy_cpus: f64,
    /// CPU time of the whole machine per frame received.
    cpu_ns_per_frame: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::end("pktsink", &options.dev, run(&options))
}

fn run(options: &Options) -> io::Result<Measured> {
    let start = Instant::now();
    let (frames_before, busy_before) = (received(&options.dev)?, busy_ticks()?);
    std::thread::sleep(Duration::from_secs_f64(options.seconds));
    let (frames_after, busy_after) = (received(&options.dev)?, busy_ticks()?);
    let seconds = start.elapsed().as_secs_f64();

    let frames = frames_after - frames_before;
    let busy = (busy_after - busy_before) as f64 / f64::from(TICKS_PER_SECOND);
    Ok(Measured {
        frames,
        seconds,
        frames_per_second: frames as f64 / seconds,
        busy_cpus: busy / seconds,
        cpu_ns_per_frame: busy * 1e9 / frames.max(1) as f64,
    })
}

/// USER_HZ, the unit of /proc/stat: 100 on every architecture tapgate runs on.
const TICKS_PER_SECOND: u32 = 100;

/// Frames `dev` has received so far, from /proc/net/dev, which shows the caller's own namespace.
fn received(dev: &str) -> io::Result<u64> {
    std::fs::read_to_string("/proc/net/dev")?
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == dev)
        .and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such device"))
}

/// Ticks all CPUs together have worked so far: user, nice, system, irq and softirq of /proc/stat.
fn busy_ticks() -> io::Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = stat
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    match fields[..] {
        [user, nice, system, _idle, _iowait, irq, softirq, ..] => {
            Ok(user + nice + system + irq + softirq)
        }
        _ => Err(io::Error::other("/proc/stat has no line for all CPUs")),
    }
}
