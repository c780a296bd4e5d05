//! Starting, dying, taking over, ending.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::{Lab, kill, wait_until};

#[test]
fn starts_ready_and_ends_without_a_trace() {
    let lab = Lab::new("start");
    let running = lab.run();
    let control = lab.status("/control/pid").unwrap();
    let dataplane = lab.dataplane_pid();
    assert_eq!(control, u64::from(running.child.id()));
    assert_eq!(lab.deeds(), ["start", "configure 1 guest-a,uplink"]);

    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(lab.runtime_dir()), 0o700);
    assert_eq!(mode(lab.runtime_dir().join("control.sock")), 0o600);

    let group = |pid: u64| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .nth(2)
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        group(dataplane),
        dataplane.to_string(),
        "Ctrl-C would reach it"
    );

    assert!(
        running
            .stderr()
            .contains("ready: 2 ports, 1 personality, 1 network")
    );
    assert!(running.terminate().success());
    assert_eq!(lab.deeds().last().unwrap(), "stop");
    lab.assert_nothing_left();
}

#[test]
fn a_killed_dataplane_is_back_within_a_second_with_what_was_kept() {
    let lab = Lab::new("killed");
    let running = lab.run();
    let first = lab.dataplane_pid();
    lab.write(
        "tapgate.toml",
        &crate::lab::CONFIG
            .replace("eth0", "eth1")
            .replace("uplink", "up"),
    );
    assert!(lab.ask(&["apply", "tapgate.toml"]).status.success());

    let killed = Instant::now();
    kill(first, Signal::KILL);
    lab.wait_for_deed("configure", 3);
    let back = killed.elapsed();
    assert!(back < Duration::from_secs(1), "back after {back:?}");
    let second = lab.dataplane_pid();
    assert_ne!(first, second);
    assert_eq!(
        lab.deeds()[3..],
        [
            "start".to_owned(),
            format!("adopt sessions:0=made-by-{first} tap:guest-a:0=made-by-{first}"),
            "configure 1 guest-a,up".to_owned(),
        ]
    );
    assert!(
        running.stderr().contains("signal: 9"),
        "{}",
        running.stderr()
    );

    // A TAP whose port is gone is let go of; the sessions stay.
    let (ports, _) = crate::lab::CONFIG.split_once("[networks]").unwrap();
    lab.write(
        "tapgate.toml",
        &ports.replace("guest-a = { tap = \"tap-a\" }", ""),
    );
    assert!(lab.ask(&["apply", "tapgate.toml"]).status.success());
    kill(second, Signal::KILL);
    lab.wait_for_deed("adopt", 2);
    let deeds = lab.deeds();
    let adopted = deeds
        .iter()
        .rfind(|deed| deed.starts_with("adopt"))
        .unwrap();
    assert_eq!(*adopted, format!("adopt sessions:0=made-by-{first}"));
    wait_until("the last start", || {
        running.stderr().matches("runs again").count() == 2
    });
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn the_rules_for_the_host_are_kept_as_long_as_the_dataplane_needs_them() {
    let lab = Lab::new("guard");
    lab.tell("guard");
    let running = lab.run();
    let first = lab.dataplane_pid();
    kill(first, Signal::KILL);
    lab.wait_for_deed("configure", 2);
    let adopted = format!("adopt sessions:0=made-by-{first} guard=made-by-{first} tap:guest-a:0");
    assert!(lab.deeds()[3].starts_with(&adopted), "{:?}", lab.deeds());
    running.wait_for_line("runs again");

    // No personality shares its MAC any more.
    lab.untell("guard");
    assert!(lab.ask(&["apply", "tapgate.toml"]).status.success());
    kill(lab.dataplane_pid(), Signal::KILL);
    lab.wait_for_deed("adopt", 2);
    let deeds = lab.deeds();
    let adopted = deeds.iter().rfind(|deed| deed.starts_with("adopt"));
    assert!(!adopted.unwrap().contains("guard="), "{deeds:?}");
    wait_until("the last start", || {
        running.stderr().matches("runs again").count() == 2
    });
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_dataplane_that_dies_again_and_again_is_given_pauses() {
    let lab = Lab::new("dying");
    let running = lab.run();
    lab.tell("die");
    kill(lab.dataplane_pid(), Signal::KILL);
    running.wait_for_line("died 4 times in a row; the next start is in 0.4 s");
    // control itself answers meanwhile, and can do nothing.
    let output = lab.ask(&["apply", "tapgate.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not run at the moment"));
    lab.untell("die");
    running.wait_for_line("runs again");
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

/// What is left of the sessions may be what kills each dataplane that takes it over.
#[test]
fn h14_after_three_deaths_within_a_minute_the_next_starts_without_sessions() {
    let lab = Lab::new("deaths");
    let running = lab.run();
    let first = lab.dataplane_pid();
    for death in 1..=3 {
        kill(lab.dataplane_pid(), Signal::KILL);
        lab.wait_for_deed("adopt", death);
        wait_until("it runs again", || {
            running.stderr().matches("runs again").count() == death
        });
    }
    let deeds = lab.deeds();
    let adopted: Vec<_> = deeds
        .iter()
        .filter(|deed| deed.starts_with("adopt"))
        .collect();
    let tap = format!("tap:guest-a:0=made-by-{first}");
    let with = format!("adopt sessions:0=made-by-{first} {tap}");
    assert_eq!(adopted, [&with, &with, &format!("adopt {tap}")]);
    running.wait_for_line("died 3 times within 60 s: the next one starts without sessions");
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_killed_control_is_replaced_while_the_dataplane_runs_on() {
    let lab = Lab::new("replaced");
    let first = lab.run();
    let dataplane = lab.dataplane_pid();
    first.signal(Signal::KILL);
    first.end();

    // Everything but orders works without control.
    assert_eq!(lab.dataplane_pid(), dataplane);
    assert!(lab.ask(&["show", "ports"]).status.success());
    let output = lab.ask(&["apply", "tapgate.toml"]);
    assert_eq!(output.status.code(), Some(3));

    let second = lab.run();
    assert!(second.stderr().contains(&format!(
        "taking over the running dataplane pid={dataplane}"
    )));
    assert!(second.stderr().contains("a warning of the fake's"));
    assert_eq!(lab.dataplane_pid(), dataplane);
    assert_eq!(
        lab.deeds().iter().filter(|deed| *deed == "start").count(),
        1
    );

    // What it was given then still outlives the dataplane, although that is not its child.
    kill(dataplane, Signal::KILL);
    lab.wait_for_deed("adopt", 1);
    second.wait_for_line("runs again");
    assert!(second.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_lonely_dataplane_is_stopped_and_cleaned_up_after() {
    let lab = Lab::new("lonely");
    let running = lab.run();
    running.signal(Signal::KILL);
    running.end();
    let output = lab.ask(&["stop"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(lab.deeds().last().unwrap(), "stop");
    lab.assert_nothing_left();
    assert_eq!(lab.ask(&["stop"]).status.code(), Some(3));
}

#[test]
fn a_second_run_is_refused_and_says_who_runs() {
    let lab = Lab::new("second");
    let running = lab.run();
    let second = lab.start();
    second.wait_for_line("tapgate stop");
    let said = second.stderr();
    assert!(
        said.contains(&format!("already runs on {}", lab.runtime_dir().display())),
        "{said}"
    );
    assert!(
        said.contains(&format!("process {}", running.child.id())),
        "{said}"
    );
    assert_eq!(second.end().code(), Some(1));
    assert!(
        lab.ask(&["status"]).status.success(),
        "the first was disturbed"
    );
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_deaf_dataplane_is_killed_in_the_end() {
    let lab = Lab::new("deaf");
    let running = lab.run();
    lab.tell("deaf");
    let asked = Instant::now();
    running.signal(Signal::TERM);
    running.wait_for_line("did not end within 5 s and was killed");
    assert!(running.end().success());
    assert!(asked.elapsed() < Duration::from_secs(8));
    lab.assert_nothing_left();
}

#[test]
fn nothing_is_left_of_a_start_that_fails() {
    let lab = Lab::new("stillborn");
    lab.tell("die");
    let running = lab.start();
    running.wait_for_line("it ended before it listened: exit status: 7");
    assert_eq!(running.end().code(), Some(1));
    lab.assert_nothing_left();

    lab.untell("die");
    lab.tell("refuse");
    let running = lab.start();
    running.wait_for_line("the fake does not like it");
    assert!(
        running.stderr().contains("tapgate.toml:3:21"),
        "{}",
        running.stderr()
    );
    assert_eq!(running.end().code(), Some(2));
    lab.assert_nothing_left();

    let mut command = lab.command(&["run", "tapgate.toml", "--dataplane", "/nonexistent"]);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    lab.assert_nothing_left();
}

#[test]
fn the_order_to_stop_interrupts_a_dataplane_that_does_not_answer() {
    let lab = Lab::new("silent");
    lab.tell("silent");
    let running = lab.start();
    lab.wait_for_deed("silent", 1);
    let asked = Instant::now();
    assert!(running.terminate().success());
    assert!(asked.elapsed() < Duration::from_secs(7));
    lab.assert_nothing_left();
}

#[test]
fn a_path_too_long_for_sockets_is_refused() {
    let lab = Lab::new("long");
    let long = lab.path.join("x".repeat(100));
    let output = lab.ask(&[
        "run",
        "tapgate.toml",
        "--dataplane",
        "./dataplane",
        "--user",
        "root",
        "--runtime-dir",
        long.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("too long a path for sockets"), "{said}");
    assert!(!long.exists());
}

#[test]
fn systemd_is_told() {
    let lab = Lab::new("systemd");
    let socket = lab.path.join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let heard = |state: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = systemd.recv(&mut buffer).expect(state);
            if String::from_utf8_lossy(&buffer[..length]).contains(state) {
                return;
            }
        }
    };
    let running = lab.start_with(|command| {
        command.env("NOTIFY_SOCKET", &socket);
    });
    heard("STATUS=ready: 2 ports");
    heard("READY=1");
    running.signal(Signal::HUP);
    heard("RELOADING=1");
    heard("READY=1");
    running.signal(Signal::INT);
    heard("STOPPING=1");
    assert!(running.end().success());
}
