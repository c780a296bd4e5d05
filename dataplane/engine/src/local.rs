//! First packets: which must not be forwarded, which are for the router itself, and ICMP errors,
//! which belong to the session of the packet they quote.

use std::net::Ipv4Addr;

use crate::addr::PortId;
use crate::checksum::{self, Delta};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::fib;
use crate::forward::{Hop, Stuck};
use crate::frame::{Checksum, Frame, OwnedFrame, Verdict};
use crate::icmp::{IcmpError, TTL};
use crate::neighbor::Held;
use crate::packet::{ETHERNET, ICMP, Packet, TCP, Transport, UDP, fill_header_checksum, rewrite};
use crate::process::Router;
use crate::session::{Direction, Flow, Ticks};
use crate::snapshot::{Interface, Snapshot};

impl<T: Trace> Router<'_, T> {
    /// A packet that no session knows.
    pub(crate) fn first(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        interface: &Interface,
        ingress: PortId,
    ) -> Result<Verdict, DropReason> {
        let Flow {
            source,
            destination,
            ..
        } = packet.flow;
        self.trace
            .step("session", || "none: a first packet".to_owned());
        if destination.is_broadcast()
            || destination.is_multicast()
            || self.snapshot.is_directed_broadcast(destination)
        {
            return Err(DropReason::Broadcast);
        }
        if is_martian(source, destination, self.snapshot) {
            return Err(DropReason::Martian);
        }
        let owner = self.snapshot.owner(destination.into());
        if let Some(owner) = owner
            && interface.personality
            && owner.id != interface.id
        {
            return Err(DropReason::WrongPersonality);
        }
        if packet.transport == Transport::IcmpError {
            return self.icmp_error(frame, packet, interface, ingress);
        }
        match owner {
            Some(owner) => {
                self.trace.step("local", || {
                    format!("{destination} is {}'s own address", owner.name)
                });
                self.local(frame, packet, interface)
            }
            None => self.forward_first(frame, packet, interface, ingress),
        }
    }

    /// A packet to one of our own addresses.
    fn local(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        interface: &Interface,
    ) -> Result<Verdict, DropReason> {
        let unwanted = match packet.transport {
            Transport::EchoRequest => return self.echo(frame, packet),
            Transport::EchoReply | Transport::IcmpOther | Transport::IcmpError => {
                return Err(DropReason::IcmpIgnored);
            }
            Transport::Fragment => return Err(DropReason::FragmentUntranslatable),
            Transport::Tcp(_) | Transport::Udp => IcmpError::PortUnreachable,
            Transport::Other => IcmpError::ProtocolUnreachable,
        };
        // Guests are told; the internet is not (decision 6).
        if interface.personality {
            return Err(DropReason::NoSession);
        }
        Err(self.refuse(
            frame,
            packet,
            interface,
            unwanted,
            DropReason::PortUnreachable,
        ))
    }

    /// Turns an echo request into its reply, in place (RFC 1812 §4.3.3.6, F13).
    fn echo(&mut self, frame: &mut Frame<'_>, packet: &Packet) -> Result<Verdict, DropReason> {
        verify_icmp(frame, packet)?;
        let Flow {
            source,
            destination,
            ..
        } = packet.flow;
        let way = fib::route(self.snapshot, destination, source, None, self.trace)
            .map_err(fib::NoWay::reason)?;
        if packet.length() > way.interface.mtu as usize && packet.dont_fragment {
            return Err(DropReason::FragmentationNeeded);
        }
        let hop = self.resolve(&way).ok_or(DropReason::NeighborTableFull)?;

        let bytes = &mut *frame.bytes;
        bytes[22] = TTL;
        bytes[26..30].copy_from_slice(&destination.octets());
        bytes[30..34].copy_from_slice(&source.octets());
        fill_header_checksum(&mut bytes[ETHERNET..packet.l4]);
        let l4 = &mut bytes[packet.l4..packet.end];
        let check = u16::from_be_bytes([l4[2], l4[3]]);
        l4[0] = 0;
        l4[2..4].copy_from_slice(&Delta::default().word(0x0800, 0).apply(check).to_be_bytes());
        self.shard.counters.echo_replies += 1;
        match hop {
            Hop::Known(_, mac, port) => self.deliver(frame, packet, way.interface, (mac, port)),
            Hop::Pending(id) => {
                // Ours from here on: it is not received anew when it is let go.
                let gone = self.shard.neighbors.hold(
                    id,
                    Held {
                        frame: OwnedFrame::from(&*frame),
                        origin: None,
                    },
                );
                self.shard.drops.add(DropReason::HoldQueueFull, gone as u64);
                self.shard.counters.packets_held += 1;
                Ok(Verdict::Hold)
            }
        }
    }

    /// An ICMP error: translated and forwarded if the packet it quotes is one of a session's and
    /// the error is addressed to that packet's sender (RFC 5508 REQ-4, REQ-5; T14, P01). It
    /// neither refreshes nor ends the session (T07).
    fn icmp_error(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        interface: &Interface,
        ingress: PortId,
    ) -> Result<Verdict, DropReason> {
        verify_icmp(frame, packet)?;
        let quoted = Quoted::parse(frame.bytes, packet).ok_or(DropReason::IcmpUnmatched)?;
        let (number, direction) = self
            .shard
            .sessions
            .find(&quoted.flow.reversed())
            .ok_or(DropReason::IcmpUnmatched)?;
        if !self.is_current(number, Ticks::from(self.now)) {
            return Err(DropReason::IcmpUnmatched);
        }
        let record = *self.shard.sessions.get(number);
        let received = record.received(direction);
        if received.destination != packet.flow.destination {
            return Err(DropReason::IcmpUnmatched);
        }
        if record
            .path(direction.reversed())
            .is_none_or(|path| path.interface != interface.id)
        {
            return Err(DropReason::WrongInterface);
        }
        self.trace
            .step("session", || "quotes a packet of a session".to_owned());
        if packet.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        let (egress, hop) = match self.resolve_path(number, direction) {
            Ok((egress, Hop::Known(_, mac, port))) => (egress, (mac, port)),
            Ok((_, Hop::Pending(id))) => return Ok(self.hold(frame, ingress, id)),
            Err(Stuck::NoWay(no_way)) => return Err(no_way.reason()),
            Err(Stuck::Full) => return Err(DropReason::NeighborTableFull),
        };
        let Some(egress) = self.snapshot.interface(egress) else {
            return Err(DropReason::NoRoute);
        };

        let sent = record.sent(direction);
        // From inside, even a router on the way there must not show its own address (T14).
        let hide = direction == Direction::Forward && record.is_translated();
        let source = if hide || packet.flow.source == received.source {
            sent.source
        } else {
            packet.flow.source
        };
        quoted.restore(frame.bytes, &record.received(direction.reversed()));
        let l4 = &mut frame.bytes[packet.l4..packet.end];
        l4[2..4].fill(0);
        let check = checksum::checksum(l4);
        l4[2..4].copy_from_slice(&check.to_be_bytes());
        frame.offload.checksum = Checksum::Present;
        rewrite(
            frame,
            packet,
            &Flow {
                source,
                destination: sent.destination,
                ..packet.flow
            },
        );
        self.shard.counters.icmp_errors_translated += 1;
        self.deliver(frame, packet, egress, hop)
    }
}

