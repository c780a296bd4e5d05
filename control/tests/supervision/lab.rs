//! A place to run tapgate in with a fake dataplane, and to clean up after it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::fake;

/// A configuration the fake takes.
pub const CONFIG: &str = r#"
[ports]
uplink = { device = "eth0" }
guest-a = { tap = "tap-a" }
[personalities]
A = { port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24"] }
[networks]
a = { ports = ["guest-a"], addresses = ["10.0.1.254/24"] }
"#;

/// A directory with a configuration, the fake's program and, while tapgate runs, its sockets.
pub struct Lab {
    pub path: PathBuf,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tapgate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let lab = Self { path };
        lab.write("tapgate.toml", CONFIG);
        let script = format!(
            "#!/bin/sh\n{}='{}' exec '{}' --exact fake::fake_dataplane >/dev/null\n",
            fake::LAB,
            lab.path.display(),
            std::env::current_exe().unwrap().display(),
        );
        lab.write_program("dataplane", &script);
        lab
    }

    pub fn write_program(&self, name: &str, text: &str) {
        self.write(name, text);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path.join(name), executable).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
    }

    /// Tells the fake how to misbehave.
    pub fn tell(&self, what: &str) {
        self.write(what, "");
    }

    pub fn untell(&self, what: &str) {
        fs::remove_file(self.path.join(what)).unwrap();
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// A tapgate command on this lab's runtime directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_tapgate");
        // Only root has the capabilities it asks for; in a user namespace everybody is root.
        let mut command = if geteuid().is_root() {
            Command::new(program)
        } else {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", program]);
            command
        };
        command
            .current_dir(&self.path)
            .env("TAPGATE_RUNTIME_DIR", self.runtime_dir())
            .env_remove("NOTIFY_SOCKET")
            .args(arguments);
        command
    }

    pub fn ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts `tapgate run` and waits until it is ready.
    pub fn run(&self) -> Running {
        let running = self.start();
        running.wait_for_line("ready: ");
        running
    }

    /// Starts `tapgate run`.
    pub fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Running {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stderr = self.path.join(format!("stderr-{n}"));
        // As another user the fake could not do its part.
        let user = ["--user", "root"];
        let run = ["run", "tapgate.toml", "--dataplane", "./dataplane"];
        let mut command = self.command(&[run.as_slice(), &user].concat());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr).unwrap());
        change(&mut command);
        Running {
            child: command.spawn().unwrap(),
            stderr,
        }
    }

    /// A number from `tapgate status --json`, such as `/dataplane/pid`.
    pub fn status(&self, pointer: &str) -> Option<u64> {
        let output = self.ask(&["status", "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        json.pointer(pointer)?.as_u64()
    }

    pub fn dataplane_pid(&self) -> u64 {
        self.status("/dataplane/pid").expect("no dataplane answers")
    }

    pub fn deeds(&self) -> Vec<String> {
        fake::deeds(&self.path)
    }

    /// Waits until the fake did something that starts with `deed` for the `nth` time.
    pub fn wait_for_deed(&self, deed: &str, nth: usize) {
        let done = || {
            self.deeds()
                .iter()
                .filter(|line| line.starts_with(deed))
                .count()
                >= nth
        };
        wait_until(
            &format!("the fake to {deed}, {nth} times: {:?}", self.deeds()),
            done,
        );
    }

    /// Nothing runs and no socket or directory is left.
    pub fn assert_nothing_left(&self) {
        assert!(
            !self.runtime_dir().exists(),
            "{:?} is left",
            self.runtime_dir()
        );
        for pid in self.fakes() {
            wait_until(&format!("fake {pid} to end"), || !is_alive(pid));
        }
    }

    /// The process ids of all fakes ever started here.
    fn fakes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("log")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split(' ').next()?.parse().ok())
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pid in self.fakes() {
            if is_fake(pid) {
                kill(pid as u64, Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A `tapgate run`.
pub struct Running {
    pub child: Child,
    stderr: PathBuf,
}

impl Running {
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until a line of standard error contains `text`.
    pub fn wait_for_line(&self, text: &str) {
        wait_until(&format!("\"{text}\" in {}", self.stderr.display()), || {
            self.stderr().contains(text)
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.child.id().into(), signal);
    }

    /// Waits for its end, and gives the exit status.
    pub fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "does not end: {}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and its end.
    pub fn terminate(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead: nobody may have collected it.
    !stat.is_empty() && !stat.contains(") Z ")
}

fn is_fake(pid: i32) -> bool {
    let this = std::env::current_exe().unwrap();
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == this)
        && pid != std::process::id() as i32
        && Path::new("/proc")
            .join(pid.to_string())
            .join("environ")
            .exists()
}
