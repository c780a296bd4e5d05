//! What a rule asks of a flow, as sets that can be joined, taken from each other and written down.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

/// Most prefixes that a set is written as.
pub(super) const MOST_PREFIXES: usize = 4_096;

/// Most addresses that are written one by one.
const MOST_ADDRESSES: u128 = 256;

/// From one port to another.
pub(super) type Ports = (u16, u16);

/// What a rule asks of a flow. What it does not mention is any.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Match {
    /// The device that it comes in by.
    pub(super) from: Devices,
    /// The device that it leaves by.
    pub(super) to: Devices,
    /// Its source.
    pub(super) source: Addresses,
    /// Its destination.
    pub(super) destination: Addresses,
    /// Its protocol and ports.
    pub(super) service: Service,
    /// What connection tracking says of it.
    pub(super) state: State,
    /// Its destination is one of the router's own addresses.
    pub(super) to_own: bool,
}

/// Devices by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Devices {
    /// One of these; `None`: any.
    pub(super) within: Option<BTreeSet<String>>,
    /// And none of these.
    pub(super) except: BTreeSet<String>,
}

/// Addresses.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Addresses {
    /// In one of these; `None`: any.
    pub(super) within: Option<Vec<IpNet>>,
    /// And in none of these.
    pub(super) except: Vec<IpNet>,
    /// What exactly these are called.
    pub(super) name: Option<String>,
}

/// Protocols and ports; `None`: any.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Service {
    pub(super) protocols: Option<BTreeSet<u8>>,
    pub(super) ports: Option<Vec<Ports>>,
    pub(super) source_ports: Option<Vec<Ports>>,
    pub(super) icmp_types: Option<BTreeSet<u8>>,
}

/// What connection tracking says of a flow's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// A flow's first packet is one.
    #[default]
    First,
    /// First packets whose destination was translated.
    Redirected,
    /// First packets whose destination was not.
    NotRedirected,
    /// Answers and errors alone.
    Answers,
    /// What belongs to no flow.
    Stray,
    /// What is for or from many, which no router forwards (RFC 1812 §5.3.4).
    Group,
}

impl Match {
    /// What both ask for; `None`: no flow is that.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        Some(Self {
            from: self.from.and(&other.from)?,
            to: self.to.and(&other.to)?,
            source: self.source.and(&other.source)?,
            destination: self.destination.and(&other.destination)?,
            service: self.service.and(&other.service)?,
            state: self.state.and(other.state)?,
            to_own: self.to_own || other.to_own,
        })
    }

    /// The opposite, in parts that have nothing in common; `None`: it cannot be said.
    pub(super) fn negated(&self) -> Option<Vec<Self>> {
        let mut parts = Vec::new();
        // What the part before it is the opposite of, it is itself.
        let mut so_far = Self::default();
        let mut left = self.clone();
        if self.from != Devices::default() {
            let mut part = so_far.clone();
            so_far.from = std::mem::take(&mut left.from);
            part.from = so_far.from.clone().negated()?;
            parts.push(part);
        }
        if self.to != Devices::default() {
            let mut part = so_far.clone();
            so_far.to = std::mem::take(&mut left.to);
            part.to = so_far.to.clone().negated()?;
            parts.push(part);
        }
        if self.source != Addresses::default() {
            let mut part = so_far.clone();
            so_far.source = std::mem::take(&mut left.source);
            part.source = so_far.source.clone().negated()?;
            parts.push(part);
        }
        if self.destination != Addresses::default() {
            let mut part = so_far.clone();
            so_far.destination = std::mem::take(&mut left.destination);
            part.destination = so_far.destination.clone().negated()?;
            parts.push(part);
        }
        (left == Self::default()).then_some(parts)
    }
}

impl Devices {
    /// That one alone.
    pub(super) fn one(name: &str) -> Self {
        Self::of([name.to_owned()])
    }

