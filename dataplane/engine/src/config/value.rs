//! Values as they are written in the file: prefixes, port ranges, gateways, protocols.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// All of them.
    fn default() -> Self {
        Self {
            first: 1,
            last: 65_535,
        }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.first == self.last {
            true => serializer.serialize_u16(self.first),
            false => serializer.collect_str(self),
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().ok();
        match port(first).zip(port(last)) {
            Some((first, last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "\"{text}\" is neither a port nor a port range: write one such as 80, or \"1024-65535\" within 1-65535"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortOrRange;

        impl Visitor<'_> for PortOrRange {
            type Value = PortRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port or a port range")
            }

            fn visit_i64<E: de::Error>(self, port: i64) -> Result<PortRange, E> {
                port.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<PortRange, E> {
                port.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRange, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(PortOrRange)
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

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Addresses from one to another of the same family, written `"first-last"`; a single one, or all of
/// a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The first.
    pub first: IpAddr,
    /// The last, not below the first.
    pub last: IpAddr,
}

impl AddressRange {
    /// All of them; `None`: they are more than `most`.
    pub fn addresses(self, most: usize) -> Option<Vec<IpAddr>> {
        let (first, last) = (number(self.first), number(self.last));
        let few = last - first < most as u128;
        few.then(|| {
            let all = (first..=last).map(|number| match self.first {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
            });
            all.collect()
        })
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = match text.split_once('-') {
            Some((first, last)) => first.trim().parse().ok().zip(last.trim().parse().ok()),
            None => text.parse::<Prefix>().ok().map(|Prefix(net)| {
                match net.max_prefix_len() == net.prefix_len() {
                    true => (net.addr(), net.addr()),
                    false => (net.network(), net.broadcast()),
                }
            }),
        };
        match range {
            Some((first, last)) if first.is_ipv4() == last.is_ipv4() && first <= last => {
                Ok(Self { first, last })
            }
            _ => Err(format!(
                "\"{text}\" is not an address, a range or a prefix: write one such as \"203.0.113.10\", \"203.0.113.10-203.0.113.13\" or \"203.0.113.8/29\""
            )),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Where a port is forwarded to: an address, and a port if that is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// The guest's address.
    pub address: IpAddr,
    /// The port that the first of the forwarded ones becomes; absent: they stay the same.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self {
                address,
                port: None,
            });
        }
        match text.parse::<SocketAddr>() {
            Ok(to) if to.port() > 0 => Ok(Self {
                address: to.ip(),
                port: Some(to.port()),
            }),
            _ => Err(format!(
                "\"{text}\" is not an address with or without a port: write one such as \"192.168.1.10\", \"192.168.1.10:22\" or \"[2001:db8::1]:22\""
            )),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// Bits a second, written as `"100Mbit/s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

/// The units of [`BitRate`], the largest first.
const UNITS: [(&str, u64); 4] = [
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1_000),
    ("bit/s", 1),
];
/// The fastest that makes sense.
const FASTEST: u64 = 10_000_000_000_000;

impl BitRate {
    /// Bytes a second.
    pub const fn bytes(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let in_unit = |(unit, size): &(&str, u64)| {
            let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(*size)
        };
        // "Mbit/s" ends with "bit/s" as well, but what is before that is no number.
        let bits = UNITS.iter().find_map(in_unit);
        let fits = bits.filter(|bits| (8_000..=FASTEST).contains(bits));
        fits.map(Self).ok_or_else(|| {
            format!(
                "\"{text}\" is not a bandwidth: write one such as \"500kbit/s\", \"100Mbit/s\" or \"1Gbit/s\", at least \"8kbit/s\""
            )
        })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |(_, size): &&(&str, u64)| self.0.is_multiple_of(*size);
        let (unit, size) = UNITS.iter().find(divides).unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", self.0 / size)
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => { $(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )* };
}
as_text!(Prefix, AddressRange, Target, BitRate);

/// Some of a kind; written as one, or as a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> OneOrMore<T> {
    /// None is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Some<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Some<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
                let one = T::deserialize(text.into_deserializer())?;
                Ok(OneOrMore(vec![one]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OneOrMore<T>, E> {
                let one = T::deserialize(number.into_deserializer())?;
                Ok(OneOrMore(vec![one]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OneOrMore<T>, E> {
                let one = T::deserialize(number.into_deserializer())?;
                Ok(OneOrMore(vec![one]))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<OneOrMore<T>, S::Error> {
                let mut several = Vec::new();
                while let Option::Some(one) = list.next_element()? {
                    several.push(one);
                }
                Ok(OneOrMore(several))
            }
        }

        deserializer.deserialize_any(Some(PhantomData))
    }
}

/// Gateways, at most one of each family.
pub type Gateways = OneOrMore<IpAddr>;
