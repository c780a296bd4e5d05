//! One session as it lies in memory.

use super::stage::Stage;
use super::tcp::{self, Connection};
use crate::base::addr::{InterfaceId, PortId};
use crate::base::ip::Address;
use crate::base::time::Ticks;
use crate::state::neighbor::NeighborId;
use crate::wire::flow::{Direction, Flow};
use crate::wire::packet::{Family, TCP, UDP};
use crate::wire::tcp::Segment;

/// Changes whenever the layout or meaning of [`SessionRecord`] or [`SessionDetail`] does. Memory of
/// the layout before is converted ([`super::Detail6`]), older memory is not taken over.
pub const LAYOUT: u32 = 7;

/// What every packet of a session reads or writes: integers and addresses only, so that any bytes are
/// a valid value and the memory can outlive the process. All zeroes are a free record.
///
/// One cache line for IPv4, two for IPv6.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct SessionRecord<A> {
    pub(super) protocol: u8,
    pub(super) stage: u8,
    pub(super) tcp: u8,
    pub(super) flags: u8,
    /// Generation of the snapshot it was last judged under; the next free record when free.
    pub(crate) generation: u32,
    /// When a packet was last seen, in [`Ticks`].
    pub(crate) seen: u32,
    /// By direction: the port whose packets need no further look at their source.
    pub(super) admitted: [u16; 2],
    pub(super) paths: [[u32; 2]; 2],
    pub(super) ports: [[u16; 2]; 2],
    /// By direction: packets and bytes, the lowest 16 bits. What overflows is carried into the
    /// detail, so that most packets touch this record only.
    pub(super) counts: [[u16; 2]; 2],
    /// By direction, as its packets come in: from, to.
    pub(super) ends: [[A; 2]; 2],
}

/// What few packets of a session read: the upper part of its counters, and what it was admitted by.
/// TCP's write to it.
/// All zeroes belong to a free record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SessionDetail {
    /// By direction: packets and bytes, from bit 16 on. The upper three bits of the packets are those of the
    /// opener's DSCP instead: what goes forward has the upper ones.
    pub(super) counts: [[u32; 2]; 2],
    /// TCP, by direction: the number that the receiver awaits next; 0 if it is not known.
    pub(super) awaited: [u32; 2],
    /// A mark that policy gave it; 0 is none.
    pub(super) mark: u32,
    /// The guest it is from, or else to, by the number of its name plus one; 0 is nobody.
    pub(super) guest: u16,
    /// The rule that let it in, by its place plus one; 0 is none.
    pub(super) rule: u16,
}

const _: () = assert!(size_of::<SessionRecord<std::net::Ipv4Addr>>() == 64);
const _: () = assert!(size_of::<SessionRecord<std::net::Ipv6Addr>>() == 128);
const _: () = assert!(size_of::<SessionDetail>() == 32);

pub(super) const FREE: u8 = 0;
/// Flag: its source is rewritten.
pub(super) const SOURCE_REWRITTEN: u8 = 1;
/// Flag: its destination is rewritten.
pub(super) const DESTINATION_REWRITTEN: u8 = 2;
/// Flag: it holds an external port, which is given back when it ends.
pub(super) const HOLDS_PORT: u8 = 4;
/// Flag: an external port that another holds gives it its destination; it has a part in that port.
pub(super) const BY_MAPPING: u8 = 8;
/// Flag, of one by a mapping: the insider had spoken to its sender's address before.
pub(super) const EXPECTED: u8 = 16;
/// Flag, of one by a mapping: the insider has answered, so that the mapping is in use by it.
pub(super) const KEEPS_MAPPING: u8 = 32;
/// Flag: the external port that it holds may be others' too.
pub(super) const ENDPOINT_DEPENDENT: u8 = 64;
/// Flag: a route of its packets' has an MTU or a segment size of its own. The process that sets it forgets it
/// with the paths.
pub(super) const BY_SIZED_ROUTE: u8 = 128;
/// Where a part of the DSCP begins in the upper part of a count of packets.
const DSCP_AT: u32 = 29;
/// The bits below.
const PACKETS: u32 = (1 << DSCP_AT) - 1;
/// The flags that say what is rewritten.
const REWRITES: u8 = SOURCE_REWRITTEN | DESTINATION_REWRITTEN | HOLDS_PORT;
/// The flags that say how mappings are used.
const OF_MAPPINGS: u8 = BY_MAPPING | EXPECTED | KEEPS_MAPPING | ENDPOINT_DEPENDENT;
pub(super) const NO_PATH: [u32; 2] = [u32::MAX; 2];

