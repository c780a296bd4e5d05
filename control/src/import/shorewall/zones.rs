//! `zones`, `interfaces` and `hosts`: what rules call devices and addresses.

use std::collections::{BTreeMap, BTreeSet};

use super::super::firewall::{Fate, Zone};
use super::super::ipset::net_or_range;
use super::super::matching::{Addresses, Devices, Match};
use super::lines::Reader;

/// Options of an interface that keep something out, and what becomes of that.
const OPTIONS: &[(&str, Fate, &str)] = &[
    ("tcpflags", Fate::Wider, "a rule does not ask for TCP flags"),
    (
        "norfc1918",
        Fate::Wider,
        "write a rule that drops private sources",
    ),
    (
        "blacklist",
        Fate::Wider,
        "blacklists are not read; write it as a rule",
    ),
    (
        "maclist",
        Fate::Missing,
        "a guest's MAC is written in [guests], and checked by itself",
    ),
    (
        "nosmurfs",
        Fate::Implied,
        "no packet comes from a broadcast address",
    ),
    (
        "routefilter",
        Fate::Implied,
        "a port's `source` says which sources may be there",
    ),
    (
        "rpfilter",
        Fate::Implied,
        "a port's `source` says which sources may be there",
    ),
];

/// All zones but the firewall's own, in the order in which flows are sorted into them.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// The firewall's own.
    pub(super) firewall: String,
    pub(super) names: Vec<String>,
    /// By zone: devices, each with the addresses behind it that are the zone's.
    members: Vec<Vec<(String, Addresses)>>,
    /// A zone is some of what is behind a device: rules are to be asked zone by zone.
    pub(super) by_address: bool,
    /// It is shorewall6's.
    pub(super) of_ipv6: bool,
    /// Names of devices that others stand for.
    physical: BTreeMap<String, String>,
}

