//! The next hop: finding it, waiting for it, and putting a packet out to it.

use crate::addr::{InterfaceId, MacAddr, PortId};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::fib::{self, NoWay, Way};
use crate::fragment::fragment;
use crate::frame::{Frame, OwnedFrame, Verdict};
use crate::neighbor::{Held, NeighborId, Resolution};
use crate::packet::Packet;
use crate::process::Router;
use crate::segment::segment;
use crate::session::{Direction, Path};
use crate::shard::Output;
use crate::snapshot::Interface;

/// Where a packet goes next, resolved as far as it is.
pub(crate) enum Hop {
    /// To this MAC on this port.
    Known(NeighborId, MacAddr, PortId),
    /// It must wait for this neighbour.
    Pending(NeighborId),
}

/// Why a session's packet has nowhere to go right now.
pub(crate) enum Stuck {
    /// There is no route.
    NoWay(NoWay),
    /// No room to ask for the next hop.
    Full,
}

impl<T: Trace> Router<'_, T> {
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
        let mut way = fib::route(snapshot, source, destination, iif, self.trace);
        // Answers to what came from outside leave by the personality it came to, whatever the
        // rules say of the guest (T21).
        if direction == Direction::Reply
            && let Some(path) = record.path(direction)
            && let Some(came_by) = snapshot.interface(path.interface)
            && came_by.personality
            && !way.is_ok_and(|way| way.interface.id == came_by.id)
            && let Some(next_hop) = came_by.next_hop_for(destination)
        {
            way = Ok(Way {
                interface: came_by,
                next_hop,
                guest: None,
            });
        }
        let way = way.map_err(Stuck::NoWay)?;
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
        if let Some(guest) = way.guest
            && let Some(mac) = guest.mac
        {
            let station = (mac, guest.port);
            let pinned = self
                .shard
                .neighbors
                .pin(interface.id, next_hop.into(), station, self.now);
            let id = pinned?;
            self.trace
                .step("neighbor", || format!("guest {} is {mac}", guest.name));
            return Some(Hop::Known(id, mac, guest.port));
        }
        match self
            .shard
            .neighbors
            .resolve(interface.id, next_hop.into(), self.ingress, self.now)
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
    pub(crate) fn cut(
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
}
