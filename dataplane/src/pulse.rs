//! What can be told of the dataplane without waiting for whoever changes it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tapgate_protocol::{Progress, Work};

use crate::worker::Caller;

/// The worker's heartbeat, the generation, and the progress of what takes long.
#[derive(Debug, Default)]
pub struct Pulse {
    worker: Mutex<Option<Caller>>,
    progress: Mutex<Option<Progress>>,
    generation: AtomicU32,
}

impl Pulse {
    /// A worker has started.
    pub fn start(&self, worker: Caller) {
        *lock(&self.worker) = Some(worker);
    }

    /// Returns when the worker has gone round once more, or there is none.
    pub fn beat(&self) {
        let worker = lock(&self.worker).clone();
        if let Some(worker) = worker {
            worker.ask(|_| ());
        }
    }

    /// The number of the running configuration, 0 before the first.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The configuration `generation` is in force.
    pub fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// How far work that takes long is.
    pub fn progress(&self) -> Option<Progress> {
        *lock(&self.progress)
    }

    /// `work` is to be done to so many ports.
    pub fn begin(&self, work: Work, ports: usize) {
        let of = ports as u32;
        *lock(&self.progress) = (of > 0).then_some(Progress { work, done: 0, of });
    }

    /// The work is done.
    pub fn end(&self) {
        *lock(&self.progress) = None;
    }

    /// It is done to one of them.
    pub fn step(&self) {
        if let Some(progress) = lock(&self.progress).as_mut() {
            progress.done += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
