//! The port layer against this kernel, without the engine: a bridge of two ports.

mod lab;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use lab::{Lab, iperf, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tapgate_dataplane::link::Links;
use tapgate_dataplane::port::{Egress, Ingress, PortCounters, Ports};
use tapgate_dataplane::sys::packet;
use tapgate_dataplane::sys::ring::Geometry;
use tapgate_engine::addr::PortId;
use tapgate_engine::drops::DropCounters;
use tapgate_engine::frame::Frame;

/// Puts every frame that comes in by one of two ports out by the other.
struct Bridge {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Vec<PortCounters>, DropCounters)>>,
    /// The longest frame seen.
    longest: Arc<AtomicU64>,
}

impl Bridge {
    fn between(a: (Ingress, Egress), b: (Ingress, Egress)) -> Self {
        let mut ports = Ports::default();
        ports.attach(PortId(0), a.0, a.1);
        ports.attach(PortId(1), b.0, b.1);
        let (stop, longest) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, seen) = (stop.clone(), longest.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut idle = true;
                for port in [PortId(0), PortId(1)] {
                    let other = PortId(1 - port.0);
                    let route = |frames: &mut [Frame<'_>], outputs: &mut [Option<PortId>; 64]| {
                        for (frame, output) in frames.iter().zip(outputs) {
                            seen.fetch_max(frame.bytes.len() as u64, Ordering::Relaxed);
                            *output = Some(other);
                        }
                    };
                    idle &= ports.pass(port, route).unwrap() == 0;
                }
                if idle {
                    let ready: Vec<_> = [PortId(0), PortId(1)]
                        .iter()
                        .flat_map(|&port| ports.ingress(port).unwrap().descriptors())
                        .collect();
                    let mut ready: Vec<_> = ready
                        .iter()
                        .map(|fd| PollFd::new(fd, PollFlags::IN))
                        .collect();
                    let wait = Timespec {
                        tv_sec: 0,
                        tv_nsec: 100_000_000,
                    };
                    poll(&mut ready, Some(&wait)).unwrap();
                }
            }
            let counters = [PortId(0), PortId(1)]
                .map(|port| ports.counters(port))
                .to_vec();
            (counters, ports.drops().clone())
        });
        Self {
            stop,
            thread: Some(thread),
            longest,
        }
    }

    fn end(mut self) -> (Vec<PortCounters>, DropCounters, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (counters, drops) = self.thread.take().unwrap().join().unwrap();
        (counters, drops, self.longest.load(Ordering::Relaxed))
    }
}

fn index(device: &str) -> u32 {
    Links::open().unwrap().get(device).unwrap().index
}

fn device(name: &str) -> (Ingress, Egress) {
    let (receiver, sender) = packet::open(index(name), 1500).unwrap();
    (Ingress::Device(receiver), Egress::Device(sender))
}

/// Compares ring shapes: run with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn ring_shapes_compared() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    for round in 0..2 {
        for (what, frame, slots) in [
            ("slots of the MTU, super-frames by recv", 1518, 1024),
            ("slots of 64 KiB", 65_600, 256),
            ("slots of 64 KiB", 65_600, 64),
        ] {
            let open = |name| {
                let geometry = Geometry::holding(frame, slots);
                let (receiver, sender) = packet::open_with(index(name), geometry).unwrap();
                (Ingress::Device(receiver), Egress::Device(sender))
            };
            let bridge = Bridge::between(open("va"), open("vb"));
            let rate = iperf(&a, &b, "10.9.0.2", 4);
            let ping = run(&format!(
                "ip netns exec {a} ping -q -i 0.002 -c 500 10.9.0.2"
            ));
            let (counters, drops, longest) = bridge.end();
            let lost: Vec<_> = drops.iter().filter(|(_, n)| *n > 0).collect();
            println!(
                "{round} {what} x{slots}: {:.2} Gbit/s, longest {longest}, {} kernel drops, {lost:?}, {}",
                rate,
                counters.iter().map(|c| c.kernel_drops).sum::<u64>(),
                ping.lines().last().unwrap()
            );
        }
    }
}

#[test]
fn super_frames_pass_whole_and_tcp_is_fast() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    let bridge = Bridge::between(device("va"), device("vb"));
    let rate = iperf(&a, &b, "10.9.0.2", 2);
    println!("{rate:.2} Gbit/s");
    let (counters, drops, longest) = bridge.end();
    assert!(longest > 20_000, "longest frame {longest}");
    assert!(counters[0].rx_bytes > 100 << 20, "{counters:?}");
    assert!(
        drops.iter().all(|(_, count)| count == 0),
        "{:?}",
        drops.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>()
    );
}
