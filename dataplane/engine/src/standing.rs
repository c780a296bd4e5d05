//! Whether a session still stands: not idle for too long, and allowed by the configuration.

use crate::explain::Trace;
use crate::family::Family;
use crate::fib;
use crate::neighbor::NeighborId;
use crate::process::Router;
use crate::session::{Direction, Path, Ticks};

impl<T: Trace> Router<'_, T> {
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
        let redirected = snapshot.forward_for(&inside, iif.id);
        let to = redirected.unwrap_or(inside);
        let own = snapshot.owner(inside.destination.into()).is_some();
        let outside = record.outside();
        let same = (outside.destination, outside.destination_port)
            == (to.destination, to.destination_port);
        if !same || own && redirected.is_none() {
            return false;
        }
        let way = fib::route(
            snapshot,
            inside.source,
            to.destination,
            Some(iif.id),
            self.trace,
        );
        let Ok(way) = way else { return false };
        let egress = way.interface;
        let snat = snapshot
            .snat_for(inside.source.into(), egress.id)
            .filter(|_| egress.personality);
        let stands = match snat {
            Some((_, snat)) => {
                record.is_translated()
                    && snat.to == outside.source.into()
                    && snat.ports.contains(outside.source_port)
            }
            None => {
                !record.is_translated() && egress.may_send(inside.source.into(), snapshot.owners())
            }
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
            record.admit(Direction::Forward, None);
            record.admit(Direction::Reply, None);
        }
        stands
    }
}
