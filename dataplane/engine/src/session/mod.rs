//! Sessions: tracked flows with their translation and their resolved path.

mod index;
mod table;
mod tcp;

use std::hash::{BuildHasher, Hasher};
use std::net::Ipv4Addr;

use foldhash::fast::FixedState;

use crate::family::Address;
use crate::neighbor::NeighborId;
pub use index::Index;
pub use table::{SessionTable, Ticks};

/// Changes whenever the layout or meaning of [`Record`] does; memory of another layout is not
/// taken over.
pub const LAYOUT: u32 = 2;

/// The IPv4 session as it lies in memory.
pub type Record = SessionRecord<Ipv4Addr>;

/// Which way a packet of a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the side that opened the session.
    Forward,
    /// Back to it.
    Reply,
}

impl Direction {
    /// The other way.
    pub const fn reversed(self) -> Self {
        match self {
            Self::Forward => Self::Reply,
            Self::Reply => Self::Forward,
        }
    }
}

/// What identifies a flow: the five-tuple. For ICMP echo the identifier stands as the source port
/// of requests and as the destination port of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl<A: Address> Flow<A> {
    /// The same flow as its answers see it.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// The flow's hash under `seed`.
    #[inline]
    pub fn hash(&self, seed: &FixedState) -> u64 {
        let mut hasher = seed.build_hasher();
        self.source.write_pair(self.destination, &mut hasher);
        hasher.write_u64(
            u64::from(self.source_port) << 32
                | u64::from(self.destination_port) << 16
                | u64::from(self.protocol),
        );
        hasher.finish()
    }
}

/// One session as it lies in memory: integers and addresses only, so that any bytes are a valid
/// value and the memory can outlive the process.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct SessionRecord<A> {
    /// The opener's own view: from, to.
    inside: [A; 2],
    /// The view after translation, forward direction: from, to.
    outside: [A; 2],
    inside_ports: [u16; 2],
    outside_ports: [u16; 2],
    protocol: u8,
    state: u8,
    tcp: u8,
    flags: u8,
    /// Generation of the snapshot it was last judged under; the next free record when free.
    pub(crate) generation: u32,
    /// When a packet was last seen, in [`Ticks`].
    pub(crate) seen: u32,
    paths: [[u32; 2]; 2],
    packets: [u32; 2],
    bytes: [[u32; 2]; 2],
}

impl<A: Address> Default for SessionRecord<A> {
    fn default() -> Self {
        Self {
            inside: [A::UNSPECIFIED; 2],
            outside: [A::UNSPECIFIED; 2],
            inside_ports: [0; 2],
            outside_ports: [0; 2],
            protocol: 0,
            state: FREE,
            tcp: 0,
            flags: 0,
            generation: 0,
            seen: 0,
            paths: [NO_PATH; 2],
            packets: [0; 2],
            bytes: [[0; 2]; 2],
        }
    }
}

const FREE: u8 = 0;
/// The source was translated, and its port is held in the NAT pool.
const TRANSLATED: u8 = 1;
const NO_PATH: [u32; 2] = [u32::MAX; 2];

/// How far a session has come; decides its idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Seen from the opener only, or TCP's handshake is not complete.
    New = 1,
    /// Seen both ways.
    Established = 2,
    /// TCP: both FINs or a reset.
    Closing = 3,
}

impl State {
    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

/// Where a session's packets go in one direction: by which interface, to which neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The egress interface.
    pub interface: crate::addr::InterfaceId,
    /// The next hop.
    pub neighbor: NeighborId,
}

impl<A: Address> SessionRecord<A> {
    /// A new session: `inside` as the opener sends it, `outside` as it leaves.
    pub fn new(inside: Flow<A>, outside: Flow<A>, translated: bool, generation: u32) -> Self {
        Self {
            inside: [inside.source, inside.destination],
            outside: [outside.source, outside.destination],
            inside_ports: [inside.source_port, inside.destination_port],
            outside_ports: [outside.source_port, outside.destination_port],
            protocol: inside.protocol,
            state: State::New as u8,
            flags: if translated { TRANSLATED } else { 0 },
            generation,
            ..Self::default()
        }
    }

    /// The flow as the opener sends it.
    #[inline]
    pub fn inside(&self) -> Flow<A> {
        Flow {
            source: self.inside[0],
            destination: self.inside[1],
            source_port: self.inside_ports[0],
            destination_port: self.inside_ports[1],
            protocol: self.protocol,
        }
    }

