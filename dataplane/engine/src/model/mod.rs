//! What is configured, compiled and immutable: interfaces, who owns what, tables and rules,
//! translations; and finding the way through them.

pub mod admission;
pub mod bridge;
pub mod change;
pub mod health;
pub mod hops;
pub mod interface;
mod interfaces;
mod names;
pub mod nat;
pub mod owners;
pub mod pair;
pub mod policy;
mod presence;
pub mod route;
pub(crate) mod routing;
pub mod rules;
pub mod snapshot;
pub mod tables;
pub mod trace;
mod vectors;
