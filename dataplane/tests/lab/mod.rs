//! Network namespaces for one test: the router's own, and those of its guests.

#![allow(dead_code)] // each test file uses its part

pub mod bridge;
pub mod wire;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::sched::{CloneFlags, setns, unshare};

/// Guests' namespaces, removed at the end. The calling thread is in a namespace of its own, which
/// stands for the host: what it spawns is there too.
pub struct Lab {
    prefix: String,
    guests: Vec<String>,
}

impl Lab {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            Path::new("/proc/self/ns/net").exists() && nix_is_root(),
            "this test makes network namespaces: run it as root"
        );
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: format!("dp-{}-{number}", std::process::id()),
            guests: Vec::new(),
        }
    }

    /// A new guest's namespace; returns its name.
    pub fn guest(&mut self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        self.guests.push(name.clone());
        name
    }

    /// A guest on the other end of a veth: `device` here, `eth0` with `address` there.
    pub fn veth_guest(&mut self, name: &str, device: &str, address: &str) -> String {
        let guest = self.guest(name);
        veth(device, &guest, address);
        guest
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for guest in &self.guests {
            let _ = Command::new("ip").args(["netns", "del", guest]).status();
        }
    }
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// Makes a veth: `device` here, `eth0` with `address` in `guest`.
pub fn veth(device: &str, guest: &str, address: &str) {
    run(&format!(
        "ip link add {device} type veth peer name eth0 netns {guest}"
    ));
    run(&format!("ip link set {device} up"));
    run(&format!("ip -n {guest} address add {address} dev eth0"));
    run(&format!("ip -n {guest} link set eth0 up"));
}

/// Runs a command to its end and returns what it printed. Panics when it fails.
pub fn run(command: &str) -> String {
    let (ok, output) = attempt(command);
    assert!(ok, "{command}\n{output}");
    output
}

/// Runs a command to its end: whether it succeeded, and what it printed.
pub fn attempt(command: &str) -> (bool, String) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A command in the background, ended when dropped.
pub struct Background(pub Child);

pub fn background(command: &str) -> Background {
    spawn(command, Stdio::null(), Stdio::inherit())
}

fn spawn(command: &str, stdout: Stdio, stderr: Stdio) -> Background {
    let mut words = command.split_whitespace();
    let child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    Background(child)
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command in the background, ended when dropped, and what it has printed.
pub struct Heard {
    _command: Background,
    text: Arc<Mutex<String>>,
}

impl Heard {
    /// What was printed so far, in whole lines.
    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

/// Runs a command in the background and listens to it, its errors included.
pub fn listen(command: &str) -> Heard {
    let (output, end) = std::io::pipe().unwrap();
    let command = spawn(command, end.try_clone().unwrap().into(), end.into());
    let text = Arc::new(Mutex::new(String::new()));
    let hears = text.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            hears.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    Heard {
        _command: command,
        text,
    }
}

/// Runs a line of shell.
pub fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status().unwrap();
    assert!(status.success(), "{line}");
}

/// Does something in a guest's namespace.
pub fn within<R: Send>(guest: &str, what: impl FnOnce() -> R + Send) -> R {
    let netns = std::fs::File::open(format!("/run/netns/{guest}")).unwrap();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        there.join().unwrap()
    })
}

/// Waits until `condition` holds. Panics after `seconds`.
pub fn eventually(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !condition() {
        assert!(
            std::time::Instant::now() < end,
            "{what}: not within {seconds} s"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Downloads by TCP from `from` to an iperf3 server at `address` in `to`; returns Gbit/s.
pub fn iperf(from: &str, to: &str, address: &str, seconds: u32) -> f64 {
    let _server = background(&format!("ip netns exec {to} iperf3 -s -1"));
    eventually("iperf3 listens", 10, || {
        run(&format!("ip netns exec {to} ss -Hltn")).contains(":5201")
    });
    let limit = seconds + 10;
    let json = run(&format!(
        "timeout {limit} ip netns exec {from} iperf3 -c {address} -t {seconds} -J"
    ));
    let (_, end) = json.split_once("\"sum_received\"").expect(&json);
    let (_, rate) = end.split_once("\"bits_per_second\":").expect(&json);
    let rate = rate.split(',').next().unwrap().trim();
    rate.parse::<f64>().unwrap() / 1e9
}
