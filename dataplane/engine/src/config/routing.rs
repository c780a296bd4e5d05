//! `[tables]` and `[routing]`, as written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::policy::ProtocolName;
use super::value::{PortRange, Prefix};

/// `[routing]`: which table a packet is looked up in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// As in `ip rule`; `main` is always looked up at priority 32766.
    pub rules: Vec<Rule>,
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
    /// Several next hops in place of one: flows are shared out among them by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nexthops: Vec<NextHop>,
    /// Of the routes to a prefix the one with the lowest is used whose next hop is alive. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metric: u32,
    /// The source, one of the router's own addresses, of what it sends by the route itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// The largest packet that takes it, in bytes without Ethernet header, where its interface's MTU is larger:
    /// 576 to 65535, for IPv6 1280 and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The largest TCP segment, in bytes, that connections by it announce: 256 to 65495.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// What happens to packets that match.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "RouteType::is_unicast"
    )]
    pub kind: RouteType,
}

/// One of several next hops of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextHop {
    /// As of a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// As of a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// As of a route.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// How many flows it gets, beside the others' weights: 1 to 256. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u16,
}

fn one() -> u16 {
    1
}

fn is_one(weight: &u16) -> bool {
    *weight == 1
}

fn is_zero(metric: &u32) -> bool {
    *metric == 0
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
    /// The personality or network the packet came in by, or `lo`: the router sends it itself. Any when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// The personality or network that what the router sends itself is bound to; any when absent. What is
    /// forwarded is bound to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// The mark that the policy gave the flow, as in `0x10` or `0x10/0xf0`; 0 is none. Any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<FwMark>,
    /// The type of service: a multiple of 4. As in Linux, 4 to 28 for IPv4, where the upper three bits of
    /// the packet are left out, and up to 252 for IPv6. Any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos: Option<u8>,
    /// The DSCP (RFC 2474), 0 to 63; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// The IP protocol, by name or number; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipproto: Option<ProtocolName>,
    /// The source port, or a range; any when absent. What has no ports has none that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<PortRange>,
    /// The destination port, or a range; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<PortRange>,
    /// The rule is for packets of its family that the conditions together do not hold for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
    /// The table to look in. Exactly one of `lookup`, `goto` and `action`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<String>,
    /// The priority of the rule to go on with; rules between are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goto: Option<u32>,
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
    /// Nothing: a place that `goto` names, or a note.
    Nop,
}

/// A mark and the bits of it that count, written `0x10` or `"0x10/0xf0"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FwMark {
    /// The mark; no bits but those of `mask`.
    pub value: u32,
    /// The bits that are compared.
    pub mask: u32,
}

impl FwMark {
    /// Whether a flow with this mark is meant; 0 is none.
    #[inline]
    pub const fn holds(self, mark: u32) -> bool {
        (mark ^ self.value) & self.mask == 0
    }
}

impl fmt::Display for FwMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask {
            u32::MAX if self.value != 0 => write!(f, "{:#x}", self.value),
            mask => write!(f, "{:#x}/{mask:#x}", self.value),
        }
    }
}

impl FromStr for FwMark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim().strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.trim().parse().ok(),
        };
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value), number(mask)),
            None => (number(text), Some(u32::MAX)),
        };
        match (value, mask) {
            (Some(0), Some(_)) if !text.contains('/') => Err(
                "0 is no mark, and to Linux any: write \"0/0xffffffff\" for what has none, or leave it out".to_owned(),
            ),
            (Some(value), Some(mask)) if value & !mask == 0 => Ok(Self { value, mask }),
            (Some(value), Some(mask)) => Err(format!(
                "{value:#x} has bits that its mask {mask:#x} has not, and no packet could match: write \"{:#x}/{mask:#x}\"",
                value & mask
            )),
            _ => Err(format!(
                "\"{text}\" is not a mark: write one such as 16, \"0x10\" or \"0x10/0xf0\""
            )),
        }
    }
}

impl Serialize for FwMark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FwMark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "not a mark: write one such as 16, \"0x10\" or \"0x10/0xf0\""
        )]
        enum Written {
            Number(u32),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(value) => value.to_string().parse().map_err(de::Error::custom),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}
