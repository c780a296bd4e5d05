use super::*;

use std::os::fd::AsRawFd;
use std::thread;

/// A hello as sent before there were ranges, and the answer to it.
const OLD_REQUEST: &str = r#"{"request":"hello","version":1}"#;
const OLD_RESPONSE: &str = r#"{"response":"hello","version":1,"pid":7,"generation":3}"#;
const GREETING: Greeting = Greeting {
    pid: 7,
    generation: 3,
};

fn pair(ours: Versions) -> (Channel, Channel) {
    let (a, b) = UnixStream::pair().unwrap();
    (Channel::speaking(ours, a), Channel::new(b))
}

fn versions(oldest: u32, newest: u32) -> Versions {
    Versions { oldest, newest }
}

/// A message as bytes.
fn raw(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

/// The next message, as it is written.
fn heard(stream: &mut UnixStream) -> String {
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// What the two ends of a connection make of each other's greeting.
fn meet(
    asking: Versions,
    answering: Versions,
) -> (
    Result<Greeting, ChannelError>,
    Result<(), ChannelError>,
    [u32; 2],
) {
    let (a, b) = UnixStream::pair().unwrap();
    let (mut a, mut b) = (
        Channel::speaking(asking, a),
        Channel::speaking(answering, b),
    );
    let (greeted, welcomed) = thread::scope(|scope| {
        let greeted = scope.spawn(|| a.greet());
        let Request::Hello { version, speaks } = b.receive().unwrap().0 else {
            panic!("no hello");
        };
        let welcomed = b.welcome(Versions::said(version, speaks), GREETING);
        (greeted.join().unwrap(), welcomed)
    });
    (greeted, welcomed, [a.version, b.version])
}

#[test]
fn messages_and_descriptors_cross_together() {
    let (mut a, mut b) = pair(Versions::OURS);
    let (read, write) = io::pipe().unwrap();
    a.send(&Request::Stop, &[write.as_fd()]).unwrap();
    drop(write);
    let (message, mut descriptors) = b.receive::<Request>().unwrap();
    assert!(matches!(message, Request::Stop));
    assert_eq!(descriptors.len(), 1);
    assert_ne!(descriptors[0].as_raw_fd(), read.as_raw_fd());
    let mut pipe = io::PipeWriter::from(descriptors.remove(0));
    pipe.write_all(b"x").unwrap();
    drop(pipe);
    assert_eq!(io::read_to_string(read).unwrap(), "x");
}

#[test]
fn a_closed_or_lying_peer_is_an_error() {
    let (a, b) = UnixStream::pair().unwrap();
    drop(a);
    assert!(matches!(
        Channel::new(b).receive::<Request>(),
        Err(ChannelError::Closed)
    ));

    let (mut a, b) = UnixStream::pair().unwrap();
    a.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert!(matches!(
        Channel::new(b).receive::<Request>(),
        Err(ChannelError::TooLong(_))
    ));

    let (mut a, b) = UnixStream::pair().unwrap();
    a.write_all(&[0, 0, 0, 9, b'{']).unwrap();
    drop(a);
    assert!(matches!(
        Channel::new(b).receive::<Request>(),
        Err(ChannelError::Closed)
    ));
}

#[test]
fn a_message_in_many_pieces_is_one() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let message = Response::Failed {
        message: "x".repeat(3 * PIECE),
    };
    let bytes = raw(&serde_json::to_string(&message).unwrap());
    let writing = thread::spawn(move || {
        for piece in bytes.chunks(1 + PIECE / 3) {
            a.write_all(piece).unwrap();
        }
        // Byte by byte, its length included.
        for byte in raw(OLD_REQUEST) {
            a.write_all(&[byte]).unwrap();
        }
        a
    });
    let mut b = Channel::new(b);
    let (received, _) = b.receive::<Response>().unwrap();
    assert!(matches!(received, Response::Failed { message } if message.len() == 3 * PIECE));
    assert!(matches!(
        b.receive::<Request>(),
        Ok((Request::Hello { version: 1, .. }, _))
    ));
    writing.join().unwrap();
}

#[test]
fn the_newest_common_version_is_used() {
    for (asking, answering, used) in [
        (versions(1, 2), versions(1, 2), 2),
        (versions(1, 1), versions(1, 2), 1),
        (versions(2, 9), versions(1, 2), 2),
    ] {
        let (greeted, welcomed, agreed) = meet(asking, answering);
        assert_eq!(greeted.unwrap(), GREETING);
        welcomed.unwrap();
        assert_eq!(agreed, [used; 2]);
    }
}

#[test]
fn without_a_common_version_both_sides_name_both_ranges() {
    let (greeted, welcomed, _) = meet(versions(4, 6), versions(1, 2));
    assert_eq!(
        greeted.unwrap_err().to_string(),
        "the other side speaks protocol versions 1 to 2, this one versions 4 to 6, and none is \
         common to both; run one tapgate version everywhere, and start anew what runs from before \
         an upgrade"
    );
    let welcomed = welcomed.unwrap_err().to_string();
    assert!(
        welcomed.starts_with(
            "the other side speaks protocol versions 4 to 6, this one versions 1 to 2"
        ),
        "{welcomed}"
    );
    let (greeted, _, _) = meet(versions(1, 1), versions(3, 3));
    let greeted = greeted.unwrap_err().to_string();
    assert!(
        greeted.contains("protocol version 3, this one version 1"),
        "{greeted}"
    );
}

#[test]
fn a_hello_from_before_ranges_is_answered_so_that_it_understands() {
    let (mut old, new) = UnixStream::pair().unwrap();
    let mut new = Channel::new(new);
    old.write_all(&raw(OLD_REQUEST)).unwrap();
    let Request::Hello { version, speaks } = new.receive().unwrap().0 else {
        panic!("no hello");
    };
    new.welcome(Versions::said(version, speaks), GREETING)
        .unwrap();
    // It took a version equal to its own for granted, and passed over what it did not know.
    let heard: serde_json::Value = serde_json::from_str(&heard(&mut old)).unwrap();
    assert_eq!(heard["response"], "hello");
    assert_eq!(heard["version"], 1);
    assert_eq!(
        (&heard["pid"], &heard["generation"]),
        (&7.into(), &3.into())
    );
    assert_eq!(new.most_descriptors(), DESCRIPTORS_AT_ONCE);
}

#[test]
fn a_process_from_before_ranges_is_greeted_so_that_it_understands() {
    let (mut old, new) = UnixStream::pair().unwrap();
    old.write_all(&raw(OLD_RESPONSE)).unwrap();
    let mut new = Channel::new(new);
    assert_eq!(new.greet().unwrap(), GREETING);
    let heard: serde_json::Value = serde_json::from_str(&heard(&mut old)).unwrap();
    assert_eq!(
        (&heard["request"], &heard["version"]),
        (&"hello".into(), &1.into())
    );
    assert_eq!(new.most_descriptors(), DESCRIPTORS_AT_ONCE);
}

mod descriptors {
    use super::*;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{read, write};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// As many as the kernel gives in three calls.
    const MANY: usize = 2 * DESCRIPTORS_AT_ONCE + 37;

    /// Two ends that agreed on `version`, in a process with room for what these tests open.
    fn agreed(version: u32) -> (Channel, Channel) {
        let limit = getrlimit(Resource::Nofile);
        let current = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let (mut a, mut b) = pair(Versions::OURS);
        (a.version, b.version) = (version, version);
        (a, b)
    }

    /// A descriptor with a number in it.
    fn numbered(number: usize) -> OwnedFd {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        write(&descriptor, &(number as u64 + 1).to_ne_bytes()).unwrap();
        descriptor
    }

    fn number_in(descriptor: &OwnedFd) -> usize {
        let mut bytes = [0; 8];
        read(descriptor, &mut bytes).unwrap();
        u64::from_ne_bytes(bytes) as usize - 1
    }

    fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
        descriptors.iter().map(AsFd::as_fd).collect()
    }

    /// Whether every copy of a pipe's writing end is closed.
    fn is_closed(end: &mut io::PipeReader) -> bool {
        rustix::io::ioctl_fionbio(&*end, true).unwrap();
        matches!(end.read(&mut [0]), Ok(0))
    }

    #[test]
    fn more_than_fit_one_call_come_in_order() {
        let (mut a, mut b) = agreed(2);
        for many in [0, 1, DESCRIPTORS_AT_ONCE, DESCRIPTORS_AT_ONCE + 1, MANY] {
            let sent: Vec<_> = (0..many).map(numbered).collect();
            a.send(&Request::Stop, &borrowed(&sent)).unwrap();
            a.send(&Request::Stop, &[]).unwrap();
            let (_, received) = b.receive::<Request>().unwrap();
            let numbers: Vec<_> = received.iter().map(number_in).collect();
            assert_eq!(numbers, (0..many).collect::<Vec<_>>());
            assert_eq!(b.receive::<Request>().unwrap().1.len(), 0);
        }
    }

    #[test]
    fn an_older_peer_is_sent_no_more_than_it_takes() {
        let (mut a, mut b) = agreed(1);
        let many: Vec<_> = (0..MANY).map(numbered).collect();
        assert!(matches!(
            a.send(&Request::Stop, &borrowed(&many)),
            Err(ChannelError::TooManyDescriptors(DESCRIPTORS_AT_ONCE))
        ));
        let most = a.most_descriptors();
        a.send(&Request::Stop, &borrowed(&many[..most])).unwrap();
        assert_eq!(b.receive::<Request>().unwrap().1.len(), most);
        // Nor does one take batches from an older peer.
        a.write(BytesMut::zeroed(4), &[]).unwrap();
        assert!(matches!(
            b.receive::<Request>(),
            Err(ChannelError::Malformed(_))
        ));
    }

    #[test]
    fn a_peer_that_sends_no_end_of_them_is_refused_and_they_are_closed() {
        let (mut a, mut b) = agreed(2);
        let (mut end, write) = io::pipe().unwrap();
        let flood = thread::spawn(move || {
            let batch = [write.as_fd(); 2];
            while a.write(BytesMut::zeroed(4), &batch).is_ok() {}
        });
        assert!(matches!(
            b.receive::<Request>(),
            Err(ChannelError::TooManyDescriptors(MAX_DESCRIPTORS))
        ));
        drop(b);
        flood.join().unwrap();
        assert!(is_closed(&mut end));
    }

    #[test]
    fn a_peer_that_stops_in_the_middle_is_not_waited_for() {
        let (mut a, mut b) = agreed(2);
        let mut received = Received::default();
        a.write(BytesMut::zeroed(4), &[]).unwrap();
        assert_eq!(b.receive_length(&mut received).unwrap(), 0);
        assert!(received.deadline.is_some());

        for part in [&[0; 4][..], &[0, 0], &[0, 0, 0, 9, b'{']] {
            let (mut a, mut b) = agreed(2);
            let (mut end, write) = io::pipe().unwrap();
            a.write(part.into(), &[write.as_fd(); 3]).unwrap();
            drop(write);
            let mut received = Received {
                deadline: Some(Instant::now() + Duration::from_millis(50)),
                ..Received::default()
            };
            let error = b.receive_into::<Request>(&mut received).unwrap_err();
            assert!(
                matches!(&error, ChannelError::Io(error) if error.kind() == io::ErrorKind::TimedOut),
                "{part:?}: {error}"
            );
            assert_eq!(received.descriptors.len(), 3);
            drop(received);
            assert!(is_closed(&mut end));
        }
    }

    #[test]
    fn those_in_the_middle_of_a_message_are_closed() {
        let (mut a, mut b) = agreed(2);
        let (mut end, write) = io::pipe().unwrap();
        let message = raw(OLD_REQUEST);
        let (first, rest) = message.split_at(9);
        a.write(first.into(), &[]).unwrap();
        a.write(rest.into(), &[write.as_fd(); 4]).unwrap();
        drop(write);
        assert_eq!(b.receive::<Request>().unwrap().1.len(), 0);
        assert!(is_closed(&mut end));
    }

    #[test]
    fn when_one_cannot_be_opened_those_after_it_are_missing_too() {
        let mut received = Received::default();
        received.take((0..3).map(numbered));
        received.truncated = true;
        received.take((3..6).map(numbered));
        let numbers: Vec<_> = received.descriptors.iter().map(number_in).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }
}
