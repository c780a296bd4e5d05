//! The directory with the sockets: whose it is, and what is left of it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::geteuid;
use tapgate_protocol::{CONTROL_SOCKET, ChannelError, DATAPLANE_SOCKET};

use crate::connect::{connect, is_absent};
use crate::failure::{Code, Failure};

/// The mode of a directory that we made. The sticky bit means nothing else for a directory that
/// only its owner may write; it tells the next control, after a kill -9, to remove it in the end.
const MADE_BY_US: u32 = 0o1700;
/// Longest path of a socket, in bytes, its terminator included (unix(7), sun_path).
const LONGEST_SOCKET: usize = 108;
/// How long to wait for the answer of whoever holds the directory.
const PATIENCE: Duration = Duration::from_secs(2);

/// The runtime directory, held by this process alone.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// A lock on the directory itself: gone with the process, however it ends.
    _lock: File,
}

impl RuntimeDir {
    /// Makes the directory if need be and takes hold of it.
    ///
    /// # Errors
    /// Another control holds it, others may write to it, or it cannot be made.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        let at = path.display();
        let io_failure = |what: &str, error: &io::Error| {
            let code = match error.kind() {
                io::ErrorKind::PermissionDenied => Code::Permission,
                _ => Code::Failed,
            };
            Failure::with(
                code,
                format!("{what} {at}: {error}; choose another place with --runtime-dir"),
            )
        };
        let path = &std::path::absolute(path).map_err(|error| io_failure("cannot find", &error))?;
        let longest = path.as_os_str().len() + 1 + DATAPLANE_SOCKET.len();
        if longest >= LONGEST_SOCKET {
            return Err(Failure::new(format!(
                "{at} is too long a path for sockets ({LONGEST_SOCKET} bytes with their names); \
                 name a shorter one with --runtime-dir"
            )));
        }
        // A predecessor on its way out may remove the directory between our opening and locking.
        for _ in 0..100 {
            match DirBuilder::new().mode(0o700).create(path) {
                Ok(()) => fs::set_permissions(path, Permissions::from_mode(MADE_BY_US))
                    .map_err(|error| io_failure("cannot set the mode of", &error))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_failure("cannot make the directory", &error)),
            }
            let lock = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| io_failure("cannot open", &error))?,
            };
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(busy(path));
            }
            let held = lock
                .metadata()
                .map_err(|error| io_failure("cannot look at", &error))?;
            if !fs::metadata(path).is_ok_and(|now| now.ino() == held.ino()) {
                continue;
            }
            let us = geteuid().as_raw();
            if !held.is_dir() || held.uid() != us || held.mode() & 0o022 != 0 {
                return Err(Failure::new(format!(
                    "{at} must be a directory of user {us}, who runs this, that nobody else can \
                     write; it is of user {} with mode {:o}\n\
                     name another with --runtime-dir, it is made if it is not there",
                    held.uid(),
                    held.mode() & 0o7777
                )));
            }
            return Ok(Self {
                path: path.clone(),
                _lock: lock,
            });
        }
        Err(busy(path))
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dataplane's socket.
    pub fn dataplane_socket(&self) -> PathBuf {
        self.path.join(DATAPLANE_SOCKET)
    }

    /// Makes the dataplane's socket, for the owner of the directory only, in place of one left
    /// over. The dataplane is another user and could not; it is given the socket to listen on.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn bind_dataplane_socket(&self) -> io::Result<OwnedFd> {
        let path = self.dataplane_socket();
        remove(&path)?;
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        // The file gets the mode that the socket has when it is bound (unix(7)).
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        Ok(socket)
    }

    /// Listens on control's socket, for the owner only.
    ///
    /// # Errors
    /// Somebody answers there, or it cannot be made.
    pub fn listen(&self) -> Result<UnixListener, Failure> {
        let socket = self.path.join(CONTROL_SOCKET);
        match connect(&socket, PATIENCE) {
            Err(error) if is_absent(&error) => {}
            _ => return Err(busy(&self.path)),
        }
        let failure =
            |error| Failure::new(format!("cannot listen on {}: {error}", socket.display()));
        remove(&socket).map_err(failure)?;
        // No moment in which others could connect: no other thread runs yet.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(&socket);
        rustix::process::umask(before);
        listener.map_err(failure)
    }

    /// Removes what is ours. A dataplane that still answers keeps its socket.
    ///
    /// # Errors
    /// Says what is left, and why.
    pub fn leave(self) -> Result<(), String> {
        let control = self.path.join(CONTROL_SOCKET);
        remove(&control)
            .map_err(|error| format!("could not remove {}: {error}", control.display()))?;
        remove_leftovers(&self.path)
    }
}

/// Removes the sockets in the directory at `path`, and the directory if a control made it. A
/// dataplane that still answers keeps its socket.
///
/// # Errors
/// Says what is left, and why.
pub fn remove_leftovers(path: &Path) -> Result<(), String> {
    let cannot = |path: &Path| {
        let at = path.display().to_string();
        move |error: io::Error| format!("could not remove {at}: {error}")
    };
    for socket in [CONTROL_SOCKET, DATAPLANE_SOCKET] {
        let socket = path.join(socket);
        match connect(&socket, PATIENCE) {
            Err(error) if is_absent(&error) => remove(&socket).map_err(cannot(&socket))?,
            _ => return Err(format!("a process still answers at {}", socket.display())),
        }
    }
    let mode = fs::metadata(path).map_err(cannot(path))?.mode();
    if mode & 0o7777 == MADE_BY_US {
        fs::remove_dir(path).map_err(cannot(path))?;
    }
    Ok(())
}

/// Removes the file at `path` if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn busy(path: &Path) -> Failure {
    let at = path.display();
    let who = match connect(&path.join(CONTROL_SOCKET), PATIENCE) {
        Ok(peer) => format!("process {}", peer.pid.as_raw_nonzero()),
        Err(ChannelError::Version { theirs, .. }) => format!("a tapgate with protocol {theirs}"),
        Err(_) => "a process that is starting, ending or hanging".to_owned(),
    };
    Failure::new(format!(
        "tapgate already runs on {at}: {who}\n\
         change its configuration with `tapgate apply FILE`, end it with `tapgate stop`, \
         or run another one with --runtime-dir"
    ))
}
