//! `tapgate import`: another firewall's rules as a configuration file.
//!
//! Each source is read into one form (`firewall.rs`, rules in terms of `matching.rs`); `links.rs`,
//! `nat.rs` and `policy.rs` write that in the file's words, and `writer.rs` as text. What has no words is
//! listed, and nothing is written that lets in more than the line it is from.

mod address;
mod chains;
mod commands;
mod firewall;
mod input;
mod interfaces;
mod iproute;
mod ipset;
mod iptables;
pub(crate) mod kernel;
mod line;
mod links;
mod marks;
mod matching;
mod names;
mod nat;
mod netplan;
mod networkd;
mod nft;
mod options;
mod policy;
mod routing;
mod shorewall;
mod system;
mod topology;
mod untranslated;
mod words;
mod writer;

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use crate::cli::{Import, ImportFrom};
use crate::failure::Failure;
use crate::output::print;
use crate::source::check_text;
use firewall::{Fate, Firewall, Note};
use input::read;
use links::Links;
use options::{Options, options};
use routing::Routing;
use system::System;
use words::harmless;

/// What was written, and what was not.
struct Written {
    text: String,
    notes: Vec<Note>,
    /// Why tapgate would not take it.
    faults: Vec<String>,
}

/// A line that has no entry, for programs.
#[derive(Serialize)]
struct Told<'n> {
    file: &'n str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    place: String,
    text: &'n str,
    fate: Fate,
    why: &'n str,
}

/// Reads another firewall's rules and writes a configuration file.
///
/// # Errors
/// It cannot be read, or something was left out.
pub fn import(import: &Import) -> Result<(), Failure> {
    let options = options(import)?;
    let written = match &import.from {
        ImportFrom::Iptables { files } => translate(iptables::read(&read(files)?)?, &options),
        ImportFrom::Nft { files } => translate(nft::read(&read(files)?)?, &options),
        ImportFrom::Shorewall { directory, macros } => {
            translate(shorewall::read(directory, macros)?, &options)
        }
        ImportFrom::Kernel { directory } => settle(kernel::read(directory)?, &options),
        ImportFrom::Interfaces { file } => settle(interfaces::read(file)?, &options),
        ImportFrom::Networkd { directory } => settle(networkd::read(directory)?, &options),
        ImportFrom::Netplan { files } => settle(netplan::read(&read(files)?)?, &options),
    };
    match &import.output {
        None => print(&written.text)?,
        Some(path) => fs::write(path, &written.text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?,
    }
    report(&written, import.json)
}

/// Writes what was read.
fn translate(mut firewall: Firewall, options: &Options) -> Written {
    for (device, _) in &options.ports {
        firewall.device(device);
    }
    for device in options
        .addresses
        .iter()
        .filter_map(|(device, _)| device.as_ref())
    {
        firewall.device(device);
    }
    let links = Links::new(&firewall, options);
    marks::list(&mut firewall);
    compile(firewall, links, None)
}

/// Writes a system's own setup.
fn settle(mut system: System, options: &Options) -> Written {
    let links = topology::links(&mut system, options);
    marks::settle(&mut system, &links);
    let routing = routing::translate(&system, &links);
    let mut firewall = system.firewall;
    firewall.notes.splice(0..0, system.notes);
    firewall.notes.extend(routing.notes.iter().cloned());
    compile(firewall, links, Some(&routing))
}

/// Writes rules and translations between interfaces, and how they are routed if that was read.
fn compile(mut firewall: Firewall, mut links: Links, routing: Option<&Routing>) -> Written {
    links.complete_networks(&firewall);
    let nat = nat::translate(&mut firewall, &mut links);
    links.complete_personalities();
    let policy = policy::translate(&mut firewall, &links);
    let mut seen = BTreeSet::new();
    firewall
        .notes
        .retain(|note| seen.insert((place(note), note.fate, note.why.clone())));
    let text = writer::write(&firewall, &links, &nat, &policy, routing);
    let faults = match check_text(&text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .iter()
            .map(|fault| format!("{}; {}", fault.problem, fault.remedy))
            .collect(),
    };
    Written {
        text,
        notes: firewall.notes,
        faults,
    }
}

/// Where a note's line is; by what stands there, if the file has no lines.
fn place(note: &Note) -> (String, Option<String>) {
    let Note { origin, .. } = note;
    let unnumbered = origin.place == firewall::Place::Line(0);
    (origin.place(), unnumbered.then(|| origin.text.clone()))
}

/// Says what was left out.
fn report(written: &Written, json: bool) -> Result<(), Failure> {
    let left_out = |note: &&Note| matches!(note.fate, Fate::Missing | Fate::Wider);
    let count = written.notes.iter().filter(left_out).count();
    if json {
        let told: Vec<Told<'_>> = written.notes.iter().map(Told::of).collect();
        let text = serde_json::to_string_pretty(&told).map_err(|e| Failure::new(e.to_string()))?;
        print(&format!("{text}\n"))?;
    } else {
        for note in written.notes.iter().filter(left_out) {
            let more = match note.fate {
                Fate::Wider => " (it kept something out: what is written lets in MORE)",
                _ => "",
            };
            eprintln!("{}{more}", harmless(&writer::said(note)));
        }
        let host = written.notes.iter().filter(|note| note.fate == Fate::Host);
        for note in host {
            eprintln!("note: {}", harmless(&writer::said(note)));
        }
    }
    for fault in &written.faults {
        eprintln!("`tapgate check` will say: {}", harmless(fault));
    }
    match (count, written.faults.len()) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::new("what was written is not right yet")),
        (1, _) => Err(Failure::new(
            "1 line was not translated; the end of the file lists it",
        )),
        (many, _) => Err(Failure::new(format!(
            "{many} lines were not translated; the end of the file lists them"
        ))),
    }
}

impl<'n> Told<'n> {
    fn of(note: &'n Note) -> Self {
        Self {
            file: &note.origin.file,
            line: match note.origin.place {
                firewall::Place::Line(line) => Some(line),
                firewall::Place::Named(_) => None,
            },
            place: note.origin.place(),
            text: &note.origin.text,
            fate: note.fate,
            why: &note.why,
        }
    }
}

#[cfg(test)]
mod tests;
