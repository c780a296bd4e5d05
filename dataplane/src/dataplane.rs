//! The dataplane as a whole: takes configurations, and keeps ports and worker in line with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tapgate_engine::addr::PortId;
use tapgate_engine::config::{Config, Port};
use tapgate_engine::session::Sessions;
use tapgate_engine::snapshot::Snapshot;
use tapgate_protocol::{Kept, Progress, Work};

use crate::binding::{Binding, Bound};
use crate::hostguard::{Guarded, HostGuard};
use crate::hostports;
use crate::link::Links;
use crate::macs::Macs;
use crate::port::Opened;
use crate::port::memory::FarEnd;
use crate::pulse::Pulse;
use crate::sys::sessions::SharedSessions;
use crate::worker::WorkerHandle;

/// How often ports that wait for more than a device are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The dataplane.
#[derive(Debug)]
pub struct Dataplane {
    state: Mutex<State>,
    pulse: Arc<Pulse>,
}

/// What a configuration led to.
#[derive(Debug)]
pub struct Configured {
    /// Its number.
    pub generation: u32,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Descriptors that should outlive the process.
    pub kept: Vec<(Kept, OwnedFd)>,
}

/// Everything that configuring changes.
#[derive(Debug)]
pub(crate) struct State {
    /// From the first configuration on.
    pub(crate) running: Option<Running>,
    /// All configured ports by name.
    pub(crate) bindings: BTreeMap<String, Binding>,
    pub(crate) links: Links,
    /// Ports that the worker knows to be without a link.
    told_down: BTreeSet<PortId>,
    guard: HostGuard,
    adopted: Vec<(Kept, OwnedFd)>,
    lost: (Sender<PortId>, Receiver<PortId>),
    pulse: Arc<Pulse>,
}

/// What exists from the first configuration on.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) snapshots: Arc<ArcSwap<Snapshot>>,
    pub(crate) worker: WorkerHandle,
    sessions: SharedSessions,
    capacity: u32,
}

