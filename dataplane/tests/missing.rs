//! What is missing is waited for without busy work.

mod lab;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lab::{Lab, eventually, listen, run};
use tapgate_engine::config::{Config, File};
use tapgate_protocol::{Channel, Configure, DATAPLANE_SOCKET, Request, Response};

/// Ends a process, and removes its directory, when dropped.
struct Process(Child, std::path::PathBuf);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_dir_all(&self.1);
    }
}

impl Process {
    /// What it has used of a processor.
    fn used(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

/// Five ports of each kind whose namespace or device is missing: under 1 % of a core, one line of the
/// log each, and no device made in vain.
#[test]
fn h15_what_is_missing_is_waited_for_without_busy_work() {
    let mut lab = Lab::new();
    let directory = std::env::temp_dir().join(format!("tapgate-missing-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    // What is left of a namespace that was unmounted but not removed.
    let leftover = directory.join("leftover");
    fs::write(&leftover, "").unwrap();
    let missing = |n: usize| match n {
        0 => leftover.display().to_string(),
        n => format!("missing-{n}-{}", std::process::id()),
    };
    let taps = (0..5).map(|n| {
        format!(
            "t{n} = {{ tap = \"tap{n}\", netns = \"{}\" }}\n",
            missing(n)
        )
    });
    let devices = (0..5).map(|n| format!("d{n} = {{ device = \"gone{n}\" }}\n"));
    let ports: String = taps.chain(devices).collect();
    // A TAP of a name that a device has cannot be made either.
    run("ip link add taken type veth peer name other");
    let file: File = toml::from_str(&format!(
        "[ports]\n{ports}x = {{ tap = \"taken\" }}\n[networks]\nn = {{ ports = [{}], addresses = [\"10.9.0.254/24\"] }}\n",
        (0..5).map(|n| format!("\"t{n}\", \"d{n}\", ")).collect::<String>() + "\"x\""
    ))
    .unwrap();
    let config = Arc::new(Config::try_from(file).unwrap());

    let mut child = Command::new(env!("CARGO_BIN_EXE_tapgate-dataplane"))
        .arg("--runtime-dir")
        .arg(&directory)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let process = Process(child, directory.clone());
    let log = std::thread::spawn(move || log.lines().map_while(Result::ok).collect::<Vec<_>>());
    let socket = directory.join(DATAPLANE_SOCKET);
    eventually("it listens", 10, || UnixStream::connect(&socket).is_ok());
    let mut channel = Channel::new(UnixStream::connect(&socket).unwrap());
    channel.greet().unwrap();
    let order = Request::Configure(Configure { config });
    channel.send(&order, &[]).unwrap();
    assert!(matches!(
        channel.receive().unwrap().0,
        Response::Configured { .. }
    ));

    let monitor = listen("ip monitor link");
    std::thread::sleep(Duration::from_secs(1));
    let before = process.used();
    // Others' devices come and go meanwhile.
    let other = lab.guest("a");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(1));
        lab::veth("va", &other, "10.9.9.1/24");
        run("ip link delete va");
    }
    let used = process.used() - before;
    println!("{used:?} in more than 5 s");
    assert!(used <= Duration::from_millis(50), "{used:?}");
    assert!(!monitor.text().contains("tap"), "{}", monitor.text());
    drop(process);
    let log = log.join().unwrap();
    for port in [
        "t0", "t1", "t2", "t3", "t4", "d0", "d1", "d2", "d3", "d4", "x",
    ] {
        let its =
            |line: &&String| line.contains(&format!("port=\"{port}\"")) && line.contains("waiting");
        assert_eq!(log.iter().filter(its).count(), 1, "{port}: {log:#?}");
    }
    assert_eq!(
        log.iter().filter(|line| line.contains("made")).count(),
        0,
        "{log:#?}"
    );
}