    /// These.
    pub(super) fn of(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            within: Some(names.into_iter().collect()),
            except: BTreeSet::new(),
        }
    }

    /// All others.
    pub(super) fn negated(self) -> Option<Self> {
        match self.within {
            Some(names) if self.except.is_empty() => Some(Self {
                within: None,
                except: names,
            }),
            None if !self.except.is_empty() => Some(Self::of(self.except)),
            _ => None,
        }
    }

    /// Those of `all` that are meant; `None`: all are.
    pub(super) fn among(&self, all: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let meant: BTreeSet<String> = all.iter().filter(|name| self.has(name)).cloned().collect();
        (meant != *all).then_some(meant)
    }

    /// Whether a device is meant.
    pub(super) fn has(&self, name: &str) -> bool {
        !self.except.contains(name)
            && self
                .within
                .as_ref()
                .is_none_or(|names| names.contains(name))
    }

    fn and(&self, other: &Self) -> Option<Self> {
        let except: BTreeSet<String> = self.except.union(&other.except).cloned().collect();
        let within = match (&self.within, &other.within) {
            (Some(a), Some(b)) => Some(a.intersection(b).cloned().collect::<BTreeSet<_>>()),
            (a, b) => a.as_ref().or(b.as_ref()).cloned(),
        };
        let within = within.map(|names| &names - &except);
        match &within {
            Some(names) if names.is_empty() => None,
            Some(_) => Some(Self {
                within,
                except: BTreeSet::new(),
            }),
            None => Some(Self { within, except }),
        }
    }
}

impl Addresses {
    /// In one of these.
    pub(super) fn within(nets: Vec<IpNet>) -> Self {
        Self {
            within: Some(nets.iter().map(IpNet::trunc).collect()),
            ..Self::default()
        }
    }

    /// All others.
    pub(super) fn negated(self) -> Option<Self> {
        match self.within {
            Some(nets) if self.except.is_empty() => Some(Self {
                within: None,
                except: nets,
                name: None,
            }),
            None if !self.except.is_empty() => Some(Self::within(self.except)),
            _ => None,
        }
    }

    /// As prefixes; `None`: any, or of `family` any.
    pub(super) fn prefixes(&self, family: Family) -> Result<Option<Vec<IpNet>>, String> {
        if self.except.is_empty() {
            return Ok(self.within.clone());
        }
        let all = self.within.clone().unwrap_or_else(|| family.all());
        let left = without(&all, &self.except);
        match left.len() > MOST_PREFIXES {
            true => Err("too many prefixes are left without those after the \"!\"".to_owned()),
            false => Ok(Some(left)),
        }
    }

    /// The only address that is meant.
    pub(super) fn single(&self) -> Option<IpAddr> {
        match (self.within.as_deref(), self.except.is_empty()) {
            (Some([net]), true) if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
            _ => None,
        }
    }

    fn and(&self, other: &Self) -> Option<Self> {
        let mut except = self.except.clone();
        except.extend(other.except.iter().filter(|net| !self.except.contains(net)));
        let within = match (&self.within, &other.within) {
            (Some(a), Some(b)) => {
                let mut both = Vec::new();
                for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
                    let narrow = if a.contains(b) { b } else { a };
                    if meet(a, b) && !both.contains(narrow) {
                        both.push(*narrow);
                    }
                }
                Some(both)
            }
            (a, b) => a.as_ref().or(b.as_ref()).cloned(),
        };
        if within.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let whole = |a: &Self, b: &Self| a.name.clone().filter(|_| *b == Self::default());
        let name = whole(self, other).or_else(|| whole(other, self));
        Some(Self {
            within,
            except,
            name,
        })
    }
}

impl Service {
    /// A protocol, whatever its ports.
    pub(super) fn protocol(number: u8) -> Self {
        Self {
            protocols: Some([number].into()),
            ..Self::default()
        }
    }

