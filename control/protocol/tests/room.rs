//! A process that may not open as many descriptors as it is sent. In a process of its own, because
//! its limit is.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tapgate_protocol::{Channel, Greeting, Request, Response, Versions};

const SENT: usize = 600;
const ROOM: u64 = 320;

fn allow(descriptors: u64) {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(descriptors);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

fn numbered(number: usize) -> OwnedFd {
    let descriptor = eventfd(0, EventfdFlags::empty()).unwrap();
    write(&descriptor, &(number as u64 + 1).to_ne_bytes()).unwrap();
    descriptor
}

fn number_in(descriptor: OwnedFd) -> usize {
    let mut bytes = [0; 8];
    File::from(descriptor).read_exact(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes) as usize - 1
}

#[test]
fn the_first_ones_come_in_order_and_the_message_is_whole() {
    allow(2 * SENT as u64);
    let (a, b) = UnixStream::pair().unwrap();
    let (mut a, mut b) = (Channel::new(a), Channel::new(b));
    let greeted = std::thread::spawn(move || {
        a.greet().unwrap();
        a
    });
    let Request::Hello { version, speaks } = b.receive().unwrap().0 else {
        panic!("no hello");
    };
    let greeting = Greeting {
        pid: 1,
        generation: 0,
    };
    b.welcome(Versions::said(version, speaks), greeting)
        .unwrap();
    let mut a = greeted.join().unwrap();

    let sent: Vec<_> = (0..SENT).map(numbered).collect();
    let borrowed: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
    b.send(&Response::Ok, &borrowed).unwrap();
    b.send(&Response::Ok, &[]).unwrap();
    drop(borrowed);
    drop(sent);
    allow(ROOM);
    let (message, received) = a.receive::<Response>().unwrap();
    assert!(matches!(message, Response::Ok));
    assert!(
        (250..ROOM as usize).contains(&received.len()),
        "{}",
        received.len()
    );
    let numbers: Vec<_> = received.into_iter().map(number_in).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    // And the next message is not taken for a part of it.
    assert_eq!(a.receive::<Response>().unwrap().1.len(), 0);
}
