//! What stands behind the keys of a rule.

use super::super::matching::Ports;

/// What is written behind a key.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) enum Value {
    Text(String),
    /// Written as one or as a list.
    Texts(Vec<String>),
    Ports(Vec<Ports>),
    Number(u32),
    True,
}