/// Where a session's packets go in one direction: by which interface, to which neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The egress interface.
    pub interface: InterfaceId,
    /// The next hop.
    pub neighbor: NeighborId,
}

impl Path {
    /// By this interface, to a next hop that is still to be found.
    pub const fn by(interface: InterfaceId) -> Self {
        Self {
            interface,
            neighbor: NeighborId::NONE,
        }
    }
}

impl<A: Address> Default for SessionRecord<A> {
    fn default() -> Self {
        Self {
            protocol: 0,
            stage: FREE,
            tcp: 0,
            flags: 0,
            generation: 0,
            seen: 0,
            admitted: [u16::MAX; 2],
            paths: [NO_PATH; 2],
            ports: [[0; 2]; 2],
            counts: [[0; 2]; 2],
            ends: [[A::UNSPECIFIED; 2]; 2],
        }
    }
}

impl<A: Address> SessionRecord<A> {
    /// Reads a word at either end, to have the whole record in the cache: IPv6's lies in two lines.
    #[inline]
    pub(crate) fn touch(&self) -> u32 {
        self.seen ^ u32::from(self.ends[1][1].octets().as_ref()[3])
    }

    /// A new session: `inside` as the opener sends it, `outside` as it leaves. `holds_port`: its
    /// external port is to be given back when it ends.
    pub fn new(inside: Flow<A>, outside: Flow<A>, holds_port: bool, generation: u32) -> Self {
        let source = (inside.source, inside.source_port);
        let destination = (inside.destination, inside.destination_port);
        let mut flags = if holds_port {
            HOLDS_PORT | SOURCE_REWRITTEN
        } else {
            0
        };
        if source != (outside.source, outside.source_port) {
            flags |= SOURCE_REWRITTEN;
        }
        if destination != (outside.destination, outside.destination_port) {
            flags |= DESTINATION_REWRITTEN;
        }
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
            stage: Stage::New as u8,
            flags,
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
    pub(super) fn is(&self, direction: Direction, flow: &Flow<A>) -> bool {
        self.ends[direction as usize] == [flow.source, flow.destination]
            && self.ports[direction as usize] == [flow.source_port, flow.destination_port]
            && self.protocol == flow.protocol
    }

    /// The source is translated. The translation may have left it as it was.
    #[inline]
    pub fn source_rewritten(&self) -> bool {
        self.flags & SOURCE_REWRITTEN != 0
    }

    /// The destination is translated.
    #[inline]
    pub fn destination_rewritten(&self) -> bool {
        self.flags & DESTINATION_REWRITTEN != 0
    }

    /// It holds an external port.
    #[inline]
    pub fn holds_port(&self) -> bool {
        self.flags & HOLDS_PORT != 0
    }

    /// The external port that it holds may be others' too, towards other destinations.
    #[inline]
    pub fn is_endpoint_dependent(&self) -> bool {
        self.flags & ENDPOINT_DEPENDENT != 0
    }

    /// The external port that it holds may be others' too.
    pub fn set_endpoint_dependent(&mut self) {
        self.flags |= ENDPOINT_DEPENDENT;
    }

    /// Its destination is the insider that holds an external port, in which it has a part.
    #[inline]
    pub fn is_by_mapping(&self) -> bool {
        self.flags & BY_MAPPING != 0
    }

    /// Its destination is the insider that holds an external port. `expected`: that one had spoken to the
    /// sender's address.
    pub fn set_by_mapping(&mut self, expected: bool) {
        self.flags |= BY_MAPPING | if expected { EXPECTED } else { 0 };
    }

    /// By a mapping, whose insider has spoken to its sender's address: before, or in it.
    pub fn is_expected(&self) -> bool {
        self.flags & (EXPECTED | KEEPS_MAPPING) != 0
    }

    /// By a mapping, which is in use by it since the insider has answered.
    pub fn keeps_mapping(&self) -> bool {
        self.flags & KEEPS_MAPPING != 0
    }

    /// Whether a process can have left it that did what it should, until `now`. What the memory of
    /// another process says is not believed, not even of its own sessions: a session decides where
    /// packets go without anybody asking again.
    pub(crate) fn is_sound(&self, now: Ticks) -> bool
    where
        A: Family,
    {
        let (inside, outside) = (self.inside(), self.outside());
        let is_echo = self.protocol == A::ICMP;
        let mut ports = self.ports.iter().flatten();
        let ports_fit = match self.protocol {
            TCP | UDP => true,
            _ if is_echo => inside.destination_port == 0 && outside.destination_port == 0,
            _ => ports.all(|port| *port == 0),
        };
        let mut hosts = self.ends.iter().flatten();
        self.stage <= Stage::Closing as u8
            && (self.protocol == TCP || self.stage != Stage::Closing as u8)
            && tcp::is_known(self.tcp)
            && (self.protocol == TCP || self.tcp == 0)
            && self.flags & REWRITES
                == Self::new(inside, outside, self.holds_port(), 0).flags & REWRITES
            && self.is_of_a_mapping()
            && (self.source_rewritten() || !self.holds_port())
            && (self.holds_port() || inside.source_port == outside.source_port)
            && self.seen <= now.0
            && ports_fit
            && hosts.all(|end| end.is_one_host())
    }

    /// What it says of mappings goes together.
    fn is_of_a_mapping(&self) -> bool {
        let has_ports = matches!(self.protocol, TCP | UDP);
        let by_mapping = self.destination_rewritten() && has_ports;
        self.flags & !(REWRITES | OF_MAPPINGS) == 0
            && (self.holds_port() || !self.is_endpoint_dependent())
            && (by_mapping || !self.is_by_mapping())
            && (self.is_by_mapping() || !self.is_expected())
    }

    /// Forgets what only the process knew that it is from.
    pub(super) fn forget_numbers(&mut self) {
        self.generation = 0;
        self.flags &= !BY_SIZED_ROUTE;
        for direction in [Direction::Forward, Direction::Reply] {
            self.set_path(direction, None);
            self.admit(direction, None);
        }
    }

    /// In use.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.stage != FREE
    }

