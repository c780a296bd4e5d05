//! `[policy]`: who may open flows to whom.
//!
//! [`Policy`] and [`Rule`] are what an operator writes; [`Checked`] is what comes out of checking them.

use std::collections::BTreeMap;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::value::{OneOrMore, PortRange, Prefix};

/// `[policy]`: who may open flows to whom. Answers and errors about a flow follow it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Names for personalities, networks and guests together. A guest that is in none is in its
    /// network's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub zones: BTreeMap<String, Vec<String>>,
    /// Names for addresses and prefixes together, of both families.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, Vec<Prefix>>,
    /// The first rule that matches decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Security groups by name. They are asked after `rules`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// What holds between two sides where no rule matches; the first that matches decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default: Vec<Default>,
    /// What the host's kernel hears of guests when tapgate has stopped.
    #[serde(skip_serializing_if = "OnStop::is_default")]
    pub on_stop: OnStop,
}

impl Policy {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the host's kernel hears of guests when tapgate has stopped, or both its processes died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// All that they send: nothing is left of tapgate.
    #[default]
    Host,
    /// Nothing, until it runs again.
    Closed,
}

impl OnStop {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One rule. What it does not mention is any.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What becomes of a flow that matches.
    pub action: Action,
    /// Where it comes from: zones, personalities, networks or guests.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub from: OneOrMore<String>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub to: OneOrMore<String>,
    /// Its source, before translation: addresses, prefixes or names of sets.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub source: OneOrMore<String>,
    /// Its destination, inside where it is translated.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub destination: OneOrMore<String>,
    /// Its protocol.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub proto: OneOrMore<ProtocolName>,
    /// With TCP or UDP: its destination port, inside where it is translated.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub port: OneOrMore<PortRange>,
    /// With TCP or UDP: its source port.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub source_port: OneOrMore<PortRange>,
    /// With `icmp`: its type.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub icmp_type: OneOrMore<IcmpType>,
    /// Write the flows that match into the log: at most ten a second of each guest, and of all strangers
    /// on an uplink together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// With `accept`: a number that its sessions bear; not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// With `accept`: flows that it lets through in a second, half as many at once; of each guest, and
    /// of all strangers on an uplink together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// With `accept`: sessions at a time that it lets through, of each family; of each guest, and of
    /// each address outside (IPv6: each /64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}

/// A security group: what guests that are members of it accept. A guest that is in groups is opened by
/// their rules alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What opens flows to a member; rules without `to`, and all of them accept.
    #[serde(default, rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub into: Vec<Rule>,
    /// What a member may open; rules without `from`. Anything, if no group of the guest says `out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Vec<Rule>>,
}

/// What holds between two sides where no rule matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Default {
    /// What becomes of a flow.
    pub action: Action,
    /// Where it comes from; anywhere when absent.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub from: OneOrMore<String>,
    /// Where it goes; anywhere when absent.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub to: OneOrMore<String>,
    /// As of a rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
}

impl From<&Default> for Rule {
    /// The rule that mentions nothing but its sides.
    fn from(default: &Default) -> Self {
        Self {
            action: default.action,
            from: default.from.clone(),
            to: default.to.clone(),
            source: OneOrMore::default(),
            destination: OneOrMore::default(),
            proto: OneOrMore::default(),
            port: OneOrMore::default(),
            source_port: OneOrMore::default(),
            icmp_type: OneOrMore::default(),
            log: default.log,
            mark: None,
            rate: None,
            connections: None,
        }
    }
}

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may pass, and so may its answers.
    Accept,
    /// It may not; nobody is told.
    Drop,
    /// It may not; its sender is told (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
    Reject,
}

/// TCP and UDP: the protocols whose ports are looked at.
pub(crate) const WITH_PORTS: [u8; 2] = [6, 17];
/// ICMP and ICMPv6.
pub(crate) const ICMP: [u8; 2] = [1, 58];
const NAMES: [(&str, &[u8]); 8] = [
    ("tcp", &[6]),
    ("udp", &[17]),
    ("icmp", &ICMP),
    ("gre", &[47]),
    ("esp", &[50]),
    ("ah", &[51]),
    ("sctp", &[132]),
    ("udplite", &[136]),
];

/// A protocol by its name or number. `icmp` is that of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProtocolName(u8);

impl ProtocolName {
    /// Its numbers.
    pub fn numbers(self) -> &'static [u8] {
        const ALL: [u8; 256] = {
            let mut all = [0; 256];
            let mut n = 0;
            while n < 256 {
                all[n] = n as u8;
                n += 1;
            }
            all
        };
        match ICMP.contains(&self.0) {
            true => &ICMP,
            false => std::slice::from_ref(&ALL[usize::from(self.0)]),
        }
    }
}

