//! Sends 60-byte UDP frames from a device, as many as the kernel takes or at a fixed rate.
//!
//! A generator that costs as much as the router it loads hides the difference between two routers.
//! So it hands the kernel datagrams merged into super-frames, which are cut on the way out because
//! the device has been told not to take them (`ethtool -K DEV tx-udp-segmentation off`): half the
//! cost of many single frames in one system call. Like any local sender's, their transport
//! checksums are partial.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::net::SendFlags;
use serde::Serialize;
use tapgate_benches::tool::{self, HEADERS, UDP_CHECKSUM};
use tapgate_engine::addr::MacAddr;

/// Frames per super-frame, all of one flow.
const SEGMENTS: usize = 16;
/// Payload that makes a frame 60 bytes long, the smallest Ethernet carries (64 with FCS).
const PAYLOAD: usize = 60 - HEADERS;
/// Length of a `virtio_net_hdr`, which precedes a frame on a socket with PACKET_VNET_HDR.
const VNET_HEADER: usize = 10;

type SuperFrame = [u8; VNET_HEADER + HEADERS + SEGMENTS * PAYLOAD];

/// Sends 60-byte UDP frames from a device, and prints how many as JSON.
#[derive(Parser)]
struct Options {
    /// The device to send from; its MAC is the frames' source.
    #[arg(long)]
    dev: String,
    /// The gateway's MAC, which frames are addressed to.
    #[arg(long)]
    to_mac: MacAddr,
    /// Source address.
    #[arg(long)]
    from: Ipv4Addr,
    /// Destination address.
    #[arg(long)]
    to: Ipv4Addr,
    /// Destination port.
    #[arg(long, default_value_t = 9)]
    port: u16,
    /// Flows to spread over, by source port from 10000 on.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    flows: u16,
    /// Frames per second; 0: as many as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// When to stop.
    #[arg(long)]
    seconds: f64,
}

#[derive(Serialize)]
struct Sent {
    frames: u64,
    seconds: f64,
    /// Times the kernel had no room.
    refused: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::end("pktgen", &options.dev, run(&options))
}

fn run(options: &Options) -> io::Result<Sent> {
    let mac = tool::mac_of(&options.dev)?;
    let socket = tool::sender(&options.dev)?;
    with_metadata(&socket)?;
    let frames: Vec<SuperFrame> = (0..options.flows)
        .map(|flow| super_frame(options, mac, 10_000 + flow))
        .collect();

    let start = Instant::now();
    let end = Duration::from_secs_f64(options.seconds);
    let (mut sent, mut refused) = (0u64, 0u64);
    for frame in frames.iter().cycle() {
        let elapsed = start.elapsed();
        if elapsed >= end {
            break;
        }
        if options.rate > 0 {
            let due = Duration::from_secs_f64(sent as f64 / options.rate as f64);
            std::thread::sleep(due.saturating_sub(elapsed));
        }
        match rustix::net::send(&socket, frame, SendFlags::empty()) {
            Ok(_) => sent += SEGMENTS as u64,
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Sent {
        frames: sent,
        seconds: start.elapsed().as_secs_f64(),
        refused,
    })
}

/// `SEGMENTS` datagrams of one flow in one super-frame, with the metadata that says so
/// (VIRTIO 1.2 §5.1.6).
fn super_frame(options: &Options, mac: MacAddr, source_port: u16) -> SuperFrame {
    let mut bytes = [0; _];
    let (vnet, frame) = bytes.split_at_mut(VNET_HEADER);
    vnet[0] = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
    vnet[1] = 5; // VIRTIO_NET_HDR_GSO_UDP_L4
    let (start, offset) = (HEADERS - 8, UDP_CHECKSUM + 8 - HEADERS);
    for (at, value) in [(2, HEADERS), (4, PAYLOAD), (6, start), (8, offset)] {
        vnet[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
    }
    let ends = [(options.from, source_port), (options.to, options.port)];
    tool::write_headers(frame, [mac, options.to_mac], ends);
    bytes
}

/// Has the kernel read a `virtio_net_hdr` before each frame that `socket` sends.
fn with_metadata(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a c_int that outlives the call, passed with its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
