//! Why a packet's sender is told that it did not arrive.

/// A header field that must be answered with "parameter problem" (RFC 4443 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// The code: 0 erroneous field, 1 unknown next header, 2 unknown option.
    pub code: u8,
    /// The offending byte, from the start of the IP header.
    pub pointer: u16,
    /// The sender is told.
    pub told: bool,
}

/// Why the sender of a packet is written to; what it becomes on the wire is the family's matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// No rule led to a route, or a rule said unreachable.
    NoRoute,
    /// A route said unreachable.
    RejectRoute,
    /// The next hop does not answer.
    HostUnreachable,
    /// Nobody speaks that protocol here.
    ProtocolUnreachable,
    /// Nobody listens on that port here.
    PortUnreachable,
    /// Larger than the next link's MTU.
    TooBig {
        /// That MTU, in bytes.
        mtu: u32,
    },
    /// Not allowed.
    Prohibited,
    /// Its source means nothing beyond the link it came from.
    BeyondScope,
    /// Not allowed from that source.
    SourcePolicy,
    /// TTL or hop limit used up.
    TtlExceeded,
    /// Not all fragments of a datagram for us came in time.
    ReassemblyTimeout,
    /// A header field that must be refused.
    ParameterProblem(Problem),
}

impl IcmpError {
    /// How many classes there are.
    pub const CLASSES: usize = 3;

    /// Errors of one class share a budget, so that a flood of one does not silence the others
    /// (F12).
    pub const fn class(self) -> usize {
        match self {
            Self::TtlExceeded | Self::ReassemblyTimeout => 0,
            Self::TooBig { .. } => 1,
            _ => 2,
        }
    }
}
