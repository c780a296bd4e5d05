//! What the fuzzers do with an input; plain functions, so that the corpora are replayed without a
//! fuzzer (`tests/replay.rs`). A function panics when something is wrong.
//!
//! | target | input | what must hold |
//! |---|---|---|
//! | [`frames`] | frames, times, reloads | the harness's checks: one verdict each, the books balance, what leaves wears one personality |
//! | [`sessions`] | session memory, then the same | the same |
//! | [`control`] | what comes through a socket, with descriptors | understood or refused; no descriptor stays open |
//! | [`file`](mod@file) | a configuration file | a router, or faults with their places in the text |

pub mod control;
pub mod file;
pub mod frames;
mod mend;
mod play;
pub mod seeds;
pub mod sessions;

/// A target's name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 4] = [
    ("control", control::run),
    ("file", file::run),
    ("frames", frames::run),
    ("sessions", sessions::run),
];
