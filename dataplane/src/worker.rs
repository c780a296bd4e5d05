//! The thread that forwards: it owns the engine and the ports, and waits for both with one epoll.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use tapgate_engine::Engine;
use tapgate_engine::addr::PortId;
use tapgate_engine::frame::Verdict;
use tapgate_engine::process;
use tapgate_engine::session::Sessions;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

use crate::port::{Opened, Ports};
use crate::report;
use crate::sys::sched;
use crate::watching::Watching;

/// What epoll says when an order came; ports say their number.
const ORDERS: u64 = u64::MAX;
/// A port that had frames this many times in a row is taken out of epoll until it has none, because
/// a watched port costs its senders a wake-up for each frame.
const HOT: u32 = 8;
/// A batch of this many bytes is bulk traffic: more is on its way.
const BULK: u64 = 32 << 10;
/// How long to stay awake after bulk traffic: to fall asleep and be woken takes longer.
const LINGER: Duration = Duration::from_micros(30);
/// How long at most to sleep while a port has frames under way.
const COMPLETION: Duration = Duration::from_millis(1);
/// How long at most a worker that ends waits for frames under way.
const FAREWELL: Duration = Duration::from_millis(200);
/// The turn on the processor to ask for: the shortest there is, so that a packet does not wait for
/// the end of another thread's turn of some milliseconds.
const TURN: Duration = Duration::from_micros(100);
/// Most descriptors that epoll reports at once.
const EVENTS: usize = 64;

/// Something to be done by the worker, between two batches.
type Order = Box<dyn FnOnce(&mut Worker) + Send>;

/// A running worker, as the rest of the dataplane sees it.
#[derive(Debug)]
pub struct WorkerHandle {
    caller: Caller,
    thread: Option<JoinHandle<()>>,
}

/// Has a worker do things.
#[derive(Debug, Clone)]
pub struct Caller {
    orders: Sender<Order>,
    bell: Arc<OwnedFd>,
}

/// One thread's share of the router.
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
    ports: Ports,
    snapshots: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    generation: u32,
    /// Ports that had frames at the last look, in turn.
    busy: Vec<Busy>,
    /// Until when to stay awake without traffic, by the monotonic clock.
    linger: Option<Duration>,
    epoll: OwnedFd,
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
    /// Whom to tell about a port whose device is gone.
    lost: Sender<PortId>,
    /// Somebody waits to see packets.
    watching: Option<Box<Watching>>,
    stopped: bool,
}

/// A port that had frames at the last look.
#[derive(Debug)]
struct Busy {
    port: PortId,
    /// Looks since it last had none.
    looks: u32,
}

/// Milliseconds on the host's monotonic clock.
pub fn now() -> Instant {
    Instant::from_millis(monotonic().as_millis() as u64)
}

fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl WorkerHandle {
    /// Starts a worker on the current snapshot with the ports open so far. Ports whose device
    /// vanishes are told to `lost`.
    ///
    /// # Errors
    /// No thread or descriptor to be had.
    pub fn start(
        snapshots: &Arc<ArcSwap<Snapshot>>,
        memory: Sessions,
        ports: Vec<(PortId, Opened)>,
        lost: Sender<PortId>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &bell, EventData::new_u64(ORDERS), EventFlags::IN)?;
        let mut seed = [0; 8];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let (sender, orders) = unbounded();
        let mut snapshots = Cache::new(snapshots.clone());
        let first = snapshots.load();
        let mut worker = Worker {
            engine: Engine::new(first, memory, u64::from_ne_bytes(seed), now()),
            generation: first.generation(),
            ports: Ports::default(),
            snapshots,
            busy: Vec::new(),
            linger: None,
            epoll,
            orders,
            bell: bell.clone(),
            lost,
            watching: None,
            stopped: false,
        };
        let counters = worker.engine.shard.counters();
        if counters.sessions_refused > 0 {
            tracing::warn!(
                refused = counters.sessions_refused,
                recovered = counters.sessions_recovered,
                "sessions that the last dataplane left make no sense and are not taken over"
            );
        }
        for (port, opened) in ports {
            worker.attach(port, opened)?;
        }
        let thread = std::thread::Builder::new()
            .name("worker-0".to_owned())
            .spawn(move || worker.run())?;
        let orders = sender;
        Ok(Self {
            caller: Caller { orders, bell },
            thread: Some(thread),
        })
    }

    /// For others to have the worker do things.
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// As [`Caller::ask`].
    pub fn ask<R: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Option<R> {
        self.caller.ask(order)
    }
}

