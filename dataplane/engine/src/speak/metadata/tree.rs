//! What a guest can ask for: EC2's tree, and the seed of cloud-init's NoCloud.
//!
//! EC2's is under `latest`, `1.0` and every date: there has only ever been one version of what is here.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::base::addr::MacAddr;
use crate::config::metadata::{Instance, Secret};
use crate::model::interface::Interface;
use crate::model::owners::Guest;
use crate::model::snapshot::Snapshot;

/// What there is to tell of a guest.
pub(super) struct About<'s> {
    instance: &'s Instance,
    mac: MacAddr,
    /// Its address inside, as DHCP hands it out.
    ipv4: Option<Ipv4Addr>,
    /// The address that others know it by alone.
    public_ipv4: Option<Ipv4Addr>,
    /// Whether DHCP hands out addresses of it.
    dhcp: (bool, bool),
}

impl<'s> About<'s> {
    /// `None`: the guest is not told anything.
    pub(super) fn new(
        snapshot: &'s Snapshot,
        (guest, network): (&'s Guest, &'s Interface),
        mac: MacAddr,
    ) -> Option<Self> {
        let ipv4 = guest.dhcp_address;
        let translations = snapshot.translations();
        let stands_for = ipv4.and_then(|address| translations.known_as(address.into()));
        let public = stands_for
            .into_iter()
            .chain(snapshot.owners().public_of(guest));
        let services = &network.services;
        Some(Self {
            instance: guest.instance.as_deref()?,
            mac,
            ipv4,
            public_ipv4: public.into_iter().find_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            dhcp: (
                services.dhcp.is_some() && ipv4.is_some(),
                services.dhcp6.is_some() && guest.dhcp6_address.is_some(),
            ),
        })
    }
}

/// What is at `path`: its content, or the list of what is below it. `None`: there is nothing.
pub(super) fn find(path: &str, about: &About<'_>) -> Option<Arc<[u8]>> {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let (leaves, rest) = match *words.as_slice() {
        [] => return Some(Arc::from(*b"1.0\n2009-04-04\nlatest")),
        ["nocloud", ref rest @ ..] => (nocloud(about), rest),
        [version, ref rest @ ..] if is_version(version) => (ec2(about), rest),
        _ => return None,
    };
    let path = rest.join("/");
    match leaves.iter().find(|leaf| leaf.path == path) {
        Some(leaf) => Some(leaf.content.clone()),
        None => list(&leaves, &path),
    }
}

/// Something that has content, and where it is.
struct Leaf {
    path: String,
    content: Arc<[u8]>,
}

fn leaf(path: impl Into<String>, content: impl Into<String>) -> Leaf {
    let content: String = content.into();
    Leaf {
        path: path.into(),
        content: Arc::from(content.into_bytes()),
    }
}

/// EC2 keeps what it once served under the date of its version.
fn is_version(word: &str) -> bool {
    let digits =
        |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = word.split('-');
    let is_date = [4, 2, 2].map(|length| parts.next().is_some_and(|part| digits(part, length)));
    word == "latest" || word == "1.0" || is_date == [true; 3] && parts.next().is_none()
}

/// What is directly below `path`, a line each; what has something below itself ends in "/". Keys are
/// listed with a name each, as on EC2.
fn list(leaves: &[Leaf], path: &str) -> Option<Arc<[u8]>> {
    let mut names: Vec<String> = Vec::new();
    for leaf in leaves {
        let below = match path {
            "" => Some(leaf.path.as_str()),
            path => leaf
                .path
                .strip_prefix(path)
                .and_then(|it| it.strip_prefix('/')),
        };
        let name = below.map(|below| match below.split_once('/') {
            Some((number, _)) if path == KEYS => format!("{number}=key-{number}"),
            Some((name, _)) => format!("{name}/"),
            None => below.to_owned(),
        });
        names.extend(name.filter(|name| !names.contains(name)));
    }
    (!names.is_empty()).then(|| Arc::from(names.join("\n").into_bytes()))
}

const KEYS: &str = "meta-data/public-keys";

/// EC2's tree, below its version.
fn ec2(about: &About<'_>) -> Vec<Leaf> {
    let Instance {
        id,
        hostname,
        ssh_keys,
        user_data,
    } = about.instance;
    let meta = |path: &str, content: &str| leaf(format!("meta-data/{path}"), content);
    let mut leaves = vec![
        leaf("dynamic/instance-identity/document", about.document()),
        meta("hostname", hostname),
        meta("instance-id", id),
        meta("local-hostname", hostname),
    ];
    leaves.extend(about.ipv4.map(|it| meta("local-ipv4", &it.to_string())));
    leaves.push(meta("mac", &about.mac.to_string()));
    if let Some(ipv4) = about.ipv4.filter(|_| about.dhcp.0) {
        // cloud-init has the NIC with this MAC ask by DHCP.
        let of = |key: &str| format!("network/interfaces/macs/{}/{key}", about.mac);
        leaves.push(meta(&of("device-number"), "0"));
        leaves.push(meta(&of("local-ipv4s"), &ipv4.to_string()));
        leaves.push(meta(&of("mac"), &about.mac.to_string()));
    }
    leaves.extend(
        about
            .public_ipv4
            .map(|it| meta("public-ipv4", &it.to_string())),
    );
    let keys = ssh_keys.iter().enumerate();
    leaves.extend(keys.map(|(n, key)| leaf(format!("{KEYS}/{n}/openssh-key"), key.as_str())));
    leaves.extend(user_data.as_ref().map(of_user));
    leaves
}

/// The seed of NoCloud: `ds=nocloud;s=http://169.254.169.254/nocloud/` on the kernel's command line, or in
/// the serial number that QEMU gives the machine.
fn nocloud(about: &About<'_>) -> Vec<Leaf> {
    let Instance {
        id,
        hostname,
        ssh_keys,
        user_data,
    } = about.instance;
    let mut meta = format!(
        "instance-id: {}\nlocal-hostname: {}\n",
        quoted(id),
        quoted(hostname)
    );
    if !ssh_keys.is_empty() {
        meta.push_str("public-keys:\n");
        for key in ssh_keys {
            let _ = writeln!(meta, "- {}", quoted(key));
        }
    }
    let nothing = || leaf("user-data", "");
    let mut leaves = vec![
        leaf("meta-data", meta),
        user_data.as_ref().map_or_else(nothing, of_user),
        leaf("vendor-data", ""),
    ];
    if let (true, by_dhcp6) = about.dhcp {
        let config = format!(
            "version: 2\nethernets:\n  guest:\n    match: {{ macaddress: \"{}\" }}\n    dhcp4: true\n    dhcp6: {by_dhcp6}\n",
            about.mac
        );
        leaves.push(leaf("network-config", config));
    }
    leaves
}

fn of_user(data: &Secret) -> Leaf {
    Leaf {
        path: "user-data".to_owned(),
        content: data.bytes(),
    }
}

/// As text in YAML and JSON, for what has been checked to have no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl About<'_> {
    /// What cloud-init asks EC2 for when it believes to be there. Nobody signs it.
    fn document(&self) -> String {
        let address = self.ipv4.map(|it| format!(", \"privateIp\": \"{it}\""));
        let id = quoted(&self.instance.id);
        format!("{{ \"instanceId\": {id}{} }}", address.unwrap_or_default())
    }
}