/// The packet that an ICMP error quotes; offsets are from the start of the frame.
struct Quoted {
    flow: Flow<Ipv4Addr>,
    header: usize,
    l4: usize,
    end: usize,
    /// An ICMP echo request rather than a reply.
    request: bool,
}

impl Quoted {
    fn parse(bytes: &[u8], packet: &Packet) -> Option<Self> {
        let header = packet.l4 + 8;
        let quote = bytes.get(header..packet.end)?;
        let length = usize::from(*quote.first()? & 0xf) * 4;
        if quote[0] >> 4 != 4 || length < 20 || quote.len() < length + 8 {
            return None;
        }
        // Only a first fragment quotes ports; RFC 5508 REQ-3: its header checksum must be right.
        let later_fragment = u16::from_be_bytes([quote[6], quote[7]]) & 0x1fff != 0;
        if later_fragment || checksum::fold(checksum::sum(&quote[..length], 0)) != 0xffff {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([quote[at], quote[at + 1]]);
        let address =
            |at: usize| Ipv4Addr::new(quote[at], quote[at + 1], quote[at + 2], quote[at + 3]);
        let mut flow = Flow {
            source: address(12),
            destination: address(16),
            source_port: 0,
            destination_port: 0,
            protocol: quote[9],
        };
        let mut request = false;
        match (flow.protocol, quote[length]) {
            (TCP | UDP, _) => {
                (flow.source_port, flow.destination_port) = (word(length), word(length + 2));
            }
            (ICMP, 8) => (flow.source_port, request) = (word(length + 4), true),
            (ICMP, 0) => flow.destination_port = word(length + 4),
            (ICMP, _) => return None,
            _ => {}
        }
        Some(Self {
            flow,
            header,
            l4: header + length,
            end: packet.end,
            request,
        })
    }

    /// Puts `to` in place of the quoted flow, with the quoted checksums following where they are
    /// quoted at all.
    fn restore(&self, bytes: &mut [u8], to: &Flow<Ipv4Addr>) {
        let from = &self.flow;
        let addresses = Delta::default()
            .bytes(&from.source.octets(), &to.source.octets())
            .bytes(&from.destination.octets(), &to.destination.octets());
        let header = &mut bytes[self.header..self.l4];
        header[12..16].copy_from_slice(&to.source.octets());
        header[16..20].copy_from_slice(&to.destination.octets());
        adjust(header, 10, addresses);

        let ports = Delta::default()
            .word(from.source_port, to.source_port)
            .word(from.destination_port, to.destination_port);
        let l4 = &mut bytes[self.l4..self.end];
        match from.protocol {
            TCP | UDP => {
                l4[0..2].copy_from_slice(&to.source_port.to_be_bytes());
                l4[2..4].copy_from_slice(&to.destination_port.to_be_bytes());
                if from.protocol == TCP {
                    adjust(l4, 16, addresses.and(ports));
                } else if l4[6..8] != [0, 0] {
                    adjust(l4, 6, addresses.and(ports));
                }
            }
            ICMP => {
                let identifier = if self.request {
                    to.source_port
                } else {
                    to.destination_port
                };
                l4[4..6].copy_from_slice(&identifier.to_be_bytes());
                adjust(l4, 2, ports);
            }
            _ => {}
        }
    }
}

/// Updates the checksum at `at`, if it lies within `bytes`.
fn adjust(bytes: &mut [u8], at: usize, delta: Delta) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        let check = u16::from_be_bytes([field[0], field[1]]);
        field.copy_from_slice(&delta.apply(check).to_be_bytes());
    }
}

fn verify_icmp(frame: &Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    let right = frame.offload.checksum == Checksum::Verified
        || checksum::fold(checksum::sum(&frame.bytes[packet.l4..packet.end], 0)) == 0xffff;
    if right {
        Ok(())
    } else {
        Err(DropReason::IcmpMalformed)
    }
}

/// Addresses that no router forwards: RFC 1812 §5.3.7 (F14), RFC 3927 §7 (F16).
fn is_martian(source: Ipv4Addr, destination: Ipv4Addr, snapshot: &Snapshot) -> bool {
    let this_network = |address: Ipv4Addr| address.octets()[0] == 0;
    this_network(source)
        || source.is_loopback()
        || source.is_multicast()
        || source.is_broadcast()
        || source.is_link_local()
        || snapshot.is_directed_broadcast(source)
        || snapshot.owner(source.into()).is_some()
        || this_network(destination)
        || destination.is_loopback()
        || destination.is_link_local()
}
