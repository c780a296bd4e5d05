//! Which versions of the protocol a process speaks.
//!
//! | version | what it brings |
//! |---|---|
//! | 1 | everything else |
//! | 2 | a message may come with more descriptors than the kernel passes in one call |
//! | 3 | heartbeats, progress: `Beat` to the dataplane, `Health` to control |
//! | 4 | `Config` to control, `ExplainOwn` and `Watch` to the dataplane |
//! | 5 | `tos` of what is to be explained, and what the router sends without saying its source |
//!
//! Both sides of a connection say in their `Hello` which versions they speak, and use the newest
//! that both do. So control and the dataplane can be upgraded one after the other, in either order,
//! while packets flow. `Hello` itself must stay readable for all versions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first version in which a message may come with more than
/// [`DESCRIPTORS_AT_ONCE`](crate::DESCRIPTORS_AT_ONCE) descriptors.
pub(crate) const MANY_DESCRIPTORS: u32 = 2;
/// The first version with [`Request::Beat`](crate::Request::Beat) and
/// [`Request::Health`](crate::Request::Health).
pub(crate) const HEARTBEATS: u32 = 3;

/// The versions that one side speaks: `oldest`, `newest` and all between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The first.
    pub oldest: u32,
    /// The last.
    pub newest: u32,
}

impl Versions {
    /// Those that this code speaks.
    pub const OURS: Self = Self {
        oldest: 1,
        newest: 5,
    };

    /// Those of a peer whose `Hello` says `version` and `speaks`; the latter is missing from a
    /// process from before version ranges.
    pub fn said(version: u32, speaks: Option<Self>) -> Self {
        speaks.unwrap_or(Self {
            oldest: version,
            newest: version,
        })
    }

    /// The newest version that both speak.
    pub fn common(self, theirs: Self) -> Option<u32> {
        let newest = self.newest.min(theirs.newest);
        (newest >= self.oldest.max(theirs.oldest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { oldest, newest } if oldest == newest => write!(f, "version {oldest}"),
            Self { oldest, newest } => write!(f, "versions {oldest} to {newest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_both_is_used() {
        let versions = |oldest, newest| Versions { oldest, newest };
        for (ours, theirs, common) in [
            (versions(1, 2), versions(1, 2), Some(2)),
            (versions(1, 2), versions(1, 1), Some(1)),
            (versions(1, 2), versions(2, 9), Some(2)),
            (versions(1, 2), versions(3, 9), None),
            (versions(4, 5), versions(1, 3), None),
            // Nonsense is nobody's.
            (versions(1, 2), versions(2, 1), None),
            (versions(1, 2), versions(0, 0), None),
        ] {
            assert_eq!(ours.common(theirs), common, "{ours} and {theirs}");
            assert_eq!(theirs.common(ours), common, "{theirs} and {ours}");
        }
    }
}