impl Dataplane {
    /// A dataplane without a configuration: nothing is forwarded yet.
    ///
    /// # Errors
    /// Network devices cannot be listed.
    pub fn new() -> io::Result<Arc<Self>> {
        let links = Links::open()?;
        let changes = links.as_fd().try_clone_to_owned()?;
        let pulse = Arc::<Pulse>::default();
        let dataplane = Arc::new(Self {
            pulse: Arc::clone(&pulse),
            state: Mutex::new(State {
                running: None,
                bindings: BTreeMap::new(),
                links,
                told_down: BTreeSet::new(),
                guard: HostGuard::default(),
                adopted: Vec::new(),
                lost: unbounded(),
                pulse,
            }),
        });
        let follower = Arc::downgrade(&dataplane);
        std::thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || {
                loop {
                    wait(&changes);
                    let Some(dataplane) = follower.upgrade() else {
                        return;
                    };
                    dataplane.state().follow_links();
                }
            })?;
        Ok(dataplane)
    }

    /// Takes descriptors that outlived an earlier dataplane, for the first configuration to use.
    /// A dataplane that runs already has no use for them.
    pub fn adopt(&self, kept: impl IntoIterator<Item = (Kept, OwnedFd)>) {
        let mut state = self.state();
        if state.running.is_none() {
            state.adopted.extend(kept);
        }
    }

    /// Makes `config` the configuration. Ports that stay are not touched.
    ///
    /// # Errors
    /// The first configuration only: no memory for sessions, no thread. Nothing has changed then.
    pub fn configure(&self, config: &Config) -> Result<Configured, String> {
        let mut state = self.state();
        let configured = state.configure(config);
        if configured.is_err() && state.running.is_none() {
            state.bindings.clear();
            state.guard = HostGuard::default();
        }
        configured
    }

    /// The number of the running configuration, 0 before the first.
    pub fn generation(&self) -> u32 {
        self.pulse.generation()
    }

    /// Returns when the worker has gone round once more: how far work that takes long
    /// is. Never waits for that work itself.
    pub fn beat(&self) -> Option<Progress> {
        self.pulse.beat();
        self.pulse.progress()
    }

    /// The far end of a memory port.
    pub fn memory_port(&self, name: &str) -> Option<Arc<FarEnd>> {
        self.state().bindings.get(name)?.bound.far_end().cloned()
    }

    /// Stops forwarding, closes all ports and removes the devices that were made for them.
    pub fn stop(&self) {
        let mut state = self.state();
        state.running = None;
        let bindings = std::mem::take(&mut state.bindings);
        self.pulse.begin(Work::Closing, bindings.len());
        for (_, mut binding) in bindings {
            binding.bound = Bound::Waiting("stopped".to_owned());
            binding.remove_device(&state.links);
            self.pulse.step();
        }
        self.pulse.end();
        state.adopted.clear();
        state.guard = HostGuard::default();
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has ended the process (see main).
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn configure(&mut self, config: &Config) -> Result<Configured, String> {
        let previous = self.running.as_ref().map(|r| r.snapshots.load_full());
        let snapshot = Arc::new(Snapshot::build(config, previous.as_deref()));
        let mut warnings = Vec::new();
        self.guard_host(config, &mut warnings);

        // Ports that go are closed before the snapshot that does not know them is published; those
        // that come are opened after the one that does, or before the worker starts on it.
        self.close_ports_not_in(config);
        self.guard.release(&self.links);
        let snapshot = self.publish(config, previous, snapshot);
        let generation = snapshot.generation();
        self.take_notice_of_ports(config, &snapshot);
        if let Err(error) = self.links.update() {
            warnings.push(format!("cannot list network devices: {error}"));
        }
        let waiting = |binding: &&Binding| matches!(binding.bound, Bound::Waiting(_));
        let to_open = self.bindings.values().filter(waiting).count();
        self.pulse.begin(Work::Opening, to_open);
        let opened = self.open_ports();
        self.pulse.end();
        if self.running.is_some() {
            self.attach(opened);
        } else {
            self.running = Some(self.start(snapshot, opened, &mut warnings)?);
        }
        self.tell_links();
        self.adopted.clear();
        self.pulse.set_generation(generation);

        if let Some(running) = &self.running
            && running.capacity != config.router().sessions
        {
            warnings.push(format!(
                "[router] sessions: the running dataplane has room for {}; {} takes effect, and all \
                 sessions end, when it is started anew",
                running.capacity,
                config.router().sessions
            ));
        }
        for binding in self.bindings.values() {
            warnings.extend(binding.warnings(&self.links));
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Configured {
            generation,
            warnings,
            kept: self
                .kept()
                .map_err(|error| format!("cannot hand over descriptors: {error}"))?,
        })
    }

    /// Has the worker go on under a snapshot of `config`, which followed on `previous`. If next hops went out
    /// of use or came back meanwhile, it follows on what says so.
    fn publish(
        &self,
        config: &Config,
        mut previous: Option<Arc<Snapshot>>,
        mut snapshot: Arc<Snapshot>,
    ) -> Arc<Snapshot> {
        let Some(running) = &self.running else {
            return snapshot;
        };
        while let Some(before) = &previous {
            let found = running.snapshots.compare_and_swap(before, snapshot.clone());
            if Arc::ptr_eq(&found, before) {
                break;
            }
            snapshot = Arc::new(Snapshot::build(config, Some(&found)));
            previous = Some(Arc::clone(&found));
        }
        running.worker.ask(|worker| worker.refresh());
        snapshot
    }

    /// Tells the worker which ports have no link, if that has changed: next hops behind them are out of use.
    fn tell_links(&mut self) {
        let bindings = self.bindings.values();
        let down = bindings.filter(|binding| binding.is_up(&self.links) != Some(true));
        let down: BTreeSet<PortId> = down.map(|binding| binding.id).collect();
        if down != self.told_down {
            self.told_down.clone_from(&down);
            self.ask(|worker| worker.set_ports_down(down));
        }
    }

    fn start(
        &mut self,
        snapshot: Arc<Snapshot>,
        opened: Vec<(PortId, Opened)>,
        warnings: &mut Vec<String>,
    ) -> Result<Running, String> {
        let capacity = snapshot.config().router().sessions;
        let (sessions, memory) = self.session_memory(capacity as usize, warnings)?;
        let snapshots = Arc::new(ArcSwap::new(snapshot));
        let worker = WorkerHandle::start(&snapshots, memory, opened, self.lost.0.clone())
            .map_err(|error| format!("cannot start a worker: {error}"))?;
        self.pulse.start(worker.caller());
        Ok(Running {
            snapshots,
            worker,
            sessions,
            capacity,
        })
    }

    /// Has the host's kernel stop hearing guests and answering for what is ours, before we open a
    /// port.
    fn guard_host(&mut self, config: &Config, warnings: &mut Vec<String>) {
        if let Some(descriptor) = take(&mut self.adopted, &Kept::HostGuard)
            && let Err(error) = self.guard.adopt(descriptor)
        {
            warnings.push(format!(
                "the last dataplane's rules cannot be kept: {error}"
            ));
        }
        // That it fails is told when the ports are opened.
        let _ = self.links.update();
        let guarded = Guarded::of(config);
        warnings.extend(hostports::warnings(&guarded.shared, &self.links));
        warnings.extend(self.guard.configure(guarded, &self.links));
    }

    fn session_memory(
        &mut self,
        capacity: usize,
        warnings: &mut Vec<String>,
    ) -> Result<(SharedSessions, Sessions), String> {
        if let Some(descriptor) = take(&mut self.adopted, &Kept::Sessions { worker: 0 }) {
            match SharedSessions::adopt(descriptor, capacity) {
                Ok(adopted) => {
                    tracing::info!(capacity, "sessions taken over");
                    return Ok(adopted);
                }
                Err(why) => warnings.push(format!(
                    "sessions start empty: the memory of the last dataplane {why}"
                )),
            }
        }
        SharedSessions::create(capacity).map_err(|error| {
            format!("no memory for {capacity} sessions: {error}; lower `[router] sessions`")
        })
    }

    fn close_ports_not_in(&mut self, config: &Config) {
        let ports = config.ports().iter().map(|port| (port.name.as_str(), port));
        let ports: HashMap<&str, &Port> = ports.collect();
        let stays = |name: &String, binding: &Binding| {
            let port = ports.get(name.as_str());
            port.is_some_and(|port| binding.serves(port))
        };
        let (stay, go) = std::mem::take(&mut self.bindings)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(name, binding)| stays(name, binding));
        self.bindings = stay;
        for (_, mut binding) in go {
            self.detach(binding.id);
            binding.bound = Bound::Waiting("no longer configured".to_owned());
            binding.remove_device(&self.links);
        }
    }

    fn take_notice_of_ports(&mut self, config: &Config, snapshot: &Snapshot) {
        let mut new = Vec::new();
        for (port, macs) in config.ports().iter().zip(Macs::of_ports(config)) {
            let Some(id) = snapshot.port_id(&port.name) else {
                continue;
            };
            match self.bindings.get_mut(&port.name) {
                Some(binding) => binding.update(port, macs, &self.links),
                None => {
                    let binding = Binding::new(id, port, macs);
                    self.bindings.insert(port.name.clone(), binding);
                    new.push(id);
                }
            }
        }
        if !new.is_empty() {
            self.ask(move |worker| new.into_iter().for_each(|id| worker.ports().forget(id)));
        }
    }

    /// Opens ports that wait, as far as that can be done now. Devices that are made for them are
    /// closed to the host's kernel before they are set up.
    fn open_ports(&mut self) -> Vec<(PortId, Opened)> {
        let mut opened = Vec::new();
        let made = self.bindings.values_mut().filter_map(|binding| {
            let made = binding.is_due(&self.links) && binding.make_device(&mut self.links);
            made.then_some(binding)
        });
        let made: Vec<_> = made.collect();
        self.guard.follow(&self.links);
        for binding in made {
            let adopted = (0..binding.port.queues)
                .filter_map(|queue| {
                    let port = binding.port.name.clone();
                    take(&mut self.adopted, &Kept::Tap { port, queue })
                })
                .collect();
            if let Some(both) = binding.open(&mut self.links, adopted) {
                opened.push((binding.id, both));
            }
            self.pulse.step();
        }
        opened
    }

    /// Has the worker use ports just opened.
    fn attach(&mut self, opened: Vec<(PortId, Opened)>) {
        for (id, opened) in opened {
            let attached = self.ask(move |worker| worker.attach(id, opened));
            if let Some(Err(error)) = attached
                && let Some(binding) = self.bindings.values_mut().find(|b| b.id == id)
            {
                binding.wait(format!("cannot wait for frames: {error}"));
            }
        }
    }

    /// Brings ports in line with the devices there are.
    fn follow_links(&mut self) {
        while let Ok(id) = self.lost.1.try_recv() {
            if let Some(binding) = self.bindings.values_mut().find(|b| b.id == id) {
                binding.wait("its device is gone".to_owned());
            }
        }
        if let Err(error) = self.links.update() {
            tracing::error!(%error, "cannot list network devices");
        }
        // First of all: a device that came may be up already.
        self.guard.follow(&self.links);
        let stale: Vec<_> = self
            .bindings
            .values_mut()
            .filter(|binding| binding.is_stale(&self.links))
            .map(|binding| {
                binding.wait("its device is gone".to_owned());
                binding.id
            })
            .collect();
        for id in stale {
            self.detach(id);
        }
        // What is on a link that was down is not known there any more, or it is another link.
        let came_up = self.links.take_came_up();
        for binding in self.bindings.values() {
            let id = binding.id;
            if binding
                .device()
                .is_some_and(|device| came_up.iter().any(|name| name == device))
            {
                self.ask(move |worker| worker.link_up(id));
            }
        }
        let opened = self.open_ports();
        self.attach(opened);
        self.tell_links();
    }

    fn detach(&self, id: PortId) {
        self.ask(move |worker| worker.detach(id));
    }

    fn ask<R: Send + 'static>(
        &self,
        order: impl FnOnce(&mut crate::worker::Worker) -> R + Send + 'static,
    ) -> Option<R> {
        self.running.as_ref()?.worker.ask(order)
    }

    fn kept(&self) -> io::Result<Vec<(Kept, OwnedFd)>> {
        let mut kept = Vec::new();
        if let Some(running) = &self.running {
            let descriptor = running.sessions.as_fd().try_clone_to_owned()?;
            kept.push((Kept::Sessions { worker: 0 }, descriptor));
        }
        if let Some(descriptor) = self.guard.descriptor() {
            kept.push((Kept::HostGuard, descriptor.try_clone_to_owned()?));
        }
        for (name, binding) in &self.bindings {
            for (queue, descriptor) in (0..).zip(binding.bound.kept()) {
                let port = name.clone();
                kept.push((Kept::Tap { port, queue }, descriptor.try_clone()?));
            }
        }
        Ok(kept)
    }
}

fn take(adopted: &mut Vec<(Kept, OwnedFd)>, wanted: &Kept) -> Option<OwnedFd> {
    let place = adopted.iter().position(|(kept, _)| kept == wanted)?;
    Some(adopted.swap_remove(place).1)
}

/// Waits for news of network devices, or for the next retry.
fn wait(changes: &OwnedFd) {
    let timeout = Timespec {
        tv_sec: RETRY.as_secs() as i64,
        tv_nsec: 0,
    };
    let _ = poll(&mut [PollFd::new(changes, PollFlags::IN)], Some(&timeout));
}
