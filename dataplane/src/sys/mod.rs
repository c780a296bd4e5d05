//! What needs the kernel's own interfaces and `unsafe`: nothing outside this module has any.

mod filter;
mod outgoing;
pub mod packet;
pub mod ring;
pub mod sessions;
pub mod tap;
