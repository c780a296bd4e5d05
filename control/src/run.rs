//! `tapgate run`: how the control process starts.
//!
//! After that the [`Supervisor`] decides everything, in one thread and in the order of
//! [`Event`]s. control has no capability and holds no packet; the dataplane goes on without it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use crate::dataplane::at_the_end_of;
use crate::event::Event;
use crate::failure::Failure;
use crate::launcher::Launcher;
use crate::runtime_dir::{RuntimeDir, remove_leftovers};
use crate::server::Server;
use crate::supervisor::{Setup, Supervisor};
use crate::{privileges, source};

/// Runs until told to stop. The dataplane is `program`, or the one beside us, and runs as `user`.
///
/// # Errors
/// It could not start; nothing is left of it.
pub fn run(
    file: &Path,
    directory: &Path,
    program: Option<PathBuf>,
    user: &str,
    colour: bool,
) -> Result<(), Failure> {
    let (config, source) = source::load(file).map_err(|refusal| refusal.report(false, colour))?;
    privileges::require()?;
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("TAPGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .init();
    let program = program_at(program)?;
    let account = privileges::account(user)?;
    allow_many_descriptors();
    // Before anything is made that a signal should undo.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    let directory = RuntimeDir::take(directory)?;
    let (events, inbox) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Launcher::begin(&program, directory.path(), account)
        .map_err(Failure::new)
        .and_then(|launcher| {
            let server = settle(&directory, &launcher, signals, &events, &stop)?;
            Ok((launcher, server))
        });
    let (launcher, server) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            let _ = remove_leftovers(directory.path());
            return Err(failure);
        }
    };
    let setup = Setup {
        file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
        colour,
        launcher,
        directory,
        server,
        events,
        stop,
    };
    Supervisor::new(setup, config).run(&inbox, source)
}

/// Raises the soft limit to the hard one, for control and the dataplane it starts: a port takes two
/// descriptors, and service managers start daemons with 1,024.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // With less there is only room for fewer ports, and a port that finds none says so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

/// Listens, gives up all capabilities, and starts control's threads, in this order.
fn settle(
    directory: &RuntimeDir,
    launcher: &Launcher,
    signals: Signals,
    events: &Sender<Event>,
    stop: &Arc<AtomicBool>,
) -> Result<Arc<Server>, Failure> {
    let listener = directory.listen()?;
    privileges::renounce()
        .map_err(|error| Failure::new(format!("cannot give up capabilities: {error}")))?;
    listen_for(signals, events.clone(), Arc::clone(stop))
        .and_then(|()| at_the_end_of(launcher.stream(), Event::LauncherLost, events.clone()))
        .and_then(|()| Server::start(listener, events.clone()))
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))
}

/// The dataplane's program: at `path`, or beside this one. It can be opened.
fn program_at(path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let beside_us = || Ok(std::env::current_exe()?.with_file_name("tapgate-dataplane"));
    path.map_or_else(beside_us, Ok)
        .and_then(|path| match File::open(&path) {
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("{}: {error}", path.display()),
            )),
            Ok(_) => Ok(path),
        })
        .map_err(|error| {
            Failure::new(format!(
                "cannot open the dataplane's program: {error}; say where it is with --dataplane PATH"
            ))
        })
}

fn listen_for(
    mut signals: Signals,
    events: Sender<Event>,
    stop: Arc<AtomicBool>,
) -> io::Result<()> {
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGHUP {
                    Event::Reload
                } else {
                    stop.store(true, Ordering::Relaxed);
                    Event::Terminate
                };
                let _ = events.send(event);
            }
        })?;
    Ok(())
}
