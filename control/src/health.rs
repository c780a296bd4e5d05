//! What control tells of the dataplane's life.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tapgate_protocol::{Progress, Response};

/// Counted and kept since control started.
#[derive(Debug, Default)]
pub struct Health {
    lost: AtomicU64,
    stood_still: AtomicU64,
    progress: Mutex<Option<Progress>>,
}

impl Health {
    /// A dataplane was lost.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.set_progress(None);
    }

    /// A dataplane's worker stood still.
    pub fn stood_still(&self) {
        self.stood_still.fetch_add(1, Ordering::Relaxed);
    }

    /// How far the dataplane is with the ports of a configuration.
    pub fn set_progress(&self, progress: Option<Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// All of it, as an answer.
    pub fn told(&self) -> Response {
        Response::Health {
            lost: self.lost.load(Ordering::Relaxed),
            stood_still: self.stood_still.load(Ordering::Relaxed),
            progress: *self.progress.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}
