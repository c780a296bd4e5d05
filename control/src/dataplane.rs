//! The dataplane as control sees it: a process and a connection to it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tapgate_protocol::{Channel, ChannelError, Request, Response};

use crate::connect::{Peer, connect, is_absent};
use crate::event::Event;
use crate::runtime_dir;

/// How long a new dataplane may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long a dataplane may take to greet, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a dataplane is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// Its program cannot be run.
    #[error("cannot run {program}: {error}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        error: io::Error,
    },
    /// It ended before it listened.
    #[error("it ended before it listened: {0}")]
    Ended(String),
    /// It has not answered in time.
    #[error("it has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// Talking to it failed.
    #[error("{0}")]
    Channel(#[from] ChannelError),
    /// We are asked to stop meanwhile.
    #[error("interrupted by the order to stop")]
    Interrupted,
}

/// The dataplane's program.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// Opened while control still had its user's rights: a root without CAP_DAC_OVERRIDE may not
    /// look into a home directory that is its user's alone.
    file: File,
}

/// A running dataplane.
#[derive(Debug)]
pub struct Dataplane {
    channel: Channel,
    process: Process,
    started: Instant,
}

/// A dataplane's process, our child or not.
#[derive(Debug)]
struct Process {
    pid: i32,
    handle: OwnedFd,
    child: Option<Child>,
}

impl Program {
    /// The program at `path`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        Ok(Self { path, file })
    }

    fn spawn(&self, directory: &Path) -> io::Result<Child> {
        let command = |program: &OsStr| {
            Command::new(program)
                .arg0(&self.path)
                .arg("--runtime-dir")
                .arg(directory)
                .stdin(Stdio::null())
                // A group of its own: Ctrl-C is for control, which ends it in good order.
                .process_group(0)
                .spawn()
        };
        match command(self.path.as_os_str()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                command(format!("/proc/self/fd/{}", self.file.as_raw_fd()).as_ref())
            }
            spawned => spawned,
        }
    }
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
                pid: pid.as_raw_nonzero().get(),
                handle,
                child: None,
            },
            started: Instant::now(),
        }))
    }

    /// Starts `program` on `directory` and waits until it answers at `socket`.
    ///
    /// # Errors
    /// It cannot be run, ends or does not answer in time; or `stop` is set meanwhile.
    pub fn start(
        program: &Program,
        directory: &Path,
        socket: &Path,
        stop: &AtomicBool,
    ) -> Result<Self, DataplaneError> {
        let spawn = |error| DataplaneError::Spawn {
            program: program.path.display().to_string(),
            error,
        };
        runtime_dir::remove(socket).map_err(spawn)?;
        let child = program.spawn(directory).map_err(spawn)?;
        let mut process = Process::of_child(child).map_err(spawn)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match connect(socket, PATIENCE) {
                Ok(peer) => {
                    return Ok(Self {
                        channel: peer.channel,
                        process,
                        started: Instant::now(),
                    });
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    process.kill();
                    return Err(error.into());
                }
            }
            if process.ended(Duration::from_millis(5)) {
                return Err(DataplaneError::Ended(process.obituary()));
            }
            if Instant::now() > deadline || stop.load(Ordering::Relaxed) {
                process.kill();
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
        self.process.pid
    }

    /// Whether an earlier control started it.
    pub fn is_adopted(&self) -> bool {
        self.process.child.is_none()
    }

    /// How long we have known it.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Most descriptors that a message to it may come with.
    pub fn most_descriptors(&self) -> usize {
        self.channel.most_descriptors()
    }

    /// Sends `request` with `descriptors` and waits at most `patience` for the answer and what
    /// comes with it, or until `stop` is set.
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
        let deadline = Instant::now() + patience;
        while !readable(self.channel.stream().as_fd(), PollFlags::IN, SLICE) {
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(DataplaneError::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(DataplaneError::Silent(patience));
            }
        }
        Ok(self.channel.receive()?)
    }

    /// Tells `events`, from a thread of its own, when the connection ends.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn watch(&self, serial: u64, events: Sender<Event>) -> io::Result<()> {
        let stream = self.channel.stream().try_clone()?;
        thread::Builder::new().name("watch".into()).spawn(move || {
            // Hang-ups only: what it sends is read by who asked.
            while !readable(stream.as_fd(), PollFlags::RDHUP, Duration::from_secs(3600)) {}
            let _ = events.send(Event::Lost { serial });
        })?;
        Ok(())
    }

    /// Parts with a dataplane whose connection is lost, and says how it ended. If it still lives
    /// it is killed: two dataplanes must not have the same ports.
    pub fn bury(mut self) -> String {
        let _ = self.channel.stream().shutdown(Shutdown::Both);
        if self.process.ended(Duration::from_millis(200)) {
            return self.process.obituary();
        }
        self.process.kill();
        "it no longer answered and was killed".to_owned()
    }

    /// Ends it in good order within `patience`, else by force.
    ///
    /// # Errors
    /// Force was needed.
    pub fn stop(mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let answer = self.ask(&Request::Stop, &[], patience, None);
        if answer.is_ok()
            && self
                .process
                .ended(deadline.saturating_duration_since(Instant::now()))
        {
            self.process.reap();
            return Ok(());
        }
        let _ = self.channel.stream().shutdown(Shutdown::Both);
        if self.process.ended(Duration::ZERO) {
            return Err(format!(
                "the dataplane ended by itself: {}",
                self.process.obituary()
            ));
        }
        self.process.kill();
        Err(format!(
            "the dataplane (pid {}) did not end within {} s and was killed",
            self.process.pid,
            patience.as_secs()
        ))
    }
}

impl Process {
    fn of_child(mut child: Child) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Self {
                pid: pid.as_raw_nonzero().get(),
                handle,
                child: Some(child),
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// Whether it has ended, or does within `patience`.
    fn ended(&self, patience: Duration) -> bool {
        readable(self.handle.as_fd(), PollFlags::IN, patience)
    }

    fn kill(&mut self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        self.ended(Duration::from_secs(5));
        self.reap();
    }

    fn reap(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
    }

    /// How it ended.
    fn obituary(&mut self) -> String {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "it is gone".to_owned(),
        }
    }
}

/// Waits at most `patience` for one of `events` on `fd`, or its end.
fn readable(fd: BorrowedFd<'_>, events: PollFlags, patience: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    let timeout = rustix::event::Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}