impl Caller {
    /// Has the worker do something between two batches, and waits for the result. `None`: it has
    /// ended.
    pub fn ask<R: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, answer) = bounded(1);
        let order: Order = Box::new(move |worker| {
            let _ = reply.send(order(worker));
        });
        self.orders.send(order).ok()?;
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        answer.recv().ok()
    }
}

impl Drop for WorkerHandle {
    /// Ends the worker and closes its ports.
    fn drop(&mut self) {
        self.ask(Worker::stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends what waits to be sent.
fn drain(
    engine: &mut Engine,
    ports: &mut Ports,
    (snapshot, watching): (&Arc<Snapshot>, Option<&mut Watching>),
    now: Instant,
) {
    match watching {
        None => engine.drain(snapshot, now, |port, frame| ports.send(port, frame)),
        Some(watching) => watching.drain(engine, ports, snapshot, now),
    }
}

impl Worker {
    /// The worker's state, for `show`.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The worker's ports, for `show`.
    pub fn ports(&mut self) -> &mut Ports {
        &mut self.ports
    }

    /// Takes notice of a newly published snapshot.
    pub fn refresh(&mut self) {
        let snapshot = self.snapshots.load();
        if snapshot.generation() != self.generation {
            self.generation = snapshot.generation();
            self.engine.adopt(snapshot, now());
        }
    }

    /// Opens a port for traffic. Addresses on it are announced.
    ///
    /// # Errors
    /// Its descriptors cannot be waited for.
    pub fn attach(&mut self, port: PortId, opened: Opened) -> io::Result<()> {
        self.ports.attach(port, opened);
        self.watch(port)?;
        let snapshot = self.snapshots.load();
        self.engine.port_attached(port, snapshot, now());
        Ok(())
    }

    /// A port's device is up again: what is on it is announced, and claimed, anew.
    pub fn link_up(&mut self, port: PortId) {
        let snapshot = self.snapshots.load();
        self.engine.port_attached(port, snapshot, now());
    }

    /// These ports are without a link, and no others.
    pub fn set_ports_down(&mut self, ports: BTreeSet<PortId>) {
        let snapshot = self.snapshots.load();
        self.engine.set_ports_down(ports, snapshot, now());
        self.publish_findings();
    }

    /// Closes a port.
    pub fn detach(&mut self, port: PortId) {
        self.busy.retain(|busy| busy.port != port);
        // A TAP's descriptors live on in control, and epoll would go on watching them.
        self.unwatch(port);
        self.ports.detach(port);
    }

    /// Has `watching` see packets from now on, instead of whoever did so far.
    pub fn watch_packets(&mut self, watching: Watching) {
        self.watching = Some(Box::new(watching));
    }

    /// Nobody watches any more, if this one did.
    pub fn unwatch_packets(&mut self, watcher: u64) {
        self.watching.take_if(|it| it.watcher() == watcher);
    }

    /// Whether somebody watches.
    #[cfg(test)]
    pub fn is_watched(&self) -> bool {
        self.watching.is_some()
    }

    /// Says farewell to guests and ends the loop.
    fn stop(&mut self) {
        let Self {
            engine,
            ports,
            snapshots,
            ..
        } = self;
        let snapshot = snapshots.load();
        engine.stop(snapshot, now());
        engine.drain(snapshot, now(), |port, frame| ports.send(port, frame));
        let patience = monotonic() + FAREWELL;
        while ports.reclaim() && monotonic() < patience {
            std::thread::sleep(COMPLETION);
        }
        self.stopped = true;
    }

    fn run(&mut self) {
        if let Err(error) = sched::short_turns(TURN) {
            tracing::debug!(%error, "the forwarding thread waits for its turn like any other");
        }
        while !self.stopped {
            self.refresh();
            self.round();
            self.wait();
        }
    }

    /// One batch from each busy port, then what has become due.
    fn round(&mut self) {
        let mut place = 0;
        while let Some(&mut Busy {
            port,
            ref mut looks,
        }) = self.busy.get_mut(place)
        {
            *looks += 1;
            let looks = *looks;
            let passed = match self.batch(port) {
                Ok(0) => {
                    self.busy.swap_remove(place);
                    if looks > HOT {
                        self.watch(port)
                    } else {
                        Ok(())
                    }
                }
                Ok(_) => {
                    place += 1;
                    if looks == HOT {
                        self.unwatch(port);
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = passed {
                let name = self.snapshots.load().port_name(port);
                tracing::warn!(port = name, %error, "device lost");
                self.detach(port);
                let _ = self.lost.send(port);
            }
        }
        let now = now();
        let Self {
            engine,
            ports,
            snapshots,
            watching,
            ..
        } = self;
        if engine.next_deadline().is_some_and(|due| due <= now) {
            let snapshot = snapshots.load();
            engine.poll(snapshot, now);
            drain(engine, ports, (snapshot, watching.as_deref_mut()), now);
            for notice in engine.take_notices() {
                report::claim(&notice, snapshot);
            }
        }
        self.publish_findings();
        let Self {
            engine, snapshots, ..
        } = self;
        if engine.has_news() {
            let snapshot = snapshots.load();
            for entry in engine.take_entries() {
                report::flow(&entry, snapshot);
            }
            for met in engine.take_limits_met() {
                report::limit(&met, snapshot);
            }
        }
    }

    /// Publishes what the router found out. If a new configuration came meanwhile, that is adopted first, and
    /// this follows.
    fn publish_findings(&mut self) {
        let findings = self.engine.take_findings(now());
        if findings.is_empty() {
            return;
        }
        let current = self.snapshots.load().clone();
        for notice in self.engine.take_next_hop_notices() {
            report::next_hop(&notice, &current);
        }
        let next = Arc::new(current.with_findings(&findings));
        let all = self.snapshots.arc_swap();
        let found = all.compare_and_swap(&current, next);
        if Arc::ptr_eq(&found, &current) {
            for (address, to) in findings.moves {
                report::moved(address, to, &current);
            }
        } else {
            self.engine.put_back(findings);
        }
        self.refresh();
    }

    /// One batch from a port: each frame through the router and out again.
    fn batch(&mut self, port: PortId) -> io::Result<usize> {
        let Self {
            engine,
            ports,
            snapshots,
            watching,
            ..
        } = self;
        let snapshot = snapshots.load();
        let now = now();
        let Engine { router, shard } = engine;
        let passed = ports.pass(port, |frames, outputs| {
            if frames.len() > 1 {
                shard.warm(frames.iter().map(|frame| &*frame.bytes));
            }
            if let Some(watching) = watching {
                return watching.batch((frames, outputs), port, snapshot, (router, shard), now);
            }
            for (frame, output) in frames.iter_mut().zip(outputs) {
                let both = (&mut *router, &mut *shard);
                if let Verdict::Emit(to) = process(frame, port, snapshot, both, now) {
                    *output = Some(to);
                }
            }
        })?;
        drain(engine, ports, (snapshot, watching.as_deref_mut()), now);
        watching.take_if(|it| it.is_over());
        if passed.bytes >= BULK {
            self.linger = Some(monotonic() + LINGER);
        }
        Ok(passed.frames)
    }

    /// Looks which ports have frames; sleeps only when none had any at the last look.
    fn wait(&mut self) {
        self.linger = self.linger.filter(|&until| monotonic() < until);
        let timeout = if self.busy.is_empty() && self.linger.is_none() {
            self.engine.next_deadline().map(|due| due.since(now()))
        } else {
            Some(Duration::ZERO)
        };
        let timeout = match self.ports.reclaim() {
            true => Some(timeout.map_or(COMPLETION, |timeout| timeout.min(COMPLETION))),
            false => timeout,
        };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut room = [MaybeUninit::<Event>::uninit(); EVENTS];
        let ready = match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return,
            Err(error) => {
                // Nothing can be waited for any more: control starts another dataplane.
                tracing::error!(%error, "epoll failed");
                std::process::abort();
            }
        };
        let mut ordered = false;
        for event in ready {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == ORDERS {
                ordered = true;
                continue;
            }
            let port = PortId(data as u16);
            if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
                self.clear_error(port);
            }
            if !self.busy.iter().any(|busy| busy.port == port) {
                self.busy.push(Busy { port, looks: 0 });
            }
        }
        if ordered {
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            self.refresh();
            while let Ok(order) = self.orders.try_recv() {
                order(self);
            }
        }
    }

    /// Has epoll tell when a port has frames, those that wait already included.
    fn watch(&self, port: PortId) -> io::Result<()> {
        for descriptor in self.ports.descriptors(port) {
            let data = EventData::new_u64(u64::from(port.0));
            epoll::add(&self.epoll, descriptor, data, EventFlags::IN)?;
        }
        Ok(())
    }

    fn unwatch(&self, port: PortId) {
        for descriptor in self.ports.descriptors(port) {
            // That fails for a port that is not watched because it always has frames.
            let _ = epoll::delete(&self.epoll, descriptor);
        }
    }

    /// A device's socket reports going down as an error, and counts as ready until that is read.
    fn clear_error(&self, port: PortId) {
        if let Some(error) = self.ports.take_error(port) {
            tracing::info!(port = port.0, %error, "device went down");
        }
    }
}
