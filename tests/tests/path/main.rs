//! What becomes of a packet: where it goes, under which address, and what its sender is told.

mod behaviour;
mod behaviour6;
mod brakes;
mod bridged;
mod errors6;
mod forged;
mod fragments;
mod fuzz;
mod groups;
mod guests;
mod ipv6;
mod kinds;
mod mss;
mod nat;
mod offloads;
mod own;
mod policy;
mod ports;
mod prefixes;
mod quotas;
mod routing;
mod tcp;
mod transfer;
mod uplink;
mod verbs;
mod workers;
