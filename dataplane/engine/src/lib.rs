//! The tapgate router without any I/O: frames in, verdicts out.
#![forbid(unsafe_code)]

pub mod addr;
mod adopt;
mod announce;
mod answers;
mod antispoof;
mod arp;
pub mod checksum;
pub mod claims;
pub mod config;
pub mod counters;
pub mod drops;
mod egress;
pub mod explain;
pub mod family;
pub mod fib;
mod flows;
mod forward;
pub mod fragment;
pub mod frame;
mod hop;
mod icmp;
pub mod interface;
mod listener;
mod local;
pub mod nat;
mod nd;
pub mod neighbor;
pub mod owners;
pub mod packet;
mod process;
pub mod segment;
mod service;
pub mod session;
pub mod shard;
pub mod snapshot;
mod standing;
pub mod time;
mod view;
mod wearers;

pub use process::process;
