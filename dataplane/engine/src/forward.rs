//! Forwarding: packets of a session, and the first packet of what may become one.

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::fib::{self, NoWay, Way};
use crate::fragment::fragment;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::icmp::IcmpError;
use crate::neighbor::{Held, NeighborId, Resolution};
use crate::packet::{Packet, Transport, rewrite};
use crate::process::Router;
use crate::segment::segment;
use crate::session::{Direction, Flow, Path, SessionRecord, Ticks};
use crate::shard::Output;
use crate::snapshot::{Interface, Snat};

/// Where a packet goes next, resolved as far as it is.
pub(crate) enum Hop {
    /// To this MAC on this port.
    Known(NeighborId, MacAddr, PortId),
    /// It must wait for this neighbour.
    Pending(NeighborId),
}

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

    /// A packet to somebody else that no session knows.
    pub(crate) fn forward_first<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        ingress: PortId,
    ) -> Result<Verdict, DropReason> {
        let flow = packet.flow;
        let snapshot = self.snapshot;
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
            if !egress.may_send(flow.source.into()) {
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
                interface.id,
                Path {
                    interface: egress.id,
                    neighbor: id,
                },
            )?;
        }
        rewrite(frame, packet, &to);
        self.trace_rewrite(&flow, &to);
        let verdict = self.deliver(frame, packet, egress, hop)?;
        self.shard.counters.forwarded_first += 1;
        Ok(verdict)
    }

    /// Whether session `number` still stands: not idle for too long, and allowed by the snapshot
    /// it is judged under. One that does not is ended.
    pub(crate) fn is_current<A: Family>(&mut self, number: u32, now: Ticks) -> bool {
        let record = A::flows(self.shard).sessions.get(number);
        if A::flows(self.shard).sessions.is_expired(record, now) {
            self.shard.counters.sessions_expired += 1;
        } else if record.generation == self.snapshot.generation() || self.revalidate::<A>(number) {
            return true;
        } else {
            self.shard.counters.sessions_revoked += 1;
        }
        self.shard.end::<A>(number);
        false
    }

    /// Finds the way of `direction` anew and remembers it in the session.
    pub(crate) fn resolve_path<A: Family>(
        &mut self,
        number: u32,
        direction: Direction,
    ) -> Result<(InterfaceId, Hop), Stuck> {
        let record = *A::flows(self.shard).sessions.get(number);
        // Rules see a packet before source translation and after its reversal, as in Linux.
        let (source, destination) = match direction {
            Direction::Forward => (record.inside().source, record.outside().destination),
            Direction::Reply => (record.inside().destination, record.inside().source),
        };
        let iif = record.path(direction.reversed()).map(|path| path.interface);
        let snapshot = self.snapshot;
        let way =
            fib::route(snapshot, source, destination, iif, self.trace).map_err(Stuck::NoWay)?;
        let egress = way.interface.id;
        let hop = self.resolve(&way).ok_or(Stuck::Full)?;
        let (Hop::Known(neighbor, ..) | Hop::Pending(neighbor)) = hop;
        let path = Path {
            interface: egress,
            neighbor,
        };
        A::flows_mut(self.shard)
            .sessions
            .get_mut(number)
            .set_path(direction, Some(path));
        Ok((egress, hop))
    }

    /// The next hop's MAC, or a start at finding it. `None`: no room to ask.
    pub(crate) fn resolve<A: Family>(&mut self, way: &Way<'_, A>) -> Option<Hop> {
        let (interface, next_hop) = (way.interface, way.next_hop);
        match self
            .shard
            .neighbors
            .resolve(interface.id, next_hop.into(), self.now)
        {
            Resolution::Known(id, mac, port) => {
                self.trace.step("neighbor", || {
                    format!("{next_hop} on {} is {mac}", interface.name)
                });
                Some(Hop::Known(id, mac, port))
            }
            Resolution::Pending(id) => {
                self.trace.step("neighbor", || {
                    format!(
                        "{next_hop} on {} is not resolved: asking for it, the packet waits",
                        interface.name
                    )
                });
                Some(Hop::Pending(id))
            }
            Resolution::Full => None,
        }
    }

    /// Keeps a copy of a received frame until its next hop is resolved; then it comes here again.
    pub(crate) fn hold(&mut self, frame: &Frame<'_>, ingress: PortId, id: NeighborId) -> Verdict {
        let held = Held {
            frame: OwnedFrame::from(frame),
            origin: Some(ingress),
        };
        let gone = self.shard.neighbors.hold(id, held);
        self.shard.drops.add(DropReason::HoldQueueFull, gone as u64);
        self.shard.counters.packets_held += 1;
        Verdict::Hold
    }

    /// Puts a rewritten packet out, in fragments if it is larger than the egress MTU.
    pub(crate) fn deliver<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        egress: &Interface,
        hop: (MacAddr, PortId),
    ) -> Result<Verdict, DropReason> {
        let verdict = self.emit(frame, egress, hop)?;
        if packet.wire_len(frame) <= egress.mtu as usize {
            return Ok(verdict);
        }
        self.cut(frame, egress, hop.1)
    }

    /// Sends a frame that is ready to leave in fragments (F08); a super-frame is cut into its
    /// segments first.
    #[cold]
    fn cut(
        &mut self,
        frame: &Frame<'_>,
        egress: &Interface,
        port: PortId,
    ) -> Result<Verdict, DropReason> {
        let mtu = egress.mtu as usize;
        let mut fragments = Vec::new();
        let mut whole = true;
        let (mut room, mut scratch) = (Vec::new(), Vec::new());
        let segments = segment(frame, &mut room, &mut |piece| {
            let cut = fragment(piece, mtu, &mut scratch, &mut |part| {
                fragments.push(OwnedFrame::from(&*part));
            });
            whole &= cut.is_ok();
        });
        if segments.is_err() || !whole {
            return Err(DropReason::MergedDatagram);
        }
        self.trace.step("mtu", || {
            format!(
                "cut into {} fragments of at most {mtu} bytes",
                fragments.len()
            )
        });
        self.shard.counters.fragments_sent += fragments.len() as u64;
        let outputs = fragments.into_iter().map(|frame| Output { port, frame });
        self.shard.outbox.extend(outputs);
        Ok(Verdict::Replaced)
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
        iif: InterfaceId,
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

    /// Judges a session under a snapshot it has not seen: it stays if its opener's packets would
    /// still go out with the same translation, and its paths are found anew.
    fn revalidate<A: Family>(&mut self, number: u32) -> bool {
        let record = *A::flows(self.shard).sessions.get(number);
        let inside = record.inside();
        let snapshot = self.snapshot;
        let iif = match record.path(Direction::Reply) {
            Some(path) => snapshot.interface(path.interface),
            None => fib::route(
                snapshot,
                inside.destination,
                inside.source,
                None,
                self.trace,
            )
            .ok()
            .map(|way| way.interface),
        };
        let Some(iif) = iif else { return false };
        if snapshot.owner(inside.destination.into()).is_some() {
            return false;
        }
        let way = fib::route(
            snapshot,
            inside.source,
            inside.destination,
            Some(iif.id),
            self.trace,
        );
        let Ok(way) = way else { return false };
        let egress = way.interface;
        let snat = snapshot
            .snat_for(inside.source.into(), egress.id)
            .filter(|_| egress.personality);
        let outside = record.outside();
        let stands = match snat {
            Some((_, snat)) => {
                record.is_translated()
                    && snat.to == outside.source.into()
                    && snat.ports.contains(outside.source_port)
            }
            None => !record.is_translated() && egress.may_send(inside.source.into()),
        };
        if stands {
            let generation = snapshot.generation();
            let record = A::flows_mut(self.shard).sessions.get_mut(number);
            record.generation = generation;
            let path = |interface| {
                Some(Path {
                    interface,
                    neighbor: NeighborId::NONE,
                })
            };
            record.set_path(Direction::Forward, path(egress.id));
            record.set_path(Direction::Reply, path(iif.id));
        }
        stands
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

/// Why a session's packet has nowhere to go right now.
pub(crate) enum Stuck {
    /// There is no route.
    NoWay(NoWay),
    /// No room to ask for the next hop.
    Full,
}
