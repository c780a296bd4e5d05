//! The configuration exactly as it is written in the TOML file, before any of it is checked.
//!
//! Field for field what an operator may write; [`super::Config`] is what comes out of checking it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, UserData};
use super::nat::Nat;
use super::policy::Policy;
use super::routing::{Route, Routing};
use super::services::{Dhcp, Dhcp6, Ra};
use super::value::{BitRate, Gateways, PortRange, Prefix};
use crate::base::addr::MacAddr;

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Limits and identity of the router as a whole.
    pub router: RouterSection,
    /// Where frames enter and leave, by name.
    pub ports: BTreeMap<String, Port>,
    /// MACs worn on an uplink, by name: what a macvlan device would be.
    pub personalities: BTreeMap<String, Personality>,
    /// Internal segments, by name.
    pub networks: BTreeMap<String, Network>,
    /// VMs and containers and the addresses they own, by name.
    pub guests: BTreeMap<String, Guest>,
    /// Routing tables beside `main`, by name; connected prefixes are in `main` by themselves.
    pub tables: BTreeMap<String, Vec<Route>>,
    /// Which table a packet is looked up in.
    pub routing: Routing,
    /// Address translation.
    pub nat: Nat,
    /// Who may open flows to whom.
    #[serde(skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
}

/// `[router]`: limits and identity of the router as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterSection {
    /// Source of ICMP errors that leave by an interface without an address. Default 192.0.0.8
    /// (RFC 7600 §4.8, as Linux does).
    pub id: Ipv4Addr,
    /// How many sessions are tracked at most; memory for them is reserved at start.
    pub sessions: u32,
    /// How many neighbours are remembered at most.
    pub neighbors: u32,
    /// ICMP errors per second and kind (RFC 1812 §4.3.2.8); bursts of half as many pass at once.
    pub icmp_errors_per_second: u32,
    /// Answers (ARP, neighbour discovery, DHCP, RA) per second and guest's port; bursts of half as
    /// many pass at once. Uplinks are not limited.
    pub answers_per_second: u32,
    /// Longest random time, in milliseconds, before a request for a guest's address is answered, if
    /// the request was sent to a group, so that another proxy may answer too (RFC 4861 §7.2.8,
    /// RFC 1027 §2.4). 0: at once, which is right where tapgate is the only proxy.
    pub proxy_delay: u32,
    /// Seconds between announcements of every address, after the burst at its start; 0: only
    /// bursts.
    pub announce_interval: u32,
    /// Idle times after which a session ends.
    pub timeouts: Timeouts,
    /// What each guest may use; a guest's own `limits` go first.
    pub limits: Limits,
}

