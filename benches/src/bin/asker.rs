//! Asks who has the addresses of a range, by ARP or neighbour discovery, as fast as the kernel takes
//! the requests.
//!
//! It does not listen: the answers are for the lab to count and drop at the device's ingress, so that
//! counting costs little, and the same for everybody who answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use tapgate_benches::tool;
use tapgate_engine::checksum::checksum;

/// Requests per system call.
const BATCH: usize = 64;
/// Different requests at most, spread over the range: so few that they lie in the CPU's cache.
const REQUESTS: u32 = 4_096;
/// Coprime with every range that is not a multiple of it: neighbouring requests are far apart.
const STRIDE: u64 = 7_919;

/// Asks who has addresses, as often as possible, and prints how often as JSON.
#[derive(Parser)]
struct Options {
    /// The device to ask on; its MAC is the asker's.
    #[arg(long)]
    dev: String,
    /// The asker's address. An IPv6 one is the device's link-local address.
    #[arg(long)]
    from: IpAddr,
    /// The first address of the range, of the same family.
    #[arg(long)]
    first: IpAddr,
    /// How many addresses the range has.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// When to stop.
    #[arg(long)]
    seconds: f64,
}

#[derive(Serialize)]
struct Asked {
    requests: u64,
    seconds: f64,
    /// Times the kernel had no room.
    refused: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::end("asker", &options.dev, run(&options))
}

fn run(options: &Options) -> io::Result<Asked> {
    let mac = tool::mac_of(&options.dev)?.0;
    let different = options.count.min(REQUESTS);
    let mut frames: Vec<Vec<u8>> = (0..different)
        .map(|n| (u64::from(n) * STRIDE % u64::from(options.count)) as u32)
        .map(|n| match (options.from, options.first) {
            (IpAddr::V4(from), IpAddr::V4(first)) => {
                Ok(arp(mac, from, Ipv4Addr::from_bits(first.to_bits() + n)))
            }
            (IpAddr::V6(from), IpAddr::V6(first)) => {
                let target = Ipv6Addr::from_bits(first.to_bits() + u128::from(n));
                Ok(solicitation(mac, from, target))
            }
            _ => Err(io::Error::other("--from and --first are of two families")),
        })
        .collect::<io::Result<_>>()?;
    // A range smaller than a batch is asked about several times in one.
    let mut vectors: Vec<libc::iovec> = frames
        .iter_mut()
        .map(|frame| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let of_vector = |vector: &mut libc::iovec| {
        // SAFETY: all zeroes is a msghdr without name, data and control data.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        message
    };
    let mut messages: Vec<libc::mmsghdr> = Vec::new();
    while messages.len() < BATCH || messages.len() < vectors.len() {
        messages.extend(vectors.iter_mut().map(of_vector));
    }

    let socket = tool::sender(&options.dev)?;
    let start = Instant::now();
    let end = Duration::from_secs_f64(options.seconds);
    let (mut requests, mut refused, mut at) = (0u64, 0u64, 0);
    while start.elapsed() < end {
        let batch = &mut messages[at..];
        let length = batch.len().min(BATCH);
        // SAFETY: `length` messages lie behind the pointer; each names one iovec of `vectors`, which
        // names one frame of `frames`; all of them outlive the call.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                batch.as_mut_ptr(),
                length as libc::c_uint,
                0,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) => {
                requests += sent as u64;
                at = (at + sent) % messages.len();
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ENOBUFS) => refused += 1,
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(Asked {
        requests,
        seconds: start.elapsed().as_secs_f64(),
        refused,
    })
}

/// An ARP request (RFC 826).
fn arp(mac: [u8; 6], from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &mac, &[0x08, 0x06]].concat();
    let fixed = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let (from, target) = (from.octets(), target.octets());
    [&ethernet[..], &fixed, &mac, &from, &[0; 6], &target].concat()
}

/// A neighbour solicitation to the target's group (RFC 4861 §4.3).
fn solicitation(mac: [u8; 6], from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let (from, target) = (from.octets(), target.octets());
    let [.., a, b, c] = target;
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    let ethernet = [&[0x33, 0x33, 0xff, a, b, c][..], &mac, &[0x86, 0xdd]].concat();
    let ip = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &from, &group].concat();
    let mut icmp = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, &[1, 1], &mac].concat();
    let length_and_header = [0, 0, 0, 32, 0, 0, 0, 58];
    let sum = checksum(&[&from[..], &group, &length_and_header, &icmp].concat());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    [ethernet, ip, icmp].concat()
}
