//! Sessions: tracked flows with their translation and their resolved path.

mod index;
mod table;
mod tcp;

use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;

use crate::addr::PortId;
use crate::family::Address;
use crate::neighbor::NeighborId;
pub use index::Index;
pub use table::{SessionTable, Ticks};

/// Changes whenever the layout or meaning of [`Record`] does; memory of another layout is not
/// taken over.
pub const LAYOUT: u32 = 5;

/// The IPv4 session as it lies in memory.
pub type Record = SessionRecord<Ipv4Addr>;
/// The IPv6 session as it lies in memory.
pub type Record6 = SessionRecord<Ipv6Addr>;

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
/// value and the memory can outlive the process. All zeroes are a free record.
///
/// 80 bytes of IPv4 and 128 of IPv6: aligned to 16, either lies in two cache lines, never in three,
/// and [`Self::touch`] reads a word of each.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct SessionRecord<A> {
    protocol: u8,
    state: u8,
    tcp: u8,
    flags: u8,
    /// Generation of the snapshot it was last judged under; the next free record when free.
    pub(crate) generation: u32,
    /// When a packet was last seen, in [`Ticks`].
    pub(crate) seen: u32,
    ports: [[u16; 2]; 2],
    /// By direction, as its packets come in: from, to.
    ends: [[A; 2]; 2],
    paths: [[u32; 2]; 2],
    packets: [u32; 2],
    /// By direction: the port whose packets were found to have a source they may have.
    admitted: [u16; 2],
    bytes: [u64; 2],
}

const _: () = assert!(size_of::<Record>() == 80 && size_of::<Record6>() == 128);

impl<A: Address> Default for SessionRecord<A> {
    fn default() -> Self {
        Self {
            ends: [[A::UNSPECIFIED; 2]; 2],
            ports: [[0; 2]; 2],
            protocol: 0,
            state: FREE,
            tcp: 0,
            flags: 0,
            generation: 0,
            seen: 0,
            paths: [NO_PATH; 2],
            packets: [0; 2],
            admitted: [u16::MAX; 2],
            bytes: [0; 2],
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
    /// Reads words at either end and between, to have the whole record in the cache: IPv6's lies in
    /// three lines where it is not aligned to them.
    #[inline]
    pub(crate) fn touch(&self) -> u32 {
        self.seen ^ self.paths[0][0] ^ self.bytes[1] as u32
    }

    /// A new session: `inside` as the opener sends it, `outside` as it leaves.
    pub fn new(inside: Flow<A>, outside: Flow<A>, translated: bool, generation: u32) -> Self {
        Self {
            ends: [
                [inside.source, inside.destination],
                [outside.destination, outside.source],
            ],
            ports: [
                [inside.source_port, inside.destination_port],
                [outside.destination_port, outside.source_port],
            ],
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
        self.received(Direction::Forward)
    }

    /// The flow as it leaves, after translation.
    #[inline]
    pub fn outside(&self) -> Flow<A> {
        self.sent(Direction::Forward)
    }

    /// The flow of `direction` as it comes in.
    #[inline]
    pub fn received(&self, direction: Direction) -> Flow<A> {
        let [source, destination] = self.ends[direction as usize];
        let [source_port, destination_port] = self.ports[direction as usize];
        Flow {
            source,
            destination,
            source_port,
            destination_port,
            protocol: self.protocol,
        }
    }

    /// The flow of `direction` as it goes out.
    #[inline]
    pub fn sent(&self, direction: Direction) -> Flow<A> {
        self.received(direction.reversed()).reversed()
    }

    /// Whether `flow` is that of `direction` as it comes in.
    #[inline]
    fn is(&self, direction: Direction, flow: &Flow<A>) -> bool {
        self.ends[direction as usize] == [flow.source, flow.destination]
            && self.ports[direction as usize] == [flow.source_port, flow.destination_port]
            && self.protocol == flow.protocol
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

    /// The port whose packets in `direction` need no further look at their source.
    #[inline]
    pub fn admitted(&self, direction: Direction) -> Option<PortId> {
        let port = self.admitted[direction as usize];
        (port != u16::MAX).then_some(PortId(port))
    }

    /// Remembers the port whose packets in `direction` may have their source, or forgets it.
    pub fn admit(&mut self, direction: Direction, port: Option<PortId>) {
        self.admitted[direction as usize] = port.map_or(u16::MAX, |port| port.0);
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
        self.bytes[way] = self.bytes[way].wrapping_add(length as u64);
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
        let way = direction as usize;
        (u64::from(self.packets[way]), self.bytes[way])
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

/// Where both families' sessions are kept.
#[derive(Debug)]
pub struct Sessions {
    /// IPv4.
    pub v4: SessionMemory<Ipv4Addr>,
    /// IPv6.
    pub v6: SessionMemory<Ipv6Addr>,
    /// Left by an earlier dataplane, whose place this one takes.
    pub inherited: bool,
}

impl From<SessionMemory> for Sessions {
    /// As many IPv6 sessions, in the process's own memory.
    fn from(v4: SessionMemory) -> Self {
        Self {
            v6: SessionMemory::owned(v4.len()),
            v4,
            inherited: false,
        }
    }
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
