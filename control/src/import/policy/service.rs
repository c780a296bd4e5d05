//! Protocols and ports as the policy has them.

use super::super::matching::{Family, Ports, Service};
use super::value::Value;

const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const ECHO: u8 = 8;
const ECHO6: u8 = 128;

/// The keys that say a service; `None`: there is none such in the family.
pub(super) fn service(
    service: &Service,
    family: &mut Family,
    several: bool,
) -> Result<Option<Vec<(&'static str, Value)>>, String> {
    let mut fields = Vec::new();
    let with_ports = |p: &u8| [6, 17].contains(p);
    let has_ports = service.ports.is_some() || service.source_ports.is_some();
    let Some(protocols) = &service.protocols else {
        return match has_ports || service.icmp_types.is_some() {
            true => Err("it asks for ports without a protocol".to_owned()),
            false => Ok(Some(fields)),
        };
    };
    if has_ports && !protocols.iter().all(with_ports) {
        return Err("only TCP and UDP ports are asked for".to_owned());
    }
    let icmp: Vec<u8> = protocols
        .iter()
        .copied()
        .filter(|p| [ICMP, ICMP6].contains(p))
        .collect();
    // ICMP is that of either family here.
    match (&icmp[..], *family) {
        ([ICMP], Family::V6) | ([ICMP6], Family::V4) => return Ok(None),
        ([one], Family::Both) if protocols.len() == 1 => {
            *family = if *one == ICMP { Family::V4 } else { Family::V6 };
        }
        ([_], Family::Both) if several => {
            return Err("it asks for the ICMP of one family among other protocols".to_owned());
        }
        _ => {}
    }
    let mut names: Vec<String> = Vec::new();
    for number in protocols {
        let name = match number {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            1 | 58 => "icmp".to_owned(),
            47 => "gre".to_owned(),
            50 => "esp".to_owned(),
            51 => "ah".to_owned(),
            132 => "sctp".to_owned(),
            136 => "udplite".to_owned(),
            other => other.to_string(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    fields.push(("proto", Value::Texts(names)));
    for (key, ports) in [
        ("port", &service.ports),
        ("source_port", &service.source_ports),
    ] {
        let Some(ports) = ports else { continue };
        let ports: Vec<Ports> = ports
            .iter()
            .map(|(a, b)| ((*a).max(1), *b))
            .filter(|(a, b)| a <= b)
            .collect();
        match ports.is_empty() {
            true => return Err("it asks for port 0".to_owned()),
            false => fields.push((key, Value::Ports(ports))),
        }
    }
    if let Some(types) = &service.icmp_types {
        if icmp.len() != protocols.len() {
            return Err("it asks for ICMP types, but not for ICMP alone".to_owned());
        }
        let mut names: Vec<String> = Vec::new();
        for kind in types {
            let echo = match &icmp[..] {
                [ICMP] => *kind == ECHO,
                [ICMP6] => *kind == ECHO6,
                _ => false,
            };
            names.push(if echo {
                "echo-request".to_owned()
            } else {
                kind.to_string()
            });
        }
        fields.push(("icmp_type", Value::Texts(names)));
    }
    Ok(Some(fields))
}
