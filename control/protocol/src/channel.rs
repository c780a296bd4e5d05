//! Messages and file descriptors over one Unix stream socket.
//!
//! A message is its length in four bytes and its body. Linux passes at most 253 descriptors in one
//! call, so those that do not fit come ahead of the message, each batch with a length of zero.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;

use crate::version::{HEARTBEATS, MANY_DESCRIPTORS, Versions};
use crate::{Message, Request, Response};

/// Largest message, in bytes: a configuration of 10^5 addresses fits many times over.
pub const MAX_MESSAGE: usize = 256 << 20;
/// Most descriptors that are passed in one call (Linux SCM_MAX_FD is 253), and most that come with
/// a message of protocol version 1.
pub const DESCRIPTORS_AT_ONCE: usize = 250;
/// Most batches of descriptors that come with one message: room for a thousand TAPs of 64 queues.
const MAX_BATCHES: usize = 262;
/// Most descriptors that come with one message.
pub const MAX_DESCRIPTORS: usize = MAX_BATCHES * DESCRIPTORS_AT_ONCE;
/// How long a message may take from its first byte to its last. A peer that stops in the middle
/// would else have us keep its descriptors.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a message's length takes.
const LENGTH: usize = 4;
/// How much of a message is read at once, so that its memory grows with what has come.
const PIECE: usize = 256 << 10;

/// Why talking to the other process failed.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The message is not one of ours.
    #[error("a message could not be understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The message is too long.
    #[error("a message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong(usize),
    /// More descriptors than a message may come with.
    #[error("a message with more than {0} descriptors")]
    TooManyDescriptors(usize),
    /// The two sides have no version in common.
    #[error(
        "the other side speaks protocol {theirs}, this one {ours}, and none is common to both; \
         run one tapgate version everywhere, and start anew what runs from before an upgrade"
    )]
    Version {
        /// What the other side speaks.
        theirs: Versions,
        /// What we speak.
        ours: Versions,
    },
    /// The answer does not fit the question.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// One connection between two tapgate processes.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    ours: Versions,
    /// The version agreed on; until then the oldest.
    version: u32,
}

/// What the other side says of itself in its `Hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Its process id.
    pub pid: u32,
    /// The generation it runs; 0 before the first.
    pub generation: u64,
}

impl Channel {
    /// A channel over a connection.
    pub fn new(stream: UnixStream) -> Self {
        Self::speaking(Versions::OURS, stream)
    }

    /// A channel that speaks no other versions than `ours`.
    pub fn speaking(ours: Versions, stream: UnixStream) -> Self {
        Self {
            stream,
            ours,
            version: ours.oldest,
        }
    }

