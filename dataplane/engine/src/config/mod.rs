//! The validated configuration: a [`Config`] that exists has no contradictions in it.
//!
//! [`File`] is what an operator wrote; [`Config::try_from`] checks all of it and reports every
//! fault at once, each with the place in the file ([`ConfigError::at`]) and the remedy. Both
//! processes use this one check: control before it sends, the dataplane when it receives.

mod blocks;
mod closest;
pub mod condition;
mod expand;
mod file;
pub mod metadata;
mod nat;
pub mod policy;
mod routing;
pub mod services;
mod validate;
mod value;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use crate::base::addr::MacAddr;
pub use blocks::Blocks;
pub use closest::closest;
use condition::Condition;
pub use file::{
    Bandwidth, Create, File, Guest as FileGuest, Limits, Network, Personality, Port as FilePort,
    Probe, Proxy as FileProxy, RouterSection, SourceCheck, Timeouts,
};
use metadata::Instance;
pub use nat::{
    Filtering, Forward as FileForward, Mapping, Nat, OneToOne as FileOneToOne, Snat as FileSnat,
};
pub use routing::{
    FwMark, NextHop as FileNextHop, Route as FileRoute, RouteType, Routing, Rule as FileRule,
    RuleAction,
};
use services::Services;
pub use value::{AddressRange, BitRate, Gateways, OneOrMore, PortRange, Prefix, Protocol, Target};

/// The name of the table that holds the connected prefixes and is looked up at
/// [`MAIN_PRIORITY`], as in Linux.
pub const MAIN: &str = "main";
/// The priority of the rule that looks up [`MAIN`], as in Linux.
pub const MAIN_PRIORITY: u32 = 32_766;

/// A configuration without contradictions. Travels as the [`File`] it was made from and is
/// checked again where it arrives.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "File")]
pub struct Config {
    file: File,
    ports: Vec<Port>,
    interfaces: Vec<Interface>,
    guests: Vec<Guest>,
    tables: Vec<Table>,
    rules: Vec<Rule>,
    snat: Vec<Snat>,
    one_to_one: Vec<OneToOne>,
    redirects: Vec<Redirect>,
    policy: policy::Checked,
}

impl Config {
    /// The file this configuration was made from.
    pub fn file(&self) -> &File {
        &self.file
    }
    /// Limits and identity of the router as a whole.
    pub fn router(&self) -> &RouterSection {
        &self.file.router
    }
    /// All ports, by name.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }
    /// All personalities, then all networks, each by name.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }
    /// All guests, by name.
    pub fn guests(&self) -> &[Guest] {
        &self.guests
    }
    /// All tables, [`MAIN`] first.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }
    /// All rules by ascending priority, the one for [`MAIN`] among them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
    /// Source translations in the order of the file.
    pub fn snat(&self) -> &[Snat] {
        &self.snat
    }
    /// Addresses that stand for each other, in the order of the file.
    pub fn one_to_one(&self) -> &[OneToOne] {
        &self.one_to_one
    }
    /// Who may open flows to whom.
    pub fn policy(&self) -> &policy::Checked {
        &self.policy
    }
    /// Port redirections in the order of the file.
    pub fn redirects(&self) -> &[Redirect] {
        &self.redirects
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.file.serialize(serializer)
    }
}

/// Where frames enter and leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port's name in the file.
    pub name: String,
    /// What it is.
    pub kind: PortKind,
    /// Largest IP packet that passes, in bytes.
    pub mtu: u32,
    /// Queues to open, at least 1.
    pub queues: u16,
    /// Which sources a guest's packets may have.
    pub source: SourceCheck,
}

/// What a port is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortKind {
    /// An existing network device, opened with AF_PACKET.
    Device {
        /// The device's name in the dataplane's network namespace.
        device: String,
        /// Make it as a persistent TAP when it is not there.
        create: Option<Create>,
    },
    /// A TAP whose fd side we hold.
    Tap {
        /// The netdev's name.
        device: String,
        /// The namespace the netdev is moved to: a name from /run/netns or a path.
        netns: Option<String>,
        /// The netdev's MAC; the kernel's choice when absent.
        mac: Option<MacAddr>,
    },
    /// Two queues in memory.
    Memory,
}

