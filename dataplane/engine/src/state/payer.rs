//! Whom something counts against that guests and strangers can use up.

use crate::base::addr::PortId;

/// Whom it counts against. A guest is told by the number of its name, which it keeps from one
/// configuration to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payer {
    /// A guest, for what it opens.
    By(u16),
    /// A guest, for what was opened to it and what it answered.
    To(u16),
    /// A port, for what comes in by it from nobody that is configured: from the guests of a network
    /// without `[guests]`, or from strangers on an uplink.
    Port(PortId),
    /// Nobody that is known: what an earlier dataplane left.
    Nobody,
}

impl Payer {
    /// A number for it, dense if guests' and ports' are.
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::Nobody => 0,
            Self::By(guest) => 1 + 3 * usize::from(guest),
            Self::To(guest) => 2 + 3 * usize::from(guest),
            Self::Port(port) => 3 + 3 * port.index(),
        }
    }
}
