//! What the programs share that send frames into a lab: options, pace, result.

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send as send_on, socket};
use smoltcp::phy::{Device, Medium, RawSocket, TxToken};

/// Runs a program with its arguments; prints how many `what` it sent, or why it could not.
pub fn main(
    program: &str,
    what: &str,
    run: impl FnOnce(&[String]) -> Result<u64, Box<dyn Error>>,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(count) => {
            println!("{what}={count}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{program} {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// The value of an option such as `--rate`.
///
/// # Errors
/// It has none, or one that is not a number.
pub fn option(options: &[String], name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match options.iter().position(|option| option == name) {
        Some(at) => Ok(options.get(at + 1).ok_or("a value is missing")?.parse()?),
        None => Ok(default),
    }
}

/// Sends `count` bursts of frames on a device, `rate` bursts a second; how many there were.
///
/// # Errors
/// No such device, or it takes no frames; a burst that could not be made.
pub fn send<B: AsRef<[Vec<u8>]>>(
    device: &str,
    (count, rate): (u64, u64),
    mut burst: impl FnMut() -> Result<B, Box<dyn Error>>,
) -> Result<u64, Box<dyn Error>> {
    let mut socket = RawSocket::new(device, Medium::Ethernet)?;
    let start = Instant::now();
    for sent in 0..count {
        for frame in burst()?.as_ref() {
            let token = socket
                .transmit(smoltcp::time::Instant::now())
                .ok_or("the device takes no frame")?;
            token.consume(frame.len(), |buffer| buffer.copy_from_slice(frame));
        }
        let due = Duration::from_micros((sent + 1) * 1_000_000 / rate);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(count)
}

/// Length of a `virtio_net_hdr` (VIRTIO 1.2 §5.1.6), which the kernel reads before each frame that an
/// [`Attached`] sends.
pub const VNET_HEADER: usize = 10;

/// A packet socket on a device that sends frames with offload metadata.
#[derive(Debug)]
pub struct Attached(OwnedFd);

impl Attached {
    /// A socket on the device called so.
    ///
    /// # Errors
    /// No such device; not root.
    pub fn to(device: &str) -> Result<Self, Box<dyn Error>> {
        let index = nix::net::if_::if_nametoindex(device)?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let on: libc::c_int = 1;
        // SAFETY: all zeroes is a sockaddr_ll without protocol: nothing is received.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        // SAFETY: both values outlive the calls and are passed with their sizes.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            ) == 0
                && libc::bind(
                    socket.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of_val(&address) as libc::socklen_t,
                ) == 0
        };
        match done {
            true => Ok(Self(socket)),
            false => Err(io::Error::last_os_error().into()),
        }
    }

    /// Sends a frame behind its [`VNET_HEADER`] bytes; whether the kernel took it.
    pub fn send(&self, frame: &[u8]) -> bool {
        send_on(self.0.as_raw_fd(), frame, MsgFlags::empty()).is_ok()
    }
}
