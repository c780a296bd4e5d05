//! Network namespaces without a name: each belongs to the threads in it, and goes with them.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

/// Puts the calling thread into a new network namespace; what it starts is there too.
pub fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test makes network namespaces: run it as root");
    ip("link set lo up");
}

/// What `ip link … netns` calls the calling thread's namespace.
pub fn current() -> i32 {
    gettid().as_raw()
}

/// Runs `ip` commands, one per line, in the calling thread's namespace.
pub fn ip(commands: &str) {
    feed("ip -batch -", commands);
}

/// Runs a command with `input` in the calling thread's namespace. Panics when it fails.
pub fn feed(command: &str, input: &str) {
    let mut words = command.split_whitespace();
    let mut child = Command::new(words.next().expect("a command"))
        .args(words)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("to be read");
    drop(stdin);
    let status = child.wait().expect("a child");
    assert!(status.success(), "{command}: {status}\n{input}");
}

/// Sets a kernel parameter of the calling thread's namespace, such as `net/ipv4/ip_forward`.
pub fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}