/// An L3 interface of the router: a personality on an uplink, or a network's gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the file; unique among personalities and networks together.
    pub name: String,
    /// Which of the two it is.
    pub kind: InterfaceKind,
    /// The MAC it wears.
    pub mac: MacAddr,
    /// Its own addresses with their prefix lengths, in the order of the file.
    pub addresses: Vec<IpNet>,
    /// Largest IP packet that passes, in bytes: the smallest of its ports'.
    pub mtu: u32,
    /// What a network tells its guests.
    pub services: Services,
    /// Sources that may leave by it beside its own and its guests': those that `nat.snat` leaves
    /// untranslated towards some destinations, and what prefixes are translated to.
    pub sources: Vec<IpNet>,
    /// Connections through it announce no larger segments than fit.
    pub clamps_mss: bool,
    /// How the next hops on it are probed.
    pub probe: Option<Probe>,
}

/// What makes a personality and a network's gateway differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A personality: one uplink port, guarded on the way out.
    Personality {
        /// Index into [`Config::ports`].
        port: usize,
        /// 802.1Q VLAN identifier, 1 to 4094; untagged when absent.
        vlan: Option<u16>,
        /// The provider's gateways, at most one of each family.
        gateways: Vec<IpAddr>,
        /// The MAC and the addresses are the host's too; these ports are ours.
        shared: Option<PortRange>,
        /// Claim IPv4 addresses before use.
        acd: bool,
    },
    /// A network's gateway: guests' ports, isolated from each other.
    Network {
        /// Indices into [`Config::ports`].
        ports: Vec<usize>,
        /// What is answered for outside as long as it is alive inside.
        proxy: Option<Proxy>,
        /// The network has no gateway of ours: its guests are on an uplink's segment.
        bridged: Option<Bridged>,
    },
}

/// The segment of an uplink that a network's guests are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridged {
    /// Index into [`Config::ports`].
    pub port: usize,
    /// 802.1Q VLAN identifier, 1 to 4094; untagged when absent.
    pub vlan: Option<u16>,
}

impl InterfaceKind {
    /// Whether this is a personality.
    pub fn is_personality(&self) -> bool {
        matches!(self, Self::Personality { .. })
    }

    /// The segment that a bridged network's guests are on.
    pub fn bridged(&self) -> Option<Bridged> {
        match self {
            Self::Network { bridged, .. } => *bridged,
            Self::Personality { .. } => None,
        }
    }
}

/// Addresses answered for outside as long as they are alive in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The personality that answers: index into [`Config::interfaces`].
    pub personality: usize,
    /// The prefixes.
    pub alive: Vec<IpNet>,
}

/// A VM or container and the addresses it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Index into [`Config::ports`] of the port it is behind.
    pub port: usize,
    /// Index into [`Config::interfaces`] of that port's network.
    pub network: usize,
    /// Its MAC, if it is known beforehand.
    pub mac: Option<MacAddr>,
    /// What it has inside only, without host bits.
    pub addresses: Vec<IpNet>,
    /// What it has outside too, without host bits.
    pub public: Vec<IpNet>,
    /// What it may take over from other guests that list it too.
    pub virtual_addresses: Vec<VirtualAddress>,
    /// Index into [`Config::interfaces`] of the personality that answers for `public`; there is
    /// one if there is any `public`, unless the network is bridged: the guest then answers itself.
    pub personality: Option<usize>,
    /// The IPv4 address that DHCP hands out.
    pub dhcp_address: Option<Ipv4Addr>,
    /// The IPv6 address that DHCPv6 hands out.
    pub dhcp6_address: Option<Ipv6Addr>,
    /// The host name that DHCP hands out.
    pub hostname: String,
    /// What metadata tells it, if its network has any.
    pub instance: Option<Arc<Instance>>,
    /// What it may use.
    pub limits: Limits,
    /// How fast it may send and be sent to.
    pub bandwidth: Bandwidth,
}

impl Guest {
    /// All that it has or may have outside.
    pub fn outside(&self) -> impl Iterator<Item = IpNet> {
        let moving = self.virtual_addresses.iter().filter(|moving| moving.public);
        let moving = moving.map(|moving| IpNet::from(moving.address));
        self.public.iter().copied().chain(moving)
    }

    /// All that it has or may have.
    pub fn owned(&self) -> impl Iterator<Item = IpNet> {
        let moving = self.virtual_addresses.iter();
        let moving = moving.map(|moving| IpNet::from(moving.address));
        let fixed = self.addresses.iter().chain(&self.public).copied();
        fixed.chain(moving)
    }
}

/// An address that one of several guests has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Whether it is outside too.
    pub public: bool,
}

/// A named routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its routes, in the order of the file; for [`MAIN`] the connected prefixes come first.
    pub routes: Vec<Route>,
}

/// A route: packets to `to` are treated as `action` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination prefix, without host bits.
    pub to: IpNet,
    /// Of the routes to a prefix the one with the lowest is used whose next hop is alive.
    pub metric: u32,
    /// What happens to packets that match.
    pub action: RouteAction,
}