    /// The flow as it leaves, after translation.
    #[inline]
    pub fn outside(&self) -> Flow<A> {
        Flow {
            source: self.outside[0],
            destination: self.outside[1],
            source_port: self.outside_ports[0],
            destination_port: self.outside_ports[1],
            protocol: self.protocol,
        }
    }

    /// The flow of `direction` as it comes in.
    #[inline]
    pub fn received(&self, direction: Direction) -> Flow<A> {
        match direction {
            Direction::Forward => self.inside(),
            Direction::Reply => self.outside().reversed(),
        }
    }

    /// The flow of `direction` as it goes out.
    #[inline]
    pub fn sent(&self, direction: Direction) -> Flow<A> {
        match direction {
            Direction::Forward => self.outside(),
            Direction::Reply => self.inside().reversed(),
        }
    }

    /// The source is translated.
    #[inline]
    pub fn is_translated(&self) -> bool {
        self.flags & TRANSLATED != 0
    }

    /// In use.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.state != FREE
    }

    /// How far it has come.
    #[inline]
    pub fn state(&self) -> State {
        match self.state {
            2 => State::Established,
            3 => State::Closing,
            _ => State::New,
        }
    }

    /// The path of `direction`, if it was resolved.
    #[inline]
    pub fn path(&self, direction: Direction) -> Option<Path> {
        let [interface, neighbor] = self.paths[direction as usize];
        (neighbor != u32::MAX || interface != u32::MAX).then_some(Path {
            interface: crate::addr::InterfaceId(interface as u16),
            neighbor: NeighborId {
                slot: (interface >> 16) as u16,
                use_count: neighbor,
            },
        })
    }

    /// Remembers the path of `direction`, or forgets it.
    pub fn set_path(&mut self, direction: Direction, path: Option<Path>) {
        self.paths[direction as usize] = path.map_or(NO_PATH, |path| {
            [
                u32::from(path.interface.0) | u32::from(path.neighbor.slot) << 16,
                path.neighbor.use_count,
            ]
        });
    }

    /// Counts a packet of `length` bytes seen at `now`, and follows the protocol's state.
    #[inline]
    pub fn account(
        &mut self,
        direction: Direction,
        length: usize,
        tcp_flags: Option<u8>,
        now: Ticks,
    ) {
        self.seen = now.0;
        let way = direction as usize;
        self.packets[way] = self.packets[way].wrapping_add(1);
        let [high, low] = self.bytes[way];
        let bytes = (u64::from(high) << 32 | u64::from(low)).wrapping_add(length as u64);
        self.bytes[way] = [(bytes >> 32) as u32, bytes as u32];
        match tcp_flags {
            Some(flags) => {
                (self.state, self.tcp) = tcp::follow(self.state, self.tcp, direction, flags)
            }
            None if direction == Direction::Reply => self.state = State::Established as u8,
            None => {}
        }
    }

    /// Packets and bytes seen in `direction`.
    pub fn traffic(&self, direction: Direction) -> (u64, u64) {
        let [high, low] = self.bytes[direction as usize];
        (
            u64::from(self.packets[direction as usize]),
            u64::from(high) << 32 | u64::from(low),
        )
    }
}

/// Where sessions are kept.
#[derive(Debug)]
pub enum SessionMemory<A: 'static = Ipv4Addr> {
    /// The process's own memory.
    Owned(Box<[SessionRecord<A>]>),
    /// Memory that outlives the process (a mapped memfd).
    Mapped(&'static mut [SessionRecord<A>]),
}

impl<A: Address> SessionMemory<A> {
    /// Fresh memory for `capacity` sessions.
    pub fn owned(capacity: usize) -> Self {
        Self::Owned(vec![SessionRecord::default(); capacity].into())
    }
}

impl<A> std::ops::Deref for SessionMemory<A> {
    type Target = [SessionRecord<A>];

    #[inline]
    fn deref(&self) -> &[SessionRecord<A>] {
        match self {
            Self::Owned(records) => records,
            Self::Mapped(records) => records,
        }
    }
}

impl<A> std::ops::DerefMut for SessionMemory<A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [SessionRecord<A>] {
        match self {
            Self::Owned(records) => records,
            Self::Mapped(records) => records,
        }
    }
}
