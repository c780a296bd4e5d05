//! Asks who has the addresses of a range, by ARP or neighbour discovery, as fast as the kernel takes
//! the requests.
//!
//! It does not listen: the answers are for the lab to count and drop at the device's ingress, so that
//! counting costs little, and the same for everybody who answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;

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
    match run(&options) {
        Ok(asked) => {
            println!("{}", serde_json::json!(asked));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("asker: {}: {error}", options.dev);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<Asked> {
    let mac = mac_of(&options.dev)?;
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

    let socket = open(&options.dev)?;
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

fn mac_of(dev: &str) -> io::Result<[u8; 6]> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{dev}/address"))?;
    let bytes: Option<Vec<u8>> = text
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| io::Error::other("its address is not a MAC address"))
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
    let sum = !sum(&[&from[..], &group, &length_and_header, &icmp].concat());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    [ethernet, ip, icmp].concat()
}

/// The ones' complement sum (RFC 1071) of `bytes`, an even number of them.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A packet socket bound to `dev` that only sends.
fn open(dev: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(dev)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a sockaddr_ll without protocol: nothing is received.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    // SAFETY: `address` is a whole sockaddr_ll that outlives the call, passed with its size.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}
