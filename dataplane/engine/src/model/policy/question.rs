//! What is asked about a flow.

use std::net::IpAddr;

use crate::base::addr::{GuestId, InterfaceId};

/// One end of a flow: the interface it is behind, and the guest if it is one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The interface.
    pub interface: InterfaceId,
    /// The guest.
    pub guest: Option<GuestId>,
    /// The address, inside.
    pub address: IpAddr,
}

/// What is asked about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// The protocol.
    pub protocol: u8,
    /// The destination port, or the ICMP type; 0 if it has neither.
    pub service: u16,
    /// The source port; 0 if it has none.
    pub source_port: u16,
}
