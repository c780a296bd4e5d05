//! The dataplane as control sees it: a process and a connection to it.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tapgate_protocol::{Channel, ChannelError, Request, Response};

use crate::connect::{Peer, connect, is_absent, readable};
use crate::event::Event;
use crate::health::Health;
use crate::heartbeat::{self, Heartbeat};
use crate::launcher::Launcher;
use crate::runtime_dir::RuntimeDir;
use crate::silence::Silence;

/// How long a new dataplane may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed dataplane may take to be gone: the kernel removes its TAPs one by one.
const DEATH_PATIENCE: Duration = Duration::from_secs(30);
/// How long a dataplane may take to greet, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a dataplane is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// It cannot be started.
    #[error("{0}")]
    Start(String),
    /// It ended before it listened.
    #[error("it ended before it listened: {0}")]
    Ended(String),
    /// It has not answered in time.
    #[error("it has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// Its worker does not go round.
    #[error("its worker has stood still for {} s", heartbeat::LIMIT.as_secs())]
    StoodStill,
    /// Talking to it failed.
    #[error("{0}")]
    Channel(#[from] ChannelError),
    /// We are asked to stop meanwhile.
    #[error("interrupted by the order to stop")]
    Interrupted,
}

/// A running dataplane.
#[derive(Debug)]
pub struct Dataplane {
    channel: Channel,
    process: Process,
    started: Instant,
    heartbeat: Arc<Heartbeat>,
}

/// A dataplane's process.
#[derive(Debug)]
struct Process {
    pid: Pid,
    handle: OwnedFd,
    /// An earlier control's launcher started it.
    adopted: bool,
}

impl Dataplane {
    /// Takes over the dataplane that answers at `socket`, if one does.
    ///
    /// # Errors
    /// Somebody is there but does not answer as one of ours.
    pub fn adopt(socket: &Path) -> Result<Option<Self>, DataplaneError> {
        let Peer { channel, pid, .. } = match connect(socket, PATIENCE) {
            Ok(peer) => peer,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let handle = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| DataplaneError::Channel(ChannelError::Io(error.into())))?;
        Ok(Some(Self {
            channel,
            process: Process {
                pid,
                handle,
                adopted: true,
            },
            started: Instant::now(),
            heartbeat: Arc::default(),
        }))
    }

    /// Has `launcher` start one on `directory` and waits until it answers.
    ///
    /// # Errors
    /// It cannot be run, ends or does not answer in time; or `stop` is set meanwhile.
    pub fn start(
        launcher: &mut Launcher,
        directory: &RuntimeDir,
        stop: &AtomicBool,
    ) -> Result<Self, DataplaneError> {
        let socket = directory.dataplane_socket();
        let bound = directory.bind_dataplane_socket().map_err(|error| {
            DataplaneError::Start(format!("cannot make {}: {error}", socket.display()))
        })?;
        let pid = launcher
            .start(bound.as_fd())
            .map_err(DataplaneError::Start)?;
        // With ours gone, whoever connects is refused as soon as the dataplane is dead.
        drop(bound);
        let process = Process::started(pid)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match connect(&socket, PATIENCE) {
                Ok(peer) => {
                    return Ok(Self {
                        channel: peer.channel,
                        process,
                        started: Instant::now(),
                        heartbeat: Arc::default(),
                    });
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    process.kill(launcher);
                    return Err(error.into());
                }
            }
            if process.ended(Duration::from_millis(5)) {
                return Err(DataplaneError::Ended(process.obituary(launcher)));
            }
            if Instant::now() > deadline || stop.load(Ordering::Relaxed) {
                process.kill(launcher);
                return Err(if stop.load(Ordering::Relaxed) {
                    DataplaneError::Interrupted
                } else {
                    DataplaneError::Silent(START_PATIENCE)
                });
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// Whether an earlier control started it.
    pub fn is_adopted(&self) -> bool {
        self.process.adopted
    }

    /// How long we have known it.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Most descriptors that a message to it may come with.
    pub fn most_descriptors(&self) -> usize {
        self.channel.most_descriptors()
    }

    /// Sends `request` with `descriptors` and waits for the answer and what comes with it, at most
    /// `patience` after the last step of progress, or until `stop` is set.
    ///
    /// # Errors
    /// There is no answer. The connection is then of no use any more.
    pub fn ask(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
        stop: Option<&AtomicBool>,
    ) -> Result<(Response, Vec<OwnedFd>), DataplaneError> {
        const SLICE: Duration = Duration::from_millis(50);
        self.channel.send(request, descriptors)?;
        let mut silence = Silence::new(patience, Instant::now());
        let mut steps = self.heartbeat.steps();
        while !readable(self.channel.stream().as_fd(), PollFlags::IN, SLICE) {
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(DataplaneError::Interrupted);
            }
            if self.heartbeat.has_stopped() {
                return Err(DataplaneError::StoodStill);
            }
            let come = self.heartbeat.steps();
            if come != steps {
                steps = come;
                silence.broken(Instant::now());
            }
            if silence.is_too_long(Instant::now()) {
                return Err(DataplaneError::Silent(patience));
            }
        }
        Ok(self.channel.receive()?)
    }

    /// Tells `events`, from threads of its own, when the connection ends, and when the worker of
    /// this dataplane, which listens at `socket`, stands still.
    ///
    /// # Errors
    /// It cannot be connected to once more, or there is no thread to be had.
    pub fn watch(
        &mut self,
        socket: &Path,
        serial: u64,
        events: &Sender<Event>,
        health: &Arc<Health>,
    ) -> Result<(), DataplaneError> {
        let lost = Event::Lost { serial };
        at_the_end_of(self.channel.stream(), lost, events.clone()).map_err(ChannelError::Io)?;
        self.heartbeat = Heartbeat::of(socket, serial, events.clone(), Arc::clone(health))?;
        Ok(())
    }

    /// Parts with a dataplane whose connection is lost, and says how it ended. If it still lives
    /// it is killed: two dataplanes must not have the same ports.
    pub fn bury(self, launcher: &mut Launcher) -> String {
        let _ = self.channel.stream().shutdown(Shutdown::Both);
        if self.process.ended(Duration::from_millis(200)) {
            return self.process.obituary(launcher);
        }
        self.process.kill(launcher);
        "it no longer answered and was killed".to_owned()
    }

    /// Ends it in good order, waiting at most `patience` for each step of progress, else by force.
    ///
    /// # Errors
    /// Force was needed.
    pub fn stop(mut self, patience: Duration, launcher: &mut Launcher) -> Result<(), String> {
        let answer = self.ask(&Request::Stop, &[], patience, None);
        if answer.is_ok() && self.process.ended(patience) {
            return Ok(());
        }
        let _ = self.channel.stream().shutdown(Shutdown::Both);
        if self.process.ended(Duration::ZERO) {
            return Err(format!(
                "the dataplane ended by itself: {}",
                self.process.obituary(launcher)
            ));
        }
        self.process.kill(launcher);
        Err(format!(
            "the dataplane (pid {}) did not end within {} s and was killed",
            self.pid(),
            patience.as_secs()
        ))
    }
}

impl Process {
    /// The process that the launcher started as `pid`. It is not collected before we ask how it
    /// ended, so the number is its own.
    fn started(pid: u32) -> Result<Self, DataplaneError> {
        let nonsense = || DataplaneError::Start(format!("the launcher started process {pid}"));
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = number.ok_or_else(nonsense)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| DataplaneError::Start(format!("cannot watch over it: {error}")))?;
        Ok(Self {
            pid,
            handle,
            adopted: false,
        })
    }

