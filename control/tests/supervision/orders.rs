//! apply, reload, show, explain, status: what they do and how they fail.

use std::process::Output;

use rustix::process::Signal;

use crate::lab::{CONFIG, Lab, kill};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_wrong_file_changes_nothing() {
    let lab = Lab::new("wrong");
    let running = lab.run();
    lab.write("wrong.toml", &CONFIG.replace("device =", "devise ="));
    let output = lab.ask(&["apply", "wrong.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("wrong.toml:3:12"),
        "{}",
        stderr(&output)
    );
    let faults = json(&lab.ask(&["apply", "--json", "wrong.toml"]));
    assert_eq!(faults[0]["line"], 3);

    // The dataplane's word is final, and shown in the same way.
    lab.tell("refuse");
    let output = lab.ask(&["apply", "tapgate.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("tapgate.toml:3:21"),
        "{}",
        stderr(&output)
    );
    lab.untell("refuse");

    // A dataplane that dies over a configuration comes back with the one before.
    lab.write("deadly.toml", &CONFIG.replace("guest-a", "guest-z"));
    lab.tell("die-when-configured");
    let output = lab.ask(&["apply", "deadly.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("restarted with the one before"),
        "{}",
        stderr(&output)
    );
    lab.untell("die-when-configured");
    running.wait_for_line("runs again");
    assert_eq!(lab.deeds().last().unwrap(), "configure 1 guest-a,uplink");
    assert!(running.terminate().success());
}

/// What was applied last is shown as it was written, and spelled out it changes nothing.
#[test]
fn what_is_configured_is_shown() {
    let lab = Lab::new("config");
    let running = lab.run();
    assert_eq!(stdout(&lab.ask(&["show", "config"])), CONFIG);
    let commented = CONFIG.replace("[ports]", "# the way out\n[ports]");
    lab.write("commented.toml", &commented);
    let said = stdout(&lab.ask(&["apply", "commented.toml"]));
    assert!(said.ends_with("; nothing changed\n"), "{said}");
    assert_eq!(stdout(&lab.ask(&["show", "config"])), commented);

    let expanded = stdout(&lab.ask(&["show", "config", "--expanded"]));
    assert!(expanded.contains("mtu = 1500"), "{expanded}");
    lab.write("expanded.toml", &expanded);
    let said = stdout(&lab.ask(&["apply", "expanded.toml"]));
    assert!(said.ends_with("; nothing changed\n"), "{said}");
    assert_eq!(stdout(&lab.ask(&["show", "config"])), expanded);
    lab.write(
        "other.toml",
        &expanded.replace("10.0.1.254/24", "10.0.1.253/24"),
    );
    let applied = json(&lab.ask(&["apply", "--json", "other.toml"]));
    assert_eq!(applied["unchanged"], false, "{applied}");

    // What is refused is not what is configured; SIGHUP reads the file that it runs with.
    lab.tell("refuse");
    lab.ask(&["apply", "commented.toml"]);
    lab.untell("refuse");
    assert!(stdout(&lab.ask(&["show", "config"])).contains("10.0.1.253"));
    running.signal(Signal::HUP);
    lab.wait_for_deed("configure", 5);
    running.wait_for_line("generation 5");
    assert_eq!(stdout(&lab.ask(&["show", "config"])), CONFIG);
    assert!(running.terminate().success());
    assert_eq!(lab.ask(&["show", "config"]).status.code(), Some(3));
}

#[test]
fn the_same_file_can_be_applied_again() {
    let lab = Lab::new("again");
    let running = lab.run();
    for generation in 2..4 {
        let applied = json(&lab.ask(&["apply", "--json", "tapgate.toml"]));
        assert_eq!(applied["generation"], generation);
        assert_eq!(applied["warnings"][0], "a warning of the fake's");
    }
    let output = lab.ask(&["apply", "tapgate.toml"]);
    let said = "tapgate.toml: in force, generation 4; nothing changed\n";
    assert_eq!(stdout(&output), said);
    assert_eq!(lab.status("/control/generation"), Some(4));
    let output = lab.ask(&["stop"]);
    assert!(output.status.success(), "{output:?}");
    assert!(running.end().success());
    lab.assert_nothing_left();
}

#[test]
fn a_hang_up_signal_reads_the_file_again() {
    let lab = Lab::new("reload");
    let running = lab.run();
    lab.write("tapgate.toml", &CONFIG.replace("uplink", "up"));
    running.signal(Signal::HUP);
    lab.wait_for_deed("configure 2 guest-a,up", 1);
    lab.write("tapgate.toml", "[ports");
    running.signal(Signal::HUP);
    running.wait_for_line("refused, 1 fault; nothing was changed");
    lab.write("tapgate.toml", CONFIG);
    running.signal(Signal::HUP);
    lab.wait_for_deed("configure 3 guest-a,uplink", 1);
    assert!(running.terminate().success());
}

#[test]
fn state_is_shown_page_by_page() {
    let lab = Lab::new("show");
    let running = lab.run();
    let table = stdout(&lab.ask(&["show", "ports"]));
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.starts_with("PORT "), "{table}");
    assert!(!table.contains(" \n"), "spaces at a line's end: {table:?}");
    let rows = json(&lab.ask(&["show", "ports", "--json"]));
    let names: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].clone())
        .collect();
    assert_eq!(
        names,
        ["port-0", "port-1", "port-2", "port-3", "port-4", "port-5"]
    );

    assert_eq!(stdout(&lab.ask(&["show", "drops"])).lines().count(), 2);
    assert_eq!(
        stdout(&lab.ask(&["show", "drops", "--all"]))
            .lines()
            .count(),
        4
    );
    assert_eq!(
        json(&lab.ask(&["show", "drops", "--json"]))
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let output = lab.ask(&["show", "rules"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the fake knows only"));

    let status = stdout(&lab.ask(&["status"]));
    assert!(status.contains("ports      5 up, 1 waiting"), "{status}");
    assert!(running.terminate().success());
}

#[test]
fn explain_fails_for_a_packet_that_is_dropped() {
    let lab = Lab::new("explain");
    let running = lab.run();
    let question = |protocol| {
        [
            "explain", "--in", "guest-a", "--from", "10.0.1.1", "--to", "10.0.1.2", "--proto",
            protocol,
        ]
    };
    let output = lab.ask(&question("tcp"));
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "=> protocol 6\n".to_owned())
    );
    assert_eq!(lab.ask(&question("47")).status.code(), Some(1));
    assert!(running.terminate().success());

    let output = lab.ask(&question("tcp"));
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("--config FILE"));
    let offline = [
        &question("udp")[..],
        &["--config", "tapgate.toml", "--json"],
    ]
    .concat();
    let output = lab.ask(&offline);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(json(&output)["delivered"], true);
    let unrouted = [
        "explain",
        "--in",
        "guest-a",
        "--from",
        "10.0.1.1",
        "--to",
        "198.51.100.1",
    ];
    let output = lab.ask(&[&unrouted[..], &["--config", "tapgate.toml"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).contains("=> drop: no-route"), "{output:?}");
}

#[test]
fn commands_without_a_tapgate_say_so() {
    let lab = Lab::new("absent");
    for arguments in [
        &["status"][..],
        &["stop"],
        &["show", "drops"],
        &["apply", "tapgate.toml"],
    ] {
        let output = lab.ask(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(
            stderr(&output).contains("start it with `tapgate run FILE`"),
            "{arguments:?}"
        );
    }
    assert_eq!(lab.ask(&["nonsense"]).status.code(), Some(2));
    assert_eq!(
        lab.ask(&["check", "nonexistent.toml"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_dataplane_that_hangs_does_not_hang_the_command() {
    let lab = Lab::new("hanging");
    let running = lab.run();
    let dataplane = lab.dataplane_pid();
    kill(dataplane, Signal::STOP);
    let output = lab.ask(&["status"]);
    kill(dataplane, Signal::CONT);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).contains("does not answer"), "{output:?}");
    assert!(running.terminate().success());
}
