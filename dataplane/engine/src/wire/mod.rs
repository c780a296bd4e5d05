//! Bytes to structs and back: frames, packets, flows, and the messages of ARP, ICMP, neighbour
//! discovery and multicast listeners. Nothing here decides anything.

pub mod arp;
pub mod error;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod http;
pub mod icmp;
pub mod mld;
pub mod nd;
pub mod packet;
pub mod piece;
pub mod reassembly;
pub mod segment;
pub mod tcp;
