//! What a system's own network setup is read into: devices, rules, routes and neighbours, each with where
//! it stands. `topology.rs` and `routing.rs` say it in the file's words.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use super::firewall::{Fate, Firewall, Note, Origin, Place};

/// A system as it was read.
#[derive(Debug, Default)]
pub(super) struct System {
    pub(super) links: Vec<Link>,
    /// In the order in which they are asked, or were added; see [`System::sort_rules`].
    pub(super) rules: Vec<Rule>,
    pub(super) routes: Vec<Route>,
    /// Addresses that are answered for at a device.
    pub(super) proxies: Vec<Neighbor>,
    /// Who was heard of at a device.
    pub(super) neighbors: Vec<Neighbor>,
    /// Behind which port of a bridge a MAC is.
    pub(super) stations: BTreeMap<(String, String), String>,
    /// Rules were listed, so one that is not among them does not exist.
    pub(super) lists_rules: bool,
    pub(super) notes: Vec<Note>,
    /// Rules and translations of its firewall.
    pub(super) firewall: Firewall,
}

/// A device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) mac: Option<String>,
    /// Largest packet, in bytes.
    pub(super) mtu: Option<u32>,
    /// The bridge that it is a port of.
    pub(super) master: Option<String>,
    pub(super) addresses: Vec<Address>,
    /// A NIC, by what the source tells of it.
    pub(super) physical: bool,
    pub(super) origin: Origin,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Address {
    pub(super) net: IpNet,
    /// It was handed out, and may change.
    pub(super) leased: bool,
    pub(super) origin: Origin,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A NIC, a veth, a TAP, a bond: frames go in and out.
    Device,
    /// A MAC on another device.
    Macvlan(String),
    /// A VLAN of another device.
    Vlan(String, u16),
    Bridge,
    /// What carries no Ethernet, or goes nowhere.
    Other(String),
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Inet {
    V4,
    V6,
}

impl Inet {
    /// An address's.
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The one that it is not.
    pub(super) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// All of its addresses.
    pub(super) fn all(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Self::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
        }
    }
}

/// A rule of `ip rule`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub(super) family: Inet,
    pub(super) priority: u32,
    pub(super) not: bool,
    pub(super) from: Option<IpNet>,
    pub(super) to: Option<IpNet>,
    pub(super) iif: Option<String>,
    pub(super) oif: Option<String>,
    /// The mark and its mask.
    pub(super) fwmark: Option<(u32, u32)>,
    pub(super) tos: Option<u8>,
    pub(super) dscp: Option<u8>,
    pub(super) ipproto: Option<u8>,
    pub(super) sport: Option<(u16, u16)>,
    pub(super) dport: Option<(u16, u16)>,
    pub(super) suppress_prefixlength: Option<u8>,
    pub(super) then: Then,
    /// Words that mean something else here, or nothing.
    pub(super) others: Vec<String>,
    pub(super) origin: Origin,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Then {
    Lookup(String),
    Goto(u32),
    Nop,
    End(Refusal),
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    Blackhole,
    Unreachable,
    Prohibit,
}

impl Rule {
    /// Whether it has all packets ask a table.
    pub(super) fn is_plain(&self, table: &str) -> bool {
        self.then == Then::Lookup(table.to_owned())
            && self.from.is_none_or(|net| net.prefix_len() == 0)
            && self.to.is_none_or(|net| net.prefix_len() == 0)
            && (self.iif.is_none() && self.oif.is_none() && self.fwmark.is_none() && !self.not)
            && (self.tos.is_none() && self.dscp.is_none() && self.ipproto.is_none())
            && (self.sport.is_none() && self.dport.is_none())
            && self.suppress_prefixlength.is_none()
            && self.others.is_empty()
    }
}

impl Refusal {
    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }

    /// From what it is called.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Blackhole, Self::Unreachable, Self::Prohibit]
            .into_iter()
            .find(|refusal| refusal.name() == name)
    }
}

/// A route of `ip route`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    pub(super) table: String,
    pub(super) to: IpNet,
    pub(super) target: Target,
    pub(super) metric: Option<u32>,
    pub(super) src: Option<IpAddr>,
    /// In bytes.
    pub(super) mtu: Option<u32>,
    /// In bytes.
    pub(super) advmss: Option<u32>,
    /// The kernel made it, for an address.
    pub(super) connected: bool,
    pub(super) others: Vec<String>,
    pub(super) origin: Origin,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// To one of these.
    Hops(Vec<Hop>),
    Refuse(Refusal),
    Throw,
    /// To the host itself, or to a group.
    Host(String),
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hop {
    pub(super) via: Option<IpAddr>,
    pub(super) dev: Option<String>,
    pub(super) onlink: bool,
    pub(super) weight: Option<u32>,
}

/// An address at a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Neighbor {
    pub(super) address: IpAddr,
    pub(super) device: String,
    pub(super) mac: Option<String>,
    /// Somebody has written its MAC down.
    pub(super) fixed: bool,
    pub(super) origin: Origin,
}

impl System {
    /// The device of this name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The device of this name, made if nobody has spoken of it before.
    pub(super) fn link_mut(&mut self, name: &str, origin: &Origin) -> &mut Link {
        let at = self.links.iter().position(|link| link.name == name);
        let at = at.unwrap_or_else(|| {
            self.links.push(Link::new(name, origin.clone()));
            self.links.len() - 1
        });
        &mut self.links[at]
    }

    /// A bridge's ports.
    pub(super) fn ports<'s>(&'s self, bridge: &'s str) -> impl Iterator<Item = &'s Link> {
        let is_port = move |link: &&Link| link.master.as_deref() == Some(bridge);
        self.links.iter().filter(is_port)
    }

    /// Notes what has no entry.
    pub(super) fn note(&mut self, origin: &Origin, fate: Fate, why: impl Into<String>) {
        self.notes.push(Note {
            origin: origin.clone(),
            fate,
            why: why.into(),
        });
    }

    /// The priority that the kernel gives a rule that says none: one less than the second that there is.
    pub(super) fn next_priority(&self, family: Inet) -> u32 {
        let all = self.rules.iter().filter(|rule| rule.family == family);
        let least = all.map(|rule| rule.priority).filter(|p| *p > 0).min();
        least.unwrap_or(32_766).min(32_766).saturating_sub(1).max(1)
    }

    /// Puts the rules in the order in which the kernel asks them.
    pub(super) fn sort_rules(&mut self) {
        self.rules.sort_by_key(|rule| rule.priority);
    }
}

impl Link {
    /// A device of which nothing is known.
    pub(super) fn new(name: &str, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Device,
            mac: None,
            mtu: None,
            master: None,
            addresses: Vec::new(),
            physical: false,
            origin,
        }
    }

    /// Gives it an MTU.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn set_mtu(&mut self, text: &str) -> Result<(), String> {
        let mtu = text.parse().map_err(|_| format!("{text} is not a size"))?;
        self.mtu = Some(mtu);
        Ok(())
    }

    /// Gives it an address.
    pub(super) fn address(&mut self, net: IpNet, leased: bool, origin: &Origin) {
        if !self.addresses.iter().any(|address| address.net == net) {
            self.addresses.push(Address {
                net,
                leased,
                origin: origin.clone(),
            });
        }
    }
}

/// A place in a file, by its line; 0 if the file has none.
pub(super) fn origin(file: &Rc<str>, line: usize, text: impl Into<String>) -> Origin {
    Origin {
        file: file.clone(),
        place: Place::Line(line),
        text: text.into(),
    }
}
