//! Flows: what a packet's addresses, ports and protocol say it belongs to.

use std::hash::{BuildHasher, Hasher};

use crate::base::hash::HashKey;
use crate::base::ip::Address;

/// Which way a packet of a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the side that opened the session.
    Forward,
    /// Back to it.
    Reply,
}

impl Direction {
    /// The other way.
    pub const fn reversed(self) -> Self {
        match self {
            Self::Forward => Self::Reply,
            Self::Reply => Self::Forward,
        }
    }
}

/// What identifies a flow: the five-tuple. For ICMP echo the identifier stands as the source port
/// of requests and as the destination port of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl<A: Address> Flow<A> {
    /// The same flow as its answers see it.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// The flow's hash under `key`.
    #[inline]
    pub fn hash(&self, key: &HashKey) -> u64 {
        self.hash_with(0, key)
    }

    /// The flow's hash under `key` where something else, below 2^16, tells apart what has it.
    #[inline]
    pub fn hash_with(&self, other: u64, key: &HashKey) -> u64 {
        let mut hasher = key.build_hasher();
        let rest = other << 48
            | u64::from(self.source_port) << 32
            | u64::from(self.destination_port) << 16
            | u64::from(self.protocol);
        self.source.write_with(self.destination, rest, &mut hasher);
        hasher.finish()
    }
}