    fn and(&self, other: &Self) -> Option<Self> {
        let sets = |a: &Option<BTreeSet<u8>>, b: &Option<BTreeSet<u8>>| match (a, b) {
            (Some(a), Some(b)) => {
                let both: BTreeSet<u8> = a & b;
                (!both.is_empty()).then_some(Some(both))
            }
            (a, b) => Some(a.as_ref().or(b.as_ref()).cloned()),
        };
        let spans = |a: &Option<Vec<Ports>>, b: &Option<Vec<Ports>>| match (a, b) {
            (Some(a), Some(b)) => {
                let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
                let both: Vec<Ports> = pairs
                    .map(|(a, b)| (a.0.max(b.0), a.1.min(b.1)))
                    .filter(|(first, last)| first <= last)
                    .collect();
                (!both.is_empty()).then_some(Some(both))
            }
            (a, b) => Some(a.as_ref().or(b.as_ref()).cloned()),
        };
        Some(Self {
            protocols: sets(&self.protocols, &other.protocols)?,
            ports: spans(&self.ports, &other.ports)?,
            source_ports: spans(&self.source_ports, &other.source_ports)?,
            icmp_types: sets(&self.icmp_types, &other.icmp_types)?,
        })
    }
}

impl State {
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::First, one) | (one, Self::First) => Some(one),
            (Self::Redirected, Self::NotRedirected) | (Self::NotRedirected, Self::Redirected) => {
                None
            }
            (Self::Group, _) | (_, Self::Group) => Some(Self::Group),
            (Self::Stray, _) | (_, Self::Stray) => Some(Self::Stray),
            _ => Some(Self::Answers),
        }
    }
}

/// Which addresses a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
    Both,
}

impl Family {
    /// Of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// All addresses.
    pub(super) fn all(self) -> Vec<IpNet> {
        let (v4, v6) = (Ipv4Net::default().into(), Ipv6Net::default().into());
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Both => vec![v4, v6],
        }
    }
}

/// `nets` without all that is in `taken`.
pub(super) fn without(nets: &[IpNet], taken: &[IpNet]) -> Vec<IpNet> {
    let mut left = nets.to_vec();
    for taken in taken {
        left = left.iter().flat_map(|net| split(net, taken)).collect();
        if left.len() > MOST_PREFIXES {
            break;
        }
    }
    left
}

/// The prefixes from one address to another of the same family.
pub(super) fn range(first: IpAddr, last: IpAddr) -> Option<Vec<IpNet>> {
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => {
            Some(Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => {
            Some(Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect())
        }
        _ => None,
    }
}

/// The addresses from one to another, if they are few.
pub(super) fn few((first, last): &(IpAddr, IpAddr)) -> Option<Vec<IpAddr>> {
    let number = |address: &IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(*address)),
        IpAddr::V6(address) => u128::from(*address),
    };
    let (from, to) = (number(first), number(last));
    if first.is_ipv4() != last.is_ipv4() || to < from || to - from >= MOST_ADDRESSES {
        return None;
    }
    let all = (from..=to).map(|n| match first {
        IpAddr::V4(_) => IpAddr::V4((n as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(n.into()),
    });
    Some(all.collect())
}

/// All ports but these.
pub(super) fn other_ports(ports: &[Ports]) -> Vec<Ports> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut left = Vec::new();
    let mut next = 1_u32;
    for (first, last) in sorted {
        if next < u32::from(first) {
            left.push((next as u16, first - 1));
        }
        next = next.max(u32::from(last) + 1);
    }
    if next <= u32::from(u16::MAX) {
        left.push((next as u16, u16::MAX));
    }
    left
}

fn meet(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn split(net: &IpNet, taken: &IpNet) -> Vec<IpNet> {
    if taken.contains(net) {
        return Vec::new();
    }
    if !net.contains(taken) {
        return vec![*net];
    }
    let mut left = Vec::new();
    let mut rest = *net;
    while rest != *taken {
        let Ok(halves) = rest.subnets(rest.prefix_len() + 1) else {
            break;
        };
        for half in halves {
            match half.contains(taken) {
                true => rest = half,
                false => left.push(half),
            }
        }
    }
    left.sort_unstable();
    left
}

#[cfg(test)]
mod tests;
