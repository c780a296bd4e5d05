//! What needs the kernel's own interfaces and `unsafe`: nothing outside this module has any.

mod filter;
pub mod netns;
pub mod packet;
pub mod ring;
pub mod sched;
mod sendmmsg;
pub mod sessions;
pub mod tap;
