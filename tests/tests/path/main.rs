//! What becomes of a packet: where it goes, under which address, and what its sender is told.

mod bridged;
mod errors6;
mod forged;
mod fragments;
mod fuzz;
mod guests;
mod ipv6;
mod kinds;
mod nat;
mod offloads;
mod policy;
mod ports;
mod quotas;
mod tcp;
mod transfer;
mod uplink;
mod workers;
