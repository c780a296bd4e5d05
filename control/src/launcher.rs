//! The launcher: a process that starts dataplanes, and ends those that hang, on control's orders.
//!
//! It is what lets control have no capability at all and lets the dataplane be another user. It
//! reads nothing but control's orders, and ends with control. A dataplane outlives it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tapgate_protocol::{Channel, ChannelError, Message};

use crate::privileges::{self, Account};

/// This very program, wherever it is and whoever may look there.
const OURSELVES: &str = "/proc/self/exe";
/// How long the launcher may take over an order.
const PATIENCE: Duration = Duration::from_secs(10);

/// control -> launcher.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// First: what to start, where, and as whom.
    Begin {
        program: PathBuf,
        directory: PathBuf,
        account: Option<Account>,
    },
    /// Start a dataplane. With it comes the socket that it is to listen on.
    Start,
    /// Kill the process whose pidfd comes with this.
    Kill,
    /// How did this child end?
    Obituary { pid: u32 },
}

/// launcher -> control.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Started { pid: u32 },
    Ended { how: Option<String> },
    Failed { message: String },
}

impl Message for Order {}

impl Message for Answer {}

/// The launcher, as control sees it.
#[derive(Debug)]
pub struct Launcher {
    channel: Channel,
}

impl Launcher {
    /// Starts the launcher of `program` on `directory`, as `account` if there is one. Call it while
    /// this process has all its rights.
    ///
    /// # Errors
    /// It cannot be started, or may not do what it has to: says why.
    pub fn begin(
        program: &Path,
        directory: &Path,
        account: Option<Account>,
    ) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot start the launcher: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        ours.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        // It ends when our end of the pair is closed. Whoever collects it then is not us.
        let _ = Command::new(OURSELVES)
            .arg0("tapgate-launcher")
            .arg("launcher")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // A group of its own: Ctrl-C is for control.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut launcher = Self {
            channel: Channel::new(ours),
        };
        let begin = Order::Begin {
            program: program.to_owned(),
            directory: directory.to_owned(),
            account,
        };
        match launcher.order(&begin, &[])? {
            Answer::Done => Ok(launcher),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a dataplane that is to listen on `socket`, and returns its process id.
    ///
    /// # Errors
    /// Its program cannot be run, or the launcher is gone.
    pub fn start(&mut self, socket: BorrowedFd<'_>) -> Result<u32, String> {
        match self.order(&Order::Start, &[socket])? {
            Answer::Started { pid } => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    /// Kills the process of `handle`, a pidfd. It must be the launcher's user's.
    ///
    /// # Errors
    /// It may not, or the launcher is gone.
    pub fn kill(&mut self, handle: BorrowedFd<'_>) -> Result<(), String> {
        self.order(&Order::Kill, &[handle]).map(|_| ())
    }

    /// How the child `pid` ended, which is forgotten then. `None`: it is not known.
    pub fn obituary(&mut self, pid: u32) -> Option<String> {
        match self.order(&Order::Obituary { pid }, &[]) {
            Ok(Answer::Ended { how }) => how,
            _ => None,
        }
    }

    /// The connection: its end is the launcher's.
    pub fn stream(&self) -> &UnixStream {
        self.channel.stream()
    }

    fn order(&mut self, order: &Order, with: &[BorrowedFd<'_>]) -> Result<Answer, String> {
        let lost = |error: ChannelError| format!("the launcher: {error}");
        self.channel.send(order, with).map_err(lost)?;
        match self.channel.receive().map_err(lost)?.0 {
            Answer::Failed { message } => Err(message),
            answer => Ok(answer),
        }
    }
}

fn unexpected(answer: &Answer) -> String {
    format!("the launcher answered {answer:?}")
}

/// What the launcher starts.
struct Program {
    path: PathBuf,
    /// Opened with all the rights there were at first: the dataplane's user may not look into a
    /// home directory.
    file: File,
    directory: PathBuf,
}

/// Is the launcher: carries out the orders that come by standard input until that is closed.
///
/// # Errors
/// Standard input is not control's.
pub fn serve() -> Result<(), String> {
    // By its number in /proc we were called "exe".
    let _ = rustix::thread::set_name(c"tapgate-launch");
    let refused = |error: &dyn std::fmt::Display| {
        format!("this is a part of `tapgate run`, which starts it: {error}")
    };
    let stream = io::stdin().as_fd().try_clone_to_owned();
    let mut channel = Channel::new(UnixStream::from(stream.map_err(|e| refused(&e))?));
    let mut program = None;
    let mut children = HashMap::new();
    loop {
        let (order, descriptors) = match channel.receive::<Order>() {
            Ok(received) => received,
            Err(ChannelError::Closed) => return Ok(()),
            Err(error) => return Err(refused(&error)),
        };
        let answer = carry_out(order, descriptors, &mut program, &mut children)
            .unwrap_or_else(|message| Answer::Failed { message });
        channel
            .send(&answer, &[])
            .map_err(|error| refused(&error))?;
    }
}

fn carry_out(
    order: Order,
    descriptors: Vec<OwnedFd>,
    program: &mut Option<Program>,
    children: &mut HashMap<u32, Child>,
) -> Result<Answer, String> {
    let missing = || "the order came without a descriptor".to_owned();
    let descriptor = descriptors.into_iter().next().ok_or_else(missing);
    match order {
        Order::Begin {
            program: path,
            directory,
            account,
        } => {
            let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            privileges::hand_down(account)?;
            *program = Some(Program {
                path,
                file,
                directory,
            });
            Ok(Answer::Done)
        }
        Order::Start => {
            let program = program.as_ref().ok_or("there was no order to begin")?;
            let child = program
                .spawn(&descriptor?)
                .map_err(|error| format!("cannot run {}: {error}", program.path.display()))?;
            let pid = child.id();
            children.insert(pid, child);
            Ok(Answer::Started { pid })
        }
        Order::Kill => match pidfd_send_signal(descriptor?, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(Answer::Done),
            Err(error) => Err(format!("cannot kill the dataplane: {error}")),
        },
        Order::Obituary { pid } => {
            let ended = children.get_mut(&pid).map(Child::try_wait);
            let how = ended.and_then(|ended| Some(ended.ok()??.to_string()));
            if how.is_some() {
                children.remove(&pid);
            }
            Ok(Answer::Ended { how })
        }
    }
}

impl Program {
    fn spawn(&self, socket: &OwnedFd) -> io::Result<Child> {
        let command = |program: &OsStr| {
            Command::new(program)
                .arg0(&self.path)
                .arg("--runtime-dir")
                .arg(&self.directory)
                .stdin(Stdio::from(socket.try_clone()?))
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
