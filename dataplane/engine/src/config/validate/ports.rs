//! `[ports]`.

use std::collections::BTreeMap;

use super::check::{Check, place};
use crate::config::{File, FilePort, Port, PortKind, Segment};

/// Smallest MTU a port may have, in bytes (RFC 791 §3.2: every internet destination must be able
/// to receive 576).
pub(super) const MIN_MTU: u32 = 576;
/// Largest MTU a port may have, in bytes: the IPv4 total length's limit.
pub(super) const MAX_MTU: u32 = 65_535;
/// Longest name of a network device, in bytes (Linux IFNAMSIZ less the terminator).
const MAX_DEVICE_NAME: usize = 15;

impl Check {
    /// Checks all ports; one that is wrong is in the result all the same, so that what uses it is
    /// not reported as well.
    pub(super) fn ports(&mut self, file: &File) -> Vec<Port> {
        let mut devices = BTreeMap::new();
        let mut ports = Vec::new();
        for (name, port) in &file.ports {
            let at = |key: &str| place!["ports", name, key];
            self.name(place!["ports", name], name);
            let kind = self.port_kind(name, port);
            if let PortKind::Device { device, .. } | PortKind::Tap { device, .. } = &kind {
                let key = if port.tap.is_some() { "tap" } else { "device" };
                self.device_name(at(key), device);
                let netns = port.netns.clone().unwrap_or_default();
                self.unique(
                    &mut devices,
                    (device.clone(), netns),
                    at(key),
                    &format!("device \"{device}\" is used by two ports"),
                    "give each port a device of its own; several personalities may share one port",
                );
            }
            let mtu = port.mtu.unwrap_or(1500);
            if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
                self.fault(
                    at("mtu"),
                    format!("an MTU of {mtu} bytes is out of range"),
                    format!("write {MIN_MTU} to {MAX_MTU}"),
                );
            }
            let queues = self.queues(at("queues"), port);
            ports.push(Port {
                name: name.clone(),
                kind,
                mtu,
                queues,
                source: port.source.unwrap_or_default(),
            });
        }
        ports
    }

    /// What a port is: exactly one of device, TAP and memory, with the keys that belong to it.
    fn port_kind(&mut self, name: &String, port: &FilePort) -> PortKind {
        match (&port.device, &port.tap, port.memory) {
            (Some(device), None, false) => self.device(name, device, port),
            (None, Some(tap), false) => self.tap(name, tap, port),
            (None, None, true) => PortKind::Memory,
            _ => {
                self.fault(
                    place!["ports", name],
                    format!("port \"{name}\" must say what it is, once"),
                    "write exactly one of `device = \"eth0\"` (existing device) and `tap = \"tap0\"` (made by tapgate)",
                );
                PortKind::Memory
            }
        }
    }

    fn device(&mut self, name: &String, device: &str, port: &FilePort) -> PortKind {
        for (given, key) in [(port.netns.is_some(), "netns"), (port.mac.is_some(), "mac")] {
            if given {
                self.fault(
                    place!["ports", name, key],
                    format!("\"{key}\" is for a `tap` port; this is a `device`"),
                    "remove it: the device is used as it is",
                );
            }
        }
        let owner = port.create.as_ref().and_then(|c| c.owner.as_deref());
        if owner == Some("") {
            self.fault(
                place!["ports", name, "create", "owner"],
                "the owner has no name",
                "write a user's name or number, or leave it out",
            );
        }
        PortKind::Device {
            device: device.to_owned(),
            create: port.create.clone(),
        }
    }

    fn tap(&mut self, name: &String, tap: &str, port: &FilePort) -> PortKind {
        let at = |key: &str| place!["ports", name, key];
        if port.create.is_some() {
            self.fault(
                at("create"),
                "\"create\" is for a `device` port; a `tap` is always made",
                "remove it, or write `device` if a VM opens the TAP's fd side",
            );
        }
        if let Some(mac) = port.mac {
            self.station_mac(at("mac"), mac);
        }
        if let Some(netns) = &port.netns {
            self.netns(at("netns"), netns);
        }
        PortKind::Tap {
            device: tap.to_owned(),
            netns: port.netns.clone(),
            mac: port.mac,
        }
    }

    fn queues(&mut self, at: Vec<Segment>, port: &FilePort) -> u16 {
        let queues = port.queues.unwrap_or(1);
        let no_tap = port.tap.is_none() && (port.device.is_some() || port.memory);
        if port.queues.is_some() && no_tap {
            self.fault(
                at,
                "\"queues\" is for a `tap` port",
                "remove it: all queues of a device come in by one socket; a VM's TAP gets several by `create = { multi_queue = true }`",
            );
        } else if !(1..=64).contains(&queues) {
            self.fault(
                at,
                format!("{queues} queues are out of range"),
                "write 1 to 64",
            );
        }
        queues
    }

    /// `name` must be a name in /run/netns or an absolute path.
    fn netns(&mut self, at: Vec<Segment>, name: &str) {
        let relative = name.contains('/') && !name.starts_with('/');
        if name.is_empty() || relative || name == "." || name == ".." || name.contains('\0') {
            self.fault(
                at,
                format!("\"{name}\" cannot be a network namespace"),
                "write a name as in `ip netns`, or a path that begins with \"/\"",
            );
        }
    }

    fn device_name(&mut self, at: Vec<Segment>, name: &str) {
        let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
        if name.is_empty()
            || name.len() > MAX_DEVICE_NAME
            || name.contains(bad)
            || name == "."
            || name == ".."
        {
            self.fault(
                at,
                format!("\"{name}\" cannot be a device's name"),
                format!("use 1 to {MAX_DEVICE_NAME} bytes without spaces, \"/\" and \":\""),
            );
        }
    }
}
