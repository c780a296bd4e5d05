//! Ports that the host's kernel may give to its own outgoing connections.

use std::fs::read_to_string;

use crate::link::Links;
use crate::shared::{Device, Shared, disjoint, of_ports};

const LOCAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// What the operator should know about devices shared with the host: ports that the host may use
/// as well, MACs that are not the device's.
pub fn warnings(devices: &[Device], links: &Links) -> Vec<String> {
    let host = Host::read();
    let mut warnings = Vec::new();
    for device in devices {
        for shared in &device.shared {
            warnings.extend(host.as_ref().and_then(|host| host.contends(shared)));
            let actual = links.get(&device.name).and_then(|link| link.mac);
            if let Some(actual) = actual.filter(|actual| *actual != shared.mac) {
                let (personality, mac, device) = (&shared.name, shared.mac, &device.name);
                warnings.push(format!(
                    "personalities.{personality}.mac: {mac} is shared with the host, but {device} \
                     has {actual}: write mac = \"{actual}\", or leave `shared` out"
                ));
            }
        }
    }
    warnings
}

/// The host's settings.
#[derive(Debug)]
struct Host {
    /// net.ipv4.ip_local_port_range (IPv6 goes by it as well).
    local: (u128, u128),
    /// net.ipv4.ip_local_reserved_ports, as written and as intervals.
    reserved: (String, Vec<(u128, u128)>),
}

impl Host {
    /// Those of our own network namespace.
    fn read() -> Option<Self> {
        Self::parse(
            &read_to_string(LOCAL).ok()?,
            &read_to_string(RESERVED).ok()?,
        )
    }

    fn parse(local: &str, reserved: &str) -> Option<Self> {
        let mut local = local.split_whitespace().map(str::parse);
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let reserved = reserved.trim();
        let intervals = disjoint(reserved.split(',').filter_map(range));
        Some(Self {
            local: (local.next()?.ok()?, local.next()?.ok()?),
            reserved: (reserved.to_owned(), intervals),
        })
    }

    /// Says which of the router's ports the host may take for itself, and how to stop it.
    fn contends(&self, shared: &Shared) -> Option<String> {
        let ports = shared.addresses.iter().flat_map(|own| own.ports());
        let ours = disjoint(ports.flat_map(|(_, ranges)| ranges).map(of_ports));
        let taken = ours.iter().flat_map(|ours| self.free_in(*ours));
        let taken = taken.map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        let taken = taken.collect::<Vec<_>>().join(",");
        if taken.is_empty() {
            return None;
        }
        let (reserved, _) = &self.reserved;
        let comma = if reserved.is_empty() { "" } else { "," };
        Some(format!(
            "personalities.{}: the host's own connections may use ports {taken} too \
             (net.ipv4.ip_local_port_range is {} {}): \
             sysctl -w net.ipv4.ip_local_reserved_ports={reserved}{comma}{taken}",
            shared.name, self.local.0, self.local.1
        ))
    }

    /// The local ports in an interval that are not reserved.
    fn free_in(&self, ours: (u128, u128)) -> Vec<(u128, u128)> {
        let (mut first, last) = (ours.0.max(self.local.0), ours.1.min(self.local.1));
        let mut free = Vec::new();
        for reserved in self.reserved.1.iter().filter(|reserved| reserved.0 <= last) {
            if first < reserved.0 {
                free.push((first, reserved.0 - 1));
            }
            first = first.max(reserved.1 + 1);
        }
        if first <= last {
            free.push((first, last));
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use tapgate_engine::addr::MacAddr;
    use tapgate_engine::config::PortRange;

    use super::*;
    use crate::shared::SharedAddress;

    fn contended(local: &str, reserved: &str, ranges: &[(u16, u16)]) -> Option<String> {
        let range = |(first, last): &(u16, u16)| PortRange {
            first: *first,
            last: *last,
        };
        let shared = Shared {
            name: "host".to_owned(),
            mac: MacAddr::ZERO,
            vlan: None,
            addresses: vec![SharedAddress {
                address: "192.0.2.7".parse().unwrap(),
                tcp: ranges.iter().map(range).collect(),
                udp: Vec::new(),
            }],
            guests: Vec::new(),
            alive: Vec::new(),
        };
        let warning = Host::parse(local, reserved).unwrap().contends(&shared)?;
        let (_, ports) = warning.split_once("reserved_ports=").unwrap();
        Some(ports.to_owned())
    }

    #[test]
    fn ports_that_the_host_may_take_are_told_with_the_setting_that_keeps_them() {
        let default = "32768\t60999\n";
        assert_eq!(
            contended(default, "\n", &[(61_000, 65_535), (2222, 2222)]),
            None
        );
        let told = |local, reserved, ranges| contended(local, reserved, ranges).unwrap();
        assert_eq!(told(default, "\n", &[(60_000, 65_535)]), "60000-60999");
        assert_eq!(
            told("1024 65535", "8080,61500-61999\n", &[(61_000, 65_535)]),
            "8080,61500-61999,61000-61499,62000-65535"
        );
        assert_eq!(told(default, "\n", &[(80, 80), (40_000, 40_000)]), "40000");
        assert_eq!(
            contended(default, "60000-65535\n", &[(60_000, 65_535)]),
            None
        );
        assert_eq!(contended(default, "1-65535\n", &[(1, 65_535)]), None);
    }

    #[test]
    fn settings_that_cannot_be_read_are_no_reason_to_warn() {
        assert!(Host::parse("", "").is_none());
    }
}
