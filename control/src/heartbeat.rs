//! Whether the dataplane's worker goes round, and how far a configuration has come.
//!
//! The dataplane is asked on a connection of its own, once a second: it answers when its worker has
//! gone round. So a worker that is stuck is noticed although its process lives and its other threads
//! answer.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use sd_notify::NotifyState;
use tapgate_protocol::{Channel, ChannelError, Progress, Request, Response};

use crate::connect::{Peer, connect, readable};
use crate::event::Event;
use crate::health::Health;
use crate::silence::Silence;

/// How long a dataplane may take to greet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a worker may stand still before its dataplane is replaced.
pub const LIMIT: Duration = Duration::from_secs(5);
/// From an answer to the next question.
const PAUSE: Duration = Duration::from_secs(1);
/// The same while ports are being opened.
const SHORT_PAUSE: Duration = Duration::from_millis(200);
/// From one look for an answer to the next.
const LOOK: Duration = Duration::from_millis(100);
/// How often progress is logged.
const LOGGED: Duration = Duration::from_secs(5);
/// How much more time a service manager is asked for at every step: as long as control itself
/// waits for the next one, and some more.
const EXTENSION: Duration = Duration::from_secs(45);

/// The heartbeat of one dataplane.
#[derive(Debug, Default)]
pub struct Heartbeat {
    stood_still: AtomicBool,
    /// Changes whenever the dataplane has come further.
    steps: AtomicU64,
}

impl Heartbeat {
    /// Listens to the dataplane at `socket` until its connection ends. If its worker stands still,
    /// `events` is told once, with `serial`. A dataplane from before heartbeats has none.
    ///
    /// # Errors
    /// It cannot be connected to, or there is no thread to be had.
    pub fn of(
        socket: &Path,
        serial: u64,
        events: Sender<Event>,
        health: Arc<Health>,
    ) -> Result<Arc<Self>, ChannelError> {
        let heartbeat = Arc::new(Self::default());
        let Peer { channel, .. } = connect(socket, PATIENCE)?;
        if channel.has_heartbeats() {
            let ours = Arc::clone(&heartbeat);
            let listen = move || {
                if ours.listen(channel, &health).is_err() {
                    // Its end is told to whoever watches over its process.
                    return;
                }
                health.stood_still();
                ours.stood_still.store(true, Ordering::Relaxed);
                let _ = events.send(Event::StoodStill { serial });
            };
            let thread = thread::Builder::new().name("heartbeat".into());
            thread.spawn(listen).map_err(ChannelError::Io)?;
        }
        Ok(heartbeat)
    }

    /// Whether the worker was found standing still.
    pub fn has_stopped(&self) -> bool {
        self.stood_still.load(Ordering::Relaxed)
    }

    /// A number that changes with every step of a configuration under way.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// The dataplane has made a step.
    pub fn come_further(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when the worker stands still.
    ///
    /// # Errors
    /// The connection ended.
    fn listen(&self, mut channel: Channel, health: &Health) -> Result<(), ChannelError> {
        let mut logged = Instant::now();
        let mut before = None;
        loop {
            channel.send(&Request::Beat, &[])?;
            let mut silence = Silence::new(LIMIT, Instant::now());
            while !readable(channel.stream().as_fd(), PollFlags::IN, LOOK) {
                if silence.is_too_long(Instant::now()) {
                    return Ok(());
                }
            }
            let Response::Beat { progress } = channel.receive()?.0 else {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            };
            if progress != before {
                before = progress;
                self.come_further();
                health.set_progress(progress);
                if let Some(progress) = progress {
                    tell(progress, &mut logged);
                }
            }
            thread::sleep(progress.map_or(PAUSE, |_| SHORT_PAUSE));
        }
    }
}

/// Tells the service manager, and from time to time the log, how far it is.
fn tell(progress: Progress, logged: &mut Instant) {
    let line = progress.to_string();
    let _ = sd_notify::notify(&[
        NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32),
        NotifyState::Status(&line),
    ]);
    if logged.elapsed() >= LOGGED {
        *logged = Instant::now();
        tracing::info!("{line}");
    }
}
