//! The dataplane's process is killed, and another takes over what control kept.

mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use lab::{Lab, attempt, eventually, run};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tapgate_engine::config::{Config, File};
use tapgate_protocol::{
    Channel, ChannelError, Configure, DATAPLANE_SOCKET, Kept, Progress, Request, Response, Versions,
};

const TAPS: usize = 40;
const QUEUES: usize = 8;

/// A directory with the socket of a dataplane.
struct RuntimeDir(PathBuf);

impl RuntimeDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tapgate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running dataplane, which is killed when dropped.
struct Process(Child);

impl Process {
    fn start(directory: &RuntimeDir) -> Self {
        let socket = directory.0.join(DATAPLANE_SOCKET);
        let child = Command::new(env!("CARGO_BIN_EXE_tapgate-dataplane"))
            .arg("--runtime-dir")
            .arg(&directory.0)
            .env("TAPGATE_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it listens", 10, || UnixStream::connect(&socket).is_ok());
        Self(child)
    }

    /// How many descriptors it has of each TAP.
    fn queues(&self) -> BTreeMap<String, usize> {
        let mut queues = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.0.id())).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            for name in text.lines().filter_map(|line| line.strip_prefix("iff:\t")) {
                *queues.entry(name.to_owned()).or_default() += 1;
            }
        }
        queues
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(directory: &RuntimeDir) -> UnixStream {
    UnixStream::connect(directory.0.join(DATAPLANE_SOCKET)).unwrap()
}

/// Forty TAPs of eight queues in a guest's namespace, on one network.
fn configuration(guest: &str) -> Config {
    let ports: String = (0..TAPS)
        .map(|n| format!("t{n} = {{ tap = \"tap{n}\", netns = \"{guest}\", queues = {QUEUES} }}\n"))
        .collect();
    let names: Vec<_> = (0..TAPS).map(|n| format!("\"t{n}\"")).collect();
    let file: File = toml::from_str(&format!(
        "[ports]\n{ports}[networks]\nn = {{ ports = [{}], addresses = [\"10.9.0.254/24\"] }}\n",
        names.join(", ")
    ))
    .unwrap();
    Config::try_from(file).unwrap()
}

fn configure(channel: &mut Channel, config: &Config) -> (Vec<(Kept, OwnedFd)>, Vec<String>) {
    let config = Arc::new(config.clone());
    let order = Request::Configure(Configure { config });
    channel.send(&order, &[]).unwrap();
    match channel.receive().unwrap() {
        (Response::Configured { kept, warnings, .. }, descriptors) => {
            assert_eq!(kept.len(), descriptors.len());
            (kept.into_iter().zip(descriptors).collect(), warnings)
        }
        (other, _) => panic!("{other:?}"),
    }
}

/// The index of each TAP in the guest's namespace.
fn indices(guest: &str) -> BTreeMap<String, u32> {
    let text = run(&format!("ip -n {guest} -o link show type tun"));
    let link = |line: &str| {
        let mut words = line.split(": ");
        let index = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), index))
    };
    text.lines().filter_map(link).collect()
}

fn all_queues() -> BTreeMap<String, usize> {
    (0..TAPS).map(|n| (format!("tap{n}"), QUEUES)).collect()
}

/// As control does for itself and the dataplane.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

#[test]
fn hundreds_of_tap_queues_outlive_a_killed_dataplane() {
    allow_many_descriptors();
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    let directory = RuntimeDir::new("queues");
    let config = configuration(&guest);

    let first = Process::start(&directory);
    let mut channel = Channel::new(connect(&directory));
    channel.greet().unwrap();
    let (kept, warnings) = configure(&mut channel, &config);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(kept.len(), TAPS * QUEUES + 1);
    assert_eq!(first.queues(), all_queues());
    let before = indices(&guest);
    assert_eq!(before.len(), TAPS);
    // What the guest has configured on a device goes when the device goes.
    run(&format!("ip -n {guest} address add 10.9.0.1/24 dev tap7"));
    run(&format!("ip -n {guest} link set tap7 up"));
    // Its other devices are on other ports, and must not answer for that one's address.
    let quiet = "sysctl -qw net.ipv4.conf.all.arp_ignore=1";
    run(&format!("ip netns exec {guest} {quiet}"));
    let ping = format!("ip netns exec {guest} ping -q -c 1 -W 1 10.9.0.254");
    eventually("an answer", 5, || attempt(&ping).0);
    drop(first);
    assert!(!attempt(&ping).0);

    let second = Process::start(&directory);
    let mut channel = Channel::new(connect(&directory));
    channel.greet().unwrap();
    let (names, descriptors): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let adopt = Request::Adopt { kept: names };
    channel.send(&adopt, &borrowed).unwrap();
    assert!(matches!(channel.receive().unwrap().0, Response::Ok));
    let (kept, warnings) = configure(&mut channel, &config);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(kept.len(), TAPS * QUEUES + 1);
    // Not by our copies.
    drop((kept, descriptors));
    assert_eq!(second.queues(), all_queues());
    assert_eq!(indices(&guest), before);
    eventually("an answer of the second", 5, || attempt(&ping).0);
}

