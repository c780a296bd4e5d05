//! Processes of different versions, as there are for a while during an upgrade.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::{Lab, kill};

/// Writes a message as bytes and reads the answer as text.
fn ask(stream: &mut UnixStream, message: &str) -> serde_json::Value {
    stream
        .write_all(&(message.len() as u32).to_be_bytes())
        .unwrap();
    stream.write_all(message.as_bytes()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn a_command_line_from_before_ranges_is_understood() {
    let lab = Lab::new("oldcli");
    let running = lab.run();
    let mut stream = UnixStream::connect(lab.runtime_dir().join("control.sock")).unwrap();
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).unwrap();
    let hello = ask(&mut stream, r#"{"request":"hello","version":1}"#);
    assert_eq!(
        (&hello["response"], &hello["version"]),
        (&"hello".into(), &1.into())
    );
    assert_eq!(hello["pid"], running.child.id());
    assert_eq!(hello["generation"], 1);
    let applied = ask(
        &mut stream,
        r#"{"request":"apply","config":{"ports":{"uplink":{"device":"eth7"}}}}"#,
    );
    assert_eq!(applied["generation"], 2, "{applied}");
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_dataplane_from_before_ranges_is_taken_over_and_replaced_by_a_new_one() {
    let lab = Lab::new("olddp");
    lab.tell("older");
    let first = lab.run();
    first.signal(Signal::KILL);
    first.end();
    let old = lab.dataplane_pid();
    let second = lab.run();
    assert!(
        second
            .stderr()
            .contains(&format!("taking over the running dataplane pid={old}"))
    );

    // The next one is of our version.
    lab.untell("older");
    kill(old, Signal::KILL);
    second.wait_for_line("runs again");
    let deeds = lab.deeds();
    let adopted = format!("adopt sessions:0=made-by-{old} tap:guest-a:0=made-by-{old}");
    assert!(deeds.contains(&adopted), "{deeds:?}");
    assert!(second.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn without_a_common_version_both_are_named_and_nothing_is_changed() {
    let lab = Lab::new("newer");
    lab.tell("newer");
    let running = lab.start();
    running.wait_for_line(
        "the other side speaks protocol versions 6 to 7, this one versions 1 to 5, and none is \
         common to both; run one tapgate version everywhere",
    );
    assert_eq!(running.end().code(), Some(1));
    lab.assert_nothing_left();

    // The same while one runs.
    lab.untell("newer");
    let running = lab.run();
    lab.tell("newer");
    let output = lab.ask(&["show", "ports"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("versions 6 to 7, this one versions 1 to 5"),
        "{said}"
    );
    lab.untell("newer");
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}
