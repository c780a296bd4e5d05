//! The tapgate router without any I/O: frames in, verdicts out.
#![forbid(unsafe_code)]

pub mod addr;
pub mod checksum;
pub mod config;
pub mod drops;
pub mod explain;
pub mod fragment;
pub mod frame;
mod process;
pub mod segment;
pub mod session;
pub mod shard;
pub mod snapshot;
pub mod time;

pub use process::process;
