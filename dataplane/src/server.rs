//! The socket by which control and the command line talk to the dataplane.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, listen, sockopt};
use tapgate_protocol::{
    Channel, ChannelError, Configure, DATAPLANE_SOCKET, Greeting, Kept, MAX_DESCRIPTORS, Request,
    Response, Versions, WatchQuery, Watched,
};

use crate::dataplane::Dataplane;
use crate::watch::Watch;

/// How long a peer may take to make room for what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// How many may wait to be accepted, as std has it.
const BACKLOG: i32 = 128;

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens on our standard input, if it is a socket that control made for us in `directory`: we
    /// are another user, who may not write there.
    pub fn given(directory: &Path) -> Option<Self> {
        let input = io::stdin();
        let family = sockopt::socket_domain(&input).ok()?;
        let kind = sockopt::socket_type(&input).ok()?;
        if family != AddressFamily::UNIX || kind != SocketType::STREAM {
            return None;
        }
        // Fails for a connection. It is not done before us, because the kernel tells those who
        // connect the process that called it.
        listen(&input, BACKLOG).ok()?;
        let listener = input.as_fd().try_clone_to_owned().ok()?.into();
        let path = directory.join(DATAPLANE_SOCKET);
        Some(Self { listener, path })
    }

    /// Listens in the runtime directory, which is made if it is not there.
    ///
    /// # Errors
    /// Another dataplane listens there, or the place cannot be written.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = directory.join(DATAPLANE_SOCKET);
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(&path).is_ok() {
                    return Err(io::Error::other(
                        "another dataplane runs there; stop it first",
                    ));
                }
                std::fs::remove_file(&path)?;
                UnixListener::bind(&path)?
            }
            bound => bound?,
        };
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers everybody who connects, each in a thread of its own, until the process ends. A
    /// [`Request::Stop`] calls `stop`.
    pub fn serve(&self, dataplane: &Arc<Dataplane>, stop: fn(&Dataplane, &Path)) {
        for stream in self.listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let (dataplane, path) = (dataplane.clone(), self.path.clone());
            let served = std::thread::Builder::new()
                .name("connection".to_owned())
                .spawn(move || {
                    // What waits for a peer that does not read holds descriptors.
                    let _ = stream.set_write_timeout(Some(WRITE_PATIENCE));
                    let mut channel = Channel::new(stream);
                    match converse(&mut channel, &dataplane) {
                        Ok(End::Closed) => {}
                        Ok(End::Stop) => stop(&dataplane, &path),
                        Err(error) => tracing::warn!(%error, "connection lost"),
                    }
                });
            if let Err(error) = served {
                tracing::error!(%error, "cannot answer a connection");
            }
        }
    }

    /// The socket's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How a conversation ended.
enum End {
    Closed,
    Stop,
}

fn converse(channel: &mut Channel, dataplane: &Dataplane) -> Result<End, ChannelError> {
    // Ends with the conversation.
    let mut watch: Option<Watch> = None;
    loop {
        let (request, descriptors) = match channel.receive::<Request>() {
            Ok(received) => received,
            Err(ChannelError::Closed) => return Ok(End::Closed),
            Err(error @ ChannelError::Malformed(_)) => {
                channel.send(&failed(&error), &[])?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let response = match request {
            Request::Hello { version, speaks } => {
                let greeting = Greeting {
                    pid: std::process::id(),
                    generation: dataplane.generation().into(),
                };
                channel.welcome(Versions::said(version, speaks), greeting)?;
                continue;
            }
            Request::Adopt { kept } => {
                if kept.len() > descriptors.len() {
                    tracing::warn!(
                        "{} descriptors of the last dataplane's are lost, for want of room: allow \
                         more open files (LimitNOFILE=, ulimit -n)",
                        kept.len() - descriptors.len()
                    );
                }
                dataplane.adopt(kept.into_iter().zip(descriptors));
                Response::Ok
            }
            Request::Configure(Configure { config }) => {
                configure(channel, dataplane, &config)?;
                continue;
            }
            Request::Show { what, cursor } => match dataplane.show(what, cursor) {
                Ok((rows, next)) => Response::Page { rows, next },
                Err(message) => Response::Failed { message },
            },
            Request::Explain(query) => match dataplane.explain(&query) {
                Ok(explanation) => Response::Explained(explanation),
                Err(message) => Response::Failed { message },
            },
            Request::ExplainOwn(query) => match dataplane.explain_own(&query) {
                Ok(explanation) => Response::Explained(explanation),
                Err(message) => Response::Failed { message },
            },
            Request::Watch { query, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into());
                match watched(&mut watch, dataplane, query, wait) {
                    Ok((packets, missed)) => Response::Watched { packets, missed },
                    Err(message) => {
                        watch = None;
                        Response::Failed { message }
                    }
                }
            }
            Request::Beat => {
                let progress = dataplane.beat();
                Response::Beat { progress }
            }
            Request::Apply(_) | Request::Config | Request::Health => failed(
                &"this is the dataplane: ask control to apply a configuration, what is configured and for its health",
            ),
            Request::Stop => {
                // The answer comes when all is undone: whoever asked may rely on that.
                dataplane.stop();
                channel.send(&Response::Ok, &[])?;
                return Ok(End::Stop);
            }
        };
        channel.send(&response, &[])?;
    }
}

/// What was seen of what `query` asks for, which is watched for from now on.
fn watched(
    watch: &mut Option<Watch>,
    dataplane: &Dataplane,
    query: WatchQuery,
    wait: Duration,
) -> Result<(Vec<Watched>, u64), String> {
    let watch = match watch {
        Some(watch) if *watch.query() == query => watch,
        _ => watch.insert(dataplane.watch(query)?),
    };
    watch.seen(wait)
}

fn configure(
    channel: &mut Channel,
    dataplane: &Dataplane,
    config: &tapgate_engine::config::Config,
) -> Result<(), ChannelError> {
    let mut configured = match dataplane.configure(config) {
        Ok(configured) => configured,
        Err(message) => return channel.send(&Response::Failed { message }, &[]),
    };
    let most = channel.most_descriptors();
    if configured.kept.len() > most {
        let remedy = if most < MAX_DESCRIPTORS {
            "; control is from before an upgrade, start it anew"
        } else {
            ""
        };
        let all = configured.kept.len();
        let first_left_out = configured.kept[most].0.clone();
        configured.kept.truncate(most);
        // With some of its queues a TAP can be neither used nor made anew.
        configured
            .kept
            .retain(|(kept, _)| !same_tap(kept, &first_left_out));
        configured.warnings.push(format!(
            "too many TAP queues: the last {} do not survive a restart of the dataplane{remedy}",
            all - configured.kept.len()
        ));
    }
    let (kept, descriptors): (Vec<_>, Vec<_>) = configured.kept.into_iter().unzip();
    let response = Response::Configured {
        generation: configured.generation.into(),
        warnings: configured.warnings,
        kept,
        unchanged: false,
    };
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    channel.send(&response, &descriptors)
}

fn same_tap(a: &Kept, b: &Kept) -> bool {
    matches!((a, b), (Kept::Tap { port: a, .. }, Kept::Tap { port: b, .. }) if a == b)
}

fn failed(message: &dyn std::fmt::Display) -> Response {
    Response::Failed {
        message: message.to_string(),
    }
}
