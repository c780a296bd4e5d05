//! Rules, compiled.

use crate::base::addr::InterfaceId;
use crate::config::RuleVerdict;
use crate::config::condition::Condition;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The lower the earlier.
    pub priority: u32,
    /// Which packets it is for.
    pub condition: Condition<InterfaceId>,
    /// What to do; tables by index into the snapshot's.
    pub verdict: RuleVerdict,
}
