//! The two sides: the engine in its harness, and the kernel between TAPs in a namespace of its own.

use std::time::{Duration, Instant};

use tapgate_tests::netns;
use tapgate_tests::router::Router;
use tun_tap::{Iface, Mode};

use super::model::{Model, PORTS};

/// Bytes of the largest frame.
const FRAME: usize = 2_048;

/// A frame, and the number of its port.
pub type At = (usize, Vec<u8>);

/// What packets are sent through.
pub trait Side {
    /// Frames come in by a port; what comes out.
    fn offer(&mut self, port: usize, frames: &[Vec<u8>]) -> Vec<At>;

    /// What comes out next, when more should; it is waited for until `end`.
    fn late(&mut self, end: Instant) -> Vec<At>;
}

impl Side for Router {
    fn offer(&mut self, port: usize, frames: &[Vec<u8>]) -> Vec<At> {
        for frame in frames {
            self.inject(PORTS[port], frame);
        }
        let sent = self.sent().into_iter().map(|(name, bytes)| {
            let port = PORTS.iter().position(|port| *port == name);
            (port.expect("one of its ports"), bytes)
        });
        sent.collect()
    }

    fn late(&mut self, _: Instant) -> Vec<At> {
        Vec::new()
    }
}

/// The kernel as the router, in the calling thread's namespace, which is a new one.
pub struct Kernel {
    taps: Vec<Iface>,
}

impl Kernel {
    pub fn new(model: &Model) -> Self {
        netns::enter_new();
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/default/addr_gen_mode", "1"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ] {
            netns::sysctl(name, value);
        }
        let taps = PORTS.iter().map(|port| {
            let tap = Iface::without_packet_info(port, Mode::Tap).expect("a TAP (as root?)");
            tap.set_non_blocking().expect("a descriptor");
            tap
        });
        let taps = taps.collect();
        netns::ip(&Model::commands());
        netns::feed("nft -f -", &model.nft());
        Self { taps }
    }
}

impl Side for Kernel {
    /// A frame that is written to a TAP is forwarded before the call returns, unless the kernel is busy.
    fn offer(&mut self, port: usize, frames: &[Vec<u8>]) -> Vec<At> {
        for frame in frames {
            self.taps[port].send(frame).expect("the TAP is up");
        }
        self.drain()
    }

    fn late(&mut self, end: Instant) -> Vec<At> {
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            let out = self.drain();
            if !out.is_empty() {
                return out;
            }
        }
        Vec::new()
    }
}

impl Kernel {
    fn drain(&self) -> Vec<At> {
        let mut out = Vec::new();
        let mut buffer = [0; FRAME];
        for (port, tap) in self.taps.iter().enumerate() {
            while let Ok(length) = tap.recv(&mut buffer) {
                out.push((port, buffer[..length].to_vec()));
            }
        }
        out
    }
}
