//! The dataplane's program: started by control, outlives it.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caps::{CapSet, Capability};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_dataplane::server::Server;

/// All that forwarding takes: making TAPs and changing devices, opening packet sockets.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// Forwards packets as tapgate's control process tells it to. Started by `tapgate run`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The directory with the socket to listen on. control has made the socket already, and gives
    /// it to us as standard input.
    #[arg(long, value_name = "DIR", default_value = tapgate_protocol::DEFAULT_RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

fn main() -> ExitCode {
    // Control may have started us by a descriptor; then we would be called by its number.
    let _ = rustix::thread::set_name(c"tapgate-dataplane");
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("TAPGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    reduce_privileges()?;
    // A dataplane with a dead thread forwards nothing or answers nobody. Control starts another,
    // which takes the sessions over.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        std::process::abort();
    }));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let directory = &arguments.runtime_dir;
    let server = Server::given(directory)
        .map_or_else(|| Server::bind(directory), Ok)
        .map_err(|error| format!("cannot listen in {}: {error}", directory.display()))?;
    let dataplane = Dataplane::new().map_err(|error| format!("cannot list devices: {error}"))?;

    let (stopped, path) = (dataplane.clone(), server.path().to_owned());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            // SIGINT and SIGHUP are for control, which ends us in good order.
            if signals.forever().any(|signal| signal == SIGTERM) {
                stopped.stop();
                end(&stopped, &path);
            }
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    tracing::info!(socket = %server.path().display(), "ready");
    server.serve(&dataplane, end);
    Ok(())
}

/// Ends the process; the dataplane has stopped. A socket that control made, control removes.
fn end(_: &Dataplane, socket: &Path) {
    let _ = std::fs::remove_file(socket);
    tracing::info!("stopped");
    std::process::exit(0);
}

/// Gives up every capability but those needed, for good.
fn reduce_privileges() -> Result<(), String> {
    let needed = HashSet::from(NEEDED);
    let refused = |error: caps::errors::CapsError| format!("cannot give up privileges: {error}");
    let permitted = caps::read(None, CapSet::Permitted).map_err(refused)?;
    if !needed.is_subset(&permitted) {
        return Err(
            "CAP_NET_ADMIN and CAP_NET_RAW are needed: run as root, or give them to this program \
             (setcap cap_net_admin,cap_net_raw+ep, or AmbientCapabilities= in its unit)"
                .to_owned(),
        );
    }
    // Taking from the bounding set needs CAP_SETPCAP; without it no_new_privs bars the way back.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::all().difference(&needed) {
            // The kernel may not know the newest ones.
            let _ = caps::drop(None, CapSet::Bounding, *capability);
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(refused)?;
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    caps::set(None, CapSet::Effective, &needed).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &needed).map_err(refused)?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| format!("cannot give up privileges: {error}"))
}
