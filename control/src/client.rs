//! Commands that talk to the control process.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::Serialize;
use tapgate_protocol::{
    CONTROL_SOCKET, ChannelError, Configuration, DATAPLANE_SOCKET, Request, Response,
};

use crate::connect::{Peer, connect, failure, is_absent, readable};
use crate::failure::Failure;
use crate::output::print;
use crate::silence::Silence;
use crate::{runtime_dir, source};

/// How long a process may take to greet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an order may take, from one step of progress to the next: longer than control waits
/// for the dataplane.
const ORDER_PATIENCE: Duration = Duration::from_secs(45);
/// Largest text of a configuration that control is given to keep, in bytes: with the configuration itself
/// it must fit into a message.
const MOST_TEXT: usize = 32 << 20;
/// How often control is asked for progress.
const LOOK: Duration = Duration::from_millis(500);

/// `tapgate apply`.
///
/// # Errors
/// The file is refused, or there is no tapgate to take it.
pub fn apply(file: &Path, directory: &Path, json: bool, colour: bool) -> Result<(), Failure> {
    let (config, source) = source::load(file).map_err(|refusal| refusal.report(json, colour))?;
    let socket = directory.join(CONTROL_SOCKET);
    let failure = |error: ChannelError| failure(&error, "tapgate", &socket);
    let mut peer = connect(&socket, PATIENCE).map_err(failure)?;
    let text = Some(source.text()).filter(|text| text.len() <= MOST_TEXT);
    let order = Request::Apply(Configuration {
        config: Arc::new(config),
        text: text.map(str::to_owned),
    });
    match order_of(&mut peer, &order, &socket).map_err(failure)? {
        Response::Configured {
            generation,
            warnings,
            unchanged,
            ..
        } if json => {
            #[derive(Serialize)]
            struct Applied {
                generation: u64,
                warnings: Vec<String>,
                unchanged: bool,
            }
            let applied = Applied {
                generation,
                warnings,
                unchanged,
            };
            print(&format!(
                "{}\n",
                serde_json::to_string(&applied).unwrap_or_default()
            ))
        }
        Response::Configured {
            generation,
            warnings,
            unchanged,
            ..
        } => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            let changed = if unchanged { "; nothing changed" } else { "" };
            print(&format!(
                "{}: in force, generation {generation}{changed}\n",
                source.name()
            ))
        }
        Response::Refused { errors } => Err(source.refusal(&errors).report(json, colour)),
        Response::Failed { message } => Err(Failure::new(message)),
        other => Err(Failure::new(format!("tapgate answered {other:?}"))),
    }
}

/// `tapgate stop`: asks control to end both processes, or the dataplane if it is alone.
///
/// # Errors
/// Nothing runs, or it does not end.
pub fn stop(directory: &Path) -> Result<(), Failure> {
    let control = directory.join(CONTROL_SOCKET);
    let dataplane = directory.join(DATAPLANE_SOCKET);
    let (mut peer, who, at) = match connect(&control, PATIENCE) {
        Ok(peer) => (peer, "tapgate", &control),
        Err(error) if is_absent(&error) => match connect(&dataplane, PATIENCE) {
            Ok(peer) => (peer, "the dataplane", &dataplane),
            Err(error) => {
                return Err(failure(
                    &error,
                    "tapgate",
                    &control.with_file_name(if is_absent(&error) {
                        CONTROL_SOCKET
                    } else {
                        DATAPLANE_SOCKET
                    }),
                ));
            }
        },
        Err(error) => return Err(failure(&error, "tapgate", &control)),
    };
    let process = pidfd_open(peer.pid, PidfdFlags::empty());
    match order_of(&mut peer, &Request::Stop, at) {
        Ok(Response::Ok) | Err(ChannelError::Closed) => {}
        Ok(Response::Failed { message }) => return Err(Failure::new(message)),
        Ok(other) => return Err(Failure::new(format!("{who} answered {other:?}"))),
        Err(error) => return Err(failure(&error, who, at)),
    }
    let pid = peer.pid.as_raw_nonzero();
    if process.is_ok_and(|process| !ended(&process)) {
        return Err(Failure::new(format!(
            "{who} (pid {pid}) took the order to stop but has not ended; look at its process"
        )));
    }
    if at == &dataplane {
        // What a control that was killed left behind.
        let _ = runtime_dir::remove_leftovers(directory);
    }
    print(&format!("stopped {who} (pid {pid})\n"))
}

/// Sends `request` to the process that listens at `socket` and waits for the answer. What takes long
/// is told on standard error, if that is a terminal.
fn order_of(peer: &mut Peer, request: &Request, socket: &Path) -> Result<Response, ChannelError> {
    peer.channel
        .stream()
        .set_read_timeout(Some(ORDER_PATIENCE))?;
    peer.channel.send(request, &[])?;
    let mut silence = Silence::new(ORDER_PATIENCE, Instant::now());
    let mut before = None;
    while !readable(peer.channel.stream().as_fd(), PollFlags::IN, LOOK) {
        let health = peer.channel.has_heartbeats().then(|| health(socket));
        if let Some(Ok(Response::Health { progress, .. })) = health
            && progress != before
        {
            before = progress;
            silence.broken(Instant::now());
            if let Some(progress) = progress
                && io::stderr().is_terminal()
            {
                eprint!("\ropening ports: {progress} ");
            }
        }
        if silence.is_too_long(Instant::now()) {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
    }
    if before.is_some() && io::stderr().is_terminal() {
        eprintln!();
    }
    Ok(peer.channel.receive()?.0)
}

/// How the dataplane has been, and how far it is: control's answer at `socket`.
pub fn health(socket: &Path) -> Result<Response, ChannelError> {
    let mut peer = connect(socket, PATIENCE)?;
    if !peer.channel.has_heartbeats() {
        return Err(ChannelError::Unexpected("control is older".to_owned()));
    }
    peer.channel.ask(&Request::Health)
}

fn ended(process: &OwnedFd) -> bool {
    readable(process.as_fd(), PollFlags::IN, Duration::from_secs(10))
}
