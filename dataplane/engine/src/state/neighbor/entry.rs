//! The types that the neighbour table takes and returns.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::time::Instant;
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

/// Time between solicitations (RFC 4861 §10 RETRANS_TIMER; RFC 1122 §2.3.2.1: at most one ARP
/// per second and destination).
pub(super) const RETRANSMIT: Duration = Duration::from_secs(1);
/// No place.
pub(super) const NONE: u16 = u16::MAX;

/// One neighbour.
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// The interface it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC; zero while incomplete.
    pub mac: MacAddr,
    /// The port it was heard on.
    pub port: PortId,
    /// How sure we are.
    pub state: NeighborState,
    /// When it was last confirmed, or asked for first.
    pub confirmed: Instant,
    /// Frames waiting for it.
    pub held: VecDeque<Held>,
    pub(super) link: Link,
    pub(super) use_count: u32,
    pub(super) live: bool,
    pub(super) solicited: u8,
    pub(super) reachable_until: Instant,
    pub(super) used: Instant,
}

/// Against whom a neighbour, or a packet that waits for one, is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// Nobody: it is configured.
    Pinned,
    /// The router, for packets of its own making.
    Ours,
    /// The port it was heard on.
    Port(PortId),
    /// The port whose packet needs it, as long as it is being asked for; `None`: the router.
    Asked(Option<PortId>),
}

impl From<Option<PortId>> for Taker {
    fn from(port: Option<PortId>) -> Self {
        port.map_or(Self::Ours, Self::Port)
    }
}

impl Taker {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Pinned => 0,
            Self::Ours => 1,
            Self::Asked(None) => 2,
            Self::Port(port) => 3 + 2 * port.index(),
            Self::Asked(Some(port)) => 4 + 2 * port.index(),
        }
    }

    /// Whose share it is a part of: the router's, or a port's.
    pub(super) const fn share(self) -> usize {
        match self {
            Self::Pinned | Self::Ours | Self::Asked(None) => 0,
            Self::Port(port) | Self::Asked(Some(port)) => 1 + port.index(),
        }
    }
}

/// A neighbour's place in the list of its taker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) taker: Taker,
    /// The one before, or [`NONE`].
    pub(super) older: u16,
    /// The next one, or [`NONE`].
    pub(super) newer: u16,
}

impl Link {
    pub(super) const fn of(taker: Taker) -> Self {
        Self {
            taker,
            older: NONE,
            newer: NONE,
        }
    }
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
        /// On this interface.
        interface: InterfaceId,
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