impl Default for RouterSection {
    fn default() -> Self {
        Self {
            id: Ipv4Addr::new(192, 0, 0, 8),
            sessions: 262_144,
            neighbors: 4_096,
            icmp_errors_per_second: 1_000,
            answers_per_second: 1_000,
            proxy_delay: 0,
            announce_interval: 300,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

/// What one guest may use at most. Where this says nothing it may have as much as it leaves to others:
/// alone half of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sessions that it opens, and as many that are opened to it, of each family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Sessions that it opens in a second; half as many at once. Default 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_sessions_per_second: Option<u32>,
    /// TCP connections that it opens and that are not established yet, of each family: so many at once,
    /// and a tenth of it more each second. Default 3000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered_syns: Option<u32>,
    /// Addresses that it sends a flow's first packet to in a second. Default 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_destinations_per_second: Option<u32>,
    /// External ports of one address and protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// ICMP errors that it is told in a second, of each kind. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_errors_per_second: Option<u32>,
}

impl Limits {
    /// Sessions that a guest may open in a second.
    pub fn new_sessions(&self) -> u32 {
        self.new_sessions_per_second.unwrap_or(10_000)
    }

    /// TCP connections of a guest that may be opening.
    pub fn syns(&self) -> u32 {
        self.unanswered_syns.unwrap_or(3_000)
    }

    /// Addresses that a guest may turn to in a second.
    pub fn destinations(&self) -> u32 {
        self.new_destinations_per_second.unwrap_or(1_000)
    }

    /// ICMP errors that a guest is told in a second, of each kind.
    pub fn icmp_errors(&self) -> u32 {
        self.icmp_errors_per_second.unwrap_or(100)
    }

    /// These, and where they say nothing those of `general`.
    #[must_use]
    pub fn or(&self, general: &Self) -> Self {
        Self {
            sessions: self.sessions.or(general.sessions),
            new_sessions_per_second: self
                .new_sessions_per_second
                .or(general.new_sessions_per_second),
            unanswered_syns: self.unanswered_syns.or(general.unanswered_syns),
            new_destinations_per_second: self
                .new_destinations_per_second
                .or(general.new_destinations_per_second),
            ports: self.ports.or(general.ports),
            icmp_errors_per_second: self
                .icmp_errors_per_second
                .or(general.icmp_errors_per_second),
        }
    }
}

/// Idle times, in seconds, after which a session ends. Defaults are the standards' own minima or
/// defaults; less is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TCP with both handshakes seen (RFC 5382 REQ-5: at least 7440).
    pub tcp_established: u32,
    /// TCP opening or closing (RFC 5382 REQ-5: at least 240).
    pub tcp_transitory: u32,
    /// TCP opening, if not as `tcp_transitory` (RFC 7857 §2.1: may be less).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_opening: Option<u32>,
    /// TCP closing, if not as `tcp_transitory` (RFC 7857 §2.1, §2.2: at least 240).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_closing: Option<u32>,
    /// UDP (RFC 4787 REQ-5: at least 120, 300 recommended).
    pub udp: u32,
    /// ICMP echo (RFC 5508 REQ-1: at least 60).
    pub icmp: u32,
    /// Every other protocol.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: 7_440,
            tcp_transitory: 240,
            tcp_opening: None,
            tcp_closing: None,
            udp: 300,
            icmp: 60,
            other: 300,
        }
    }
}

impl Timeouts {
    /// TCP opening.
    pub fn tcp_opening(&self) -> u32 {
        self.tcp_opening.unwrap_or(self.tcp_transitory)
    }

    /// TCP closing, after FIN both ways or a RST.
    pub fn tcp_closing(&self) -> u32 {
        self.tcp_closing.unwrap_or(self.tcp_transitory)
    }
}

/// `[ports]`: one place where frames enter and leave. Exactly one of `device`, `tap` and `memory`
/// says what it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Port {
    /// An existing network device, opened with AF_PACKET: a NIC, a veth, the netdev side of a
    /// VM's TAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// A TAP made and held by tapgate; its netdev is the guest's NIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// Two queues in memory, for tests that run the engine without a kernel.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// With `device`: make it as a persistent TAP for a VM (QEMU opens its fd side) if it is not
    /// there, and remove it at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
    /// With `tap`: the network namespace its netdev is moved to, a name from /run/netns or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// With `tap`: the MAC of the netdev, which is the guest's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Largest IP packet that passes, in bytes. Default 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// With `tap`: queues to open, served in turn. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// On a network's port: which sources its packets may have. Default strict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceCheck>,
}

/// Which sources a guest's packets may have (RFC 3704 §2; F20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceCheck {
    /// Only what the port's guests own; where none is configured, what is routed back to the
    /// port's network.
    #[default]
    Strict,
    /// Whatever there is a route back to.
    Loose,
    /// Anything.
    Off,
}

/// `create = { … }` of a `device` port: the persistent TAP to make for a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Create {
    /// The user (name or number) who may open the TAP's fd side, such as `libvirt-qemu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Make it multi-queue.
    pub multi_queue: bool,
}

/// `[personalities]`: a MAC with its addresses, VLAN and gateway on an uplink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personality {
    /// The uplink: a name from `[ports]`.
    pub port: String,
    /// The MAC worn on the wire.
    pub mac: MacAddr,
    /// Addresses with their prefix lengths, as in `ip address add`.
    pub addresses: Vec<Prefix>,
    /// The 802.1Q VLAN on the uplink; untagged when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The provider's gateway, for routes that say only `dev`: one address, or a list with one of
    /// each family.
    #[serde(default, skip_serializing_if = "Gateways::is_empty")]
    pub gateway: Gateways,
    /// The gateway is reached directly although no address's prefix covers it, as in
    /// `ip route … onlink`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// The MAC and the addresses are the host's own, whose kernel goes on using them; these ports
    /// (and ICMP identifiers) are tapgate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<PortRange>,
    /// Claim the IPv4 addresses before using them (RFC 5227 §2.1), which takes 4 to 7 seconds.
    /// They are defended in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acd: bool,
    /// Connections through it announce no larger segments than fit the MTUs on their way here
    /// (RFC 2923 §2.1): where errors about too large packets get lost further on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clamp_mss: bool,
    /// Ask next hops on it whether they are there, also without traffic. One that does not answer is out
    /// of use until it does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// `probe = { … }` of a personality: how its next hops are asked whether they are there, by ARP or
