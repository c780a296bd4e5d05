//! What tapgate's control process, its dataplane and its command line say to each other.
//!
//! Two Unix stream sockets in one runtime directory (mode 0700): `control.sock`, where the command
//! line asks control to [`Request::Apply`] or [`Request::Stop`], and `dataplane.sock`, where
//! control configures the dataplane and the command line asks it to [`Request::Show`]. Every
//! message is a 32-bit big-endian length and that many bytes of JSON; a request is answered by
//! exactly one response. See [`Channel`]. The first request of a connection agrees on a version of
//! the protocol, see [`Versions`].

mod channel;
mod message;
mod show;
mod version;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tapgate_engine::config::{Config, ConfigError};

pub use channel::{
    Channel, ChannelError, DESCRIPTORS_AT_ONCE, Greeting, MAX_DESCRIPTORS, MAX_MESSAGE,
};
pub use message::Message;
pub use show::*;
pub use version::Versions;

/// The runtime directory when none is named.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/tapgate";
/// The name of control's socket in the runtime directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The name of the dataplane's socket in the runtime directory.
pub const DATAPLANE_SOCKET: &str = "dataplane.sock";

/// A question or an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// First message of every connection, to either process.
    Hello {
        /// The oldest version that the asking side speaks. A process from before version ranges
        /// reads only this.
        version: u32,
        /// All that it speaks; missing from a process that knows of no ranges.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        speaks: Option<Versions>,
    },
    /// control -> dataplane, before the first [`Request::Configure`]: the file descriptors that
    /// outlived an earlier dataplane come with this message, one for each name in order.
    Adopt {
        /// What each descriptor is.
        kept: Vec<Kept>,
    },
    /// control -> dataplane: make this the configuration, all of it or nothing. Answered by
    /// [`Response::Configured`], which carries descriptors for control to keep.
    Configure(Configure),
    /// command line -> control: make this the configuration and keep it for restarts.
    Apply(Configuration),
    /// command line -> control: what is configured? Answered by [`Response::Config`]. Since version 4.
    Config,
    /// command line -> dataplane: state, one page of it.
    Show {
        /// What to show.
        what: Show,
        /// Where to go on: 0 first, then the `next` of the last page.
        cursor: u64,
    },
    /// command line -> dataplane: what would become of a packet.
    Explain(ExplainQuery),
    /// command line -> dataplane: what would become of a packet that the router itself sends. With a port
    /// it answers what came in there; an empty one is none. Since version 4.
    ExplainOwn(ExplainQuery),
    /// command line -> dataplane: what becomes of packets that come in? Answered by
    /// [`Response::Watched`] when one was seen, or none after `wait_ms` or half a second. The first question
    /// on a connection begins to watch, in the place of whoever did so far, and the end of the connection
    /// ends it. Since version 4.
    Watch {
        /// Which packets.
        query: WatchQuery,
        /// How long to wait at most.
        wait_ms: u32,
    },
    /// control -> dataplane: does the worker go round? Answered by [`Response::Beat`] once it has;
    /// not at all while it stands still. Since version 3.
    Beat,
    /// command line -> control: how the dataplane has been, and how far it is. Since version 3.
    Health,
    /// End in good order and leave nothing behind. To control: both processes.
    Stop,
}

/// What [`Request::Configure`] carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Configure {
    /// The whole configuration.
    pub config: Arc<Config>,
}

/// A configuration and where it is from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Configuration {
    /// All of it.
    pub config: Arc<Config>,
    /// The text that it was read from, if whoever applied it sent that: a command line of before version 4
    /// does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// How far the dataplane is with what takes long: the kernel needs some 20 ms to move a TAP to
/// another namespace, and as much to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does.
    pub work: Work,
    /// Ports it is done with.
    pub done: u32,
    /// All that it has to do it to.
    pub of: u32,
}

/// Work that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Ports of a configuration are opened.
    Opening,
    /// All ports are closed, because it ends.
    Closing,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, done, of } = self;
        let work = match work {
            Work::Opening => "opening ports",
            Work::Closing => "closing ports",
        };
        write!(f, "{work}, {done} of {of}")
    }
}

/// A descriptor that control keeps so that it survives the dataplane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Kept {
    /// One queue of a `tap` port's TAP.
    Tap {
        /// The port's name.
        port: String,
        /// The queue, from 0.
        queue: u16,
    },
    /// A worker's session memory.
    Sessions {
        /// The worker, from 0.
        worker: u16,
    },
    /// The netlink socket that owns the rules for the host's kernel. They last as long as somebody
    /// keeps it; sent only while a guest has a device, or a personality shares its MAC with the
    /// host.
    HostGuard,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "response")]
