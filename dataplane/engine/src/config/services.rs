//! `[networks.X] dhcp`, `dhcp6` and `ra`: what guests are told about their network. `metadata` is in
//! [`metadata`](super::metadata).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Prefix;

/// What a network tells its guests; none of it unless it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Services {
    /// DHCPv4.
    pub dhcp: Option<Dhcp>,
    /// DHCPv6.
    pub dhcp6: Option<Dhcp6>,
    /// Router advertisements.
    pub ra: Option<Ra>,
    /// Metadata on [`METADATA_V4`](super::metadata::METADATA_V4) and
    /// [`METADATA_V6`](super::metadata::METADATA_V6).
    pub metadata: bool,
}

impl Services {
    /// Whether the gateway speaks IPv6 for them, and so needs a link-local address.
    pub fn speak_ipv6(&self) -> bool {
        self.dhcp6.is_some() || self.ra.is_some() || self.metadata
    }
}

/// `dhcp = { … }`: each guest is handed its own address, with the network's as its gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dhcp {
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// The guests' domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// Domains in which names are looked up.
    pub search: Vec<DomainName>,
    /// How long an address is lent, in seconds; guests renew at half of it. Default 3600.
    #[serde(rename = "lease")]
    pub lease_seconds: u32,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            search: Vec::new(),
            lease_seconds: 3_600,
        }
    }
}

/// `dhcp6 = { … }`: each guest that has an IPv6 host address is handed it; all are told the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dhcp6 {
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv6Addr>,
    /// Domains in which names are looked up.
    pub search: Vec<DomainName>,
    /// How long an address is lent, in seconds; guests renew at half of it. Default 3600.
    #[serde(rename = "lease")]
    pub lease_seconds: u32,
}

impl Default for Dhcp6 {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            ntp: Vec::new(),
            search: Vec::new(),
            lease_seconds: 3_600,
        }
    }
}

/// `ra = { … }`: router advertisements, which make the network's link-local address (fe80::1 if
/// none is written) the guests' default gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ra {
    /// Prefixes to configure addresses from, or that are on the link.
    pub prefixes: Vec<RaPrefix>,
    /// Name servers (RFC 8106).
    pub dns: Vec<Ipv6Addr>,
    /// Domains in which names are looked up (RFC 8106).
    pub domains: Vec<DomainName>,
    /// More specific routes through the gateway (RFC 4191).
    pub routes: Vec<RaRoute>,
    /// The longest time between two advertisements, in seconds: MaxRtrAdvInterval of RFC 4861
    /// §6.2.1. Default 600.
    pub interval: u16,
    /// For how long the gateway is a default gateway, in seconds; 0: it is none. Default three
    /// times `interval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u16>,
}

impl Default for Ra {
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            dns: Vec::new(),
            domains: Vec::new(),
            routes: Vec::new(),
            interval: 600,
            lifetime: None,
        }
    }
}

impl Ra {
    /// How long what is advertised holds unless it says otherwise, in seconds: three intervals
    /// (RFC 4861 §6.2.1, RFC 8106 §5.1).
    pub fn three_intervals(&self) -> u32 {
        3 * u32::from(self.interval)
    }
}

/// A prefix of `ra`. Lifetimes are in seconds; the defaults are those of RFC 4861 §6.2.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaPrefix {
    /// The prefix; a /64 if `autonomous`.
    pub prefix: Prefix,
    /// Its addresses are neighbours. Default false: guests are isolated and reach each other by the
    /// gateway.
    #[serde(default)]
    pub on_link: bool,
    /// Guests may make addresses from it. Default true.
    #[serde(default = "yes")]
    pub autonomous: bool,
    /// For how long such an address is used for new connections. Default 604800, a week.
    #[serde(default = "RaPrefix::week")]
    pub preferred: u32,
    /// For how long it is used at all. Default 2592000, 30 days.
    #[serde(default = "RaPrefix::month")]
    pub valid: u32,
}

impl RaPrefix {
    const fn week() -> u32 {
        604_800
    }

    const fn month() -> u32 {
        2_592_000
    }
}

const fn yes() -> bool {
    true
}

/// A route of `ra`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaRoute {
    /// The destination.
    pub prefix: Prefix,
    /// Against the same route of another router. Default `medium`.
    #[serde(default)]
    pub preference: Preference,
    /// For how long it holds, in seconds; 0 withdraws it. Default three times `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
}

/// A route's preference (RFC 4191 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // as in the RFC
pub enum Preference {
    High,
    #[default]
    Medium,
    Low,
}

/// A domain name (RFC 1035 §2.3.1; underscores are let through, as everywhere).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainName(String);

impl DomainName {
    /// The name as text, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as labels with their lengths, uncompressed (RFC 1035 §3.1): at most 255 bytes.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.0.len() + 2);
        for label in self.0.split('.') {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DomainName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
        if name.len() <= 253 && name.split('.').all(label) {
            Ok(Self(name.to_owned()))
        } else {
            Err(format!(
                "\"{text}\" is not a domain name: write labels of 1 to 63 letters, digits and \"-\" with dots between them, such as \"example.net\""
            ))
        }
    }
}

impl Serialize for DomainName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DomainName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