/// neighbour solicitation, or whether they lead on, by ICMP echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// Seconds from one to the next. Default 1.
    pub interval: u8,
    /// So many in a row without an answer, and it is out of use. Default 3.
    pub count: u8,
    /// A host beyond, which each next hop of its family must lead to: it is pinged by each of them. The next
    /// hop itself is asked when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<IpAddr>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            interval: 1,
            count: 3,
            target: None,
        }
    }
}

/// `[guests]`: a VM or container and the addresses it owns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// The port it is behind: a name from `[ports]`, in a network.
    pub port: String,
    /// Its MAC. Default: the `tap` port's own; without either it is learnt, from that port only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Addresses and prefixes it has inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Prefix>,
    /// Addresses and prefixes it has outside too: answered for on the personality, untranslated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<Prefix>,
    /// Addresses inside that it may take over: of the guests that list one, who said last that it has it, by
    /// gratuitous ARP or an unsolicited neighbour advertisement, has it. The first of them at the start.
    #[serde(default, rename = "virtual", skip_serializing_if = "Vec::is_empty")]
    pub virtual_inside: Vec<IpAddr>,
    /// The same for addresses that are outside too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_public: Vec<IpAddr>,
    /// The personality that answers for `public`; the only one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<String>,
    /// The IPv4 address that DHCP hands out. Default: the first single one of `addresses`, else
    /// of `public`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Ipv4Addr>,
    /// The host name that DHCP and metadata tell it. Default: the guest's name here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Who it is to metadata: another one than before is another machine, which sets itself up anew.
    /// Default: `i-` and the guest's name here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Public keys that may log in, beside those of its network's `metadata`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// What it is told to do at its first start: cloud-init's user data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserData>,
    /// Security groups that it is a member of: names from `[policy.groups]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What it may use; where this says nothing, `limits` of `[router]` does.
    #[serde(default)]
    pub limits: Limits,
    /// How fast it may send and be sent to; without a limit when absent.
    #[serde(default, skip_serializing_if = "Bandwidth::is_empty")]
    pub bandwidth: Bandwidth,
}

/// How fast a guest may send and be sent to, in bits of IP packets a second. Bursts of 200 ms, or 64 KiB
/// if that is more, pass at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bandwidth {
    /// What it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<BitRate>,
    /// What it is sent.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub into: Option<BitRate>,
}

impl Bandwidth {
    /// It has no limit.
    pub fn is_empty(&self) -> bool {
        self.out.is_none() && self.into.is_none()
    }
}

/// `[networks]`: an internal segment whose gateway is tapgate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The guests' ports: names from `[ports]`. They are isolated from each other.
    pub ports: Vec<String>,
    /// The gateway's addresses with the segment's prefix lengths. A link-local one takes the place of
    /// fe80::1, and may be on other networks too. A bridged network has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Prefix>,
    /// The uplink, a name from `[ports]`, whose segment the guests are on: what they send leaves
    /// there as it is, by the pairs of MAC and address in `[guests]`, and nothing is routed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridged: Option<String>,
    /// With `bridged`: the 802.1Q VLAN on the uplink; untagged when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The gateway's MAC; derived from the network's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Addresses to answer for outside as long as they are alive in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Hand each guest its IPv4 address by DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    /// Hand each guest its IPv6 address by DHCPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp6: Option<Dhcp6>,
    /// Advertise the gateway to IPv6 guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ra: Option<Ra>,
    /// Tell each guest who it is, on 169.254.169.254 and fe80::a9fe:a9fe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// `proxy = { … }` of a network: what is learnt by asking inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// The personality that answers.
    pub personality: String,
    /// The prefixes it answers for.
    pub alive: Vec<Prefix>,
}
