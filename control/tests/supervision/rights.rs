//! What the processes may do, and whose the runtime directory must be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use rustix::process::geteuid;

use crate::lab::{Lab, wait_until};

const NO_CAPABILITY: &str = "0000000000000000";
/// CAP_NET_ADMIN (12) and CAP_NET_RAW (13), as /proc prints them.
const TWO_CAPABILITIES: &str = "0000000000003000";
/// The user and the group `nobody` and `nogroup`, as Debian has them.
const NOBODY: &str = "65534\t65534\t65534\t65534";

/// A line of what /proc says of a process.
fn of(status: &str, key: &str) -> String {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn status(pid: u64) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

/// The launcher that `control` started.
fn launcher(control: u64) -> u64 {
    let children = fs::read_to_string(format!("/proc/{control}/task/{control}/children"));
    children.unwrap().trim().parse().unwrap()
}

fn assert_only(status: &str, sets: &[&str], capabilities: &str) {
    for set in sets {
        assert_eq!(of(status, set), capabilities, "{set} of {status}");
    }
    assert_eq!(of(status, "NoNewPrivs"), "1", "{status}");
}

#[test]
fn control_has_no_capability_and_the_dataplane_two() {
    let lab = Lab::new("rights");
    let running = lab.run();
    let control = lab.status("/control/pid").unwrap();
    let all = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    assert_only(&status(control), &all, NO_CAPABILITY);
    let handed_down = ["CapInh", "CapPrm", "CapBnd", "CapAmb"];
    let launcher = status(launcher(control));
    assert_only(&launcher, &handed_down, TWO_CAPABILITIES);
    assert_only(&launcher, &["CapEff"], NO_CAPABILITY);
    let kept = ["CapPrm", "CapEff", "CapBnd"];
    assert_only(&status(lab.dataplane_pid()), &kept, TWO_CAPABILITIES);
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn the_dataplane_is_a_user_of_its_own() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can become another user");
        return;
    }
    let lab = Lab::new("user");
    let anybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&lab.path, anybody).unwrap();
    // Nobody can run the fake, which may be in root's home.
    let script = "#!/bin/sh\ncat /proc/$PPID/status >launcher.status\ncat /proc/$$/status >dataplane.status\n";
    lab.write_program("witness", script);
    let run = ["run", "tapgate.toml", "--dataplane", "./witness"];
    let output = lab.ask(&[&run[..], &["--user", "nobody"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("it ended before it listened"), "{said}");
    for process in ["launcher", "dataplane"] {
        let status = fs::read_to_string(lab.path.join(format!("{process}.status"))).unwrap();
        assert_eq!(of(&status, "Uid"), NOBODY, "{process}");
        assert_eq!(of(&status, "Gid"), NOBODY, "{process}");
        assert_eq!(of(&status, "Groups"), "", "{process}");
        let handed_down = ["CapInh", "CapPrm", "CapBnd", "CapAmb"];
        assert_only(&status, &handed_down, TWO_CAPABILITIES);
    }
    lab.assert_nothing_left();
}

#[test]
fn a_user_that_does_not_exist_is_named_with_the_remedy() {
    let lab = Lab::new("nouser");
    let run = ["run", "tapgate.toml", "--dataplane", "./dataplane"];
    let output = lab.ask(&[&run[..], &["--user", "tapgate-nosuchuser"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("there is no user tapgate-nosuchuser") && said.contains("useradd --system"),
        "{said}"
    );
    lab.assert_nothing_left();
}

#[test]
fn control_without_its_launcher_ends_and_the_dataplane_goes_on() {
    let lab = Lab::new("launcher");
    let running = lab.run();
    let dataplane = lab.dataplane_pid();
    crate::lab::kill(
        launcher(lab.status("/control/pid").unwrap()),
        rustix::process::Signal::KILL,
    );
    running.wait_for_line("the launcher is gone");
    assert_eq!(running.end().code(), Some(1));
    assert_eq!(lab.dataplane_pid(), dataplane);
    let next = lab.run();
    assert_eq!(lab.dataplane_pid(), dataplane);
    // Another launcher than that which started it can end it.
    lab.tell("deaf");
    assert!(next.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn the_launcher_is_for_control_only() {
    let output = Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .arg("launcher")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a part of `tapgate run`"), "{said}");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can give a directory away");
        return;
    }
    let lab = Lab::new("foreign");
    fs::create_dir(lab.runtime_dir()).unwrap();
    fs::set_permissions(lab.runtime_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(lab.runtime_dir(), Some(65534), None).unwrap();
    let running = lab.start();
    running.wait_for_line("it is of user 65534 with mode 700");
    assert!(running.stderr().contains("--runtime-dir"));
    assert_eq!(running.end().code(), Some(1));
    wait_until("nothing to be in it", || {
        fs::read_dir(lab.runtime_dir()).unwrap().count() == 0
    });
}

#[test]
fn a_directory_that_others_may_write_is_refused_and_left_as_it_was() {
    let lab = Lab::new("directory");
    fs::create_dir(lab.runtime_dir()).unwrap();
    fs::set_permissions(lab.runtime_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let running = lab.start();
    running.wait_for_line("that nobody else can");
    assert_eq!(running.end().code(), Some(1));

    fs::set_permissions(lab.runtime_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(lab.run().terminate().success());
    assert_eq!(fs::read_dir(lab.runtime_dir()).unwrap().count(), 0);
}

#[test]
fn without_the_capabilities_the_remedy_is_told() {
    let lab = Lab::new("powerless");
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args([
            "--bounding-set",
            "-net_admin,-net_raw",
            env!("CARGO_BIN_EXE_tapgate"),
        ]);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_tapgate"))
    };
    let output = command
        .args([
            "run",
            "tapgate.toml",
            "--dataplane",
            "./dataplane",
            "--runtime-dir",
            "run",
        ])
        .current_dir(&lab.path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("CAP_NET_ADMIN") && said.contains("sudo"),
        "{said}"
    );
    lab.assert_nothing_left();
}
