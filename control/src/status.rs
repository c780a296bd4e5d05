//! `tapgate status`: what runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tapgate_protocol::{
    CONTROL_SOCKET, ChannelError, DATAPLANE_SOCKET, Progress, Response, Rows, Show,
};

use crate::connect::{Peer, connect, failure, is_absent, is_timeout};
use crate::failure::{Code, Failure};
use crate::output::print;
use crate::{client, show};

/// How long a process may take to greet.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Status {
    control: Option<Process>,
    dataplane: Option<Process>,
    /// How many ports are in each state; nothing while work on them is under way.
    ports: BTreeMap<String, usize>,
    /// How far what takes long is.
    progress: Option<Progress>,
    /// Dataplanes lost since control started, and those of them whose worker stood still.
    lost: u64,
    stood_still: u64,
}

#[derive(Serialize)]
struct Process {
    pid: i32,
    generation: u64,
}

/// Says which of the two processes run, with which generation, and how the ports are.
///
/// # Errors
/// Nothing runs; or not everything does, or nothing is configured yet, which has been said then.
pub fn status(directory: &Path, json: bool) -> Result<(), Failure> {
    let control = connect(&directory.join(CONTROL_SOCKET), PATIENCE);
    let dataplane = connect(&directory.join(DATAPLANE_SOCKET), PATIENCE);
    if let (Err(control), Err(dataplane)) = (&control, &dataplane) {
        let (error, socket) = match is_absent(control) && !is_absent(dataplane) {
            true => (dataplane, DATAPLANE_SOCKET),
            false => (control, CONTROL_SOCKET),
        };
        return Err(failure(error, "tapgate", &directory.join(socket)));
    }
    let lines = [
        line(
            &control,
            "not running; packets flow without it, `tapgate run FILE` takes over",
        ),
        line(&dataplane, "not running; control is starting it"),
    ];
    let mut status = Status {
        control: process(&control),
        dataplane: process(&dataplane),
        ports: BTreeMap::new(),
        progress: None,
        lost: 0,
        stood_still: 0,
    };
    if let Ok(Response::Health {
        lost,
        stood_still,
        progress,
    }) = client::health(&directory.join(CONTROL_SOCKET))
    {
        (status.lost, status.stood_still) = (lost, stood_still);
        status.progress = progress;
    }
    // Ports are shown when work on them is done.
    if let (Ok(peer), None) = (dataplane, status.progress) {
        show::pages(peer.channel, Show::Ports, |rows| {
            if let Rows::Ports(ports) = rows {
                for port in ports {
                    *status.ports.entry(port.state).or_default() += 1;
                }
            }
            Ok(())
        })?;
    }
    if json {
        let json = serde_json::to_string(&status).unwrap_or_default();
        print(&format!("{json}\n"))?;
    } else {
        let ports: Vec<String> = status
            .ports
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        let lost = match (status.lost, status.stood_still) {
            (0, _) => String::new(),
            (lost, 0) => format!("; {lost} lost before it"),
            (lost, still) => format!("; {lost} lost before it, {still} stood still"),
        };
        let ports = match status.progress {
            Some(progress) => progress.to_string(),
            None if ports.is_empty() => "none".to_owned(),
            None => ports.join(", "),
        };
        print(&format!(
            "control    {}\ndataplane  {}{lost}\nports      {ports}\n",
            lines[0], lines[1],
        ))?;
    }
    match (status.control, status.dataplane) {
        (Some(_), Some(dataplane)) if dataplane.generation > 0 => Ok(()),
        _ => Err(Failure::silent(Code::Failed)),
    }
}

fn process(peer: &Result<Peer, ChannelError>) -> Option<Process> {
    let peer = peer.as_ref().ok()?;
    Some(Process {
        pid: peer.pid.as_raw_nonzero().get(),
        generation: peer.generation,
    })
}

fn line(peer: &Result<Peer, ChannelError>, absent: &str) -> String {
    match peer {
        Ok(peer) => {
            let pid = peer.pid.as_raw_nonzero();
            match peer.generation {
                0 => format!("pid {pid}, not configured yet"),
                generation => format!("pid {pid}, generation {generation}"),
            }
        }
        Err(error) if is_absent(error) => absent.to_owned(),
        Err(error) if is_timeout(error) => "does not answer: it hangs or is stopped".to_owned(),
        Err(error) => error.to_string(),
    }
}
