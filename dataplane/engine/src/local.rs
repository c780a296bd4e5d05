//! First packets: which must not be forwarded, which are for the router itself, and ICMP errors,
//! which belong to the session of the packet they quote.

use crate::addr::PortId;
use crate::checksum::{self, Delta};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::fib;
use crate::frame::{Checksum, Frame, OwnedFrame, Verdict};
use crate::hop::{Hop, Stuck};
use crate::icmp::{IcmpError, answers_back};
use crate::neighbor::Held;
use crate::packet::{Packet, TCP, Transport, UDP, rewrite};
use crate::process::Router;
use crate::session::{Direction, Flow, Ticks};
use crate::snapshot::Interface;

impl<T: Trace> Router<'_, T> {
    /// A packet that no session knows.
    pub(crate) fn first<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
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
        let snapshot = self.snapshot;
        if destination.is_group(snapshot) {
            return Err(DropReason::Broadcast);
        }
        let own = || interface.owns(destination.into()).then_some(interface);
        let owner = snapshot.owner(destination.into()).or_else(own);
        let forged = source.is_group(snapshot) || snapshot.owner(source.into()).is_some();
        let allowed = match owner {
            Some(_) => source.is_one_host(),
            None => source.may_be_source() && destination.may_be_destination(),
        };
        if interface.shared.is_some() && self.is_the_hosts(packet, interface) {
            return Err(DropReason::LeftToHost);
        }
        if forged || !allowed {
            return Err(DropReason::Martian);
        }
        self.admit(ingress, interface, source, DropReason::SpoofedSource)?;
        self.admit_service(ingress, packet)?;
        if let Some(owner) = owner
            && interface.personality
            && owner.id != interface.id
        {
            return Err(DropReason::WrongPersonality);
        }
        if packet.transport == Transport::IcmpError {
            return self.icmp_error(frame, packet, interface, ingress);
        }
        if let Some(to) = snapshot.forward_for(&packet.flow, interface.id) {
            return self.forward_first(frame, packet, interface, ingress, to);
        }
        match owner {
            Some(owner) => {
                self.trace.step("local", || {
                    format!("{destination} is {}'s own address", owner.name)
                });
                if let Some(problem) = packet.routing_problem {
                    return Err(self.refuse_header(frame, packet, interface, problem));
                }
                self.local(frame, packet, interface)
            }
            None => self.forward_first(frame, packet, interface, ingress, packet.flow),
        }
    }

    /// Whether a first packet that came to a MAC we share with the host's kernel is the kernel's:
    /// all that is neither for a guest nor about one's session.
    fn is_the_hosts<A: Family>(&self, packet: &Packet<A>, interface: &Interface) -> bool {
        let destination = packet.flow.destination;
        packet.transport != Transport::IcmpError
            && self
                .snapshot
                .forward_for(&packet.flow, interface.id)
                .is_none()
            && !self
                .snapshot
                .owners()
                .is_public(destination.into(), interface.id)
    }

    /// A packet to one of our own addresses.
    fn local<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
    ) -> Result<Verdict, DropReason> {
        let unwanted = match packet.transport {
            Transport::EchoRequest => return self.echo(frame, packet, interface),
            Transport::EchoReply | Transport::IcmpOther(_) | Transport::IcmpError => {
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
    fn echo<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
    ) -> Result<Verdict, DropReason> {
        verify_icmp(frame, packet)?;
        let Flow {
            source,
            destination,
            ..
        } = packet.flow;
        let way = if source.is_link_local() {
            fib::Way {
                interface,
                next_hop: source,
                guest: None,
            }
        } else {
            fib::route(self.snapshot, destination, source, None, self.trace)
                .map_err(fib::NoWay::reason)?
        };
        if !answers_back(interface, way.interface) {
            return Err(DropReason::WrongInterface);
        }
        if packet.length() > way.interface.mtu as usize && packet.dont_fragment {
            return Err(DropReason::FragmentationNeeded);
        }
        let hop = self.resolve(&way).ok_or(DropReason::NeighborTableFull)?;

        let at = A::SOURCE_AT;
        let length = size_of::<A::Bytes>();
        frame.bytes[at..at + length].copy_from_slice(destination.octets().as_ref());
        frame.bytes[at + length..at + 2 * length].copy_from_slice(source.octets().as_ref());
        A::own_header(frame, packet);
        let l4 = &mut frame.bytes[packet.l4..packet.end];
        let check = u16::from_be_bytes([l4[2], l4[3]]);
        let kind = Delta::default().word(
            u16::from(A::ECHO_REQUEST) << 8,
            u16::from(A::ECHO_REPLY) << 8,
        );
        l4[0] = A::ECHO_REPLY;
        l4[2..4].copy_from_slice(&kind.apply(check).to_be_bytes());
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
    fn icmp_error<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        ingress: PortId,
    ) -> Result<Verdict, DropReason> {
        verify_icmp(frame, packet)?;
        let quoted = Quoted::parse(frame.bytes, packet).ok_or(DropReason::IcmpUnmatched)?;
        let (number, direction) = A::flows(self.shard)
            .sessions
            .find(&quoted.flow.reversed())
            .ok_or(DropReason::IcmpUnmatched)?;
        if !self.is_current::<A>(number, Ticks::from(self.now)) {
            return Err(DropReason::IcmpUnmatched);
        }
        let record = *A::flows(self.shard).sessions.get(number);
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
        let (egress, hop) = match self.resolve_path::<A>(number, direction) {
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
        // The sum over the addresses it came with; `rewrite` follows their change.
        let l4 = &mut frame.bytes[packet.l4..packet.end];
        l4[2..4].fill(0);
        let check = !checksum::fold(checksum::sum(l4, A::icmp_sum(packet)));
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

/// The flow of the packet that an ICMP error quotes, if `packet` is one.
pub(crate) fn quoted_flow<A: Family>(bytes: &[u8], packet: &Packet<A>) -> Option<Flow<A>> {
    let quoted = (packet.transport == Transport::IcmpError).then(|| Quoted::parse(bytes, packet));
    quoted.flatten().map(|quoted| quoted.flow)
}

/// The packet that an ICMP error quotes; offsets are from the start of the frame.
struct Quoted<A> {
    flow: Flow<A>,
    header: usize,
    l4: usize,
    end: usize,
    /// An ICMP echo request rather than a reply.
    request: bool,
}

impl<A: Family> Quoted<A> {
    fn parse(bytes: &[u8], packet: &Packet<A>) -> Option<Self> {
        let header = packet.l4 + 8;
        let quote = bytes.get(header..packet.end)?;
        let (mut flow, length) = A::quoted_header(quote)?;
        let l4 = quote.get(length..).filter(|l4| l4.len() >= 8)?;
        let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        let mut request = false;
        match flow.protocol {
            TCP | UDP => (flow.source_port, flow.destination_port) = (word(0), word(2)),
            icmp if icmp == A::ICMP && l4[0] == A::ECHO_REQUEST => {
                (flow.source_port, request) = (word(4), true);
            }
            icmp if icmp == A::ICMP && l4[0] == A::ECHO_REPLY => flow.destination_port = word(4),
            icmp if icmp == A::ICMP => return None,
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
    fn restore(&self, bytes: &mut [u8], to: &Flow<A>) {
        let from = &self.flow;
        if from == to {
            return;
        }
        let addresses = from
            .source
            .replaced_by(to.source)
            .and(from.destination.replaced_by(to.destination));
        A::rewrite_quoted_header(&mut bytes[self.header..self.l4], to, addresses);

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
            icmp if icmp == A::ICMP => {
                let identifier = if self.request {
                    to.source_port
                } else {
                    to.destination_port
                };
                l4[4..6].copy_from_slice(&identifier.to_be_bytes());
                let pseudo_header = if A::ICMP_HAS_PSEUDO_HEADER {
                    addresses
                } else {
                    Delta::default()
                };
                adjust(l4, 2, ports.and(pseudo_header));
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

/// The ICMP checksum must be right (RFC 5508 REQ-3).
fn verify_icmp<A: Family>(frame: &Frame<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let message = &frame.bytes[packet.l4..packet.end];
    let right = frame.offload.checksum == Checksum::Verified
        || checksum::fold(checksum::sum(message, A::icmp_sum(packet))) == 0xffff;
    if right {
        Ok(())
    } else {
        Err(DropReason::IcmpMalformed)
    }
}
