//! Tapgate's forwarding process: all input and output, around the engine that decides.

mod binding;
pub mod dataplane;
pub mod link;
pub mod memory;
mod offload;
pub mod port;
pub mod server;
mod show;
pub mod sys;
pub mod worker;
