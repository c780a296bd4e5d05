//! Decisions about a packet, as values that can be printed, compared and counted. The forwarding
//! path is compiled once with [`Silent`], at no cost, and once with [`Steps`].

use std::net::IpAddr;

use ipnet::IpNet;

use super::health::Outage;
use super::policy::{Mismatch, Ruling};
use super::tables::NoWay;
use crate::base::addr::{GuestId, InterfaceId, MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::config::condition::Condition;
use crate::config::policy::Origin;
use crate::config::{Filtering, PortRange, RuleEnd};
use crate::wire::flow::Direction;

/// Listens to decisions.
pub trait Trace {
    /// Hears of one decision. `step` is called only if somebody listens.
    fn step(&mut self, step: impl FnOnce() -> Step);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Trace for Silent {
    #[inline(always)]
    fn step(&mut self, _step: impl FnOnce() -> Step) {}
}

/// Everything that was decided, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps(pub Vec<Step>);

impl Trace for Steps {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.0.push(step());
    }
}

/// Both ends of a flow: address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// From where.
    pub source: (IpAddr, u16),
    /// To where.
    pub destination: (IpAddr, u16),
}

/// Whose the address is that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The router's own.
    Ours,
    /// Somebody else's, for whom we answer.
    Anothers,
}

/// What a guest sent that it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// From a MAC that no guest of the port has.
    Mac(MacAddr),
    /// With an address that no guest of the port has.
    Address(IpAddr),
    /// With an address that was heard on another port before, and may still be there.
    Elsewhere(IpAddr, PortId),
    /// With an address of its network's gateway.
    Gateway(IpAddr),
    /// An answer of a DHCP server.
    Dhcp,
    /// A router advertisement or a redirect.
    Router,
}

/// What a guest is told about its address, or tells about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the messages of RFC 2131
pub enum Leasing {
    Offered,
    Granted,
    Refused,
    Declined,
    Released,
}

/// What becomes of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piecing {
    /// It is the first, and decided as a packet.
    First,
    /// It goes where the first went.
    Follows,
    /// It waits for others.
    Waits,
    /// Its datagram was refused.
    Refused,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // what is decided stands in the variants, on what in their fields
