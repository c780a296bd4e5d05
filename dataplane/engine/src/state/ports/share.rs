//! What each worker gives out of an external address's ports.

/// Which of the router's workers a worker is. Of every external address's ports each worker gives out
/// its own: pairs of ports go round, so that each has even and odd ones of every class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    worker: u16,
    workers: u16,
}

impl Share {
    /// There is one worker.
    pub const ALL: Self = Self {
        worker: 0,
        workers: 1,
    };

    /// That of worker number `worker` of `workers`: 1, 2, 4, … 32, so that a word of 64 ports is
    /// divided evenly. `None`: there is no such worker, or another number of them.
    pub fn of(worker: u16, workers: u16) -> Option<Self> {
        let fits = workers.is_power_of_two() && workers <= 32 && worker < workers;
        fits.then_some(Self { worker, workers })
    }

    /// Which of them it is.
    pub fn worker(self) -> u16 {
        self.worker
    }

    /// How many workers there are.
    pub fn workers(self) -> u16 {
        self.workers
    }

    /// The worker that gives out `port`, of `workers`.
    pub fn worker_of(port: u16, workers: u16) -> u16 {
        (port >> 1) % workers.max(1)
    }

    /// Whether `port` is in it.
    fn has(self, port: u16) -> bool {
        Self::worker_of(port, self.workers) == self.worker
    }

    /// Its ports among 64 that begin at a multiple of 64.
    pub(super) fn mask(self) -> u64 {
        (0..64)
            .filter(|bit| self.has(*bit))
            .fold(0, |mask, bit| mask | 1 << bit)
    }
}
