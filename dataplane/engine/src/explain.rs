//! Telling what `process` decides, and why, in its own order.

mod frame;

use serde::{Deserialize, Serialize};

pub use frame::{Packet, frame};

/// One decision about a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The stage that decided: `interface`, `session`, `rule`, `table`, `route`, `ttl`, `mtu`,
    /// `nat`, `neighbor`, `egress`, …
    pub stage: String,
    /// What was decided and what it was decided on, in one line.
    pub detail: String,
}

/// Listens to decisions. The forwarding path is compiled once with [`Silent`], at no cost, and
/// once with [`Steps`].
pub trait Trace {
    /// Hears one decision; `detail` is built only if somebody listens.
    fn step(&mut self, stage: &str, detail: impl FnOnce() -> String);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Trace for Silent {
    #[inline(always)]
    fn step(&mut self, _stage: &str, _detail: impl FnOnce() -> String) {}
}

/// Everything that was decided, in order.
#[derive(Debug, Clone, Default)]
pub struct Steps(pub Vec<Step>);

impl Trace for Steps {
    fn step(&mut self, stage: &str, detail: impl FnOnce() -> String) {
        self.0.push(Step {
            stage: stage.to_owned(),
            detail: detail(),
        });
    }
}