#[test]
fn a_control_from_before_an_upgrade_is_understood_and_given_what_it_can_take() {
    allow_many_descriptors();
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    let directory = RuntimeDir::new("oldcontrol");
    let _process = Process::start(&directory);

    let mut stream = connect(&directory);
    let hello = br#"{"request":"hello","version":1}"#;
    stream
        .write_all(&(hello.len() as u32).to_be_bytes())
        .unwrap();
    stream.write_all(hello).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with(r#"{"response":"hello","version":1,"#),
        "{answer}"
    );

    let only_the_first = Versions {
        oldest: 1,
        newest: 1,
    };
    let mut channel = Channel::speaking(only_the_first, stream);
    let (kept, warnings) = configure(&mut channel, &configuration(&guest));
    // The sessions, and no part of a TAP.
    assert_eq!(kept.len(), 1 + 31 * QUEUES);
    assert_eq!(
        warnings,
        [
            "too many TAP queues: the last 72 do not survive a restart of the dataplane; control \
             is from before an upgrade, start it anew"
        ]
    );
}

/// The heartbeat of a dataplane, asked on a connection of its own.
fn beat(channel: &mut Channel) -> Result<Option<Progress>, ChannelError> {
    channel.send(&Request::Beat, &[])?;
    hear_beat(channel)
}

fn hear_beat(channel: &mut Channel) -> Result<Option<Progress>, ChannelError> {
    match channel.receive()?.0 {
        Response::Beat { progress } => Ok(progress),
        other => panic!("{other:?}"),
    }
}

#[test]
fn progress_is_told_while_ports_are_opened() {
    allow_many_descriptors();
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    let directory = RuntimeDir::new("progress");
    let _process = Process::start(&directory);
    let config = configuration(&guest);
    let mut listener = Channel::new(connect(&directory));
    listener.greet().unwrap();
    assert_eq!(beat(&mut listener).unwrap(), None);

    let mut channel = Channel::new(connect(&directory));
    channel.greet().unwrap();
    let configuring = std::thread::spawn(move || configure(&mut channel, &config));
    let mut told = Vec::new();
    while !configuring.is_finished() {
        told.extend(beat(&mut listener).unwrap());
        // Whoever asks who is there is not kept waiting either.
        Channel::new(connect(&directory)).greet().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(beat(&mut listener).unwrap(), None);
    assert!(told.iter().all(|progress| progress.of == TAPS as u32));
    assert!(told.is_sorted_by_key(|progress| progress.done), "{told:?}");
    let between = told.iter().filter(|told| (1..told.of).contains(&told.done));
    assert!(between.count() > 2, "{told:?}");
}

#[test]
fn a_worker_that_stands_still_has_no_heartbeat() {
    let _lab = Lab::new();
    let directory = RuntimeDir::new("standstill");
    let process = Process::start(&directory);
    let mut channel = Channel::new(connect(&directory));
    channel.greet().unwrap();
    let file: File = toml::from_str("[ports]\nm = { memory = true }\n").unwrap();
    configure(&mut channel, &Config::try_from(file).unwrap());
    let mut listener = Channel::new(connect(&directory));
    listener.greet().unwrap();
    assert_eq!(beat(&mut listener).unwrap(), None);

    // As if it were stuck: this one thread of the process alone.
    let tasks = fs::read_dir(format!("/proc/{}/task", process.0.id())).unwrap();
    let worker = tasks
        .map(|task| task.unwrap().path())
        .find(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == "worker-0");
    let worker = worker.unwrap().file_name().unwrap().to_owned();
    let worker = Pid::from_raw(worker.to_str().unwrap().parse().unwrap());
    ptrace::seize(worker, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(worker).unwrap();
    waitpid(worker, Some(WaitPidFlag::__WALL)).unwrap();
    let patience = std::time::Duration::from_secs(1);
    listener.stream().set_read_timeout(Some(patience)).unwrap();
    let heard = beat(&mut listener);
    let others = Channel::new(connect(&directory)).greet();
    ptrace::detach(worker, None).unwrap();
    assert!(heard.is_err());
    others.unwrap();
    assert_eq!(hear_beat(&mut listener).unwrap(), None);
}
