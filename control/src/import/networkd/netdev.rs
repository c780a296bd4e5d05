//! `.netdev` files: devices that systemd makes.

use super::file::{File, Section};
use super::values::size;
use crate::import::firewall::Fate;
use crate::import::system::{Kind, System};

/// Reads one.
pub(super) fn netdev(system: &mut System, file: &File) {
    let Some(section) = file.named("NetDev").next() else {
        return leave(system, file, "there is no [NetDev] in the file");
    };
    let Some(name) = section.get("Name") else {
        return leave(system, file, "there is no `Name` in its [NetDev]");
    };
    let kind = kind(file, section.get("Kind").unwrap_or_default());
    if let Kind::Other(kind) = &kind {
        let why = format!("there are no {kind} devices here: the host goes on having it");
        system.note(&section.said(), Fate::Missing, why);
    }
    system.link_mut(name, &section.origin).kind = kind;
    for section in &file.sections {
        self::section(system, section, name);
    }
}

fn kind(file: &File, kind: &str) -> Kind {
    let vlan = |key| file.last("VLAN", key);
    match kind {
        "bridge" => Kind::Bridge,
        // The device under it is told by that one's own file.
        "macvlan" => Kind::Macvlan(String::new()),
        "vlan" if vlan("Protocol").is_some_and(|text| !text.eq_ignore_ascii_case("802.1q")) => {
            Kind::Other(format!("{} VLAN", vlan("Protocol").unwrap_or_default()))
        }
        "vlan" => match vlan("Id").and_then(|id| id.parse().ok()) {
            Some(id) => Kind::Vlan(String::new(), id),
            None => Kind::Other("VLAN without `Id`".to_owned()),
        },
        "bond" | "veth" | "tap" => Kind::Device,
        other => Kind::Other(other.to_owned()),
    }
}

fn section(system: &mut System, section: &Section, name: &str) {
    for (key, value, at) in &section.keys {
        let done = match (section.name.as_str(), key.as_str()) {
            ("NetDev", "Name" | "Kind" | "Description") => Ok(()),
            ("VLAN", "Id" | "Protocol") => Ok(()),
            ("NetDev", "MACAddress") if value == "none" => Ok(()),
            ("NetDev", "MACAddress") => {
                system.link_mut(name, at).mac = Some(value.to_ascii_lowercase());
                Ok(())
            }
            ("NetDev", "MTUBytes") => size(value).map(|size| {
                system.link_mut(name, at).mtu = Some(size);
            }),
            ("MACVLAN", "Mode") | ("Bridge" | "Bond" | "Tap" | "Peer", _) => {
                system.note(at, Fate::Host, "about the host itself");
                Ok(())
            }
            _ => Err("this option is not read".to_owned()),
        };
        if let Err(why) = done {
            system.note(at, Fate::Missing, why);
        }
    }
}

/// Notes all of a file.
pub(super) fn leave(system: &mut System, file: &File, why: &str) {
    for section in &file.sections {
        system.note(&section.said(), Fate::Missing, why);
    }
}
