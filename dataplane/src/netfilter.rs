//! nf_tables over netlink: one table that the kernel removes by itself, changed all at once.
//!
//! The table has an owner (NFT_TABLE_F_OWNER, Linux 5.12): the netlink socket that made it. Nobody
//! else can change or flush it, and it goes when the last descriptor of the socket is closed,
//! however the process ended; or it stays then, if it was made so (NFT_TABLE_F_PERSIST, Linux 6.9).

mod batch;
mod message;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload, NlasIterator};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, recv, sendto,
    socket_with, sockopt,
};
use rustix::system::uname;

pub use batch::{Batch, Header, Match, Verdict};
use batch::{OWNED, STAYS};
use message::{CHAIN_NAME, CHAIN_TABLE, GENERIC_HEADER, Message, TABLE_FLAGS, TABLE_NAME};

/// What our tables' names begin with.
const PREFIX: &str = "tapgate-";
/// The priority of our first chain among those of others on the same device: before them.
pub const FIRST: i32 = -1_000_000;
/// Room for answers: the kernel quotes a message it refuses, and a message is at most 64 KiB.
const ANSWER: usize = 128 << 10;
/// Room in the socket for the answers if every message is refused.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes by which the kernel's bookkeeping makes a message larger.
const OVERHEAD: usize = 4096;

