//! Connecting to a tapgate process without waiting for one that does not answer.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with,
};
use rustix::process::Pid;
use tapgate_protocol::{Channel, ChannelError};

use crate::failure::{Code, Failure};

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The connection, greeted.
    pub channel: Channel,
    /// The other process, as the kernel tells.
    pub pid: Pid,
    /// The generation it runs; 0 before the first.
    pub generation: u64,
}

/// Connects to the socket at `path` and greets. Waits at most `patience` for each answer, now and
/// later.
///
/// # Errors
/// Nobody listens there, does not answer in time, or has no protocol version in common with us.
pub fn connect(path: &Path, patience: Duration) -> Result<Peer, ChannelError> {
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    // Not blocking: a process that hangs with a full backlog would make a blocking connect wait.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(io::Error::from)?;
    connect_socket(&socket, &address).map_err(io::Error::from)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).map_err(io::Error::from)?;
    let mut channel = Channel::new(stream);
    let greeting = channel.greet()?;
    Ok(Peer {
        channel,
        pid: credentials.pid,
        generation: greeting.generation,
    })
}

/// Nobody is at that socket: it is not there, or left over.
pub fn is_absent(error: &ChannelError) -> bool {
    matches!(error, ChannelError::Io(error) if matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    ))
}

/// Somebody is there, but has not answered in time.
pub fn is_timeout(error: &ChannelError) -> bool {
    matches!(error, ChannelError::Io(error) if matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    ))
}

/// The failure that `error` means for a command that talks to `who` at `path`.
pub fn failure(error: &ChannelError, who: &str, path: &Path) -> Failure {
    let at = path.display();
    match error {
        error if is_absent(error) => Failure::with(
            Code::NotRunning,
            format!(
                "{who} is not running: nobody answers at {at}\n\
                 start it with `tapgate run FILE`, or say with --runtime-dir where it runs"
            ),
        ),
        ChannelError::Io(io) if io.kind() == io::ErrorKind::PermissionDenied => Failure::with(
            Code::Permission,
            format!("{at} is for the user that runs tapgate only: use sudo"),
        ),
        error if is_timeout(error) => Failure::new(format!(
            "{who} does not answer at {at}: it hangs or is stopped; look at its process"
        )),
        error => Failure::new(format!("talking to {who} at {at}: {error}")),
    }
}

/// Waits at most `patience` for one of `events` on `fd`, or its end.
pub fn readable(fd: BorrowedFd<'_>, events: PollFlags, patience: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    let timeout = Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}
