//! Rows of `tapgate show`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each variant is the row type of its name
pub enum Show {
    Ports,
    Interfaces,
    Guests,
    Rules,
    Routes,
    Neighbors,
    Sessions,
    Counters,
    Drops,
}

/// One page of rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what", content = "rows")]
#[allow(missing_docs)] // each variant is the row type of its name
pub enum Rows {
    Ports(Vec<PortRow>),
    Interfaces(Vec<InterfaceRow>),
    Guests(Vec<GuestRow>),
    Rules(Vec<RuleRow>),
    Routes(Vec<RouteRow>),
    Neighbors(Vec<NeighborRow>),
    Sessions(Vec<SessionRow>),
    Counters(Vec<CounterRow>),
    Drops(Vec<DropRow>),
}

/// A port.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortRow {
    /// Its name in the configuration.
    pub name: String,
    /// `device`, `tap` or `memory`.
    pub kind: String,
    /// The netdev behind it.
    pub device: Option<String>,
    /// `up`, `down` (no carrier or administratively down) or `waiting` (no such device yet).
    pub state: String,
    /// Largest IP packet that passes, in bytes.
    pub mtu: u32,
    /// How foreign MACs are received on a device: `unicast-filter` or `promiscuous`.
    pub receive_mode: Option<String>,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames the kernel dropped before we saw them (PACKET_STATISTICS tp_drops).
    pub kernel_drops: u64,
    /// Frames the kernel refused to send.
    pub tx_errors: u64,
    /// How many times the device was bound, 1 after a start.
    pub binds: u64,
}

/// A personality or a network's gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterfaceRow {
    /// Its name.
    pub name: String,
    /// `personality` or `network`.
    pub kind: String,
    /// The ports it is on.
    pub ports: Vec<String>,
    /// Its MAC; a bridged network has none.
    pub mac: Option<MacAddr>,
    /// Of a bridged network: the uplink on whose segment its guests are.
    #[serde(default)]
    pub bridged: Option<String>,
    /// Its VLAN.
    pub vlan: Option<u16>,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// Addresses that are not used, and why: `tentative` or `duplicate`.
    pub unusable: Vec<String>,
    /// Its gateways.
    pub gateways: Vec<IpAddr>,
    /// Of addresses shared with the host: the ports that are ours.
    pub shared: Option<String>,
    /// Largest IP packet that passes, in bytes.
    pub mtu: u32,
}

/// A VM or container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuestRow {
    /// Its name.
    pub name: String,
    /// The port it is behind.
    pub port: String,
    /// The network that port is in.
    pub network: String,
    /// Its MAC, if it is configured.
    pub mac: Option<MacAddr>,
    /// What it has inside only.
    pub addresses: Vec<String>,
    /// What it has outside too.
    pub public: Vec<String>,
    /// Virtual addresses that it may take over, inside or outside.
    #[serde(default)]
    pub virtual_addresses: Vec<VirtualRow>,
    /// The personality that answers for those.
    pub personality: Option<String>,
    /// Frames from its port that it may not send, by reason.
    pub violations: BTreeMap<String, u64>,
    /// What it uses; absent if the dataplane is of an earlier version.
    #[serde(default)]
    pub usage: Option<UsageRow>,
}

/// A virtual address that a guest lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VirtualRow {
    /// The address.
    pub address: IpAddr,
    /// The guest that has it now.
    pub holder: String,
}

/// What a guest uses: how many, and how many it could have now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UsageRow {
    /// Sessions that it opened.
    pub sessions_opened: (u32, u32),
    /// Sessions that were opened to it and that it answered.
    pub sessions_served: (u32, u32),
    /// External ports of the address and protocol of which it has most.
    pub external_ports: (u32, u32),
    /// Neighbours behind its port, or asked for on behalf of it.
    pub neighbors: (u32, u32),
    /// Packets for which it had no more, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// A routing rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleRow {
    /// The lower the earlier.
    pub priority: u32,
    /// Its conditions by keyword, in the order of `ip rule`: `from` (`all` for any), `to`, `iif`, …
    pub conditions: Vec<(String, String)>,
    /// `lookup TABLE`, or the action.
    pub action: String,
    /// Ignore routes whose prefix is this long or shorter.
    pub suppress_prefixlength: Option<u8>,
}