/// What happens to packets that match a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAction {
    /// Send them on. Routes that say the same share it.
    Forward(Arc<Forward>),
    /// Drop silently.
    Blackhole,
    /// Drop, answer "network unreachable".
    Unreachable,
    /// Drop, answer "administratively prohibited".
    Prohibit,
    /// Go on with the next rule.
    Throw,
}

/// How a route sends packets on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Where to: one next hop, or several that flows are shared out among.
    pub hops: Vec<NextHop>,
    /// The source of what the router itself sends by it without one of its own.
    pub src: Option<IpAddr>,
    /// The largest packet, in bytes without Ethernet header, where the interface's MTU is larger.
    pub mtu: Option<u32>,
    /// The largest TCP segment, in bytes, that SYNs which leave by it announce.
    pub advmss: Option<u16>,
}

impl Forward {
    /// To one next hop.
    pub fn to(hop: NextHop) -> Self {
        Self {
            hops: vec![hop],
            src: None,
            mtu: None,
            advmss: None,
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The interfaces to leave by, by index: one, or every personality that has the route's prefix
    /// connected.
    pub interfaces: Vec<usize>,
    /// The next hop, of either family; the destination itself when absent.
    pub via: Option<IpAddr>,
    /// How many flows it gets, beside the others' weights.
    pub weight: u16,
}

/// A rule: packets that match are looked up in a table, or end here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The lower the earlier.
    pub priority: u32,
    /// Which packets it is for; interfaces by index into [`Config::interfaces`].
    pub condition: Condition<usize>,
    /// What to do.
    pub verdict: RuleVerdict,
}

/// What a rule does with the packets it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleVerdict {
    /// Look them up; no match goes on with the next rule.
    Lookup {
        /// Index into [`Config::tables`].
        table: usize,
        /// Ignore routes whose prefix is this long or shorter.
        suppress_prefixlength: Option<u8>,
    },
    /// Go on with the rule of this priority, which comes later.
    Goto(u32),
    /// Go on with the next rule.
    Nop,
    /// End here.
    End(RuleEnd),
}

/// How a rule ends a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleEnd {
    /// Drop silently.
    Blackhole,
    /// Drop, answer "network unreachable".
    Unreachable,
    /// Drop, answer "administratively prohibited".
    Prohibit,
}

impl RuleEnd {
    /// As written in a rule.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

/// A source translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snat {
    /// Source prefix.
    pub from: IpNet,
    /// The personality packets must leave by: index into [`Config::interfaces`].
    pub interface: usize,
    /// The addresses they then wear, the personality's own; at least one.
    pub to: Vec<IpAddr>,
    /// Destinations that are reached untranslated.
    pub except: Vec<IpNet>,
    /// The external ports to use.
    pub ports: PortRange,
    /// For how many destinations one of them stands for one inside address and port.
    pub mapping: Mapping,
    /// Who may answer to one of them.
    pub filtering: Filtering,
    /// How many of them each address of `from` has for itself; `None`: all share all of them.
    pub block: Option<NonZeroU16>,
}

impl Snat {
    /// Which of the ports are whose, if each address has its own.
    pub fn blocks(&self) -> Option<Blocks<'_>> {
        Blocks::new((self.from, &self.to), self.ports, self.block)
    }
}

/// Two addresses, or prefixes of the same length, that stand for each other (`nat.one_to_one`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneToOne {
    /// The personality that `outside` is of: index into [`Config::interfaces`].
    pub interface: usize,
    /// The guest's address, or guests' prefix.
    pub inside: IpNet,
    /// The personality's.
    pub outside: IpNet,
}

impl OneToOne {
    /// Whether it is of prefixes, not of single addresses.
    pub fn is_of_prefixes(&self) -> bool {
        self.outside.prefix_len() < self.outside.max_prefix_len()
    }
}

/// A port redirection (`nat.forward`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The personality it is for: index into [`Config::interfaces`].
    pub interface: usize,
    /// The personality's address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortRange,
    /// The sources it is for; any if there are none.
    pub from: Vec<IpNet>,
    /// Where it goes; at least one.
    pub to: Vec<Target>,
}

/// One step on the way to a place in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segment {
    /// The element of an array, from 0.
    Index(usize),
    /// The key of a table.
    Key(String),
}

/// One fault of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigError {
    /// Where it is: the path of keys and indices from the top of the file.
    pub at: Vec<Segment>,
    /// What is wrong, naming the offending value.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
    /// Another place the fault involves (the first of two duplicates).
    pub other: Option<Vec<Segment>>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.at.iter().enumerate() {
            match segment {
                Segment::Key(key) if n == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// Every fault of a configuration file, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