/// The running kernel's version: major and minor.
pub fn kernel() -> Option<(u32, u32)> {
    let name = uname();
    let mut numbers = name.release().to_str().ok()?.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The socket that owns a table.
#[derive(Debug)]
pub struct Netfilter {
    socket: OwnedFd,
    table: String,
    stays: bool,
}

impl Netfilter {
    /// A socket of its own; there is no table before the first [`Self::commit`]. `stays`: it is there
    /// when the socket has gone.
    ///
    /// # Errors
    /// The kernel has no netfilter, no descriptor to be had.
    pub fn open(stays: bool) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
        let table = Self::name(&socket, stays)?;
        Ok(Self {
            socket,
            table,
            stays,
        })
    }

    /// The socket that an earlier process opened; its table is still there.
    ///
    /// # Errors
    /// It is no netlink socket.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let mut adopted = Self {
            table: Self::name(&socket, true)?,
            socket,
            stays: true,
        };
        let tables = adopted.tables()?;
        if !tables.iter().any(|(name, _)| *name == adopted.table) {
            adopted.table = Self::name(&adopted.socket, false)?;
            adopted.stays = false;
        }
        Ok(adopted)
    }

    /// The socket's address is nobody else's as long as it is open, and so is the name. What stayed of
    /// another may have had that address, so that it has another name: a table is of one kind for ever.
    fn name(socket: &OwnedFd, stays: bool) -> io::Result<String> {
        let address = SocketAddrNetlink::try_from(getsockname(socket)?)?;
        let kind = if stays { "-closed" } else { "" };
        Ok(format!("{PREFIX}{}{kind}", address.pid()))
    }

    /// Whether the table is there when the socket has gone.
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// Changes to the table, in family netdev.
    pub fn batch(&self) -> Batch {
        Batch::new(&self.table, OWNED | if self.stays { STAYS } else { 0 })
    }

    /// Deletes the table.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn remove(self) -> io::Result<()> {
        let mut batch = self.batch();
        batch.delete_table(&self.table);
        self.commit(batch)
    }

    /// Deletes the tables that stayed when their owners had gone.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn remove_left(&self) -> io::Result<()> {
        let left = |(name, flags): &(String, u32)| {
            name.starts_with(PREFIX) && flags & (OWNED | STAYS) == STAYS
        };
        let tables = self.tables()?;
        let left: Vec<_> = tables.into_iter().filter(left).collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut batch = self.batch();
        for (name, _) in left {
            batch.delete_table(&name);
        }
        self.commit(batch)
    }

    /// All tables of the family, and their flags.
    fn tables(&self) -> io::Result<Vec<(String, u32)>> {
        let mut tables = Vec::new();
        self.dump(Message::get_tables(), |message| {
            tables.extend(table(message));
        })?;
        Ok(tables)
    }

    /// The chains in the table.
    ///
    /// # Errors
    /// The kernel has no nf_tables, no CAP_NET_ADMIN.
    pub fn chains(&self) -> io::Result<Vec<String>> {
        let mut chains = Vec::new();
        self.dump(Message::get_chains(), |message| {
            chains.extend(self.own(message));
        })?;
        Ok(chains)
    }

    fn dump(&self, question: Message, mut each: impl FnMut(&Message)) -> io::Result<()> {
        self.send(&question.serialize(NLM_F_DUMP))?;
        loop {
            for answer in self.receive()? {
                match answer {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => each(&message),
                    _ => {}
                }
            }
        }
    }

    /// Has the kernel do all of `batch`, or nothing.
    ///
    /// # Errors
    /// The kernel refuses a part of it, is older than 5.12 (EINVAL), has no nf_tables
    /// (EOPNOTSUPP); no CAP_NET_ADMIN.
    pub fn commit(&self, batch: Batch) -> io::Result<()> {
        self.send(&batch.end())?;
        // When the call returns the kernel has done it or has not, and its answers can be read.
        let mut answered = false;
        loop {
            match self.receive() {
                Ok(answers) => {
                    for answer in answers {
                        if let NetlinkPayload::Error(answer) = answer {
                            if answer.code.is_some() {
                                return Err(answer.to_io());
                            }
                            answered = true;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if answered {
            Ok(())
        } else {
            Err(io::Error::other("nf_tables did not answer"))
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // What was not read of earlier answers, by us or by the process before.
        while let Ok(1..) | Err(Errno::NOBUFS) = self.receive_bytes(&mut [0]) {}
        sockopt::set_socket_send_buffer_size_force(&self.socket, bytes.len() + OVERHEAD)?;
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, bytes, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    /// The messages of the next datagram that waits.
    fn receive(&self) -> io::Result<Vec<NetlinkPayload<Message>>> {
        let mut bytes = vec![0; ANSWER];
        let length = self.receive_bytes(&mut bytes)?;
        let mut rest = &bytes[..length.min(ANSWER)];
        let mut messages = Vec::new();
        while let Some(length) = rest.first_chunk().map(|l| u32::from_ne_bytes(*l) as usize) {
            let Some(one) = rest.get(..length).filter(|one| !one.is_empty()) else {
                break;
            };
            if let Ok(message) = NetlinkMessage::deserialize(one) {
                messages.push(message.payload);
            }
            // Messages start at multiples of four bytes (RFC 3549 §2.3.2).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }

    fn receive_bytes(&self, bytes: &mut [u8]) -> Result<usize, Errno> {
        recv(&self.socket, bytes, RecvFlags::DONTWAIT).map(|(_, length)| length)
    }

    /// The name of a chain, if it is in our table.
    fn own(&self, chain: &Message) -> Option<String> {
        let attributes = chain.body.get(GENERIC_HEADER..)?;
        let (mut ours, mut name) = (false, None);
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            let text = || String::from_utf8_lossy(attribute.value().trim_ascii_end()).into_owned();
            match attribute.kind() {
                CHAIN_TABLE => ours = text().trim_end_matches('\0') == self.table,
                CHAIN_NAME => name = Some(text().trim_end_matches('\0').to_owned()),
                _ => {}
            }
        }
        name.filter(|_| ours)
    }
}

/// A table's name and flags.
fn table(message: &Message) -> Option<(String, u32)> {
    let attributes = message.body.get(GENERIC_HEADER..)?;
    let (mut name, mut flags) = (None, 0);
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            TABLE_NAME => {
                let text = String::from_utf8_lossy(value);
                name = Some(text.trim_end_matches('\0').to_owned());
            }
            TABLE_FLAGS => flags = u32::from_be_bytes(*value.first_chunk()?),
            _ => {}
        }
    }
    Some((name?, flags))
}

impl AsFd for Netfilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
