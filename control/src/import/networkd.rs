//! A directory of systemd-networkd: `.link`, `.netdev` and `.network` files with their drop-ins.

mod file;
mod matching;
mod netdev;
mod network;
mod routing;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::firewall::{Fate, Note};
use super::system::System;
use super::words::harmless;
use super::writer::said;
use crate::failure::{Code, Failure};
use file::{File, with_drop_ins};
use matching::{Device, Matching, devices};
use values::size;

/// Reads a directory.
///
/// # Errors
/// It cannot be read, or nothing of networkd is in it.
pub(super) fn read(directory: &Path) -> Result<System, Failure> {
    let mut system = System::default();
    let refuse = |why: String, remedy: &str| {
        let why = format!("{}: {why}; {remedy}", directory.display());
        Failure::with(Code::Refused, why)
    };
    let remedy = "name a directory such as /etc/systemd/network";
    let all = fs::read_dir(directory).map_err(|error| refuse(error.to_string(), remedy))?;
    let mut names: Vec<PathBuf> = all.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let files = |end: &str| -> Result<Vec<File>, Failure> {
        let of = |path: &&PathBuf| path.is_file() && path.extension().is_some_and(|e| e == end);
        names
            .iter()
            .filter(of)
            .map(|path| with_drop_ins(path))
            .collect()
    };
    let (links, netdevs, networks) = (files("link")?, files("netdev")?, files("network")?);
    for file in links.iter().chain(&netdevs).chain(&networks) {
        system.notes.extend(file.notes.iter().cloned());
    }
    for file in &netdevs {
        netdev::netdev(&mut system, file);
    }
    applied(
        &mut system,
        &networks,
        &devices(&links, &netdevs, &networks),
    );
    for file in &links {
        link(&mut system, file);
    }
    if system.links.is_empty() {
        let missing = |note: &&Note| note.fate == Fate::Missing;
        return Err(match system.notes.iter().find(missing) {
            Some(note) => {
                let why = harmless(&said(note));
                Failure::with(Code::Refused, format!("{why}; name each in [Match]"))
            }
            None => refuse(
                "there is no .network and no .netdev file in it that names a device".to_owned(),
                remedy,
            ),
        });
    }
    system.firewall.source = directory.display().to_string();
    system.sort_rules();
    Ok(system)
}

/// What a `.link` file says of a device that other files set up.
fn link(system: &mut System, file: &File) {
    let name = file
        .last("Link", "Name")
        .or(file.last("Match", "OriginalName"));
    for (key, value, at) in file.named("Link").flat_map(|section| &section.keys) {
        let known = system
            .links
            .iter_mut()
            .find(|link| Some(&*link.name) == name);
        let done = match (key.as_str(), known) {
            ("Name" | "Description", _) => Ok(()),
            ("MACAddress" | "MTUBytes", None) => {
                Err("no other file is for its device: write it in a .network file".to_owned())
            }
            ("MACAddress", Some(link)) => {
                link.mac.get_or_insert_with(|| value.to_ascii_lowercase());
                Ok(())
            }
            ("MTUBytes", Some(link)) => size(value).map(|size| {
                link.mtu.get_or_insert(size);
            }),
            _ => {
                system.note(at, Fate::Host, "about the host itself");
                Ok(())
            }
        };
        if let Err(why) = done {
            system.note(at, Fate::Missing, why);
        }
    }
}

/// Reads each device's file: the first that is for it, by the files' names.
fn applied(system: &mut System, files: &[File], devices: &[Device]) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for file in files {
        let matching = Matching::of(file);
        let Some(said) = &matching.said else {
            let why = "without [Match] it is for all devices that no file before it is for: write their names";
            netdev::leave(system, file, why);
            continue;
        };
        let all = devices.iter().filter(|device| matching.is_for(device));
        let all: Vec<&Device> = all.collect();
        if all.is_empty() {
            let why = "which devices these are is not known here: write their names";
            netdev::leave(system, file, why);
            continue;
        }
        matching.note_others(system);
        for device in all {
            if let Some(by) = taken.get(device.name.as_str()) {
                let why = format!("{} is set up by {by} alone, which comes first", device.name);
                system.note(said, Fate::Implied, why);
                continue;
            }
            taken.insert(&device.name, &file.name);
            network::network(system, file, &matching, &device.name);
        }
    }
}
