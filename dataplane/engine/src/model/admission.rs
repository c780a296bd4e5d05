//! What may come in by a port.

use crate::base::addr::MacAddr;
use crate::config::SourceCheck;

/// What may come in by a port, compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Which source addresses; none is checked on uplinks.
    pub source: Option<SourceCheck>,
    /// The only MACs; any when empty.
    pub macs: Vec<MacAddr>,
    /// Guests are configured behind it.
    pub guests: bool,
}

/// Where nothing is checked.
pub(crate) static ANY: Admission = Admission {
    source: None,
    macs: Vec::new(),
    guests: false,
};

impl Admission {
    /// Whether anything is checked at all.
    pub fn is_checked(&self) -> bool {
        self.source.is_some_and(|source| source != SourceCheck::Off)
    }
}
