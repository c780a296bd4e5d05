//! A dataplane that speaks the protocol, forwards nothing, and misbehaves when told.
//!
//! It is this test program itself, started again by a script that stands for the dataplane's
//! program. What it is told: the names of files in the lab's directory. What it does: lines in
//! the lab's `log`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tapgate_engine::config::{Config, ConfigError, PortKind, Segment};
use tapgate_protocol::{
    Channel, ChannelError, Configure, DropRow, Explanation, Greeting, Kept, PortRow, Progress,
    Request, Response, Rows, Show, Versions, Work,
};

/// Where the lab is: set for the fake only.
pub const LAB: &str = "TAPGATE_TEST_LAB";
/// What a dataplane of the future speaks.
pub const NEWER: Versions = Versions {
    oldest: Versions::OURS.newest + 1,
    newest: Versions::OURS.newest + 2,
};

/// Not a test: the fake's main function, found by its name on the script's command line.
#[test]
fn fake_dataplane() {
    let Some(lab) = std::env::var_os(LAB) else {
        return;
    };
    let lab = PathBuf::from(lab);
    log(&lab, "start");
    if lab.join("die").exists() {
        std::process::exit(7);
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    rustix::net::listen(&socket, 128).unwrap();
    let listener = UnixListener::from(socket);
    let fake = Arc::new(Fake {
        lab,
        generation: Mutex::new(0),
        progress: Mutex::new(None),
        kept: Mutex::new(Vec::new()),
    });
    for stream in listener.incoming() {
        let fake = Arc::clone(&fake);
        thread::spawn(move || fake.serve(stream.unwrap()));
    }
}

struct Fake {
    lab: PathBuf,
    generation: Mutex<u64>,
    progress: Mutex<Option<Progress>>,
    kept: Mutex<Vec<(Kept, OwnedFd)>>,
}

impl Fake {
    fn serve(&self, stream: UnixStream) {
        let mut channel = match self.lab.join("newer").exists() {
            true => Channel::speaking(NEWER, stream),
            false => Channel::new(stream),
        };
        while let Ok((request, descriptors)) = channel.receive::<Request>() {
            if self.answer(&mut channel, request, descriptors).is_err() {
                return;
            }
        }
    }

    fn answer(
        &self,
        channel: &mut Channel,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let told = |what: &str| self.lab.join(what).exists();
        let answer = match request {
            Request::Hello { version, speaks } => {
                let greeting = Greeting {
                    pid: std::process::id(),
                    generation: *self.generation.lock().unwrap(),
                };
                if told("older") {
                    return channel.send(&hello_without_a_range(greeting), &[]);
                }
                return channel.welcome(Versions::said(version, speaks), greeting);
            }
            Request::Adopt { kept } => {
                let mut mine = self.kept.lock().unwrap();
                mine.extend(kept.into_iter().zip(descriptors));
                let contents: Vec<String> = mine.iter().map(content).collect();
                log(&self.lab, &format!("adopt {}", contents.join(" ")));
                Response::Ok
            }
            Request::Configure(_) if told("die-when-configured") => std::process::exit(9),
            Request::Configure(_) if told("silent") => {
                log(&self.lab, "silent");
                thread::sleep(Duration::from_secs(3600));
                return Ok(());
            }
            Request::Configure(_) if told("refuse") => Response::Refused {
                errors: vec![ConfigError {
                    at: ["ports", "uplink", "device"]
                        .map(|key| Segment::Key(key.to_owned()))
                        .to_vec(),
                    problem: "the fake does not like it".to_owned(),
                    remedy: "write another".to_owned(),
                    other: None,
                }],
            },
            Request::Configure(Configure { config }) => {
                if told("slow") {
                    self.open_slowly();
                }
                return self.configure(channel, &config);
            }
            Request::Show { what, cursor } => page(what, cursor),
            Request::Explain(query) | Request::ExplainOwn(query) => {
                Response::Explained(Explanation {
                    steps: Vec::new(),
                    verdict: format!("protocol {}", query.protocol),
                    delivered: query.protocol == 6,
                })
            }
            Request::Stop if told("deaf") => return Ok(()),
            Request::Stop => {
                log(&self.lab, "stop");
                channel.send(&Response::Ok, &[])?;
                std::process::exit(0);
            }
            Request::Beat if told("stuck") => {
                thread::sleep(Duration::from_secs(3600));
                return Ok(());
            }
            Request::Beat => Response::Beat {
                progress: *self.progress.lock().unwrap(),
            },
            Request::Apply(_) | Request::Config | Request::Watch { .. } | Request::Health => {
                Response::Failed {
                    message: "not for me".to_owned(),
                }
            }
        };
        channel.send(&answer, &[])
    }

    /// Eighty ports in eight seconds.
    fn open_slowly(&self) {
        let of = 80;
        for done in 0..of {
            *self.progress.lock().unwrap() = Some(Progress {
                work: Work::Opening,
                done,
                of,
            });
            thread::sleep(Duration::from_millis(100));
        }
        *self.progress.lock().unwrap() = None;
    }

    fn configure(&self, channel: &mut Channel, config: &Config) -> Result<(), ChannelError> {
        let mut generation = self.generation.lock().unwrap();
        *generation += 1;
        let names: Vec<&str> = config
            .ports()
            .iter()
            .map(|port| port.name.as_str())
            .collect();
        log(
            &self.lab,
            &format!("configure {} {}", *generation, names.join(",")),
        );
        let mut wanted = vec![Kept::Sessions { worker: 0 }];
        wanted.extend(self.lab.join("guard").exists().then_some(Kept::HostGuard));
        let taps = config.ports().iter();
        let taps = taps.filter(|port| matches!(port.kind, PortKind::Tap { .. }));
        wanted.extend(taps.flat_map(|tap| {
            let port = &tap.name;
            (0..tap.queues).map(|queue| Kept::Tap {
                port: port.clone(),
                queue,
            })
        }));
        let mut kept = self.kept.lock().unwrap();
        for name in &wanted {
            if !kept.iter().any(|(known, _)| known == name) {
                let mut file = File::from(memfd_create("kept", MemfdFlags::CLOEXEC).unwrap());
                write!(file, "made-by-{}", std::process::id()).unwrap();
                kept.push((name.clone(), file.into()));
            }
        }
        kept.retain(|(name, _)| wanted.contains(name));
        let most = kept.len().min(channel.most_descriptors());
        let kept = &kept[..most];
        let response = Response::Configured {
            generation: *generation,
            warnings: vec!["a warning of the fake's".to_owned()],
            kept: kept.iter().map(|(name, _)| name.clone()).collect(),
            unchanged: false,
        };
        let descriptors: Vec<_> = kept.iter().map(|(_, fd)| fd.as_fd()).collect();
        channel.send(&response, &descriptors)
    }
}

/// The answer of a dataplane that knows of one version only.
fn hello_without_a_range(greeting: Greeting) -> serde_json::Value {
    serde_json::json!({
        "response": "hello",
        "version": 1,
        "pid": greeting.pid,
        "generation": greeting.generation,
    })
}

/// Three pages of two ports each; one drop reason of which there were some.
fn page(what: Show, cursor: u64) -> Response {
    let rows = match what {
        Show::Ports => Rows::Ports((0..2).map(|n| port(cursor * 2 + n)).collect()),
        Show::Drops => Rows::Drops(
            tapgate_engine::drops::DropReason::ALL[..3]
                .iter()
                .map(|reason| DropRow {
                    reason: *reason,
                    frames: *reason as u64 % 2,
                    explanation: reason.explanation().to_owned(),
                })
                .collect(),
        ),
        _ => {
            return Response::Failed {
                message: "the fake knows only ports and drops".to_owned(),
            };
        }
    };
    let next = (what == Show::Ports && cursor < 2).then_some(cursor + 1);
    Response::Page { rows, next }
}

fn port(n: u64) -> PortRow {
    PortRow {
        name: format!("port-{n}"),
        kind: "device".to_owned(),
        device: Some(format!("eth{n}")),
        state: if n == 5 { "waiting" } else { "up" }.to_owned(),
        mtu: 1500,
        receive_mode: None,
        rx_frames: n,
        rx_bytes: 0,
        tx_frames: 0,
        tx_bytes: 0,
        kernel_drops: 0,
        tx_errors: 0,
        binds: 1,
    }
}

/// What is written in a kept descriptor, and what it is.
fn content((name, fd): &(Kept, OwnedFd)) -> String {
    let mut file = File::from(fd.try_clone().unwrap());
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    match name {
        Kept::Tap { port, queue } => format!("tap:{port}:{queue}={text}"),
        Kept::Sessions { worker } => format!("sessions:{worker}={text}"),
        Kept::HostGuard => format!("guard={text}"),
    }
}

fn log(lab: &Path, line: &str) {
    let line = format!("{} {line}\n", std::process::id());
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(lab.join("log"))
        .unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// The fake's log, one line for each thing it did, without process ids.
pub fn deeds(lab: &Path) -> Vec<String> {
    let text = fs::read_to_string(lab.join("log")).unwrap_or_default();
    text.lines()
        .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
        .collect()
}
