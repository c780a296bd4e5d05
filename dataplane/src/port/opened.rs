//! An opened port of whichever kind: the one place that tells the kinds apart on the way of a
//! frame.

use std::io;
use std::os::fd::BorrowedFd;

use tapgate_engine::drops::DropCounters;
use tapgate_engine::frame::Frame;

use super::device::Device;
use super::driver::{Batch, Capabilities, Driver, Sent};
use super::memory::Memory;
use super::tap::Tap;

/// An opened port.
#[derive(Debug)]
pub enum Opened {
    /// A network device.
    Device(Device),
    /// A TAP whose fd side we hold.
    Tap(Tap),
    /// Queues in memory.
    Memory(Memory),
}

/// Has the driver of a port do something.
macro_rules! driver {
    ($port:expr, $driver:ident => $what:expr) => {
        match $port {
            Opened::Device($driver) => $what,
            Opened::Tap($driver) => $what,
            Opened::Memory($driver) => $what,
        }
    };
}

impl Driver for Opened {
    fn capabilities(&self) -> Capabilities {
        driver!(self, port => port.capabilities())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        driver!(self, port => port.descriptors())
    }

    fn receive<'a>(&'a self, batch: &mut Batch<'a>, lost: &mut DropCounters) -> io::Result<()> {
        driver!(self, port => port.receive(batch, lost))
    }

    fn transmit<'f, 'b: 'f>(&self, frames: impl Iterator<Item = &'f mut Frame<'b>>) -> Sent {
        driver!(self, port => port.transmit(frames))
    }

    fn reclaim(&mut self) -> u64 {
        driver!(self, port => port.reclaim())
    }

    fn kernel_drops(&self) -> u64 {
        driver!(self, port => port.kernel_drops())
    }

    fn take_error(&self) -> Option<io::Error> {
        driver!(self, port => port.take_error())
    }
}
