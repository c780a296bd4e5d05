//! Multicast listener messages (RFC 3810, RFC 2710).

use std::net::Ipv6Addr;

use super::frame::{ETHERNET, OwnedFrame};
use super::icmp;
use super::packet::Family;

/// ICMPv6 types (RFC 3810 §5, RFC 2710 §3).
pub const QUERY: u8 = 130;
#[allow(missing_docs)]
pub const REPORT_V1: u8 = 131;
#[allow(missing_docs)]
pub const DONE_V1: u8 = 132;
#[allow(missing_docs)]
pub const REPORT: u8 = 143;

/// Where reports go (RFC 3810 §5.2.14) and where a version-1 listener says that it leaves.
pub const ALL_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
#[allow(missing_docs)]
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The kind of a record (RFC 3810 §5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// We listen: an answer.
    IsExclude = 2,
    /// We listen no longer.
    ToInclude = 3,
    /// We listen from now on.
    ToExclude = 4,
}

/// The maximum response delay that a code stands for, in milliseconds (RFC 3810 §5.1.3).
pub fn response_ms(code: u16) -> u64 {
    if code < 0x8000 {
        return u64::from(code);
    }
    let (exponent, mantissa) = (code >> 12 & 7, code & 0xfff);
    u64::from(mantissa | 0x1000) << (exponent + 3)
}

/// A version-2 report (RFC 3810 §5.2), its checksum still zero.
pub fn message(record: Record, groups: &[Ipv6Addr]) -> Vec<u8> {
    let mut bytes = vec![REPORT, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    for group in groups {
        bytes.extend_from_slice(&[record as u8, 0, 0, 0]);
        bytes.extend_from_slice(&group.octets());
    }
    bytes
}

/// A version-1 report or done (RFC 2710 §3), its checksum still zero.
pub fn message_v1(kind: u8, group: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&group.octets());
    bytes
}

/// A frame with `message` behind a Router Alert (RFC 2711; RFC 3810 §5), hop limit 1; its MACs are
/// still to be set.
pub fn frame(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> OwnedFrame {
    const HOP_BY_HOP: u8 = 0;
    const ROUTER_ALERT: [u8; 6] = [5, 2, 0, 0, 1, 0];
    let mut bytes = Ipv6Addr::icmp_frame(source, destination, 1, 8 + message.len());
    bytes[ETHERNET + 6] = HOP_BY_HOP;
    bytes.extend_from_slice(&[Ipv6Addr::ICMP, 0]);
    bytes.extend_from_slice(&ROUTER_ALERT);
    let at = bytes.len();
    bytes.extend_from_slice(message);
    icmp::seal((source, destination), &mut bytes[at..]);
    OwnedFrame {
        bytes,
        ..OwnedFrame::default()
    }
}
