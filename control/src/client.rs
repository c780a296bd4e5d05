//! Commands that talk to the control process.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use serde::Serialize;
use tapgate_protocol::{CONTROL_SOCKET, ChannelError, DATAPLANE_SOCKET, Request, Response};

use crate::connect::{Peer, connect, failure, is_absent};
use crate::failure::Failure;
use crate::output::print;
use crate::{runtime_dir, source};

/// How long a process may take to greet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an order may take: longer than control waits for the dataplane.
const ORDER_PATIENCE: Duration = Duration::from_secs(45);

/// `tapgate apply`.
///
/// # Errors
/// The file is refused, or there is no tapgate to take it.
pub fn apply(file: &Path, directory: &Path, json: bool, colour: bool) -> Result<(), Failure> {
    let (config, source) = source::load(file).map_err(|refusal| refusal.report(json, colour))?;
    let socket = directory.join(CONTROL_SOCKET);
    let failure = |error: ChannelError| failure(&error, "tapgate", &socket);
    let mut peer = connect(&socket, PATIENCE).map_err(failure)?;
    let order = Request::Apply {
        config: Box::new(config),
    };
    match order_of(&mut peer, &order).map_err(failure)? {
        Response::Configured {
            generation,
            warnings,
            ..
        } if json => {
            #[derive(Serialize)]
            struct Applied {
                generation: u64,
                warnings: Vec<String>,
            }
            let applied = Applied {
                generation,
                warnings,
            };
            print(&format!(
                "{}\n",
                serde_json::to_string(&applied).unwrap_or_default()
            ))
        }
        Response::Configured {
            generation,
            warnings,
            ..
        } => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            print(&format!(
                "{}: in force, generation {generation}\n",
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
    match order_of(&mut peer, &Request::Stop) {
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

fn order_of(peer: &mut Peer, request: &Request) -> Result<Response, ChannelError> {
    peer.channel
        .stream()
        .set_read_timeout(Some(ORDER_PATIENCE))?;
    peer.channel.ask(request)
}

fn ended(process: &OwnedFd) -> bool {
    let timeout = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}
