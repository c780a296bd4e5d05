//! `tapgate check`: whether a file would be taken.

use std::path::Path;

use tapgate_engine::config::{Config, InterfaceKind, PortKind};

use crate::failure::Failure;
use crate::output::print;
use crate::source;
use crate::summary::summary;

/// Says that a file is right, with warnings about what may not be meant; or all that is wrong in
/// it.
///
/// # Errors
/// The file is refused.
pub fn check(file: &Path, json: bool, colour: bool) -> Result<(), Failure> {
    let config = match source::load(file) {
        Ok((config, _)) => config,
        Err(refusal) => return Err(refusal.report(json, colour)),
    };
    if json {
        return print("[]\n");
    }
    for note in notes(&config) {
        eprintln!("note: {note}");
    }
    print(&format!("{}: ok ({})\n", file.display(), summary(&config)))
}

/// What is allowed but may not be meant.
fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, port) in config.ports().iter().enumerate() {
        if let PortKind::Device {
            device,
            create: None,
        } = &port.kind
            && !Path::new("/sys/class/net").join(device).exists()
        {
            notes.push(format!(
                "there is no device {device} here now; port \"{}\" would wait for it",
                port.name
            ));
        }
        let used = config.interfaces().iter().any(|i| match &i.kind {
            InterfaceKind::Personality { port, .. } => *port == index,
            InterfaceKind::Network { ports, bridged, .. } => {
                ports.contains(&index) || bridged.is_some_and(|segment| segment.port == index)
            }
        });
        if !used {
            notes.push(format!(
                "port \"{}\" is in no personality and no network: what comes in by it is dropped",
                port.name
            ));
        }
    }
    notes
}