impl FromStr for ProtocolName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = NAMES.iter().find(|(name, _)| *name == text);
        let number = named
            .map(|(_, numbers)| numbers[0])
            .or_else(|| text.parse().ok());
        number.map(Self).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "\"{text}\" is not a protocol: write one of {}, or its number",
                names.join(", ")
            )
        })
    }
}

impl ProtocolName {
    fn name(self) -> Option<&'static str> {
        let named = NAMES.iter().find(|(_, numbers)| numbers.contains(&self.0));
        named.map(|(name, _)| *name)
    }
}

impl std::fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for ProtocolName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_u8(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ProtocolName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(NameOrNumber)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// An ICMP type: a number, or `echo-request`, which is that of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpType {
    /// 8 of ICMP, 128 of ICMPv6.
    EchoRequest,
    /// As it is.
    Number(u8),
}

impl IcmpType {
    /// Its number in a protocol.
    pub fn of(self, protocol: u8) -> u8 {
        match (self, protocol) {
            (Self::Number(number), _) => number,
            (Self::EchoRequest, 58) => 128,
            (Self::EchoRequest, _) => 8,
        }
    }
}

impl FromStr for IcmpType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("echo-request", _) => Ok(Self::EchoRequest),
            (_, Ok(number)) => Ok(Self::Number(number)),
            _ => Err(format!(
                "\"{text}\" is not an ICMP type: write \"echo-request\", or a number from 0 to 255"
            )),
        }
    }
}

impl Serialize for IcmpType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::EchoRequest => serializer.serialize_str("echo-request"),
            Self::Number(number) => serializer.serialize_u8(*number),
        }
    }
}

impl<'de> Deserialize<'de> for IcmpType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(NameOrNumber)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A name or a number, as text.
struct NameOrNumber;

impl Visitor<'_> for NameOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name or a number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// The policy without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// By place in the list of interfaces: its zone.
    pub interface_zones: Vec<Option<u16>>,
    /// By place in the list of guests: its zone, if it is in one itself.
    pub guest_zones: Vec<Option<u16>>,
    /// By place in the list of guests: the groups that it is in, by number.
    pub guest_groups: Vec<Vec<u16>>,
    /// By group: its name, and whether it says what its members may open.
    pub groups: Vec<(String, bool)>,
    /// All rules in the order in which they are asked: `rules`, groups' `out`, groups' `in`, `default`.
    pub rules: Vec<CheckedRule>,
}

/// Where a rule stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In `policy.rules`.
    Rule(usize),
    /// In a group: its number, `in` or `out`, and which of them.
    Group(u16, Facing, usize),
    /// Nowhere: a guest is in groups, and no rule of theirs accepts.
    Closed(Facing),
    /// In `policy.default`.
    Default(usize),
}

impl Origin {
    /// Where that is, where groups have these names.
    pub fn name(self, groups: &[(String, bool)]) -> String {
        match self {
            Self::Rule(n) => format!("policy.rules[{n}]"),
            Self::Group(group, facing, n) => {
                let group = groups.get(usize::from(group)).map_or("", |(name, _)| name);
                format!("policy.groups.{group}.{}[{n}]", facing.name())
            }
            Self::Closed(facing) => format!("policy.groups.*.{}", facing.name()),
            Self::Default(n) => format!("policy.default[{n}]"),
        }
    }
}

/// Which flows of a group's members a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facing {
    /// Those that others open to them.
    In,
    /// Those that they open.
    Out,
}

impl Facing {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// One side of a flow, as rules name it; by number or place in the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A zone.
    Zone(u16),
    /// A personality or network, with all its guests.
    Interface(usize),
    /// A guest.
    Guest(usize),
    /// The members of a security group.
    Group(u16),
}

/// A rule; an empty list is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRule {
    /// Where it stands.
    pub origin: Origin,
    /// What becomes of a flow that matches.
    pub action: Action,
    /// Flows that match are written into the log.
    pub log: bool,
    /// The mark of its sessions; 0 is none.
    pub mark: u32,
    /// How much it lets through.
    pub limits: Option<RuleLimits>,
    /// Where it comes from.
    pub from: Vec<Side>,
    /// Where it goes.
    pub to: Vec<Side>,
    /// Its sources.
    pub source: Vec<IpNet>,
    /// Its destinations.
    pub destination: Vec<IpNet>,
    /// Its services: protocol, and destination ports or ICMP types.
    pub services: Vec<(u8, PortSpan)>,
    /// Its protocols and their source ports.
    pub source_ports: Vec<(u8, PortSpan)>,
}

/// How much a rule lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleLimits {
    /// A hash of what is written of it but for its limits: what was counted for it stays so as long as
    /// that does.
    pub rule: u64,
    /// Flows in a second.
    pub rate: Option<u32>,
    /// Sessions at a time.
    pub connections: Option<u32>,
}

/// Destination ports or ICMP types, from one to another: 0 is one of them.
pub type PortSpan = (u16, u16);
