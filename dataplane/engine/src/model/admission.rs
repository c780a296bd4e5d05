//! What may come in by a port.

use crate::base::addr::MacAddr;
use crate::config::SourceCheck;

/// What may come in by a port, compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// How source addresses are checked; `None` on uplinks, where they are not.
    pub source: Option<SourceCheck>,
    /// The MACs that frames may come from; any when empty.
    pub macs: Vec<MacAddr>,
    /// Whether guests are configured behind it.
    pub guests: bool,
    /// Whether it is on a segment that guests are bridged to: theirs, or the uplink.
    pub bridged: bool,
}

/// Where nothing is checked.
pub(crate) static ANY: Admission = Admission {
    source: None,
    macs: Vec::new(),
    guests: false,
    bridged: false,
};

impl Admission {
    /// Whether anything is checked at all.
    pub fn is_checked(&self) -> bool {
        self.source.is_some_and(|source| source != SourceCheck::Off)
    }
}
