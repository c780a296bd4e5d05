//! What happens to control, for the supervisor to act on.

use std::sync::mpsc::SyncSender;

use tapgate_protocol::{Configuration, Response};

/// Something the supervisor acts on.
#[derive(Debug)]
pub enum Event {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Terminate,
    /// An order from the control socket.
    Call(Call),
    /// The launcher is gone: no dataplane could be started.
    LauncherLost,
    /// A dataplane's worker does not go round.
    StoodStill {
        /// Which connection.
        serial: u64,
    },
    /// The connection to a dataplane ended.
    Lost {
        /// Which connection.
        serial: u64,
    },
}

/// A request that the supervisor answers.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub order: Order,
    /// Where the answer goes.
    pub reply: SyncSender<Response>,
}

/// What can be asked of control.
#[derive(Debug)]
pub enum Order {
    /// Make this the configuration.
    Apply(Configuration),
    /// Tell the configuration.
    Config,
    /// End.
    Stop,
}
