//! What comes through a socket between two processes.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tapgate_engine::snapshot::Snapshot;
use tapgate_protocol::{
    Channel, ChannelError, Configuration, Configure, DESCRIPTORS_AT_ONCE, Message, Request,
    Response, Versions,
};

use crate::play::Bytes;

/// Most that is written into a socket whose other end is not read yet.
const MOST: usize = 64 << 10;
/// Most descriptors of an input: they are open all at once.
const MOST_DESCRIPTORS: usize = 600;

/// Flags of the first byte: what comes are answers, not requests.
pub const ANSWERS: u8 = 1;
/// See [`ANSWERS`]: the version is agreed on that lets a message come with many descriptors.
pub const MANY: u8 = 2;

/// Writes pieces into a socket: each is two bytes, how long it is (12 bits; the highest: it gets the
/// length before it that makes it a message) and how many descriptors it comes with, then its bytes.
/// All that is received is understood or refused. No descriptor stays open.
pub fn run(input: &[u8]) {
    let mut input = Bytes(input);
    let flags = input.byte();
    let before = lowest_free();
    {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut channel = match flags & MANY {
            0 => Channel::new(ours),
            _ => Channel::speaking(
                Versions {
                    oldest: Versions::OURS.newest,
                    ..Versions::OURS
                },
                ours,
            ),
        };
        let sent = send(&theirs, &mut input);
        theirs.shutdown(Shutdown::Write).expect("a socket");
        match flags & ANSWERS {
            0 => receive::<Request>(&mut channel, sent, |request| {
                if let Request::Configure(Configure { config })
                | Request::Apply(Configuration { config, .. }) = request
                {
                    Snapshot::build(&config, None);
                }
            }),
            _ => receive::<Response>(&mut channel, sent, drop),
        }
    }
    assert_eq!(lowest_free(), before, "a descriptor stayed open");
}

/// Writes the pieces; returns how many descriptors came with them.
fn send(socket: &UnixStream, input: &mut Bytes<'_>) -> usize {
    let (mut written, mut descriptors) = (0, 0);
    while !input.0.is_empty() {
        let head = u16::from_le_bytes([input.byte(), input.byte()]);
        let body = input.take(usize::from(head & 0x7ff));
        let mut piece = Vec::new();
        if head & 0x8000 != 0 {
            piece.extend((body.len() as u32).to_be_bytes());
        }
        piece.extend(body);
        written += piece.len();
        if piece.is_empty() || written > MOST {
            break;
        }
        // From none to all that Linux passes at once.
        let count = [0, 1, 2, 3, 7, 63, 249, DESCRIPTORS_AT_ONCE][usize::from(head >> 11 & 7)];
        let count = count.min(MOST_DESCRIPTORS - descriptors);
        descriptors += count;
        write(socket, &piece, &vec![socket.as_fd(); count]);
    }
    descriptors
}

fn write(mut socket: &UnixStream, piece: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let pieces = [IoSlice::new(piece)];
    let sent = sendmsg(socket, &pieces, &mut ancillary, SendFlags::NOSIGNAL).expect("room");
    socket.write_all(&piece[sent..]).expect("room");
}

/// Receives messages to the end, or to the first that is refused.
fn receive<M: Message>(channel: &mut Channel, sent: usize, mut use_it: impl FnMut(M)) {
    let mut received = 0;
    loop {
        match channel.receive::<M>() {
            Ok((message, descriptors)) => {
                received += descriptors.len();
                assert!(descriptors.len() <= channel.most_descriptors());
                assert!(received <= sent, "{received} descriptors of {sent}");
                again(&message);
                use_it(message);
            }
            Err(ChannelError::Io(error)) => panic!("{error}"),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

/// What was understood is understood alike when we say it.
fn again<M: Message>(message: &M) {
    let said = serde_json::to_vec(message).expect("to memory");
    let heard: M = M::read(&said).expect("what we say is understood");
    let again = serde_json::to_vec(&heard).expect("to memory");
    assert_eq!(said, again, "{}", String::from_utf8_lossy(&said));
}

/// The lowest descriptor that is free: it stays the same when none is left open.
fn lowest_free() -> i32 {
    let stdin = std::io::stdin();
    let copy = rustix::io::dup(stdin.as_fd()).expect("a descriptor");
    copy.as_raw_fd()
}
