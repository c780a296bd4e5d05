//! ICMP errors of our own making (RFC 792, RFC 1812 §4.3), and their rate limit.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::checksum;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::fib;
use crate::forward::Hop;
use crate::frame::{Frame, OwnedFrame};
use crate::neighbor::Held;
use crate::packet::{ETHERNET, ICMP, Packet, Transport, fill_header_checksum};
use crate::process::Router;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

/// Largest ICMP error, in bytes with its IP header (RFC 1812 §4.3.2.3, F09).
const LARGEST: usize = 576;
/// Bytes before the quoted packet: IP header and ICMP header.
const HEADERS: usize = 28;
/// Type of service of errors: precedence "internetwork control" (RFC 1812 §4.3.2.5).
const TOS: u8 = 0xc0;
/// TTL of what we originate (RFC 1700, as Linux).
pub(crate) const TTL: u8 = 64;

/// Why the sender of a packet is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpError {
    NetUnreachable,
    HostUnreachable,
    ProtocolUnreachable,
    PortUnreachable,
    FragmentationNeeded { mtu: u16 },
    Prohibited,
    TtlExceeded,
}

impl IcmpError {
    /// Type, code and the second word of the ICMP header.
    const fn header(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::ProtocolUnreachable => (3, 2, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::FragmentationNeeded { mtu } => (3, 4, mtu as u32),
            Self::Prohibited => (3, 13, 0),
            Self::TtlExceeded => (11, 0, 0),
        }
    }

    /// Errors of one class share a budget, so that a flood of one does not silence the others
    /// (F12).
    const fn class(self) -> usize {
        match self {
            Self::TtlExceeded => 0,
            Self::FragmentationNeeded { .. } => 1,
            _ => 2,
        }
    }
}

/// How many errors may still be sent: one token bucket per class.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    per_second: u32,
    /// Thousandths of a token left in each bucket.
    left: [u64; 3],
    filled: Instant,
}

impl Budget {
    /// Full buckets. `per_second` errors of each class, at most half a second's worth at once.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let mut budget = Self {
            per_second,
            left: [0; 3],
            filled: now,
        };
        budget.left = [budget.most(); 3];
        budget
    }

    /// Another rate from now on.
    pub(crate) fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second;
    }

    fn most(&self) -> u64 {
        (u64::from(self.per_second) * 500).max(1000)
    }

    fn take(&mut self, class: usize, now: Instant) -> bool {
        if self.per_second == 0 {
            return false;
        }
        let passed: Duration = now.since(self.filled);
        let fill = passed.as_millis() as u64 * u64::from(self.per_second);
        let most = self.most();
        for left in &mut self.left {
            *left = (*left + fill).min(most);
        }
        self.filled = now;
        let enough = self.left[class] >= 1000;
        if enough {
            self.left[class] -= 1000;
        }
        enough
    }
}

impl<T: Trace> Router<'_, T> {
    /// Drops a packet for `reason` and tells its sender `error`, where it may be told.
    pub(crate) fn refuse(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet,
        interface: &Interface,
        error: IcmpError,
        reason: DropReason,
    ) -> DropReason {
        if !may_be_told(packet, self.snapshot) {
            return reason;
        }
        if !self.shard.budget.take(error.class(), self.now) {
            self.shard.counters.icmp_errors_limited += 1;
            return reason;
        }
        let (kind, code, _) = error.header();
        let sender = packet.flow.source;
        self.trace.step("icmp", || {
            format!("{sender} is told: type {kind} code {code}")
        });
        if self.send_error(frame, packet, interface, error).is_some() {
            self.shard.counters.icmp_errors_sent += 1;
        }
        reason
    }

    fn send_error(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet,
        interface: &Interface,
        error: IcmpError,
    ) -> Option<()> {
        let sender = packet.flow.source;
        let snapshot = self.snapshot;
        let asked = packet.flow.destination;
        let mut source = if snapshot.owner(asked.into()).is_some() {
            asked
        } else {
            interface
                .source_for(sender)
                .unwrap_or(snapshot.config().router().id)
        };
        let mut way = fib::route(snapshot, source, sender, None, self.trace).ok()?;
        if !way.interface.owns(source.into()) && source != asked {
            // F10: from the address of the interface it leaves by.
            source = way
                .interface
                .source_for(sender)
                .unwrap_or(snapshot.config().router().id);
            way = fib::route(snapshot, source, sender, None, self.trace).ok()?;
        }
        let quoted = frame.bytes.get(ETHERNET..packet.end)?;
        let quoted = &quoted[..quoted.len().min(LARGEST - HEADERS)];
        let frame = OwnedFrame {
            bytes: build(source, sender, error, quoted),
            ..OwnedFrame::default()
        };
        self.originate(frame, way.interface, way.next_hop);
        Some(())
    }

    /// Sends a packet of our own making; it waits if it must.
    fn originate(&mut self, frame: OwnedFrame, interface: &Interface, next_hop: Ipv4Addr) {
        match self.resolve(&fib::Way {
            interface,
            next_hop,
        }) {
            Some(Hop::Known(_, mac, port)) => self.shard.send(frame, interface, (mac, port)),
            Some(Hop::Pending(id)) => {
                let gone = self.shard.neighbors.hold(
                    id,
                    Held {
                        frame,
                        origin: None,
                    },
                );
                self.shard.drops.add(DropReason::HoldQueueFull, gone as u64);
            }
            None => self.shard.drops.add(DropReason::NeighborTableFull, 1),
        }
    }
}

/// Whether RFC 1812 §4.3.2.7 lets the sender of `packet` be written to (F11).
fn may_be_told(packet: &Packet, snapshot: &Snapshot) -> bool {
    let source = packet.flow.source;
    let destination = packet.flow.destination;
    packet.transport != Transport::IcmpError
        && !packet.later_fragment
        && is_one_host(source)
        && !snapshot.is_directed_broadcast(source)
        && !destination.is_multicast()
        && !destination.is_broadcast()
        && !snapshot.is_directed_broadcast(destination)
}

fn is_one_host(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast())
}

/// An ICMP error as a frame whose MACs are still to be filled in.
fn build(source: Ipv4Addr, destination: Ipv4Addr, error: IcmpError, quoted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ETHERNET + HEADERS + quoted.len());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&[0x08, 0x00]);
    let total = (HEADERS + quoted.len()) as u16;
    bytes.extend_from_slice(&[0x45, TOS]);
    bytes.extend_from_slice(&total.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, TTL, ICMP, 0, 0]);
    bytes.extend_from_slice(&source.octets());
    bytes.extend_from_slice(&destination.octets());
    fill_header_checksum(&mut bytes[ETHERNET..]);
    let (kind, code, rest) = error.header();
    let at = bytes.len();
    bytes.extend_from_slice(&[kind, code, 0, 0]);
    bytes.extend_from_slice(&rest.to_be_bytes());
    bytes.extend_from_slice(quoted);
    let check = checksum::checksum(&bytes[at..]);
    bytes[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
    bytes
}