    /// It was not answered yet, or is closing: it makes room for others of the same payer.
    #[inline]
    pub(crate) fn makes_room(&self) -> bool {
        self.stage != Stage::Established as u8
    }

    /// How far it has come.
    #[inline]
    pub fn stage(&self) -> Stage {
        match self.stage {
            2 => Stage::Established,
            3 => Stage::Closing,
            _ => Stage::New,
        }
    }

    /// How far it has come, in words.
    pub fn state(&self) -> &'static str {
        match self.protocol {
            TCP => tcp::name(self.stage(), self.tcp),
            _ => self.stage().name(),
        }
    }

    /// The path of `direction`, if it was resolved.
    #[inline]
    pub fn path(&self, direction: Direction) -> Option<Path> {
        let [interface, neighbor] = self.paths[direction as usize];
        (neighbor != u32::MAX || interface != u32::MAX).then_some(Path {
            interface: InterfaceId(interface as u16),
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

    /// A route of its packets' may have an MTU or a segment size of its own.
    #[inline]
    pub fn is_by_sized_route(&self) -> bool {
        self.flags & BY_SIZED_ROUTE != 0
    }

    /// Remembers whether a route of its packets' has an MTU or a segment size of its own.
    pub fn set_by_sized_route(&mut self, sized: bool) {
        self.flags = self.flags & !BY_SIZED_ROUTE | if sized { BY_SIZED_ROUTE } else { 0 };
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

    /// Counts a packet of `length` bytes. Returns what its detail must carry on: packets and bytes in
    /// units of 2^16.
    #[inline]
    #[must_use]
    pub(super) fn count(&mut self, direction: Direction, length: usize) -> [u32; 2] {
        let [packets, bytes] = &mut self.counts[direction as usize];
        let (more_packets, more_bytes) = (u32::from(*packets) + 1, *bytes as usize + length);
        (*packets, *bytes) = (more_packets as u16, more_bytes as u16);
        [more_packets >> 16, (more_bytes >> 16) as u32]
    }

    /// A packet of another protocol than TCP was seen.
    #[inline]
    pub(super) fn hear(&mut self, direction: Direction, now: Ticks) {
        self.seen = now.0;
        if direction == Direction::Reply {
            self.stage = Stage::Established as u8;
        }
    }

    /// A TCP segment was seen. Whether it is a sign of life.
    #[inline]
    pub(super) fn hear_tcp(
        &mut self,
        detail: &mut SessionDetail,
        direction: Direction,
        segment: &Segment,
        now: Ticks,
    ) -> bool {
        if segment.is_plain() && self.stage == Stage::Established as u8 {
            self.seen = now.0;
            detail.awaited[direction.reversed() as usize] = segment.acknowledgment;
            return true;
        }
        self.follow(detail, direction, segment, now)
    }

    /// Follows TCP's state.
    #[inline(never)]
    fn follow(
        &mut self,
        detail: &mut SessionDetail,
        direction: Direction,
        segment: &Segment,
        now: Ticks,
    ) -> bool {
        let before = Connection {
            stage: self.stage,
            seen: self.tcp,
            awaited: detail.awaited,
        };
        let Some(after) = before.follow(direction, segment) else {
            return false;
        };
        (self.stage, self.tcp) = (after.stage, after.seen);
        detail.awaited = after.awaited;
        self.seen = now.0;
        true
    }

    /// Packets and bytes seen in `direction`.
    pub fn traffic(&self, detail: &SessionDetail, direction: Direction) -> (u64, u64) {
        let [packets, bytes] = detail.counts[direction as usize];
        let upper = [packets & PACKETS, bytes];
        let whole =
            |n: usize| u64::from(upper[n]) << 16 | u64::from(self.counts[direction as usize][n]);
        (whole(0), whole(1))
    }
}

impl SessionDetail {
    /// Counts what overflowed in the record.
    #[inline]
    pub(super) fn carry(&mut self, direction: Direction, [packets, bytes]: [u32; 2]) {
        let counts = &mut self.counts[direction as usize];
        counts[0] = counts[0] & !PACKETS | counts[0].wrapping_add(packets) & PACKETS;
        counts[1] = counts[1].wrapping_add(bytes);
    }

    /// Counts the opener's first packet, of `length` bytes, seen at `now`.
    #[inline]
    pub fn count_first<A: Address>(
        &mut self,
        record: &mut SessionRecord<A>,
        length: usize,
        segment: Option<Segment>,
        now: Ticks,
    ) {
        let carry = record.count(Direction::Forward, length);
        self.carry(Direction::Forward, carry);
        record.seen = now.0;
        match segment {
            Some(segment) => _ = record.hear_tcp(self, Direction::Forward, &segment, now),
            None => record.hear(Direction::Forward, now),
        }
    }

    /// The type of service of the packet that opened it, without ECN: its DSCP where it stands in a header.
    pub fn tos(&self) -> u8 {
        let [forward, reply] = self.counts.map(|[packets, _]| (packets >> DSCP_AT) as u8);
        (forward << 3 | reply) << 2
    }

    /// Remembers the type of service of the packet that opened it.
    pub fn set_tos(&mut self, tos: u8) {
        let dscp = u32::from(tos >> 2);
        for (counts, bits) in self.counts.iter_mut().zip([dscp >> 3, dscp & 7]) {
            counts[0] = counts[0] & PACKETS | bits << DSCP_AT;
        }
    }

    /// Forgets what only the process knew that it is from.
    pub(super) fn forget_numbers(&mut self) {
        (self.mark, self.guest, self.rule) = (0, 0, 0);
    }

    /// The place of the rule that let it in, under the configuration it was last judged under.
    pub fn rule(&self) -> Option<u16> {
        self.rule.checked_sub(1)
    }

    /// Its mark; 0 is none.
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// The rule at this place let it in, and gave it this mark; `None`: no rule said anything.
    pub fn set_rule(&mut self, rule: Option<(u16, u32)>) {
        (self.rule, self.mark) = rule.map_or((0, 0), |(place, mark)| (place + 1, mark));
    }

    /// The number of the guest it is from, or else to.
    pub fn guest(&self) -> Option<u16> {
        self.guest.checked_sub(1)
    }

    /// It is from this guest, or else to it.
    pub fn set_guest(&mut self, guest: Option<u16>) {
        self.guest = guest.map_or(0, |guest| guest.saturating_add(1));
    }
}
