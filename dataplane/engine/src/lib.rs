//! The tapgate router without any I/O: frames in, verdicts out.
//!
//! Its folders are floors: each imports from those below it and from none above.
//!
//! | floor | what it is |
//! |---|---|
//! | [`run`] | what the dataplane calls |
//! | `speak` | what the router itself says and answers |
//! | `path` | deciding about one packet, and sending it on |
//! | [`state`] | what is remembered between packets |
//! | [`model`] | what is configured, compiled and immutable |
//! | [`config`] | the file and its checks |
//! | [`wire`] | bytes to structs and back |
//! | [`base`] | values without policy |
#![forbid(unsafe_code)]

pub mod base;
pub mod config;
pub mod model;
mod path;
pub mod run;
mod speak;
pub mod state;
pub mod wire;

pub use base::{addr, checksum, drops, time};
pub use model::snapshot;
pub use run::{Engine, explain, process};
pub use state::session;
pub use wire::{fragment, frame, packet, segment};
