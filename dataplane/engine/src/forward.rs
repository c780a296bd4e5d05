//! Forwarding: packets of a session, and the first packet of what may become one.

use crate::addr::{InterfaceId, PortId};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::fib::{self, NoWay};
use crate::frame::{Frame, Verdict};
use crate::hop::{Hop, Stuck};
use crate::icmp::IcmpError;
use crate::neighbor::NeighborId;
use crate::packet::{Packet, Transport, rewrite};
use crate::process::Router;
use crate::session::{Direction, Flow, Path, SessionRecord, Ticks};
use crate::snapshot::{Interface, Snat};

impl<T: Trace> Router<'_, T> {
    /// A packet of session `number`. `None`: the session is over, treat it as a first packet.
    #[inline]
    pub(crate) fn established<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        ingress: PortId,
        number: u32,
        direction: Direction,
    ) -> Result<Option<Verdict>, DropReason> {
        let now = Ticks::from(self.now);
        if !self.is_current::<A>(number, now) {
            return Ok(None);
        }
        let record = *A::flows(self.shard).sessions.get(number);
        self.trace.step("session", || {
            let state = record.state().name();
            format!("{direction:?} of a session that is {state}").to_lowercase()
        });
        let back = record.path(direction.reversed());
        if back.is_none_or(|path| path.interface != interface.id) {
            return Err(DropReason::WrongInterface);
        }
        if record.admitted(direction) != Some(ingress) {
            self.admit_to_session(packet, interface, ingress, number, direction)?;
        }
        if packet.ttl <= 1 {
            return Err(self.ttl_exceeded(frame, packet, interface));
        }
        let path = record.path(direction);
        let known = path.and_then(|path| self.shard.neighbors.follow(path.neighbor, self.now));
        let (egress, hop) = match (path, known) {
            (Some(path), Some(hop)) => (path.interface, hop),
            _ => match self.resolve_path::<A>(number, direction) {
                Ok((egress, Hop::Known(_, mac, port))) => (egress, (mac, port)),
                Ok((_, Hop::Pending(id))) => return Ok(Some(self.hold(frame, ingress, id))),
                Err(Stuck::NoWay(no_way)) => {
                    return Err(self.no_way(frame, packet, interface, no_way));
                }
                Err(Stuck::Full) => return Err(DropReason::NeighborTableFull),
            },
        };
        let Some(egress) = self.snapshot.interface(egress) else {
            return Err(DropReason::NoRoute);
        };
        let fits = packet.wire_len(frame) <= egress.mtu as usize;
        if !fits && packet.dont_fragment {
            return Err(self.too_big(frame, packet, interface, egress));
        }
        let to = record.sent(direction);
        rewrite(frame, packet, &to);
        self.trace_rewrite(&packet.flow, &to);
        let mut verdict = self.emit(frame, egress, hop)?;
        if !fits {
            verdict = self.cut(frame, egress, hop.1)?;
        }
        A::flows_mut(self.shard).sessions.get_mut(number).account(
            direction,
            packet.length(),
            packet.tcp_flags(),
            now,
        );
        self.shard.counters.forwarded_by_session += 1;
        Ok(Some(verdict))
    }

    /// A session's packet that came in by another port than those before it, or under a new
    /// configuration: its source is looked at once more.
    #[cold]
    fn admit_to_session<A: Family>(
        &mut self,
        packet: &Packet<A>,
        interface: &Interface,
        ingress: PortId,
        number: u32,
        direction: Direction,
    ) -> Result<(), DropReason> {
        let source = packet.flow.source;
        self.admit(ingress, interface, source, DropReason::SpoofedSource)?;
        let session = A::flows_mut(self.shard).sessions.get_mut(number);
        session.admit(direction, Some(ingress));
        Ok(())
    }

    /// A packet to somebody else that no session knows. `flow` is its own, with the destination it
    /// is redirected to in place of its own where it is.
    pub(crate) fn forward_first<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        ingress: PortId,
        flow: Flow<A>,
    ) -> Result<Verdict, DropReason> {
        let snapshot = self.snapshot;
        if flow != packet.flow {
            self.trace.step("nat", || {
                let from = packet.flow;
                format!(
                    "nat.forward redirects {}:{} to {}:{}",
                    from.destination,
                    from.destination_port,
                    flow.destination,
                    flow.destination_port
                )
            });
        }
        let way = fib::route(
            snapshot,
            flow.source,
            flow.destination,
            Some(interface.id),
            self.trace,
        )
        .map_err(|no_way| self.no_way(frame, packet, interface, no_way))?;
        if packet.ttl <= 1 {
            return Err(self.ttl_exceeded(frame, packet, interface));
        }
        self.trace.step("ttl", || {
            format!("{} becomes {}", packet.ttl, packet.ttl - 1)
        });
        let egress = way.interface;
        let nobodys = way.guest.is_none() && way.next_hop == flow.destination;
        let owned_only = snapshot.admission(ingress).guests;
        if nobodys && owned_only && egress.ports == [ingress] {
            // It would go back to the link it came from (RFC 4443 §3.1, S08).
            let (error, reason) = (IcmpError::HostUnreachable, DropReason::SamePort);
            return Err(self.refuse(frame, packet, interface, error, reason));
        }
        let snat = snapshot
            .snat_for(flow.source.into(), egress.id)
            .filter(|_| egress.personality);
        if let Some((index, snat)) = snat {
            self.trace.step("nat", || {
                format!("nat.snat[{index}] translates {} to {}", snat.from, snat.to)
            });
            match packet.transport {
                Transport::Tcp(_) | Transport::Udp | Transport::EchoRequest => {}
                Transport::Fragment => return Err(DropReason::FragmentUntranslatable),
                _ => return Err(DropReason::NatUnsupported),
            }
        } else {
            self.trace.step("nat", || "no translation".to_owned());
            if !egress.may_send(flow.source.into(), snapshot.owners()) {
                self.trace.step("egress", || {
                    format!(
                        "{} is not an address of {}, and nothing translates it",
                        flow.source, egress.name
                    )
                });
                return Err(DropReason::EgressGuard);
            }
        }
        if packet.dont_fragment && packet.wire_len(frame) > egress.mtu as usize {
            return Err(self.too_big(frame, packet, interface, egress));
        }
        let (id, hop) = match self.resolve(&way) {
            Some(Hop::Known(id, mac, port)) => (id, (mac, port)),
            Some(Hop::Pending(id)) => return Ok(self.hold(frame, ingress, id)),
            None => return Err(DropReason::NeighborTableFull),
        };
        let mut to = flow;
        if packet.is_tracked() {
            if let Some((_, snat)) = snat {
                to = self.translate(&flow, snat).ok_or_else(|| {
                    // Decision 1: the sender is told "host unreachable" (RFC 6888 REQ-11).
                    self.refuse(
                        frame,
                        packet,
                        interface,
                        IcmpError::HostUnreachable,
                        DropReason::NatExhausted,
                    )
                })?;
            }
            self.begin(
                packet,
                to,
                snat.is_some(),
                (interface.id, ingress),
                Path {
                    interface: egress.id,
                    neighbor: id,
                },
            )?;
        }
        rewrite(frame, packet, &to);
        self.trace_rewrite(&packet.flow, &to);
        let verdict = self.deliver(frame, packet, egress, hop)?;
        self.shard.counters.forwarded_first += 1;
        Ok(verdict)
    }

    #[cold]
    fn ttl_exceeded<A: Family>(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
    ) -> DropReason {
        let (error, reason) = (IcmpError::TtlExceeded, DropReason::TtlExceeded);
        self.refuse(frame, packet, interface, error, reason)
    }

    /// A packet that may not be fragmented and is too large for `egress` is refused with the MTU
    /// (RFC 1191 §4, F07; RFC 4443 §3.2, S02).
    #[cold]
    fn too_big<A: Family>(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        egress: &Interface,
    ) -> DropReason {
        self.trace.step("mtu", || {
            let length = packet.wire_len(frame);
            format!(
                "{length} bytes that may not be fragmented exceed {}'s MTU of {}",
                egress.name, egress.mtu
            )
        });
        let error = IcmpError::TooBig { mtu: egress.mtu };
        self.refuse(
            frame,
            packet,
            interface,
            error,
            DropReason::FragmentationNeeded,
        )
    }

    /// The flow as it leaves under `snat`.
    fn translate<A: Family>(&mut self, flow: &Flow<A>, snat: &Snat) -> Option<Flow<A>> {
        let external = A::from_ip(snat.to)?;
        let inside = (flow.source, flow.source_port);
        let port =
            A::flows_mut(self.shard)
                .nat
                .acquire(external, flow.protocol, inside, snat.ports)?;
        Some(Flow {
            source: external,
            source_port: port,
            ..*flow
        })
    }

    /// Remembers a first packet as a session.
    fn begin<A: Family>(
        &mut self,
        packet: &Packet<A>,
        to: Flow<A>,
        translated: bool,
        (iif, ingress): (InterfaceId, PortId),
        path: Path,
    ) -> Result<(), DropReason> {
        let now = Ticks::from(self.now);
        self.shard.make_room::<A>(self.now);
        let mut record =
            SessionRecord::new(packet.flow, to, translated, self.snapshot.generation());
        record.set_path(Direction::Forward, Some(path));
        record.set_path(
            Direction::Reply,
            Some(Path {
                interface: iif,
                neighbor: NeighborId::NONE,
            }),
        );
        record.admit(Direction::Forward, Some(ingress));
        record.account(Direction::Forward, packet.length(), packet.tcp_flags(), now);
        if A::flows_mut(self.shard)
            .sessions
            .insert(record, now)
            .is_none()
        {
            if translated {
                A::flows_mut(self.shard)
                    .nat
                    .release(to.source, to.protocol, to.source_port);
            }
            return Err(DropReason::SessionTableFull);
        }
        self.shard.counters.sessions_created += 1;
        Ok(())
    }

    /// Tells the sender that there is no way, in the terms of ICMP.
    fn no_way<A: Family>(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        no_way: NoWay,
    ) -> DropReason {
        let error = match no_way {
            NoWay::NoRoute | NoWay::RuleUnreachable => IcmpError::NoRoute,
            NoWay::RouteUnreachable => IcmpError::RejectRoute,
            NoWay::Prohibited => IcmpError::Prohibited,
            NoWay::Blackhole => return no_way.reason(),
        };
        // Decision 6: administrative drops are silent towards the internet.
        if error == IcmpError::Prohibited && interface.personality {
            return no_way.reason();
        }
        self.refuse(frame, packet, interface, error, no_way.reason())
    }

    fn trace_rewrite<A: Family>(&mut self, from: &Flow<A>, to: &Flow<A>) {
        if from != to {
            self.trace.step("rewrite", || {
                format!(
                    "{}:{} > {}:{} becomes {}:{} > {}:{}",
                    from.source,
                    from.source_port,
                    from.destination,
                    from.destination_port,
                    to.source,
                    to.source_port,
                    to.destination,
                    to.destination_port
                )
            });
        }
    }
}
