//! The router: one frame in, one verdict out.

use crate::addr::PortId;
use crate::frame::{Frame, Verdict};
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::time::Instant;

/// Routes one frame. It is rewritten in place if the verdict says [`Verdict::Emit`]; drops are
/// already counted.
pub fn process(
    _frame: &mut Frame<'_>,
    _ingress: PortId,
    _snapshot: &Snapshot,
    _shard: &mut Shard,
    _now: Instant,
) -> Verdict {
    todo!()
}
