//! Deciding about one packet, and sending it on.

pub mod admit;
pub mod back;
pub(crate) mod bandwidth;
pub mod bridge;
pub mod errors;
pub mod forward;
pub mod fragments;
pub mod hairpin;
pub mod hop;
pub mod judge;
pub(crate) mod limits;
pub mod local;
pub(crate) mod log;
pub mod metadata;
pub mod mss;
pub mod offload;
pub mod policy;
pub mod query;
pub mod refuse;
pub mod standing;
