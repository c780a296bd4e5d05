//! `[networks.X] metadata`, and what guests are told by it.

use std::net::IpAddr;
use std::sync::Arc;

use super::check::{Check, place};
use crate::config::metadata::{Instance, LONGEST_USER_DATA, METADATA_V4, METADATA_V6, UserData};
use crate::config::{File, FileGuest, Interface, Network, Segment};

/// Most public keys of a guest, and of a network.
const MOST_KEYS: usize = 32;
/// Longest public key, in bytes: RSA's with 16,384 bits, and a comment.
const LONGEST_KEY: usize = 4_096;
/// Longest instance id, in bytes.
const LONGEST_ID: usize = 64;

impl Check {
    /// Checks `metadata` of the network called `name`.
    pub(super) fn metadata(&mut self, name: &String, network: &Network) {
        let Some(metadata) = &network.metadata else {
            return;
        };
        self.ssh_keys(
            place!["networks", name, "metadata", "ssh_keys"],
            &metadata.ssh_keys,
        );
        for (n, prefix) in network.addresses.iter().enumerate() {
            if is_metadata(prefix.0.addr()) {
                self.fault(
                    place!["networks", name, "addresses", n],
                    format!("{} is where guests ask for metadata", prefix.0.addr()),
                    "leave it out: `metadata` answers there by itself",
                );
            }
        }
    }

    /// What metadata tells a guest: `network` is the index of its network, as far as that is known.
    pub(super) fn instance(
        &mut self,
        (name, guest): (&String, &FileGuest),
        hostname: &str,
        network: Option<usize>,
        (file, interfaces): (&File, &[Interface]),
    ) -> Option<Arc<Instance>> {
        let at = |key: &str| place!["guests", name, key];
        let keys = [
            ("user_data", guest.user_data.is_some()),
            ("ssh_keys", !guest.ssh_keys.is_empty()),
            ("instance_id", guest.instance_id.is_some()),
        ];
        self.ssh_keys(at("ssh_keys"), &guest.ssh_keys);
        self.instance_id(at("instance_id"), guest.instance_id.as_deref());
        let user_data = guest.user_data.as_ref();
        if let Some(user_data) = user_data {
            self.user_data(name, user_data);
        }
        let network = &interfaces[network?].name;
        let section = file.networks.get(network)?;
        let Some(metadata) = &section.metadata else {
            if let Some((key, _)) = keys.into_iter().find(|(_, written)| *written) {
                self.fault(
                    at(key),
                    format!("network \"{network}\" of guest \"{name}\" has no metadata, so nobody is told"),
                    format!("add `metadata = {{}}` to [networks.{network}], or remove `{key}`"),
                );
            }
            return None;
        };
        for (key, prefixes) in [("addresses", &guest.addresses), ("public", &guest.public)] {
            for (n, prefix) in prefixes.iter().enumerate() {
                if prefix.0.contains(&IpAddr::from(METADATA_V4)) {
                    self.fault(
                        place!["guests", name, key, n],
                        format!("{METADATA_V4}, where guests ask for metadata, is in {prefix}"),
                        "write what the guest owns",
                    );
                }
            }
        }
        let mut ssh_keys = guest.ssh_keys.clone();
        for key in &metadata.ssh_keys {
            if !ssh_keys.contains(key) {
                ssh_keys.push(key.clone());
            }
        }
        let domain = section.dhcp.as_ref().and_then(|dhcp| dhcp.domain.as_ref());
        Some(Arc::new(Instance {
            id: match &guest.instance_id {
                Some(id) => id.clone(),
                None => format!("i-{name}"),
            },
            hostname: match domain {
                Some(domain) => format!("{hostname}.{}", domain.as_str()),
                None => hostname.to_owned(),
            },
            ssh_keys,
            user_data: user_data.and_then(|data| data.text.clone()),
        }))
    }

    fn user_data(&mut self, name: &String, data: &UserData) {
        match (&data.file, &data.text) {
            (None, None) => self.fault(
                place!["guests", name, "user_data"],
                "nothing says what the user data is",
                "write `{ file = \"web.yaml\" }` or `{ text = \"#cloud-config…\" }`",
            ),
            (Some(file), None) => self.fault(
                place!["guests", name, "user_data", "file"],
                format!("\"{}\" was not read", file.display()),
                "write `text`, or have tapgate read the configuration from a file",
            ),
            (_, Some(text)) => {
                let length = text.text().len();
                if length > LONGEST_USER_DATA {
                    // Its key is shown, not the text.
                    self.fault(
                        place!["guests", name, "user_data"],
                        format!("user data of {length} bytes is too long"),
                        format!(
                            "shorten it to {LONGEST_USER_DATA} bytes, as on EC2: `#include` has cloud-init fetch the rest"
                        ),
                    );
                }
            }
        }
    }

    fn ssh_keys(&mut self, at: Vec<Segment>, keys: &[String]) {
        if keys.len() > MOST_KEYS {
            self.fault(
                at.clone(),
                format!("{} keys are too many", keys.len()),
                format!("write at most {MOST_KEYS}"),
            );
        }
        for (n, key) in keys.iter().enumerate() {
            let mut words = key.split(' ');
            let (kind, blob) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let known = ["ssh-", "ecdsa-", "sk-"]
                .iter()
                .any(|it| kind.starts_with(it));
            let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
            let right = known && blob.starts_with("AAAA") && blob.chars().all(base64);
            if !right || key.len() > LONGEST_KEY || key.contains(char::is_control) {
                let mut here = at.clone();
                here.push(Segment::Index(n));
                self.fault(
                    here,
                    "this is no public key of SSH",
                    "write the line that is in the key's .pub file: \"ssh-ed25519 AAAA… comment\"",
                );
            }
        }
    }

    fn instance_id(&mut self, at: Vec<Segment>, id: Option<&str>) {
        let Some(id) = id else { return };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(fits) {
            self.fault(
                at,
                format!("\"{id}\" cannot be an instance id"),
                format!("use 1 to {LONGEST_ID} letters, digits, \"-\", \"_\" or \".\""),
            );
        }
    }
}

fn is_metadata(address: IpAddr) -> bool {
    address == METADATA_V4 || address == METADATA_V6
}
