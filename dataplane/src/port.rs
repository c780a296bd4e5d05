//! Ports: where frames come in and go out, in batches.
//!
//! A batch is processed where the kernel put it: frames borrow a receive ring or a buffer, are
//! rewritten there, are sent from there, and only then is the room given back. The borrow checker
//! holds us to that order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use tapgate_engine::addr::PortId;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::Frame;

use crate::memory::MemoryPort;
use crate::sys::packet::{PacketReceiver, PacketSender};
use crate::sys::tap;

/// Most frames handled at once.
pub const BATCH: usize = 64;
/// Room that receiving one super-frame takes: 64 KiB, its link header and `virtio_net_hdr`.
pub const SPARE: usize = (64 << 10) + 64;
/// Room for the super-frames of one batch. More would not stay in the cache.
const ROOM: usize = 8 * SPARE;

/// Frames received together.
pub type Batch<'a> = ArrayVec<Frame<'a>, BATCH>;

/// What became of frames handed to a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames the kernel took.
    pub frames: u64,
    /// Their bytes, as on a wire.
    pub bytes: u64,
    /// Frames the kernel refused.
    pub refused: u64,
    /// Frames lost because the device is down or gone.
    pub down: u64,
}

/// Where frames come in.
#[derive(Debug)]
pub enum Ingress {
    /// A network device.
    Device(PacketReceiver),
    /// The queues of a TAP whose fd side we hold.
    Tap(Vec<Arc<OwnedFd>>),
    /// A queue in memory.
    Memory(Arc<MemoryPort>),
}

/// Where frames go out.
#[derive(Debug)]
pub enum Egress {
    /// A network device.
    Device(PacketSender),
    /// One queue of a TAP; the kernel spreads by flow what comes back.
    Tap(Arc<OwnedFd>),
    /// A queue in memory.
    Memory(Arc<MemoryPort>),
}

/// Both directions of a port.
pub type Opened = (Ingress, Egress);

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
    ingress: Vec<Option<Ingress>>,
    egress: Vec<Option<Egress>>,
    counters: Vec<PortCounters>,
    /// Frames lost here, before or after the engine.
    drops: DropCounters,
    room: Box<[u8]>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            ingress: Vec::new(),
            egress: Vec::new(),
            counters: Vec::new(),
            drops: DropCounters::default(),
            room: vec![0; ROOM].into(),
        }
    }
}

impl Ports {
    /// Puts a port in its place. Its counters go on from those of an earlier one in that place.
    pub fn attach(&mut self, port: PortId, ingress: Ingress, egress: Egress) {
        let places = self.ingress.len().max(port.index() + 1);
        self.ingress.resize_with(places, || None);
        self.egress.resize_with(places, || None);
        self.counters.resize(places, PortCounters::default());
        self.counters[port.index()].binds += 1;
        self.ingress[port.index()] = Some(ingress);
        self.egress[port.index()] = Some(egress);
    }

    /// Takes a port away. Its counters stay until another port gets its place.
    pub fn detach(&mut self, port: PortId) -> Option<Ingress> {
        self.count_kernel_drops(port);
        *self.egress.get_mut(port.index())? = None;
        self.ingress.get_mut(port.index())?.take()
    }

    /// Forgets what passed a port: another one gets its number.
    pub fn forget(&mut self, port: PortId) {
        if let Some(counters) = self.counters.get_mut(port.index()) {
            *counters = PortCounters::default();
        }
    }

    /// The receiving side of a port.
    pub fn ingress(&self, port: PortId) -> Option<&Ingress> {
        self.ingress.get(port.index())?.as_ref()
    }

    /// What passed a port.
    pub fn counters(&mut self, port: PortId) -> PortCounters {
        self.count_kernel_drops(port);
        self.counters.get(port.index()).copied().unwrap_or_default()
    }

