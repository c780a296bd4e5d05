//! The types that the neighbour table takes and returns.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::wire::frame::OwnedFrame;

/// A neighbour, as sessions remember it: its place in the table, and how often that place had been
/// given out. When the place is given to another neighbour, this no longer names anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborId {
    pub(crate) slot: u16,
    pub(crate) use_count: u32,
}

impl NeighborId {
    /// No neighbour.
    pub const NONE: Self = Self {
        slot: u16::MAX,
        use_count: u32::MAX,
    };
}

/// A frame that waits for a neighbour.
#[derive(Debug, Clone)]
pub struct Held {
    /// The frame: as received, or of our own making and ready but for its destination MAC.
    pub frame: OwnedFrame,
    /// The port it was received on; `None` if it is ours.
    pub origin: Option<PortId>,
    /// The worker that routes it, because it has its flow.
    pub worker: u16,
}

/// What is known of a neighbour's MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It is known.
    Known(NeighborId, MacAddr, PortId),
    /// It is being asked for.
    Pending(NeighborId),
    /// It is not known, and there is no room to ask for it.
    Full,
}

/// What the table wants done.
#[derive(Debug)]
pub enum Event {
    /// Ask for `target` on `interface`: everybody, or only the one last heard of.
    Solicit {
        /// On this interface.
        interface: InterfaceId,
        /// Whose MAC.
        target: IpAddr,
        /// Everybody when `None`.
        to: Option<(MacAddr, PortId)>,
    },
    /// `target` did not answer; these frames waited for it.
    Failed {
        /// Who did not answer.
        target: IpAddr,
        /// What waited.
        held: VecDeque<Held>,
    },
}

/// How sure we are of a neighbour's MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Known, but not confirmed lately.
    Stale,
    /// Used while stale; somebody else may confirm it.
    Delay,
    /// Being asked whether it is still there.
    Probe,
    /// Configured: neither asked for nor changed by what is heard.
    Permanent,
}

impl NeighborState {
    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Delay => "delay",
            Self::Probe => "probe",
            Self::Permanent => "permanent",
        }
    }
}
