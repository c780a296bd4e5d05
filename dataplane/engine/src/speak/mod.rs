//! What the router itself says and answers: ARP, neighbour discovery, who is answered about which
//! address, claims, announcements, multicast groups, DHCP, router advertisements and
//! metadata.

pub mod announce;
pub mod answers;
pub mod arp;
pub mod claims;
pub mod dhcp;
pub mod metadata;
pub mod mld;
pub mod nd;
pub mod ra;
pub mod say;
pub mod virtuals;
