//! Ports: where frames come in and go out, in batches.
//!
//! A batch is processed where its driver put it: frames borrow a receive ring or a buffer, are
//! rewritten there and sent from there, and only then is the room reclaimed. The borrow checker
//! enforces that order.

pub mod device;
pub mod driver;
pub mod memory;
mod offload;
mod opened;
mod software;
pub mod tap;

use std::io;
use std::os::fd::BorrowedFd;

use tapgate_engine::addr::PortId;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::Frame;

pub use driver::BATCH;
use driver::{Batch, Capabilities, Driver, ROOM, Sent};
pub use opened::Opened;

/// What came in at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames.
    pub frames: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What passed a port since the dataplane started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `tapgate show ports`
pub struct PortCounters {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub kernel_drops: u64,
    pub binds: u64,
}

/// All ports of one worker, by their [`PortId`].
#[derive(Debug)]
pub struct Ports {
    opened: Vec<Option<Opened>>,
    /// Where drivers without memory of their own put what they receive.
    room: Box<[u8]>,
    books: Books,
}

/// Everything about all ports but their drivers.
#[derive(Debug, Default)]
struct Books {
    counters: Vec<PortCounters>,
    /// Frames lost here, before or after the engine.
    drops: DropCounters,
    /// Ports that have frames under way.
    unfinished: Vec<PortId>,
    /// Room for frames that are made in software.
    scratch: Vec<u8>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            opened: Vec::new(),
            room: vec![0; ROOM].into(),
            books: Books::default(),
        }
    }
}

impl Ports {
    /// Adds an opened port. Its counters go on from those of an earlier one of that number.
    pub fn attach(&mut self, port: PortId, opened: Opened) {
        let places = self.opened.len().max(port.index() + 1);
        self.opened.resize_with(places, || None);
        self.books.counters.resize(places, PortCounters::default());
        self.books.counters[port.index()].binds += 1;
        self.opened[port.index()] = Some(opened);
    }

    /// Removes a port. Its counters stay.
    pub fn detach(&mut self, port: PortId) {
        self.count_kernel_drops(port);
        if let Some(place) = self.opened.get_mut(port.index()) {
            *place = None;
        }
    }

    /// Sets a port's counters to zero, because another port gets its number.
    pub fn forget(&mut self, port: PortId) {
        if let Some(counters) = self.books.counters.get_mut(port.index()) {
            *counters = PortCounters::default();
        }
    }

    /// The descriptors of a port that become readable when frames wait.
    pub fn descriptors(&self, port: PortId) -> Vec<BorrowedFd<'_>> {
        let driver = driver_of(&self.opened, port);
        driver.map(Driver::descriptors).unwrap_or_default()
    }

    /// Takes an error that makes a port's descriptor count as ready until it is taken.
    pub fn take_error(&self, port: PortId) -> Option<io::Error> {
        driver_of(&self.opened, port)?.take_error()
    }

    /// What passed a port.
    pub fn counters(&mut self, port: PortId) -> PortCounters {
        self.count_kernel_drops(port);
        let counters = self.books.counters.get(port.index());
        counters.copied().unwrap_or_default()
    }

    /// Frames lost in the ports.
    pub fn drops(&self) -> &DropCounters {
        &self.books.drops
    }

    /// Receives one batch by `port`, has `route` decide about each frame, sends them, and reclaims
    /// their room. `route` gets the frames and, in the same order, a place for each one's egress
    /// port. It rewrites the frames; one whose place stays `None` is not sent. Returns what came
    /// in.
    ///
    /// # Errors
    /// The port's device is gone: detach it.
    pub fn pass(
        &mut self,
        port: PortId,
        route: impl FnOnce(&mut [Frame<'_>], &mut [Option<PortId>; BATCH]),
    ) -> io::Result<Passed> {
        let Some(ingress) = driver_of(&self.opened, port) else {
            return Ok(Passed::default());
        };
        let mut batch = Batch::new(&mut self.room);
        let received = ingress.receive(&mut batch, &mut self.books.drops);
        let frames = batch.frames();
        let passed = Passed {
            frames: frames.len(),
            bytes: frames.iter().map(|frame| frame.bytes.len() as u64).sum(),
        };
        let counters = &mut self.books.counters[port.index()];
        counters.rx_frames += passed.frames as u64;
        counters.rx_bytes += passed.bytes;

        let mut outputs = [None; BATCH];
        if !frames.is_empty() {
            route(frames, &mut outputs);
        }
        let outputs = &mut outputs[..passed.frames];
        let mut first = 0;
        while let Some(next) = outputs[first..].iter().position(Option::is_some) {
            first += next;
            let egress = outputs[first];
            let leaving = frames.iter_mut().zip(&*outputs);
            let leaving = leaving.filter_map(|(frame, to)| (*to == egress).then_some(frame));
            if let Some(egress) = egress {
                self.books.send(&self.opened, egress, leaving);
            }
            for output in outputs.iter_mut().filter(|to| **to == egress) {
                *output = None;
            }
        }
        drop(batch);
        if let Some(Some(ingress)) = self.opened.get_mut(port.index()) {
            ingress.reclaim();
        }
        received.map(|()| passed)
    }

    /// Sends one frame by `port`.
    pub fn send(&mut self, port: PortId, frame: &mut Frame<'_>) {
        self.books.send(&self.opened, port, std::iter::once(frame));
    }

    /// Has drivers that complete transmissions later look which are complete. Returns whether
    /// frames are still under way; then it must be called again soon.
    pub fn reclaim(&mut self) -> bool {
        let opened = &mut self.opened;
        self.books.unfinished.retain(|port| {
            let driver = opened.get_mut(port.index()).and_then(Option::as_mut);
            driver.is_some_and(|driver| driver.reclaim() > 0)
        });
        !self.books.unfinished.is_empty()
    }

    fn count_kernel_drops(&mut self, port: PortId) {
        if let Some(driver) = driver_of(&self.opened, port) {
            self.books.counters[port.index()].kernel_drops += driver.kernel_drops();
        }
    }
}

impl Books {
    /// Sends frames by one port and counts what became of them.
    fn send<'f, 'b: 'f>(
        &mut self,
        ports: &[Option<Opened>],
        port: PortId,
        frames: impl Iterator<Item = &'f mut Frame<'b>>,
    ) {
        let sent = match driver_of(ports, port) {
            Some(driver) if driver.capabilities() == Capabilities::ALL => driver.transmit(frames),
            Some(driver) => {
                let (sent, malformed) = software::transmit(driver, frames, &mut self.scratch);
                self.drops.add(DropReason::OffloadMalformed, malformed);
                sent
            }
            None => Sent {
                down: frames.count() as u64,
                ..Sent::default()
            },
        };
        if let Some(counters) = self.counters.get_mut(port.index()) {
            counters.tx_frames += sent.frames;
            counters.tx_bytes += sent.bytes;
            counters.tx_errors += sent.refused;
        }
        self.drops.add(DropReason::TransmitFailed, sent.refused);
        self.drops.add(DropReason::PortDown, sent.down);
        if sent.under_way > 0 && !self.unfinished.contains(&port) {
            self.unfinished.push(port);
        }
    }
}

/// The driver of a port.
fn driver_of(ports: &[Option<Opened>], port: PortId) -> Option<&Opened> {
    ports.get(port.index())?.as_ref()
}