pub enum Step {
    /// The interface that wears the frame's destination MAC.
    Interface {
        interface: InterfaceId,
        port: PortId,
        mac: MacAddr,
    },
    /// It belongs to a session.
    Session {
        direction: Direction,
        state: &'static str,
    },
    /// No session knows it.
    FirstPacket,
    /// It is a fragment.
    Fragment {
        identification: u32,
        start: u16,
        what: Piecing,
    },
    /// With it all fragments of a datagram for the router are there.
    Reassembled { length: usize },
    /// It is an ICMP error about a session's packet.
    QuotesSession,
    /// A guest may not send it.
    Violation(Violation),
    /// It is for the router itself.
    Local {
        destination: IpAddr,
        interface: InterfaceId,
    },
    /// What the policy says: the rule that decides, if one does, and those between the two sides that
    /// were passed over.
    Policy {
        decided: Option<Ruling>,
        allowed: bool,
        passed_over: Vec<(Origin, Mismatch)>,
    },
    /// A rule of `nat.forward` gives it another destination.
    Redirect {
        from: (IpAddr, u16),
        to: (IpAddr, u16),
    },
    /// An entry of `nat.one_to_one` gives it another destination, or another source.
    OneToOne { from: IpAddr, to: IpAddr },
    /// A rule of `nat.snat` gives it another source.
    Snat {
        index: usize,
        from: IpNet,
        to: IpAddr,
        block: Option<PortRange>,
    },
    /// A guest uses the port that it is for, and the entry of `nat.snat` lets it in.
    LetIn {
        index: usize,
        filtering: Filtering,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
    },
    /// A guest uses the port that it is for, and the entry of `nat.snat` does not let it in.
    Filtered {
        index: usize,
        filtering: Filtering,
        port: (IpAddr, u16),
        sender: IpAddr,
    },
    /// No rule translates its source.
    NoTranslation,
    /// A rule of the policy marks its flow, and rules of routing ask for marks.
    Marked { mark: u32 },
    /// A rule looks it up in a table.
    Rule {
        priority: u32,
        condition: Condition<InterfaceId>,
        table: usize,
    },
    /// A rule leads on to another: to one of this priority, or to the next.
    RuleGoesOn {
        priority: u32,
        condition: Condition<InterfaceId>,
        target: Option<u32>,
    },
    /// A rule ends it.
    RuleEnds {
        priority: u32,
        condition: Condition<InterfaceId>,
        action: RuleEnd,
    },
    /// No rule leads to a route.
    NoRule { to: IpAddr },
    /// The table has no route for it.
    NoRoute { to: IpAddr, table: usize },
    /// Its destination is a guest's.
    RouteToGuest { to: IpAddr, guest: GuestId },
    /// A route sends it on.
    Route {
        prefix: IpNet,
        metric: u32,
        via: Option<IpAddr>,
        interface: InterfaceId,
        table: usize,
    },
    /// A route sends it back to the rules.
    Throw { prefix: IpNet, table: usize },
    /// A route ends it.
    RouteEnds {
        end: NoWay,
        prefix: IpNet,
        table: usize,
    },
    /// The router sends it from this address.
    Source { address: IpAddr },
    /// It answers what came to a personality, and leaves by it.
    AnswersBy {
        interface: InterfaceId,
        next_hop: IpAddr,
    },
    /// A route is passed over, because its next hop is out of use.
    NextHopDown {
        interface: InterfaceId,
        next_hop: IpAddr,
        outage: Outage,
    },
    /// No route leads there whose next hop is in use: those that are not for this reason, or for one that is
    /// nearer to use, are tried all the same.
    LastResort { outage: Outage },
    /// Its TTL is not used up.
    Ttl { before: u8 },
    /// A SYN announced larger segments than fit.
    Mss { before: u16, after: u16 },
    /// It says that a virtual address is that guest's now.
    TakesOver { address: IpAddr, guest: GuestId },
    /// It is larger than its way takes.
    TooBig {
        length: usize,
        interface: InterfaceId,
        mtu: u32,
    },
    /// It leaves in fragments.
    Cut { fragments: usize, mtu: usize },
    /// The next hop is a guest, whose MAC is configured.
    NextHopIsGuest { guest: GuestId, mac: MacAddr },
    /// The next hop's MAC is known.
    NextHop {
        address: IpAddr,
        interface: InterfaceId,
        mac: MacAddr,
    },
    /// The next hop's MAC is asked for.
    NextHopAsked {
        address: IpAddr,
        interface: InterfaceId,
    },
    /// Its addresses or ports change.
    Rewrite { from: Ends, to: Ends },
    /// The egress guard stops it.
    Guarded {
        source: Option<IpAddr>,
        interface: InterfaceId,
    },
    /// It leaves.
    Out {
        port: PortId,
        interface: InterfaceId,
        to: MacAddr,
    },
    /// It passes as it is on the segment that a guest is bridged to.
    Bridged { port: PortId, to: MacAddr },
    /// Other guests of the segment hear it too.
    Flooded { ports: usize },
    /// Its sender is told that it did not arrive.
    Told { sender: IpAddr, kind: u8, code: u8 },
    /// Somebody asks for a guest's address.
    AskedForGuest { target: IpAddr, guest: GuestId },
    /// A guest asks for a provider's router.
    AskedForGateway { target: IpAddr },
    /// Somebody asks by ARP, and is answered.
    ArpAnswered {
        sender: IpAddr,
        target: IpAddr,
        whose: Whose,
    },
    /// Somebody asks by neighbour discovery, and is answered.
    NdAnswered {
        sender: IpAddr,
        target: IpAddr,
        whose: Whose,
    },
    /// A guest asks for its router; `None`: without an address of its own.
    RouterSolicited {
        asker: Option<IpAddr>,
        interface: InterfaceId,
    },
    /// DHCP.
    Dhcp {
        guest: GuestId,
        what: Leasing,
        address: IpAddr,
    },
    /// DHCPv6; `None`: no guest's address is handed out.
    Dhcp6 {
        asker: IpAddr,
        lease: Option<(GuestId, IpAddr)>,
    },
    /// A guest's connection to the metadata service.
    Metadata { guest: GuestId },
    /// It is dropped.
    Dropped(DropReason),
}