pub enum Response {
    /// To [`Request::Hello`].
    Hello {
        /// The version agreed on; if there is none, the newest that the answering side speaks. A
        /// process from before version ranges reads only this.
        version: u32,
        /// All that it speaks; missing from a process that knows of no ranges.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        speaks: Option<Versions>,
        /// Its process id.
        pid: u32,
        /// The generation of the running configuration; 0 before the first.
        generation: u64,
    },
    /// Done, nothing to say.
    Ok,
    /// To [`Request::Configure`] and [`Request::Apply`].
    Configured {
        /// The generation now in force.
        generation: u64,
        /// What the operator should know although it did not fail, such as a device that is not
        /// there yet.
        warnings: Vec<String>,
        /// From the dataplane: what each descriptor that came with this message is.
        kept: Vec<Kept>,
        /// From control: it means what the configuration before it meant.
        #[serde(default)]
        unchanged: bool,
    },
    /// To [`Request::Config`].
    Config(Configuration),
    /// To [`Request::Show`]: one page.
    Page {
        /// Rows of what was asked for.
        rows: Rows,
        /// Ask again with this cursor for more; `None` at the end.
        next: Option<u64>,
    },
    /// To [`Request::Beat`].
    Beat {
        /// `None`: nothing that takes long is under way.
        progress: Option<Progress>,
    },
    /// To [`Request::Health`]; counted since control started.
    Health {
        /// Dataplanes that were lost, whatever the cause.
        lost: u64,
        /// Those of them that were ended because their worker stood still.
        stood_still: u64,
        /// `None`: nothing that takes long is under way.
        progress: Option<Progress>,
    },
    /// To [`Request::Explain`] and [`Request::ExplainOwn`].
    Explained(Explanation),
    /// To [`Request::Watch`].
    Watched {
        /// What was seen since the question before.
        packets: Vec<Watched>,
        /// Packets that matched as well, and were not traced for being too many.
        missed: u64,
    },
    /// The configuration was refused; nothing changed.
    Refused {
        /// Every fault.
        errors: Vec<ConfigError>,
    },
    /// The request failed; nothing changed.
    Failed {
        /// What happened, where, and what to do.
        message: String,
    },
}

/// A packet to explain: it enters by a port and is followed until its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainQuery {
    /// The port it comes in by, by name.
    pub port: String,
    /// Its source address; of the router's own the unspecified one for any that the route says.
    pub from: IpAddr,
    /// Its destination address.
    pub to: IpAddr,
    /// Its type of service or traffic class, the whole byte.
    #[serde(default)]
    pub tos: u8,
    /// Its IP protocol number: 1 ICMP (echo request), 6 TCP (SYN), 17 UDP.
    pub protocol: u8,
    /// Source port; the identifier for ICMP.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// Packets to watch for, as they come in; what is absent is any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchQuery {
    /// The port they come in by, by name.
    pub port: Option<String>,
    /// Their source address.
    pub from: Option<IpAddr>,
    /// Their destination address.
    pub to: Option<IpAddr>,
    /// Their IP protocol number; 1 is ICMP of either family.
    pub protocol: Option<u8>,
    /// Their source port; the identifier for ICMP echo.
    pub source_port: Option<u16>,
    /// Their destination port.
    pub destination_port: Option<u16>,
}

/// A packet that was watched for, as it came in, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The port it came in by.
    pub port: String,
    /// Its source address.
    pub from: IpAddr,
    /// Its destination address.
    pub to: IpAddr,
    /// Its IP protocol number.
    pub protocol: u8,
    /// Its source port; the identifier for ICMP echo.
    pub source_port: u16,
    /// Its destination port.
    pub destination_port: u16,
    /// Its length in bytes, from the IP header on.
    pub length: u64,
    /// Every decision about it, and the end.
    pub explanation: Explanation,
}

/// What became of an explained packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Every decision, in order.
    pub steps: Vec<tapgate_engine::explain::Line>,
    /// The end of it, such as `emit on uplink` or `drop: no-route`.
    pub verdict: String,
    /// Whether the packet would get through (leave, or wait for its next hop's MAC).
    pub delivered: bool,
}
