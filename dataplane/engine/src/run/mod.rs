//! What the dataplane calls: routing a frame, doing what has become due, adopting a configuration,
//! explaining.

mod adopt;
mod due;
mod engine;
pub mod explain;
mod process;
pub mod steer;
mod view;

pub use adopt::{adopt_router, adopt_shard, port_attached, start_router, start_shard};
pub use due::{drain, drain_by, poll, stop};
pub use engine::Engine;
pub use process::{process, process_traced};
pub use view::{
    NeighborView, NextHopView, SessionView, Usage, counters, neighbors, next_hops, sessions, usage,
};
