//! Sends 60-byte UDP frames from a device as fast as the kernel takes them, each of which begins a flow.
//!
//! Source addresses go round, then source ports, so that a translator needs an external port for each
//! flow; destination addresses vary as well, as those of a scan or a resolver do.

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use tapgate_benches::tool;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::checksum::{fold, sum};

/// Frames per system call.
const BATCH: usize = 64;
/// Source ports of each address, from 1024 on.
const PORTS: u64 = 60_000;

/// Opens UDP flows as fast as possible, and prints how many as JSON.
#[derive(Parser)]
struct Options {
    /// The device to send from; its MAC is the frames' source.
    #[arg(long)]
    dev: String,
    /// The gateway's MAC, which frames are addressed to.
    #[arg(long)]
    to_mac: MacAddr,
    /// The first source address.
    #[arg(long)]
    from: Ipv4Addr,
    /// How many source addresses there are: 60,000 times as many flows begin before one is repeated.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    sources: u32,
    /// The first destination address.
    #[arg(long)]
    to: Ipv4Addr,
    /// How many destination addresses there are.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    destinations: u32,
    /// Destination port.
    #[arg(long, default_value_t = 9)]
    port: u16,
    /// When to stop.
    #[arg(long)]
    seconds: f64,
}

#[derive(Serialize)]
struct Opened {
    flows: u64,
    seconds: f64,
    /// Times the kernel had no room.
    refused: u64,
    /// Flows of which there was one already.
    repeated: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::end("opener", &options.dev, run(&options))
}

fn run(options: &Options) -> io::Result<Opened> {
    let mac = tool::mac_of(&options.dev)?;
    let socket = tool::sender(&options.dev)?;
    let mut frames = vec![vec![0; 60]; BATCH];
    let start = Instant::now();
    let end = Duration::from_secs_f64(options.seconds);
    let (mut flows, mut refused) = (0, 0);
    while start.elapsed() < end {
        for (frame, flow) in frames.iter_mut().zip(flows..) {
            set(frame, options, mac, flow);
        }
        let sent = tool::send(&socket, &mut frames)?;
        flows += sent as u64;
        refused += u64::from(sent == 0);
    }
    Ok(Opened {
        flows,
        seconds: start.elapsed().as_secs_f64(),
        refused,
        repeated: flows.saturating_sub(PORTS * u64::from(options.sources)),
    })
}

/// Makes a frame that of flow number `flow`.
fn set(frame: &mut [u8], options: &Options, mac: MacAddr, flow: u64) {
    let sources = u64::from(options.sources);
    // Neighbouring flows go far apart.
    let far = (flow as u32).wrapping_mul(0x9e37_79b1) >> 8;
    let nth = |first: Ipv4Addr, n: u32| Ipv4Addr::from_bits(first.to_bits() + n);
    let from = nth(options.from, (flow % sources) as u32);
    let to = nth(options.to, far % options.destinations);
    let port = 1_024 + (flow / sources % PORTS) as u16;
    let ends = [(from, port), (to, options.port)];
    tool::write_headers(frame, [mac, options.to_mac], ends);
    // Beside the payload the field holds what the pseudo-header adds.
    let whole = !fold(sum(&frame[34..], 0));
    frame[tool::UDP_CHECKSUM..][..2].copy_from_slice(&whole.to_be_bytes());
}
