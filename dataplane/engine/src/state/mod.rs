//! What is remembered between packets. [`shard::Shard`] is one worker's: sessions, the external ports
//! they hold, counters, frames to send. [`router::Router`] is there once, however many workers there
//! are: neighbours, next hops' health, claims, announcements, memberships, advertisements.

pub mod advertisers;
pub mod announcer;
pub mod answers;
pub mod claims;
pub mod context;
pub(crate) mod destinations;
pub mod egress;
#[cfg(test)]
mod flooding;
pub mod flows;
pub(crate) mod fragments;
pub mod journal;
pub mod memberships;
pub(crate) mod metadata;
pub mod neighbor;
pub mod nexthops;
pub mod payer;
pub mod ports;
pub(crate) mod rates;
pub mod refused;
pub mod router;
pub mod session;
pub mod shard;
pub mod virtuals;
