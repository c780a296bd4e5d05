//! A source or a destination: zones, and devices and addresses of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::matching::{Devices, Match};
use super::zones::{Zones, addresses};

/// A pair of zones: from, to.
pub(super) type Pair = (usize, usize);

/// A side as a column has it.
pub(super) struct Side {
    pub(super) zones: BTreeSet<usize>,
    pub(super) firewall: bool,
    /// It is one zone by its name.
    pub(super) one: bool,
    /// With a `+`: within a zone as well.
    pub(super) within: bool,
    pub(super) when: Match,
    /// What is behind a second colon, of a destination.
    pub(super) server: String,
}

impl Zones {
    /// Reads a source or a destination.
    pub(super) fn side(&self, text: &str) -> Result<Side, String> {
        let (names, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut side = Side {
            zones: BTreeSet::new(),
            firewall: false,
            one: false,
            within: false,
            when: Match::default(),
            server: String::new(),
        };
        let (names, except) = names.split_once('!').unwrap_or((names, ""));
        let except: Vec<&str> = except.split(',').collect();
        for name in names.split(',') {
            let own = self.firewall.as_str();
            match name {
                "all" | "any" | "all+" | "any+" | "all-" | "any-" | "all+-" | "any+-" | "" => {
                    side.zones.extend(0..self.names.len());
                    side.firewall = !name.ends_with('-');
                    side.within = name.contains('+');
                }
                own_name if own_name == own || own_name == "$FW" => side.firewall = true,
                zone => {
                    let place = self.place(zone.trim_end_matches('+'));
                    side.zones
                        .insert(place.ok_or_else(|| format!("there is no zone {zone}"))?);
                    side.one = !names.contains(',');
                    side.within |= zone.ends_with('+');
                }
            }
        }
        for name in except {
            if let Some(place) = self.place(name) {
                side.zones.remove(&place);
            }
        }
        if rest.is_empty() {
            return Ok(side);
        }
        // A device, addresses, or both; a destination may have a port behind.
        let (first, more) = rest.split_once(':').unwrap_or((rest, ""));
        let (device, hosts) = match self.is_device(first) {
            true => (Some(first), more),
            false => (None, rest),
        };
        if let Some(device) = device {
            side.when.from = Devices::one(&self.device(device));
        }
        let hosts = hosts.trim_matches(['<', '>', '[', ']']);
        if !hosts.is_empty() {
            match hosts.split_once(':') {
                Some((host, port)) if hosts.matches(':').count() == 1 => {
                    side.server = port.to_owned();
                    if !host.is_empty() {
                        side.when.source = addresses(host)?;
                    }
                }
                _ => side.when.source = addresses(hosts)?,
            }
        }
        Ok(side)
    }
}

/// The pairs of zones that a rule is for.
pub(super) fn pairs(from: &Side, to: &Side) -> BTreeSet<Pair> {
    let all = from
        .zones
        .iter()
        .flat_map(|from| to.zones.iter().map(move |to| (*from, *to)));
    let within = within(from, to);
    all.filter(|(from, to)| from != to || within).collect()
}

/// Whether flows within a zone are meant too: where both sides are one zone, or a `+` says so.
pub(super) fn within(from: &Side, to: &Side) -> bool {
    from.within || to.within || (from.one && to.one)
}

/// Pairs as sets of sources with the same destinations.
pub(super) fn grouped(pairs: &BTreeSet<Pair>) -> Vec<(BTreeSet<usize>, BTreeSet<usize>)> {
    let mut by_source: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (from, to) in pairs {
        by_source.entry(*from).or_default().insert(*to);
    }
    let mut groups: Vec<(BTreeSet<usize>, BTreeSet<usize>)> = Vec::new();
    for (from, to) in by_source {
        match groups.iter_mut().find(|(_, same)| *same == to) {
            Some((sources, _)) => drop(sources.insert(from)),
            None => groups.push(([from].into(), to)),
        }
    }
    groups
}