/// A route.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RouteRow {
    /// The table it is in.
    pub table: String,
    /// Destination prefix.
    pub to: String,
    /// Of the routes to a prefix the one with the lowest is used whose next hop is alive.
    pub metric: u32,
    /// `unicast`, `blackhole`, `unreachable`, `prohibit`, `throw` or `local`.
    pub kind: String,
    /// Where it leads; flows are shared out among several by weight.
    pub nexthops: Vec<NextHopRow>,
    /// The source of what the router sends by it itself.
    pub src: Option<IpAddr>,
    /// The largest packet that takes it, in bytes, if the route itself says so.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The largest TCP segment, in bytes, that connections by it announce.
    #[serde(default)]
    pub advmss: Option<u16>,
}

/// Where a route leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NextHopRow {
    /// The next hop; the destination itself when absent.
    pub via: Option<IpAddr>,
    /// Interfaces to leave by.
    pub dev: Vec<String>,
    /// How many flows it gets, beside the others' weights.
    pub weight: u16,
    /// Whether it is in use; absent where the destination itself is the next hop, or if the dataplane is of
    /// an earlier version.
    #[serde(default)]
    pub health: Option<HealthRow>,
}

/// Whether a next hop is in use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthRow {
    /// `up`, or `down`: flows take another way while there is one.
    pub state: String,
    /// Why it is down: `answers again`, but not for long enough yet, `target silent`, `no answer` or `link down`.
    pub reason: Option<String>,
    /// Milliseconds since that changed, or since the configuration named it.
    pub since_ms: u64,
    /// How often it has changed.
    pub changes: u32,
}

/// A neighbour.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighborRow {
    /// Its address.
    pub address: IpAddr,
    /// The interface it is on.
    pub interface: String,
    /// The port its answers came in by.
    pub port: Option<String>,
    /// Its MAC, when known.
    pub mac: Option<MacAddr>,
    /// `incomplete`, `reachable`, `stale`, `delay` or `probe` (RFC 4861 §7.3.2); `permanent` where
    /// the configuration names the MAC.
    pub state: String,
    /// Milliseconds since it was last confirmed.
    pub age_ms: u64,
    /// Packets waiting for it.
    pub held: u32,
}

/// A session, seen from the side that opened it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRow {
    /// `tcp`, `udp`, `icmp` or the IP protocol's number.
    pub protocol: String,
    /// Where it came from.
    pub source: IpAddr,
    /// Source port; the identifier for ICMP.
    pub source_port: u16,
    /// Where it goes.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
    /// The source as the destination sees it, when translated.
    pub translated: Option<(IpAddr, u16)>,
    /// The interface it came in by.
    pub iif: String,
    /// The interface it leaves by.
    pub oif: String,
    /// `new`, `established` or `closing`.
    pub state: String,
    /// The rule of the policy that let it in; absent also while it was not judged since the last change.
    #[serde(default)]
    pub rule: Option<String>,
    /// Its mark; 0 is none.
    #[serde(default)]
    pub mark: u32,
    /// Packets and bytes from the opener.
    pub forward: (u64, u64),
    /// Packets and bytes back to it.
    pub reply: (u64, u64),
    /// Seconds until it ends if nothing more is seen.
    pub expires_s: u64,
}

/// A counter other than a drop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CounterRow {
    /// Its name.
    pub name: String,
    /// Its value since the dataplane started.
    pub value: u64,
    /// What it counts.
    pub explanation: String,
}

/// A drop reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DropRow {
    /// The reason.
    pub reason: DropReason,
    /// Frames dropped for it since the dataplane started.
    pub frames: u64,
    /// What it means and what to check.
    pub explanation: String,
}
