//! `masq`, `snat` and `nat`.

use super::super::firewall::{Fate, Origin, Snat, Worn};
use super::super::matching::{Addresses, Devices, Family, Match};
use super::super::words::goal;
use super::columns::service;
use super::lines::{Reader, Row};
use super::zones::{Zones, addresses};

/// Columns by which an entry is for some packets only; `masq` has all but the last.
const LIMITS: [(usize, &str); 6] = [
    (5, "ipsec"),
    (6, "mark"),
    (7, "user"),
    (8, "switch"),
    (9, "origdest"),
    (10, "probability"),
];

/// Source translations, as `masq` has them and as `snat` has.
pub(super) fn masquerades([masq, snat]: &[Vec<Row>; 2], zones: &Zones, reader: &mut Reader<'_>) {
    for row in masq {
        let worn = worn_of(row.column(2, "address"));
        let entry = (row.column(0, "interface"), row.column(1, "source"));
        let limits = &LIMITS[..5];
        let asked = (row.column(3, "proto"), row.column(4, "port"));
        write(row, entry, worn, asked, limits, (zones, &mut *reader));
    }
    for row in snat {
        let action = row.column(0, "action");
        let action = action.strip_suffix('+').unwrap_or(action);
        let (action, logged) = action
            .split_once("):")
            .map_or((action, false), |(a, _)| (a, true));
        let (action, logged) = match action.split_once(':') {
            Some((plain, _)) if !action.contains('(') => (plain, true),
            _ => (action, logged),
        };
        if logged {
            reader.firewall.note(
                &row.origin,
                Fate::Missing,
                "what is translated is not logged",
            );
        }
        let worn = match action.trim_end_matches(['+', ')']).split_once('(') {
            Some(("SNAT", to)) => worn_of(to.trim_end_matches('+')),
            Some(("MASQUERADE", ports)) => worn_of(&format!(":{ports}")),
            None if action.starts_with("MASQUERADE") => Ok(Worn::Device { ports: None }),
            None if ["CONTINUE", "ACCEPT", "NONAT"].contains(&action) => Ok(Worn::Own),
            _ => Err(format!("the action {action} is not read")),
        };
        let entry = (row.column(2, "dest"), row.column(1, "source"));
        let asked = (row.column(3, "proto"), row.column(4, "port"));
        write(row, entry, worn, asked, &LIMITS, (zones, &mut *reader));
    }
}

/// Addresses that stand for each other.
pub(super) fn pairs(rows: &[Row], zones: &Zones, reader: &mut Reader<'_>) {
    for row in rows {
        let both = row
            .column(0, "external")
            .parse()
            .ok()
            .zip(row.column(2, "internal").parse().ok());
        let device = row
            .column(1, "interface")
            .split(':')
            .next()
            .unwrap_or_default();
        match both {
            Some((outside, inside)) => {
                let device = zones.device(device);
                uplink(&device, reader);
                let pair = (inside, outside, device, row.origin.clone());
                reader.firewall.one_to_one.push(pair);
            }
            None => reader
                .firewall
                .note(&row.origin, Fate::Missing, "these are no two addresses"),
        }
    }
}

fn write(
    row: &Row,
    (out, source): (&str, &str),
    worn: Result<Worn, String>,
    (protocol, port): (&str, &str),
    limits: &[(usize, &str)],
    (zones, reader): (&Zones, &mut Reader<'_>),
) {
    let mut read = || {
        if limits
            .iter()
            .any(|(place, name)| !row.column(*place, name).is_empty())
        {
            return Err(
                "a source translation asks for the source, the way out and the destination alone"
                    .to_owned(),
            );
        }
        let mut when = way_out(out, zones)?;
        when.service = service(protocol, port, "")?;
        for device in when.to.within.iter().flatten() {
            uplink(device, reader);
        }
        let sources = sources(source, zones, reader)?;
        Ok((when, sources, worn.clone()?))
    };
    match read() {
        Err(why) => reader.firewall.note(&row.origin, Fate::Missing, why),
        Ok((when, sources, worn)) => {
            for source in sources.iter().filter_map(|source| when.and(source)) {
                reader
                    .firewall
                    .snat
                    .push(entry(source, worn.clone(), &row.origin));
            }
        }
    }
}

fn entry(when: Match, worn: Worn, origin: &Origin) -> Snat {
    Snat {
        when,
        family: Family::V4,
        worn,
        origin: origin.clone(),
    }
}

/// The device, and the destinations after a colon.
fn way_out(text: &str, zones: &Zones) -> Result<Match, String> {
    let text = text.trim_start_matches('+');
    let (devices, rest) = text.split_once(':').unwrap_or((text, ""));
    // A second colon is before destinations, after a number that only names an address.
    let rest = rest.rsplit(':').next().unwrap_or_default();
    let is_label = rest.chars().all(|c| c.is_ascii_digit());
    let destination = match is_label {
        true => Addresses::default(),
        false => addresses(rest)?,
    };
    if devices.is_empty() || devices.ends_with('+') || devices.parse::<ipnet::IpNet>().is_ok() {
        return Err("it does not name the device that it is for".to_owned());
    }
    Ok(Match {
        to: Devices::of(devices.split(',').map(|device| zones.device(device))),
        destination,
        ..Match::default()
    })
}

/// Whose packets are translated: addresses, or all that comes from a device.
fn sources(text: &str, zones: &Zones, reader: &mut Reader<'_>) -> Result<Vec<Match>, String> {
    let by_address = |addresses: Addresses| Match {
        source: addresses,
        ..Match::default()
    };
    if text.is_empty() {
        return Ok(vec![Match::default()]);
    }
    let (first, rest) = text.split_once(['!', ':']).unwrap_or((text, ""));
    let is_device = first.starts_with(|c: char| c.is_ascii_alphabetic()) && !first.contains('.')
        || zones.is_device(first);
    match is_device {
        false => Ok(vec![by_address(addresses(text)?)]),
        true => {
            let device = zones.device(first);
            reader.firewall.device(&device);
            let mut when = by_address(match text.contains('!') {
                true => addresses(&format!("!{rest}"))?,
                false => addresses(rest)?,
            });
            when.from = Devices::one(&device);
            Ok(vec![when])
        }
    }
}

fn worn_of(text: &str) -> Result<Worn, String> {
    let text = text.trim();
    if text.is_empty() || text == "detect" {
        return Ok(Worn::Device { ports: None });
    }
    if text == "NONAT" {
        return Ok(Worn::Own);
    }
    let plain = text
        .trim_end_matches(":random")
        .trim_end_matches(":persistent");
    let mut ranges = Vec::new();
    let mut ports = None;
    for part in plain.split(',') {
        let goal = goal(part).ok_or_else(|| format!("{text} is no plain address"))?;
        ranges.extend(goal.addresses);
        ports = ports.or(goal.ports);
    }
    Ok(match ranges.is_empty() {
        true => Worn::Device { ports },
        false => Worn::Addresses { ranges, ports },
    })
}

/// A device that addresses are translated at faces the provider.
fn uplink(device: &str, reader: &mut Reader<'_>) {
    reader.firewall.device(device);
    if !reader.firewall.uplinks.iter().any(|known| known == device) {
        reader.firewall.uplinks.push(device.to_owned());
    }
}
