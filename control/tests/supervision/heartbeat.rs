//! A worker that stands still is noticed and its dataplane replaced; a machine that stops is not
//! held against it. Long work shows progress, and is waited for.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::{Lab, Running, kill};

/// The worker may stand still for 5 s, and is asked once a second; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(12);
/// Longer than it may.
const LONG: Duration = Duration::from_secs(7);

fn starts(lab: &Lab) -> usize {
    lab.deeds().iter().filter(|deed| *deed == "start").count()
}

/// A dataplane that stands still from now on is replaced by one that is given what was kept.
fn assert_replaced(lab: &Lab, running: &Running, first: u64, untell: Option<&str>) {
    let begun = Instant::now();
    running
        .wait_for_line("its worker has stood still for 5 s: it no longer answered and was killed");
    assert!(begun.elapsed() < NOTICED, "after {:?}", begun.elapsed());
    if let Some(what) = untell {
        lab.untell(what);
    }
    running.wait_for_line("runs again");
    assert_ne!(lab.dataplane_pid(), first);
    let adopted = format!("adopt sessions:0=made-by-{first} tap:guest-a:0=made-by-{first}");
    assert!(lab.deeds().contains(&adopted), "{:?}", lab.deeds());
    assert_eq!(lab.status("/lost"), Some(1));
    assert_eq!(lab.status("/stood_still"), Some(1));
    let status = lab.ask(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(said.contains("; 1 lost before it, 1 stood still"), "{said}");
}

#[test]
fn a_worker_that_stands_still_is_replaced() {
    let lab = Lab::new("stuck");
    let running = lab.run();
    let first = lab.dataplane_pid();
    // Everything else of it goes on answering.
    lab.tell("stuck");
    assert!(lab.ask(&["show", "ports"]).status.success());
    assert_replaced(&lab, &running, first, Some("stuck"));
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_dataplane_that_is_stopped_is_replaced() {
    let lab = Lab::new("stopped");
    let running = lab.run();
    let first = lab.dataplane_pid();
    kill(first, Signal::STOP);
    assert_replaced(&lab, &running, first, None);
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_stuck_dataplane_that_an_earlier_control_left_is_replaced() {
    let lab = Lab::new("leftstuck");
    let first = lab.run();
    let dataplane = lab.dataplane_pid();
    first.signal(Signal::KILL);
    first.end();
    lab.tell("stuck");
    lab.tell("silent");
    let second = lab.start();
    second.wait_for_line("its worker has stood still for 5 s");
    lab.untell("stuck");
    lab.untell("silent");
    second.wait_for_line("runs again");
    assert_ne!(lab.dataplane_pid(), dataplane);
    assert!(second.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_machine_that_stops_replaces_nothing() {
    let lab = Lab::new("asleep");
    let running = lab.run();
    let control = u64::from(running.child.id());
    let dataplane = lab.dataplane_pid();
    // As unfairly as can be: control is asking, and gets the processor back first.
    kill(dataplane, Signal::STOP);
    sleep(Duration::from_secs(2));
    kill(control, Signal::STOP);
    sleep(LONG);
    kill(control, Signal::CONT);
    sleep(Duration::from_secs(2));
    kill(dataplane, Signal::CONT);
    sleep(Duration::from_secs(2));
    assert_eq!(lab.dataplane_pid(), dataplane);
    assert_eq!(starts(&lab), 1);
    assert_eq!(lab.status("/lost"), Some(0));
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_dataplane_from_before_heartbeats_is_left_alone() {
    let lab = Lab::new("nobeat");
    lab.tell("older");
    lab.tell("stuck");
    let running = lab.run();
    sleep(LONG);
    assert_eq!(starts(&lab), 1);
    assert_eq!(lab.status("/lost"), Some(0));
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn long_work_shows_progress() {
    let lab = Lab::new("slow");
    lab.tell("slow");
    let socket = lab.path.join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let (told, news) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = systemd.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if told.send(text).is_err() {
                return;
            }
        }
    });
    let heard = |state: &str| {
        let patience = Duration::from_secs(20);
        while !news.recv_timeout(patience).expect(state).contains(state) {}
    };
    let running = lab.start_with(|command| {
        command.env("NOTIFY_SOCKET", &socket);
    });
    heard("EXTEND_TIMEOUT_USEC=45000000\nSTATUS=opening ports, ");
    let status = lab.ask(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(said.contains("ports      opening ports, "), "{said}");
    assert!(said.contains(" of 80"), "{said}");
    running.wait_for_line("opening ports, ");
    running.wait_for_line("ready: ");
    heard("READY=1");
    lab.untell("slow");
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}
