//! ICMP errors of our own making (RFC 1812 §4.3, RFC 4443 §2.4), and their rate limit.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::addr::{MacAddr, PortId};

use crate::checksum;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::fib;
use crate::frame::{Frame, OwnedFrame};
use crate::hop::Hop;
use crate::nd;
use crate::neighbor::Held;
use crate::packet::{ETHERNET, Packet, Problem, Transport};
use crate::process::{Router, vlan_id};
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

/// Bytes of an ICMP header before what it carries.
const ICMP_HEADER: usize = 8;
/// TTL of what we originate (RFC 1700, as Linux).
pub const TTL: u8 = 64;

/// Why the sender of a packet is written to; what it becomes on the wire is the family's matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// No rule led to a route, or a rule said unreachable.
    NoRoute,
    /// A route said unreachable.
    RejectRoute,
    /// The next hop does not answer.
    HostUnreachable,
    /// Nobody speaks that protocol here.
    ProtocolUnreachable,
    /// Nobody listens on that port here.
    PortUnreachable,
    /// Larger than the next link's MTU.
    TooBig {
        /// That MTU, in bytes.
        mtu: u32,
    },
    /// Not allowed.
    Prohibited,
    /// Not allowed from that source.
    SourcePolicy,
    /// TTL or hop limit used up.
    TtlExceeded,
    /// A header field that must be refused.
    ParameterProblem(Problem),
}

impl IcmpError {
    /// Errors of one class share a budget, so that a flood of one does not silence the others
    /// (F12).
    const fn class(self) -> usize {
        match self {
            Self::TtlExceeded => 0,
            Self::TooBig { .. } => 1,
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
    pub(crate) fn refuse<A: Family>(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<A>,
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
        let (kind, code, _) = A::error_header(error);
        let sender = packet.flow.source;
        self.trace.step("icmp", || {
            format!("{sender} is told: type {kind} code {code}")
        });
        if self.send_error(frame, packet, interface, error).is_some() {
            self.shard.counters.icmp_errors_sent += 1;
        }
        reason
    }

    /// Tells the sender of a packet that waited that its next hop does not answer (F05, N09).
    pub(crate) fn tell_unreachable(&mut self, frame: &Frame<'_>, origin: PortId) {
        let wearer = MacAddr::from_slice(frame.bytes);
        let Some(interface) = self.snapshot.wearer(origin, vlan_id(frame.vlan), wearer) else {
            return;
        };
        let (error, reason) = (IcmpError::HostUnreachable, DropReason::NeighborUnresolved);
        if let Ok(packet) = Ipv4Addr::parse(frame) {
            self.refuse(frame, &packet, interface, error, reason);
        } else if let Ok(packet) = Ipv6Addr::parse(frame)
            // A question about what may be alive waited too; silence is its answer.
            && !matches!(packet.transport, Transport::IcmpOther(kind) if nd::KINDS.contains(&kind))
        {
            self.refuse(frame, &packet, interface, error, reason);
        }
    }

    fn send_error<A: Family>(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<A>,
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
                .or_else(|| router_id(snapshot))?
        };
        let mut way = fib::route(snapshot, source, sender, None, self.trace).ok()?;
        if !way.interface.owns(source.into()) && source != asked {
            // F10: from the address of the interface it leaves by.
            source = way
                .interface
                .source_for(sender)
                .or_else(|| router_id(snapshot))?;
            way = fib::route(snapshot, source, sender, None, self.trace).ok()?;
        }
        if !answers_back(interface, way.interface) {
            return None;
        }
        let quoted = frame.bytes.get(ETHERNET..packet.end)?;
        let bytes = build(source, sender, error, quoted);
        let frame = OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        };
        self.originate(frame, &way);
        Some(())
    }

    /// Sends a packet of our own making; it waits if it must.
    fn originate<A: Family>(&mut self, frame: OwnedFrame, way: &fib::Way<'_, A>) {
        match self.resolve(way) {
            Some(Hop::Known(_, mac, port)) => {
                self.shard
                    .send(self.snapshot, frame, way.interface, (mac, port));
            }
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

/// The source of errors that leave by an interface without an address of the family.
fn router_id<A: Family>(snapshot: &Snapshot) -> Option<A> {
    A::from_ip(snapshot.config().router().id.into())
}

/// Whether what came in by `interface` may be answered by `way`: a guest's packet only to where it
/// came from, or its forged source would be written to in our name.
pub(crate) fn answers_back(interface: &Interface, way: &Interface) -> bool {
    interface.personality || interface.id == way.id
}

/// Whether the sender of `packet` may be written to: RFC 1812 §4.3.2.7 (F11), RFC 4443 §2.4 (e)
/// (S05).
fn may_be_told<A: Family>(packet: &Packet<A>, snapshot: &Snapshot) -> bool {
    let (source, destination) = (packet.flow.source, packet.flow.destination);
    packet.transport != Transport::IcmpError
        && !packet.later_fragment
        && source.is_one_host()
        && !source.is_group(snapshot)
        && !destination.is_group(snapshot)
}

/// An ICMP error that quotes as much of a packet as fits, as a frame whose MACs are still to be
/// set.
fn build<A: Family>(source: A, destination: A, error: IcmpError, quoted: &[u8]) -> Vec<u8> {
    let headers = A::SOURCE_AT - ETHERNET + 2 * size_of::<A::Bytes>() + ICMP_HEADER;
    let quoted = &quoted[..quoted.len().min(A::LARGEST_ERROR - headers)];
    let length = ICMP_HEADER + quoted.len();
    let mut bytes = A::icmp_frame(source, destination, length);
    let at = bytes.len();
    let (kind, code, rest) = A::error_header(error);
    bytes.extend_from_slice(&[kind, code, 0, 0]);
    bytes.extend_from_slice(&rest.to_be_bytes());
    bytes.extend_from_slice(quoted);
    let seed = if A::ICMP_HAS_PSEUDO_HEADER {
        checksum::pseudo_header(
            source.octets().as_ref(),
            destination.octets().as_ref(),
            A::ICMP,
            length,
        )
    } else {
        0
    };
    let check = !checksum::fold(checksum::sum(&bytes[at..], seed));
    bytes[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
    bytes
}
