//! The configuration exactly as it is written in the TOML file, before any of it is checked.
//!
//! Field for field what an operator may write; [`super::Config`] is what comes out of checking it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::addr::MacAddr;

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Limits and identity of the router as a whole.
    pub router: Router,
    /// Where frames enter and leave, by name.
    pub ports: BTreeMap<String, Port>,
    /// MACs worn on an uplink, by name: what a macvlan device would be.
    pub personalities: BTreeMap<String, Personality>,
    /// Internal segments, by name.
    pub networks: BTreeMap<String, Network>,
    /// Routing tables beside `main`, by name; connected prefixes are in `main` by themselves.
    pub tables: BTreeMap<String, Vec<Route>>,
    /// Which table a packet is looked up in.
    pub routing: Routing,
    /// Address translation.
    pub nat: Nat,
}

/// `[router]`: limits and identity of the router as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// Source of ICMP errors that leave by an interface without an address. Default 192.0.0.8
    /// (RFC 7600 §4.8, as Linux does).
    pub id: Ipv4Addr,
    /// How many sessions are tracked at most; memory for them is reserved at start.
    pub sessions: u32,
    /// How many neighbours are remembered at most.
    pub neighbors: u32,
    /// ICMP errors per second and kind (RFC 1812 §4.3.2.8); bursts of half as many pass at once.
    pub icmp_errors_per_second: u32,
    /// Idle times after which a session ends.
    pub timeouts: Timeouts,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            id: Ipv4Addr::new(192, 0, 0, 8),
            sessions: 262_144,
            neighbors: 4_096,
            icmp_errors_per_second: 1_000,
            timeouts: Timeouts::default(),
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
            udp: 300,
            icmp: 60,
            other: 300,
        }
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
    /// Queues to open (TAP: multi-queue, device: fanout). Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
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
    /// The provider's gateway, for routes that say only `dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The gateway is reached directly although no address's prefix covers it, as in
    /// `ip route … onlink`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
}

/// `[networks]`: an internal segment whose gateway is tapgate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The guests' ports: names from `[ports]`. They are isolated from each other.
    pub ports: Vec<String>,
    /// The gateway's addresses with the segment's prefix lengths.
    pub addresses: Vec<Prefix>,
    /// The gateway's MAC; derived from the network's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

/// One route of a table, as in `ip route`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination prefix, or `default` (IPv4; `::/0` for IPv6).
    pub to: Prefix,
    /// The next hop. Absent: the `dev`'s own gateway, or the destination itself is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// A personality or a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// `via` is reached directly although no address's prefix on `dev` covers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// What happens to packets that match.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "RouteType::is_unicast"
    )]
    pub kind: RouteType,
}

/// A route's type, as in `ip route add TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteType {
    /// Forward.
    #[default]
    Unicast,
    /// Drop silently.
    Blackhole,
    /// Drop, answer "host unreachable" (ICMP 3/1), as Linux does for routes of this type.
    Unreachable,
    /// Drop, answer "administratively prohibited" (ICMP 3/13).
    Prohibit,
    /// End the lookup in this table and go on with the next rule.
    Throw,
}

impl RouteType {
    fn is_unicast(&self) -> bool {
        *self == Self::Unicast
    }
}

/// `[routing]`: which table a packet is looked up in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// As in `ip rule`; `main` is always looked up at priority 32766.
    pub rules: Vec<Rule>,
}

/// One rule, as in `ip rule`: the lower the priority the earlier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// 1 to 4294967295; unique.
    pub priority: u32,
    /// Source prefix; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Prefix>,
    /// Destination prefix; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Prefix>,
    /// The personality or network the packet came in by; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// The table to look in. Exactly one of `lookup` and `action`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<String>,
    /// What to do with the packet instead of looking it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<RuleAction>,
    /// Ignore routes of the table whose prefix is this long or shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress_prefixlength: Option<u8>,
}

/// A rule's action other than looking up a table, as in `ip rule add … TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Drop silently.
    Blackhole,
    /// Drop, answer "network unreachable".
    Unreachable,
    /// Drop, answer "administratively prohibited".
    Prohibit,
}

/// `[nat]`: address translation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat {
    /// Source translation; the first entry that matches is used.
    pub snat: Vec<Snat>,
}

/// One source translation, as in `iptables -t nat … SNAT --to-source`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snat {
    /// Source prefix.
    pub from: Prefix,
    /// The address to wear: one of a personality's own. The entry applies to packets that leave
    /// by that personality.
    pub to: IpAddr,
    /// External ports (and ICMP identifiers) to use, as in `"1024-65535"`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
}

/// An inclusive range of transport ports, written `"first-last"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range, not below the first.
    pub last: u16,
}

impl PortRange {
    /// How many ports the range holds, 1 to 65,536.
    pub const fn size(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// Whether `port` is one of the range's.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self {
            first: 1024,
            last: 65_535,
        }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let range = text.split_once('-').and_then(|(first, last)| {
            Some(Self {
                first: first.trim().parse().ok()?,
                last: last.trim().parse().ok()?,
            })
        });
        match range {
            Some(range) if range.first > 0 && range.first <= range.last => Ok(range),
            _ => Err(de::Error::custom(format!(
                "\"{text}\" is not a port range: write \"first-last\" within 1-65535, such as \"1024-65535\""
            ))),
        }
    }
}

/// An address with a prefix length, kept as written: `10.0.1.254/24` keeps its host bits. A bare
/// address is a host prefix; `default` is `0.0.0.0/0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(pub IpNet);

impl Prefix {
    /// Host bits beyond the prefix length are set, which makes it an interface address rather
    /// than a prefix.
    pub fn has_host_bits(self) -> bool {
        self.0.network() != self.0.addr()
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(IpNet::V4(ipnet::Ipv4Net::default())));
        }
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self)
            .map_err(|_| {
                format!(
                    "\"{text}\" is not an address or a prefix: write one such as \"10.0.1.0/24\" or \"203.0.113.10\""
                )
            })
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
