//! The context of a frame: everything that handling it may read or change.

use super::router::Router;
use super::shard::Shard;
use crate::base::addr::PortId;
use crate::base::time::Instant;
use crate::model::snapshot::Snapshot;

/// What one frame, or one thing that has become due, is handled with.
pub(crate) struct Context<'a, T> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) router: &'a mut Router,
    pub(crate) shard: &'a mut Shard,
    pub(crate) now: Instant,
    pub(crate) trace: &'a mut T,
    /// The port that the frame came in by; `None` for frames of our own.
    pub(crate) ingress: Option<PortId>,
}
