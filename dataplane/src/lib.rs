//! Tapgate's forwarding process: all input and output, around the engine that decides.

mod binding;
pub mod dataplane;
mod explain;
pub mod hostguard;
mod hostports;
pub mod link;
mod macs;
mod netfilter;
pub mod port;
mod pulse;
mod quiet;
mod report;
pub mod server;
pub mod shared;
mod show;
pub mod sys;
pub mod watch;
mod watching;
pub mod worker;
