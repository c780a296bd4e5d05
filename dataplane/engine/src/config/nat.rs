//! `[nat]` as an operator writes it: address translation.

use std::net::IpAddr;

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
    /// External ports (and ICMP identifiers) to use, as in `"1024-65535"`. Default all of them: a port
    /// below 1024 is given one below 1024, and no other one is while there are others (RFC 4787
    /// REQ-3). Where the personality is `shared`, its own range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
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