    /// Greets the process that answers, and agrees with it on a version.
    ///
    /// # Errors
    /// It does not answer as one of ours, or there is no version in common.
    pub fn greet(&mut self) -> Result<Greeting, ChannelError> {
        let hello = Request::Hello {
            version: self.ours.oldest,
            speaks: Some(self.ours),
        };
        match self.ask(&hello)? {
            Response::Hello {
                version,
                speaks,
                pid,
                generation,
            } => {
                self.agree(Versions::said(version, speaks))?;
                Ok(Greeting { pid, generation })
            }
            other => Err(ChannelError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Answers the greeting of a process that speaks `theirs`, and agrees with it on a version.
    ///
    /// # Errors
    /// There is no version in common. The other side has been told and the connection is of no
    /// further use.
    pub fn welcome(&mut self, theirs: Versions, ours: Greeting) -> Result<(), ChannelError> {
        let agreed = self.agree(theirs);
        let hello = Response::Hello {
            version: agreed.as_ref().copied().unwrap_or(self.ours.newest),
            speaks: Some(self.ours),
            pid: ours.pid,
            generation: ours.generation,
        };
        self.send(&hello, &[])?;
        agreed.map(|_| ())
    }

    fn agree(&mut self, theirs: Versions) -> Result<u32, ChannelError> {
        let ours = self.ours;
        self.version = ours
            .common(theirs)
            .ok_or(ChannelError::Version { theirs, ours })?;
        Ok(self.version)
    }

    /// The socket, for timeouts and polling.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Most descriptors that a message may come with, in the version agreed on.
    pub fn most_descriptors(&self) -> usize {
        if self.version >= MANY_DESCRIPTORS {
            MAX_DESCRIPTORS
        } else {
            DESCRIPTORS_AT_ONCE
        }
    }

    /// Whether the other side answers [`Request::Beat`] and [`Request::Health`], in the version
    /// agreed on.
    pub fn has_heartbeats(&self) -> bool {
        self.version >= HEARTBEATS
    }

    /// Whether the version agreed on is this one or a later; [`Versions`] says what each brings.
    pub fn speaks(&self, version: u32) -> bool {
        self.version >= version
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection failed, or the answer is none of ours.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ChannelError> {
        self.send(request, &[])?;
        Ok(self.receive()?.0)
    }

    /// Sends one message and `descriptors` with it.
    ///
    /// # Errors
    /// The connection failed, or they are too many ([`most_descriptors`](Self::most_descriptors)).
    pub fn send<M: Serialize>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        // Its length comes first, and is known last.
        let mut writer = BytesMut::zeroed(LENGTH).writer();
        serde_json::to_writer(&mut writer, message)?;
        let mut bytes = writer.into_inner();
        let length = bytes.len() - LENGTH;
        if length > MAX_MESSAGE {
            return Err(ChannelError::TooLong(length));
        }
        bytes[..LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
        if descriptors.len() > self.most_descriptors() {
            return Err(ChannelError::TooManyDescriptors(self.most_descriptors()));
        }
        let mut batches = descriptors.chunks(DESCRIPTORS_AT_ONCE);
        let last = batches.next_back().unwrap_or_default();
        for batch in batches {
            self.write(BytesMut::zeroed(LENGTH), batch)?;
        }
        self.write(bytes, last)
    }

    /// Writes `bytes`, and `descriptors` with the first of them.
    fn write(
        &mut self,
        mut bytes: BytesMut,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(ChannelError::TooManyDescriptors(DESCRIPTORS_AT_ONCE));
        }
        let sent = sendmsg(
            self.stream.as_fd(),
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map_err(io::Error::from)?;
        bytes.advance(sent);
        self.stream.write_all(&bytes)?;
        Ok(())
    }

    /// Waits for one message, and takes the descriptors that came with it. They are fewer than were
    /// sent, the last ones missing, if this process may not open more.
    ///
    /// # Errors
    /// The connection failed, or what came is none of our messages.
    pub fn receive<M: Message>(&mut self) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        let mut received = Received::default();
        let message = self.receive_into(&mut received)?;
        Ok((message, received.descriptors))
    }

    fn receive_into<M: Message>(&mut self, received: &mut Received) -> Result<M, ChannelError> {
        for _ in 0..MAX_BATCHES {
            match self.receive_length(received)? {
                0 if self.version >= MANY_DESCRIPTORS => {}
                length if length > MAX_MESSAGE => return Err(ChannelError::TooLong(length)),
                length => {
                    let body = self.receive_body(length, received.deadline())?;
                    return Ok(M::read(&body)?);
                }
            }
        }
        Err(ChannelError::TooManyDescriptors(MAX_DESCRIPTORS))
    }

    /// The four bytes at the beginning of a message or a batch, and the descriptors with them.
    fn receive_length(&mut self, received: &mut Received) -> Result<usize, ChannelError> {
        let mut head = [0; LENGTH];
        if let Some(deadline) = received.deadline {
            self.wait(deadline)?;
        }
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(
            self.stream.as_fd(),
            &mut [IoSliceMut::new(&mut head)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        for ancillary in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
                received.take(rights);
            }
        }
        received.truncated |= message.flags.contains(ReturnFlags::CTRUNC);
        if message.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        let deadline = received.deadline();
        let mut got = message.bytes;
        while got < head.len() {
            got += self.read(&mut head[got..], deadline)?;
        }
        Ok(u32::from_be_bytes(head) as usize)
    }

    fn receive_body(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, ChannelError> {
        let mut body = Vec::new();
        while body.len() < length {
            let got = body.len();
            body.resize(length.min(got + PIECE), 0);
            let more = self.read(&mut body[got..], deadline)?;
            body.truncate(got + more);
        }
        Ok(body)
    }

    /// Reads at least one byte. Descriptors that come with it are closed by the kernel.
    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> Result<usize, ChannelError> {
        self.wait(deadline)?;
        match self.stream.read(bytes)? {
            0 => Err(ChannelError::Closed),
            got => Ok(got),
        }
    }

    /// Waits until there is something to read.
    fn wait(&self, deadline: Instant) -> Result<(), ChannelError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// What has come of a message.
#[derive(Debug, Default)]
struct Received {
    descriptors: Vec<OwnedFd>,
    /// The kernel could not give us all.
    truncated: bool,
    /// When the whole must have come, from its first byte on.
    deadline: Option<Instant>,
}

impl Received {
    fn deadline(&mut self) -> Instant {
        *self
            .deadline
            .get_or_insert_with(|| Instant::now() + MESSAGE_PATIENCE)
    }

    /// Keeps `more`, unless some before them are missing: a descriptor is known only by its place.
    fn take(&mut self, more: impl Iterator<Item = OwnedFd>) {
        if self.truncated {
            more.for_each(drop);
        } else {
            self.descriptors.extend(more);
        }
    }
}

#[cfg(test)]
mod tests;
