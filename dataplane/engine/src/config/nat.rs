//! `[nat]` as an operator writes it: address translation.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::value::{AddressRange, OneOrMore, PortRange, Prefix, Protocol, Target};

/// `[nat]`: address translation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat {
    /// Source translation; the first entry that matches is used.
    pub snat: Vec<Snat>,
    /// A guest's address and one outside that stands for it, in both directions and all protocols; or
    /// prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_to_one: Vec<OneToOne>,
    /// Port redirection from outside.
    pub forward: Vec<Forward>,
    /// The file in which control writes down who has which external address and ports from when to when,
    /// where the configuration alone says so: no flows. `tapgate whois --at` reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_log: Option<PathBuf>,
}

/// One source translation, as in `iptables -t nat … SNAT --to-source`, or MASQUERADE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snat {
    /// Source prefix.
    pub from: Prefix,
    /// The addresses to wear, all one personality's own: one, a range, a prefix, or a list of them. Of
    /// several each guest keeps one (RFC 4787 REQ-2). The entry applies to packets that leave by that
    /// personality. Absent: the first that `dev` has.
    #[serde(default, skip_serializing_if = "OneOrMore::is_empty")]
    pub to: OneOrMore<AddressRange>,
    /// Without `to`: the personality whose address is worn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// Destinations that are reached untranslated (RFC 6888 REQ-6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Prefix>,
    /// For how many destinations an external port stands for one inside address and port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mapping: Mapping,
    /// Who may answer to an external port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filtering: Filtering,
    /// Each address of `from` has this many external ports and no others, which the configuration alone
    /// tells (RFC 7422): the first has the first of `ports`, and so on; what is left of an external
    /// address after its last whole block is nobody's. Ports below 1024 are not given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<NonZeroU16>,
    /// External ports (and ICMP identifiers) to use, as in `"1024-65535"`. Default all of them: a port
    /// below 1024 is given one below 1024, and no other one is while there are others (RFC 4787
    /// REQ-3). Where the personality is `shared`, its own range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
}

/// For how many destinations an external port stands for one inside address and port (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// For all: whatever a guest sends from one port leaves by one port.
    #[default]
    EndpointIndependent,
    /// For one: others may have the port towards other destinations, so that an address carries more
    /// flows than it has ports.
    EndpointDependent,
}

/// Who may answer to an external port (RFC 4787 §5; RFC 5382 §4.3). ICMP echo has no choice: only
/// answers come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// The addresses and ports that were spoken to.
    #[default]
    AddressAndPortDependent,
    /// The addresses that were spoken to, from any port.
    AddressDependent,
    /// Anybody, as long as the guest uses the port.
    EndpointIndependent,
}

impl Filtering {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::AddressDependent => "address-dependent",
            Self::EndpointIndependent => "endpoint-independent",
        }
    }
}

/// One address inside and one outside that stand for each other (RFC 3022 §2.1), or two prefixes, address
/// by address: of IPv6 such that no checksum changes (NPTv6, RFC 6296).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneToOne {
    /// The guest's address, or guests' prefix.
    pub inside: Prefix,
    /// One of a personality's own, or a prefix that the provider routes to it.
    pub outside: Prefix,
    /// With prefixes: the personality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

/// One port redirection, as in `iptables -t nat … DNAT --to-destination`. Guests reach it as well; who
/// answers sees the address that they have outside (RFC 4787 REQ-9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The address it is for: one of a personality's own.
    pub address: IpAddr,
    /// The protocol.
    pub proto: Protocol,
    /// The port it is for, or a range of them.
    pub port: PortRange,
    /// Where it goes: an address inside, and a port if it is another, as in `"192.168.1.10:22"` or
    /// `"[2001:db8::1]:22"`; of a range the first. Of several each source keeps one.
    pub to: OneOrMore<Target>,
    /// The sources that it is for; any when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Prefix>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
