//! Round-trip times of ICMP echo at about a thousand a second, every sample kept.
//!
//! The far kernel answers, so nothing but the path and this process is measured; percentiles are
//! exact, in tenths of a microsecond.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};
use serde::Serialize;
use tapgate_benches::tool;

/// Samples not counted: they resolve neighbours, open sessions and fill caches.
const WARM_UP: u16 = 50;
/// An answer later than this is a lost one.
const PATIENCE: Duration = Duration::from_millis(500);
/// Losses after which there is no point in going on.
const MOST_LOST: u32 = 20;

/// Measures ICMP echo round trips and prints their percentiles in microseconds as JSON.
#[derive(Parser)]
struct Options {
    /// The host to ask.
    #[arg(long)]
    to: Ipv4Addr,
    /// How many samples to take.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    count: u16,
    /// Microseconds from one request to the next.
    #[arg(long, default_value_t = 1_000)]
    interval_us: u64,
}

#[derive(Serialize)]
struct Measured {
    samples: usize,
    lost: u32,
    min_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::end("rtt", options.to, run(&options))
}

fn run(options: &Options) -> io::Result<Measured> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::ICMP),
    )?;
    connect(&socket, &SocketAddrV4::new(options.to, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;

    let identifier = std::process::id() as u16;
    let mut samples = Vec::with_capacity(usize::from(options.count));
    let mut lost = 0;
    let interval = Duration::from_micros(options.interval_us);
    for sequence in 0..options.count.saturating_add(WARM_UP) {
        let start = Instant::now();
        match round_trip(&socket, identifier, sequence, start)? {
            Some(time) if sequence >= WARM_UP => samples.push(time),
            Some(_) => {}
            None => lost += 1,
        }
        if lost > MOST_LOST {
            return Err(io::Error::other(format!(
                "{lost} of {} requests were not answered; check the path with ping",
                sequence + 1
            )));
        }
        std::thread::sleep(interval.saturating_sub(start.elapsed()));
    }

    samples.sort_unstable();
    let at = |percent: usize| {
        let rank = (samples.len() * percent).div_ceil(100).max(1) - 1;
        samples
            .get(rank)
            .map_or(f64::NAN, |time| time.as_nanos() as f64 / 1e3)
    };
    Ok(Measured {
        samples: samples.len(),
        lost,
        min_us: at(0),
        p50_us: at(50),
        p90_us: at(90),
        p99_us: at(99),
        max_us: at(100),
    })
}

/// One echo request and its reply; `None` when none comes in time.
fn round_trip(
    socket: &OwnedFd,
    identifier: u16,
    sequence: u16,
    start: Instant,
) -> io::Result<Option<Duration>> {
    send(
        socket,
        &echo_request(identifier, sequence),
        SendFlags::empty(),
    )?;
    let mut buffer = [0; 256];
    loop {
        let length = match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let time = start.elapsed();
        if is_reply(&buffer[..length.min(256)], identifier, sequence) {
            return Ok(Some(time));
        }
        if time > PATIENCE {
            return Ok(None);
        }
    }
}

/// An echo request (RFC 792) with 16 bytes of payload.
fn echo_request(identifier: u16, sequence: u16) -> [u8; 24] {
    let mut message = [0; 24];
    message[0] = 8;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    // RFC 1071, over the three words that are not zero.
    let mut sum = 0x0800 + u32::from(identifier) + u32::from(sequence);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

/// Whether `packet`, with its IP header, is the reply to that request.
fn is_reply(packet: &[u8], identifier: u16, sequence: u16) -> bool {
    let header = usize::from(packet.first().map_or(0, |byte| byte & 0xf)) * 4;
    match packet.get(header..header + 8) {
        Some(&[kind, _, _, _, i0, i1, s0, s1]) => {
            kind == 0 && [i0, i1] == identifier.to_be_bytes() && [s0, s1] == sequence.to_be_bytes()
        }
        _ => false,
    }
}
