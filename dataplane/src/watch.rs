//! `tapgate explain --watch`: packets that somebody waits to see, and what became of them. One watches at a
//! time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use tapgate_engine::explain::{Pattern, Seen};
use tapgate_protocol::{WatchQuery, Watched};

use crate::dataplane::Dataplane;
use crate::explain::{UNCONFIGURED, explanation};
use crate::show::ENDED;
use crate::watching::{ROOM, Told, Traced, Watching};
use crate::worker::Caller;

/// How long at most a question waits for a packet, so that who asked and is gone is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Somebody watches; until this is dropped.
#[derive(Debug)]
pub struct Watch {
    watcher: u64,
    query: WatchQuery,
    caller: Caller,
    told: Told,
}

impl Dataplane {
    /// Begins to watch, in the place of whoever did so far.
    ///
    /// # Errors
    /// Nothing is configured, or there is no such port.
    pub fn watch(&self, query: WatchQuery) -> Result<Watch, String> {
        static WATCHERS: AtomicU64 = AtomicU64::new(0);
        let state = self.state();
        let running = state.running.as_ref().ok_or(UNCONFIGURED)?;
        let snapshot = running.snapshots.load();
        let port = |name: &String| {
            let found = snapshot.port_id(name);
            found.ok_or_else(|| format!("there is no port \"{name}\""))
        };
        let pattern = Pattern {
            port: query.port.as_ref().map(port).transpose()?,
            from: query.from,
            to: query.to,
            protocol: query.protocol,
            source_port: query.source_port,
            destination_port: query.destination_port,
        };
        let caller = running.worker.caller();
        drop(state);
        let watcher = WATCHERS.fetch_add(1, Ordering::Relaxed);
        let (watching, told) = Watching::new(watcher, pattern);
        let begun = caller.ask(move |worker| worker.watch_packets(watching));
        begun.ok_or(ENDED)?;
        Ok(Watch {
            watcher,
            query,
            caller,
            told,
        })
    }
}

impl Watch {
    /// What is watched for.
    pub fn query(&self) -> &WatchQuery {
        &self.query
    }

    /// The packets that were seen since this was asked last, and how many matched and were not traced. Waits
    /// for one, at most as long as `wait` and half a second.
    ///
    /// # Errors
    /// Somebody else watches now, or the forwarding thread has ended.
    pub fn seen(&self, wait: Duration) -> Result<(Vec<Watched>, u64), String> {
        let first = match self.told.traces.recv_timeout(wait.min(LONGEST_WAIT)) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                return Err("somebody else watches now, or the dataplane ends".to_owned());
            }
        };
        let all = first
            .into_iter()
            .chain(self.told.traces.try_iter().take(ROOM));
        let packets = all.map(|traced| described(&traced)).collect();
        Ok((packets, self.told.missed.swap(0, Ordering::Relaxed)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watcher = self.watcher;
        self.caller
            .ask(move |worker| worker.unwatch_packets(watcher));
    }
}

fn described(traced: &Traced) -> Watched {
    let Seen {
        port,
        from,
        to,
        protocol,
        source_port,
        destination_port,
        length,
    } = traced.seen;
    Watched {
        port: traced.snapshot.port_name(port).to_owned(),
        from,
        to,
        protocol,
        source_port,
        destination_port,
        length: length as u64,
        explanation: explanation(&traced.steps, traced.verdict, &traced.snapshot),
    }
}

#[cfg(test)]
mod tests;
