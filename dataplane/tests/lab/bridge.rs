//! A bridge of two ports: the port layer at work without the engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tapgate_dataplane::link::Links;
use tapgate_dataplane::port::device::Device;
use tapgate_dataplane::port::{BATCH, Opened, PortCounters, Ports};
use tapgate_engine::addr::PortId;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::{Frame, Offload};

/// The two ports' numbers.
pub const A: PortId = PortId(0);
pub const B: PortId = PortId(1);

/// Opens a device of the calling thread's namespace.
pub fn device(name: &str) -> Opened {
    let index = Links::open().unwrap().get(name).expect(name).index;
    Opened::Device(Device::open(index, 1500).unwrap())
}

/// What is remembered of a frame.
#[derive(Debug, Clone)]
pub struct Seen {
    pub from: PortId,
    pub length: usize,
    /// The first 64 bytes.
    pub start: Vec<u8>,
    pub vlan: Option<u16>,
    /// Bytes free before it.
    pub headroom: usize,
    pub offload: Offload,
}

/// Puts every frame that comes in by one of two ports out by the other.
pub struct Bridge {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<Ended>>,
}

/// What a bridge counted.
#[derive(Debug)]
pub struct Ended {
    pub counters: [PortCounters; 2],
    drops: DropCounters,
    pub seen: Vec<Seen>,
}

impl Ended {
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        self.drops.iter().filter(|(_, count)| *count > 0).collect()
    }

    pub fn longest(&self) -> usize {
        self.seen.iter().map(|seen| seen.length).max().unwrap_or(0)
    }
}

impl Bridge {
    pub fn between(a: Opened, b: Opened) -> Self {
        let mut ports = Ports::default();
        ports.attach(A, a);
        ports.attach(B, b);
        Self::over(ports)
    }

    /// Bridges the first two of `ports`.
    pub fn over(mut ports: Ports) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stopped, remembered) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut idle = true;
                for (port, other) in [(A, B), (B, A)] {
                    let route =
                        |frames: &mut [Frame<'_>], outputs: &mut [Option<PortId>; BATCH]| {
                            remember(port, frames, &remembered);
                            outputs[..frames.len()].fill(Some(other));
                        };
                    idle &= ports.pass(port, route).unwrap().frames == 0;
                }
                if idle {
                    sleep(&ports);
                }
            }
            Ended {
                counters: [A, B].map(|port| ports.counters(port)),
                drops: ports.drops().clone(),
                seen: Vec::new(),
            }
        });
        Self {
            stop,
            seen,
            thread: Some(thread),
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn end(mut self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join().unwrap();
        Ended {
            seen: self.seen(),
            ..ended
        }
    }
}

/// Keeps the first frames, and each that is longer than all before it from its port.
fn remember(port: PortId, frames: &[Frame<'_>], seen: &Mutex<Vec<Seen>>) {
    let mut seen = seen.lock().unwrap();
    let before = seen.iter().filter(|seen| seen.from == port);
    let mut longest = before.map(|seen| seen.length).max().unwrap_or(0);
    for frame in frames {
        if seen.len() < 100 || frame.bytes.len() > longest {
            longest = longest.max(frame.bytes.len());
            seen.push(Seen {
                from: port,
                length: frame.bytes.len(),
                start: frame.bytes[..frame.bytes.len().min(64)].to_vec(),
                vlan: frame.vlan,
                headroom: frame.headroom.len(),
                offload: frame.offload,
            });
        }
    }
}

fn sleep(ports: &Ports) {
    let ready: Vec<_> = [A, B]
        .iter()
        .flat_map(|&port| ports.descriptors(port))
        .collect();
    let mut ready: Vec<_> = ready
        .iter()
        .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
        .collect();
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    poll(&mut ready, Some(&wait)).unwrap();
}
