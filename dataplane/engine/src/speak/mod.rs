//! What the router itself says and answers: ARP, neighbour discovery, who is answered about which
//! address, claims, announcements, multicast groups, DHCP and router advertisements.

pub mod announce;
pub mod answers;
pub mod arp;
pub mod claims;
pub mod dhcp;
pub mod mld;
pub mod nd;
pub mod ra;
pub mod say;
