//! Sessions and neighbours as people see them.

use std::net::IpAddr;

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::time::Instant;

/// A session, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `tapgate show sessions`
pub struct SessionView {
    pub protocol: u8,
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    /// The source as the destination sees it, when translated.
    pub translated: Option<(IpAddr, u16)>,
    pub iif: InterfaceId,
    pub oif: InterfaceId,
    pub state: &'static str,
    /// Packets and bytes from the opener.
    pub forward: (u64, u64),
    /// Packets and bytes back to it.
    pub reply: (u64, u64),
    pub expires: Instant,
}

/// A neighbour, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `tapgate show neighbors`
pub struct NeighborView {
    pub address: IpAddr,
    pub interface: InterfaceId,
    pub port: Option<PortId>,
    pub mac: Option<MacAddr>,
    pub state: &'static str,
    pub confirmed: Instant,
    pub held: usize,
}
