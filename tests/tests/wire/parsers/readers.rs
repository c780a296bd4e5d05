//! The other readers, each used as its documentation says.

mod etherparse;
mod pnet;
mod smoltcp;

use super::Transport;

pub(crate) use etherparse::etherparse;
pub(crate) use pnet::pnet;
pub(crate) use smoltcp::smoltcp;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// RFC 792: the errors are destination unreachable, source quench, redirect, time exceeded and
/// parameter problem.
fn icmp4(kind: u8, id: u16) -> Transport {
    match kind {
        8 => Transport::EchoRequest(id),
        0 => Transport::EchoReply(id),
        3 | 4 | 5 | 11 | 12 => Transport::IcmpError,
        other => Transport::IcmpOther(other),
    }
}

/// RFC 4443 §2.1: the errors are those below 128.
fn icmp6(kind: u8, id: u16) -> Transport {
    match kind {
        128 => Transport::EchoRequest(id),
        129 => Transport::EchoReply(id),
        0..128 => Transport::IcmpError,
        other => Transport::IcmpOther(other),
    }
}

/// FIN first, CWR last.
fn flags(set: [bool; 8]) -> u8 {
    let bits = set.into_iter().enumerate();
    bits.fold(0, |flags, (bit, set)| flags | u8::from(set) << bit)
}

/// Where a part of a frame begins in it.
fn offset(frame: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - frame.as_ptr() as usize
}
