//! Which file is for which device: systemd goes by the first that matches.

use glob::Pattern;

use super::file::{File, Section};
use crate::import::firewall::{Fate, Origin};
use crate::import::system::System;

/// Options of `[Network]` that name a device.
const NAMES: [&str; 6] = ["VLAN", "MACVLAN", "Bridge", "Bond", "VRF", "IPVLAN"];
/// Keys of `[Match]` that tell a device by its MAC.
const MACS: [&str; 2] = ["MACAddress", "PermanentMACAddress"];

/// A device that a file names.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) mac: Option<String>,
}

/// `[Match]`.
pub(super) struct Matching {
    names: Vec<String>,
    pub(super) macs: Vec<String>,
    /// What else is asked.
    others: Vec<Origin>,
    /// Where it stands, if it does.
    pub(super) said: Option<Origin>,
}

impl Matching {
    pub(super) fn of(file: &File) -> Self {
        let sections = || file.named("Match");
        let words = |keys: &[&str]| {
            let values = sections().flat_map(|section| keys.iter().flat_map(|k| section.all(k)));
            let words = values.flat_map(str::split_whitespace);
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let known = |key: &str| key == "Name" || MACS.contains(&key);
        let others = sections()
            .flat_map(|section| &section.keys)
            .filter(|(key, ..)| !known(key));
        Self {
            names: words(&["Name"]),
            macs: words(&MACS).iter().map(|mac| plain_mac(mac)).collect(),
            others: others.map(|(.., at)| at.clone()).collect(),
            said: sections().next().map(Section::said),
        }
    }

    /// Whether a device is meant, as far as its name and MAC tell.
    pub(super) fn is_for(&self, device: &Device) -> bool {
        let by_mac = |mac: &String| self.macs.contains(mac);
        if self.names.is_empty() {
            return device.mac.as_ref().is_some_and(by_mac);
        }
        self.is_named(&device.name)
            && (self.macs.is_empty() || device.mac.as_ref().is_none_or(by_mac))
    }

    /// Whether one of its patterns has this name; `!` before the first turns that round.
    fn is_named(&self, name: &str) -> bool {
        let first = self.names.first().and_then(|first| first.strip_prefix('!'));
        let rest = self.names.iter().skip(usize::from(first.is_some()));
        let mut patterns = first.into_iter().chain(rest.map(String::as_str));
        let fits = |pattern: &str| match Pattern::new(pattern) {
            Ok(pattern) => pattern.matches(name),
            Err(_) => pattern == name,
        };
        patterns.any(fits) != first.is_some()
    }

    /// Notes what else a file asks of its devices.
    pub(super) fn note_others(&self, system: &mut System) {
        for at in &self.others {
            let why = "whether its device is one of these is not known here: it is taken for one";
            system.note(at, Fate::Missing, why);
        }
    }
}

/// All devices that files name, in their order.
pub(super) fn devices(links: &[File], netdevs: &[File], networks: &[File]) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    let mut add =
        |name: &str, mac: Option<String>| match devices.iter_mut().find(|known| known.name == name)
        {
            Some(known) => known.mac = known.mac.take().or(mac),
            None => devices.push(Device {
                name: name.to_owned(),
                mac,
            }),
        };
    for file in links {
        if let Some(name) = file.last("Link", "Name") {
            add(name, Matching::of(file).macs.first().cloned());
        }
    }
    for section in netdevs.iter().flat_map(|file| &file.sections) {
        if let ("NetDev", Some(name)) = (section.name.as_str(), section.get("Name")) {
            add(name, section.get("MACAddress").map(plain_mac));
        }
    }
    for file in networks {
        for name in Matching::of(file).names {
            if !name.contains(['*', '?', '[', '!']) {
                add(&name, None);
            }
        }
        for section in file.named("Network") {
            for name in NAMES.iter().flat_map(|key| section.all(key)) {
                add(name, None);
            }
        }
    }
    devices
}

/// A MAC as it is compared.
fn plain_mac(mac: &str) -> String {
    mac.to_ascii_lowercase().replace('-', ":")
}
