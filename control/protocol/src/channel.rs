//! Messages and file descriptors over one Unix stream socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::{Buf, BufMut, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Request, Response, VERSION};

/// Largest message, in bytes: a configuration of 10^5 addresses fits many times over.
pub const MAX_MESSAGE: usize = 256 << 20;
/// Most descriptors one message can carry (Linux SCM_MAX_FD is 253).
pub const MAX_DESCRIPTORS: usize = 250;

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
    /// The other side speaks another version.
    #[error(
        "the other side speaks protocol version {theirs}, this is {VERSION}; run one tapgate version everywhere"
    )]
    Version {
        /// What the other side speaks.
        theirs: u32,
    },
    /// The answer does not fit the question.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// One connection between two tapgate processes.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// A channel over an accepted connection.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Connects to the socket at `path` and greets. Returns the other side's answer.
    pub fn connect(path: &Path) -> Result<(Self, Response), ChannelError> {
        let mut channel = Self::new(UnixStream::connect(path)?);
        match channel.ask(&Request::Hello { version: VERSION })? {
            Response::Hello { version, .. } if version != VERSION => {
                Err(ChannelError::Version { theirs: version })
            }
            hello @ Response::Hello { .. } => Ok((channel, hello)),
            other => Err(ChannelError::Unexpected(format!("{other:?}"))),
        }
    }

    /// The socket, for timeouts and polling.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ChannelError> {
        self.send(request, &[])?;
        Ok(self.receive()?.0)
    }

    /// Sends one message, and `descriptors` with its first byte.
    pub fn send<M: Serialize>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let body = serde_json::to_vec(message)?;
        if body.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLong(body.len()));
        }
        let mut bytes = BytesMut::with_capacity(4 + body.len());
        bytes.put_u32(body.len() as u32);
        bytes.put_slice(&body);

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(ChannelError::Unexpected(format!(
                "{} descriptors do not fit one message",
                descriptors.len()
            )));
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

    /// Waits for one message, and takes the descriptors that came with it.
    pub fn receive<M: DeserializeOwned>(&mut self) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        let mut head = [0; 4];
        let mut descriptors = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            self.stream.as_fd(),
            &mut [IoSliceMut::new(&mut head)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        self.stream.read_exact(&mut head[received.bytes..])?;
        let length = u32::from_be_bytes(head) as usize;
        if length > MAX_MESSAGE {
            return Err(ChannelError::TooLong(length));
        }
        let mut body = Vec::new();
        (&self.stream).take(length as u64).read_to_end(&mut body)?;
        if body.len() < length {
            return Err(ChannelError::Closed);
        }
        Ok((serde_json::from_slice(&body)?, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn messages_and_descriptors_cross_together() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut a, mut b) = (Channel::new(a), Channel::new(b));
        let (read, write) = io::pipe().unwrap();
        a.send(&Request::Hello { version: 7 }, &[write.as_fd()])
            .unwrap();
        drop(write);
        let (message, mut descriptors) = b.receive::<Request>().unwrap();
        assert!(matches!(message, Request::Hello { version: 7 }));
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
}
