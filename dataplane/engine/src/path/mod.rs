//! Deciding about one packet, and sending it on.

pub mod admit;
pub mod bridge;
pub mod errors;
pub mod forward;
pub mod fragments;
pub mod hop;
pub mod judge;
pub mod local;
pub mod offload;
pub mod policy;
pub mod query;
pub mod refuse;
pub mod standing;