    /// Whether it has ended, or does within `patience`.
    fn ended(&self, patience: Duration) -> bool {
        readable(self.handle.as_fd(), PollFlags::IN, patience)
    }

    fn kill(&self, launcher: &mut Launcher) {
        // We may kill our own user's: a dataplane from before an upgrade.
        if pidfd_send_signal(&self.handle, Signal::KILL).is_err()
            && let Err(error) = launcher.kill(self.handle.as_fd())
        {
            tracing::error!(pid = self.pid.as_raw_nonzero(), "{error}");
        }
        self.ended(DEATH_PATIENCE);
        self.obituary(launcher);
    }

    /// How it ended.
    fn obituary(&self, launcher: &mut Launcher) -> String {
        launcher
            .obituary(self.pid.as_raw_nonzero().get().unsigned_abs())
            .unwrap_or_else(|| "it is gone".to_owned())
    }
}

/// Tells `events` of `event`, from a thread of its own, when the other side closes `stream`.
///
/// # Errors
/// The thread cannot be started.
pub fn at_the_end_of(stream: &UnixStream, event: Event, events: Sender<Event>) -> io::Result<()> {
    let stream = stream.try_clone()?;
    thread::Builder::new().name("watch".into()).spawn(move || {
        // Hang-ups only: what it sends is read by who asked.
        while !readable(stream.as_fd(), PollFlags::RDHUP, Duration::from_secs(3600)) {}
        let _ = events.send(event);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a dataplane that answers after `time`, with `patience`. It makes `steps` on the way.
    fn ask(time: Duration, steps: u32, patience: Duration) -> Result<(), DataplaneError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut dataplane = Dataplane {
            channel: Channel::new(ours),
            process: Process::started(std::process::id()).unwrap(),
            started: Instant::now(),
            heartbeat: Arc::default(),
        };
        let heartbeat = Arc::clone(&dataplane.heartbeat);
        let answering = thread::spawn(move || {
            for _ in 0..steps {
                thread::sleep(time / steps);
                heartbeat.come_further();
            }
            thread::sleep(if steps == 0 { time } else { Duration::ZERO });
            let _ = Channel::new(theirs).send(&Response::Ok, &[]);
        });
        let asked = dataplane.ask(&Request::Stop, &[], patience, None);
        answering.join().unwrap();
        asked.map(|_| ())
    }

    #[test]
    fn whoever_comes_further_is_waited_for() {
        let (time, patience) = (Duration::from_secs(3), Duration::from_secs(1));
        ask(time, 30, patience).unwrap();
        let given_up = ask(time, 0, patience);
        assert!(matches!(given_up, Err(DataplaneError::Silent(_))));
    }
}
