//! `[networks.X] metadata`, and `user_data`, `ssh_keys` and `instance_id` of guests: what a guest is
//! told about itself, by the HTTP interfaces that cloud-init knows (EC2's and NoCloud's).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where guests ask by IPv4, as everywhere since EC2.
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where guests ask by IPv6, as in OpenStack: the IPv4 address in a link-local one, since a guest has
/// a link-local address before it has any other.
pub const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe);
/// Longest user data, in bytes: EC2's limit.
pub const LONGEST_USER_DATA: usize = 16_384;

/// `metadata = { … }` of a network: each of its guests is told about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    /// Public keys that may log in to every guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
}

/// `user_data = { … }` of a guest: exactly one of `file` and `text`, as it is written. Once the file was
/// read, `text` is what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserData {
    /// The file that holds it; a relative name begins at the configuration file's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// It itself, at most 16384 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Secret>,
}

/// Text that may hold passwords: nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Its bytes, shared.
    pub fn bytes(&self) -> Arc<[u8]> {
        self.0.clone().into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// What one guest is told about itself, beside its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Who it is.
    pub id: String,
    /// Its host name, with the domain that its network's `dhcp` has.
    pub hostname: String,
    /// Public keys that may log in: its own first, each once.
    pub ssh_keys: Vec<String>,
    /// What it is told to do at its first start.
    pub user_data: Option<Secret>,
}