impl Zones {
    /// Reads them; says of each whole zone which devices it has.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut zones = Self {
            firewall: "fw".to_owned(),
            ..Self::default()
        };
        let mut parents: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in reader.rows("zones") {
            let (name, above) = match row.column(0, "zone").split_once(':') {
                Some((name, above)) => (name, above),
                None => (row.column(0, "zone"), ""),
            };
            match row.column(1, "type") {
                "firewall" => zones.firewall = name.to_owned(),
                kind if kind.ends_with('6') => zones.of_ipv6 = true,
                kind if kind.starts_with("ipsec") => {
                    reader
                        .firewall
                        .note(&row.origin, Fate::Missing, "there is no IPsec here");
                }
                "vserver" | "local" | "loopback" | "bport" | "bport4" => {
                    let why = "only zones behind devices are read";
                    reader.firewall.note(&row.origin, Fate::Missing, why);
                }
                _ => {
                    let above = above.split(',').filter(|name| !name.is_empty());
                    parents.insert(name.to_owned(), above.map(str::to_owned).collect());
                    zones.names.push(name.to_owned());
                    zones.members.push(Vec::new());
                }
            }
        }
        reader.set("FW", &zones.firewall.clone());
        zones.sort(&parents);
        zones.interfaces(reader);
        zones.hosts(reader);
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        let mut each = zones.members.iter().flatten();
        zones.by_address = each
            .any(|(device, addresses)| *addresses != Addresses::default() || !seen.insert(device));
        for (name, members) in zones.names.iter().zip(&zones.members) {
            let whole = members
                .iter()
                .all(|(_, addresses)| *addresses == Addresses::default());
            if whole && !members.is_empty() && !zones.by_address {
                let devices = members.iter().map(|(device, _)| device.clone()).collect();
                reader.firewall.zones.push(Zone {
                    name: name.clone(),
                    devices,
                });
            }
        }
        zones
    }

    /// A zone's place in the order.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// The device that a name stands for.
    pub(super) fn device(&self, name: &str) -> String {
        self.physical
            .get(name)
            .cloned()
            .unwrap_or_else(|| name.to_owned())
    }

    /// Whether a name is a device of some zone.
    pub(super) fn is_device(&self, name: &str) -> bool {
        let device = self.device(name);
        self.members
            .iter()
            .flatten()
            .any(|(known, _)| *known == device)
    }

    /// What it means to come from each of these zones, or with `to` to go there: devices as a whole
    /// together, others one by one.
    pub(super) fn sides(&self, zones: &BTreeSet<usize>, to: bool) -> Vec<Match> {
        let mut whole: BTreeSet<String> = BTreeSet::new();
        let mut sides = Vec::new();
        let side = |devices: Devices, addresses: Addresses| match to {
            false => Match {
                from: devices,
                source: addresses,
                ..Match::default()
            },
            true => Match {
                to: devices,
                destination: addresses,
                ..Match::default()
            },
        };
        for (device, addresses) in zones
            .iter()
            .filter_map(|zone| self.members.get(*zone))
            .flatten()
        {
            match *addresses == Addresses::default() {
                true => drop(whole.insert(device.clone())),
                false => sides.push(side(Devices::one(device), addresses.clone())),
            }
        }
        if !whole.is_empty() {
            sides.push(side(Devices::of(whole), Addresses::default()));
        }
        sides
    }

    /// A zone comes before those that it is a part of.
    fn sort(&mut self, parents: &BTreeMap<String, Vec<String>>) {
        let mut left = std::mem::take(&mut self.names);
        while !left.is_empty() {
            let is_free = |name: &String| {
                !left.iter().any(|other| {
                    other != name && parents.get(other).is_some_and(|above| above.contains(name))
                })
            };
            let next = left.iter().position(is_free).unwrap_or(0);
            let name = left.remove(next);
            self.names.push(name);
        }
    }

    fn interfaces(&mut self, reader: &mut Reader<'_>) {
        for row in reader.rows("interfaces") {
            let logical = row.column(1, "interface").to_owned();
            let options = match row.format {
                2 => row.column(2, "options"),
                _ => row.column(3, "options"),
            };
            let physical = options
                .split(',')
                .find_map(|option| option.strip_prefix("physical="));
            let device = physical.unwrap_or(&logical).to_owned();
            for option in options.split(',') {
                let name = option.split('=').next().unwrap_or_default();
                if let Some((_, fate, why)) = OPTIONS.iter().find(|(known, ..)| *known == name) {
                    let why = format!("{name}: {why}");
                    reader.firewall.note(&row.origin, *fate, why);
                }
            }
            let zone = row.column(0, "zone");
            if logical.is_empty() || zone == self.firewall {
                continue;
            }
            if device.ends_with('+') || logical.contains(':') {
                let why = "devices are named one by one";
                reader.firewall.note(&row.origin, Fate::Missing, why);
                continue;
            }
            self.physical.insert(logical, device.clone());
            reader.firewall.device(&device);
            if zone.is_empty() {
                continue;
            }
            match self.place(zone) {
                Some(place) => self.members[place].push((device, Addresses::default())),
                None => reader
                    .firewall
                    .note(&row.origin, Fate::Missing, "there is no such zone"),
            }
        }
    }

    fn hosts(&mut self, reader: &mut Reader<'_>) {
        for row in reader.rows("hosts") {
            let Some(place) = self.place(row.column(0, "zone")) else {
                reader
                    .firewall
                    .note(&row.origin, Fate::Missing, "there is no such zone");
                continue;
            };
            let Some((device, hosts)) = row.column(1, "hosts").split_once(':') else {
                reader
                    .firewall
                    .note(&row.origin, Fate::Missing, "it is no device with addresses");
                continue;
            };
            match addresses(hosts) {
                Ok(addresses) => {
                    let device = self.device(device);
                    reader.firewall.device(&device);
                    self.members[place].push((device, addresses));
                }
                Err(why) => reader.firewall.note(&row.origin, Fate::Missing, why),
            }
        }
    }
}

/// Addresses as columns have them: `a,b!c,d`, or `!c,d`.
pub(super) fn addresses(text: &str) -> Result<Addresses, String> {
    let (within, except) = text.split_once('!').unwrap_or((text, ""));
    let nets = |text: &str| {
        let mut all = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            all.extend(net_or_range(part).ok_or_else(|| not_plain(part))?);
        }
        Ok::<_, String>(all)
    };
    let mut found = match within {
        "" => Addresses::default(),
        some => Addresses::within(nets(some)?),
    };
    if found
        .within
        .iter()
        .flatten()
        .any(|net| net.prefix_len() == 0)
    {
        found.within = None;
    }
    found.except = nets(except)?.iter().map(ipnet::IpNet::trunc).collect();
    Ok(found)
}

fn not_plain(part: &str) -> String {
    match part.as_bytes().first() {
        Some(b'+') => format!("the set {part} is not read"),
        Some(b'~') => "a guest's MAC is written in [guests], and checked by itself".to_owned(),
        Some(b'&') => format!("the address of {part} is not known"),
        Some(b'$') => format!("nothing says what {part} is"),
        Some(b'^') => format!("the country {part} is not known: write the prefixes as a set"),
        _ => format!("{part} is no plain address or prefix"),
    }
}