    /// Frames lost in the ports.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// Receives one batch by `port`, has `route` decide about each frame, and sends them. `route`
    /// rewrites the frames in place and sets the place of each frame's number to its egress port;
    /// a frame whose place stays `None` goes nowhere. Returns what came in.
    ///
    /// # Errors
    /// The port's device is gone: detach it.
    pub fn pass(
        &mut self,
        port: PortId,
        route: impl FnOnce(&mut [Frame<'_>], &mut [Option<PortId>; BATCH]),
    ) -> io::Result<Passed> {
        let Some(Some(ingress)) = self.ingress.get_mut(port.index()) else {
            return Ok(Passed::default());
        };
        let mut batch = Batch::new();
        let received = ingress.receive(&mut self.room, &mut batch, &mut self.drops);
        let count = batch.len();
        let passed = Passed {
            frames: count,
            bytes: batch.iter().map(|frame| frame.bytes.len() as u64).sum(),
        };
        let counters = &mut self.counters[port.index()];
        counters.rx_frames += count as u64;
        counters.rx_bytes += passed.bytes;

        let mut outputs = [None; BATCH];
        if count > 0 {
            route(&mut batch, &mut outputs);
        }
        let mut first = 0;
        while let Some(egress) = outputs[first..count].iter().position(Option::is_some) {
            first += egress;
            let Some(port) = outputs[first] else { break };
            let taken = outputs;
            let frames = (first..count).filter(|&n| taken[n] == Some(port));
            send(
                &mut self.egress,
                &mut self.counters,
                &mut self.drops,
                port,
                frames.clone().map(|n| &batch[n]),
            );
            frames.for_each(|n| outputs[n] = None);
        }
        drop(batch);
        if let Some(Some(Ingress::Device(receiver))) = self.ingress.get_mut(port.index()) {
            receiver.release();
        }
        received.map(|()| passed)
    }

    /// Sends one frame by `port`.
    pub fn send(&mut self, port: PortId, frame: &Frame<'_>) {
        send(
            &mut self.egress,
            &mut self.counters,
            &mut self.drops,
            port,
            std::iter::once(frame),
        );
    }

    fn count_kernel_drops(&mut self, port: PortId) {
        if let Some(Some(Ingress::Device(receiver))) = self.ingress.get(port.index()) {
            let drops = receiver.socket().kernel_drops().unwrap_or_default();
            self.counters[port.index()].kernel_drops += drops;
        }
    }
}

impl Ingress {
    /// The descriptors that become readable when frames wait.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Device(receiver) => vec![receiver.socket().as_fd()],
            Self::Tap(queues) => queues.iter().map(|queue| queue.as_fd()).collect(),
            Self::Memory(memory) => vec![memory.as_fd()],
        }
    }

    fn receive<'a>(
        &'a mut self,
        mut room: &'a mut [u8],
        batch: &mut Batch<'a>,
        lost: &mut DropCounters,
    ) -> io::Result<()> {
        match self {
            Self::Device(receiver) => receiver.receive(&mut room, batch, lost),
            Self::Tap(queues) => {
                for queue in queues {
                    tap::receive(queue, &mut room, batch, lost)?;
                }
            }
            Self::Memory(memory) => memory.receive(&mut room, batch),
        }
        Ok(())
    }
}

/// Sends frames by one port and counts what became of them.
fn send<'f, 'b: 'f>(
    egress: &mut [Option<Egress>],
    counters: &mut [PortCounters],
    drops: &mut DropCounters,
    port: PortId,
    frames: impl Iterator<Item = &'f Frame<'b>>,
) {
    let sent = match egress.get_mut(port.index()) {
        Some(Some(Egress::Device(sender))) => sender.send(frames),
        Some(Some(Egress::Tap(queue))) => tap::send(queue, frames),
        Some(Some(Egress::Memory(memory))) => memory.send(frames),
        _ => Sent {
            down: frames.count() as u64,
            ..Sent::default()
        },
    };
    if let Some(counters) = counters.get_mut(port.index()) {
        counters.tx_frames += sent.frames;
        counters.tx_bytes += sent.bytes;
        counters.tx_errors += sent.refused;
    }
    drops.add(DropReason::TransmitFailed, sent.refused);
    drops.add(DropReason::PortDown, sent.down);
}
