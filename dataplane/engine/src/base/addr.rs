//! MAC addresses, and the numbers that stand for ports, interfaces, guests and tables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An IEEE 802 48-bit MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, which no station may wear
    pub const ZERO: Self = Self([0; 6]);

    /// The group bit (IEEE 802 §8.2) is set: broadcast or multicast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Usable as one station's address: neither group nor zero.
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }

    /// The first six bytes of `bytes`; zero when there are fewer.
    pub fn from_slice(bytes: &[u8]) -> Self {
        bytes
            .first_chunk()
            .map_or(Self::ZERO, |chunk: &[u8; 6]| Self(*chunk))
    }

    /// The address as the low 48 bits of an integer, for hashing and comparing.
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal bytes separated by `:` or `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: write six hexadecimal bytes, such as \"02:00:00:00:00:aa\"")]
pub struct MacAddrError;

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacAddrError)?;
            if part.is_empty() || part.len() > 2 || part.starts_with('+') {
                return Err(MacAddrError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacAddrError)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacAddrError),
        }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize,
        )]
        pub struct $name(pub u16);

        impl $name {
            /// The identifier as an index into the table it numbers.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// A port's number. While the dataplane runs it stays the same across reloads, as long as the
    /// port's name is configured.
    PortId
}
id! {
    /// An L3 interface's number (a personality or a network's gateway). It stays as a
    /// [`PortId`] does.
    InterfaceId
}
id! {
    /// A guest's number within one snapshot.
    GuestId
}
id! {
    /// A routing table's number within one snapshot.
    TableId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trips_and_rejects_what_is_not_one() {
        let mac: MacAddr = "02:00:5e:10:00:AA".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:aa");
        assert_eq!(mac.to_u64(), 0x0200_5e10_00aa);
        for bad in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "g2:0:0:0:0:0",
            "+2:0:0:0:0:0",
            "002:0:0:0:0:0",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn group_and_zero_are_not_stations() {
        assert!(MacAddr::BROADCAST.is_group());
        assert!(!MacAddr([1, 0, 0x5e, 0, 0, 1]).is_unicast());
        assert!(!MacAddr::ZERO.is_unicast());
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
    }
}
