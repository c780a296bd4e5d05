//! Peers that do not keep to the protocol cannot hang or end control.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tapgate_protocol::{Channel, Configuration, Request, Response, Show};

use crate::lab::{Lab, wait_until};

fn connect(lab: &Lab) -> UnixStream {
    let stream = UnixStream::connect(lab.runtime_dir().join("control.sock")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// control answers, soon.
fn assert_alive(lab: &Lab) {
    let asked = Instant::now();
    let output = lab.ask(&["apply", "tapgate.toml"]);
    assert!(output.status.success(), "{output:?}");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn garbage_and_half_messages() {
    let lab = Lab::new("garbage");
    let running = lab.run();

    let mut garbage = connect(&lab);
    garbage
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert_alive(&lab);

    let mut half = connect(&lab);
    half.write_all(&[0, 0, 1]).unwrap();
    let mut promised = connect(&lab);
    promised.write_all(&[0, 0, 1, 0, b'{']).unwrap();
    let mut huge = connect(&lab);
    huge.write_all(&[0xff; 8]).unwrap();
    let mut answer = String::new();
    let _ = huge.read_to_string(&mut answer);
    assert!(answer.contains("over the limit"), "{answer:?}");
    assert_alive(&lab);

    let mut nonsense = connect(&lab);
    nonsense.write_all(b"\0\0\0\x05hello").unwrap();
    let mut answer = String::new();
    nonsense.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("could not be understood"), "{answer:?}");
    let mut deep = connect(&lab);
    let brackets = vec![b'['; 1 << 20];
    deep.write_all(&(brackets.len() as u32).to_be_bytes())
        .unwrap();
    deep.write_all(&brackets).unwrap();
    assert_alive(&lab);

    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn orders_without_a_greeting_or_for_somebody_else() {
    let lab = Lab::new("rude");
    let running = lab.run();
    let mut channel = Channel::new(connect(&lab));
    let answer = channel.ask(&Request::Stop).unwrap();
    assert!(matches!(answer, Response::Failed { .. }), "{answer:?}");

    let mut channel = Channel::new(connect(&lab));
    channel.greet().unwrap();
    let show = Request::Show {
        what: Show::Ports,
        cursor: 0,
    };
    let answer = channel.ask(&show).unwrap();
    assert!(matches!(answer, Response::Failed { .. }), "{answer:?}");
    assert_alive(&lab);
    assert!(running.terminate().success());
}

#[test]
fn many_idle_connections_and_many_that_vanish() {
    // Ten times what may wait, and well within this process's own descriptors.
    const MANY: usize = 320;
    let lab = Lab::new("idle");
    let running = lab.run();
    let mut idle = Vec::new();
    for _ in 0..MANY {
        idle.push(connect(&lab));
    }
    assert_alive(&lab);
    for _ in 0..MANY {
        let mut stream = connect(&lab);
        let _ = stream.write_all(&[0, 0, 0, 200]);
    }
    assert_alive(&lab);
    let threads = std::fs::read_dir(format!("/proc/{}/task", running.child.id()))
        .unwrap()
        .count();
    assert!(threads < 60, "{threads} threads");
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn no_end_of_descriptors() {
    let lab = Lab::new("flood");
    let running = lab.run();
    let opened = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", running.child.id()));
        open.unwrap().count()
    };
    let before = opened();
    let stream = connect(&lab);
    let mut channel = Channel::new(stream.try_clone().unwrap());
    channel.greet().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let batch = [file.as_fd()];
    let mut sent = 0;
    // A batch of a message that never comes is four bytes of zero with descriptors. One in each:
    // the kernel counts those under way for all tests together.
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&batch)));
        let bytes = [IoSlice::new(&[0; 4])];
        sendmsg(&stream, &bytes, &mut ancillary, SendFlags::NOSIGNAL)
    };
    while send().is_ok() {
        sent += 1;
        assert!(sent < 10_000, "control takes all there is");
    }
    assert_alive(&lab);
    wait_until("them to be closed", || opened() <= before);
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_peer_that_leaves_before_the_answer() {
    let lab = Lab::new("leaver");
    let running = lab.run();
    let config: tapgate_engine::config::Config = serde_json::from_value(serde_json::json!({
        "ports": { "uplink": { "device": "eth7" } }
    }))
    .unwrap();
    let mut channel = Channel::new(connect(&lab));
    channel.greet().unwrap();
    let apply = Request::Apply(Configuration {
        config: Arc::new(config),
        text: None,
    });
    channel.send(&apply, &[]).unwrap();
    drop(channel);
    lab.wait_for_deed("configure 2 uplink", 1);
    assert_alive(&lab);
    assert!(running.terminate().success());
}
