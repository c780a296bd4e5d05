//! The segment of an uplink that guests are bridged to.

use crate::base::addr::PortId;

/// The segment of an uplink that a bridged network's guests are on, beside its personalities and the
/// provider's machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bridge {
    /// The uplink.
    pub uplink: PortId,
    /// The VLAN there; guests' ports are untagged.
    pub vlan: Option<u16>,
}
