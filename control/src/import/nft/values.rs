//! Values as nft's JSON has them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::super::ipset::net_or_range;
use super::super::matching::{self, Addresses, Family, Ports, other_ports};
use super::super::words;
use super::said::value_said;

pub(super) fn family(name: &str) -> Family {
    match name {
        "ip" => Family::V4,
        "ip6" => Family::V6,
        _ => Family::Both,
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// One address or a range.
pub(super) fn range(value: Option<&Value>) -> Option<(IpAddr, IpAddr)> {
    let value = value?;
    if let Some(one) = address(value) {
        return Some((one, one));
    }
    if let Some(prefix) = value.get("prefix") {
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        let net = IpNet::new(address(prefix.get("addr")?)?, length).ok()?;
        return Some((net.network(), net.broadcast()));
    }
    let ends = value.get("range")?.as_array()?;
    let ends = (address(ends.first()?)?, address(ends.get(1)?)?);
    (ends.0.is_ipv4() == ends.1.is_ipv4() && ends.0 <= ends.1).then_some(ends)
}

/// One port or a range; none if nothing is written.
pub(super) fn span(value: Option<&Value>) -> Result<Option<Ports>, String> {
    let Some(value) = value else { return Ok(None) };
    let span = port(value)
        .ok_or_else(|| "the port that it is translated to is no plain one".to_owned())?;
    Ok(Some(span).filter(|(first, _)| *first > 0))
}

fn port(value: &Value) -> Option<Ports> {
    let number = |value: &Value| match value {
        Value::String(name) => words::port(name),
        other => other.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        let span = (number(ends.first()?)?, number(ends.get(1)?)?);
        return (span.0 <= span.1).then_some(span);
    }
    number(value).map(|port| (port, port))
}

pub(super) fn ports(members: &[Value], not: bool) -> Result<Vec<Ports>, String> {
    let all: Option<Vec<Ports>> = members.iter().map(port).collect();
    let all = all.ok_or("these are no ports")?;
    match not {
        false => Ok(all),
        true => Some(other_ports(&all))
            .filter(|left| !left.is_empty())
            .ok_or_else(|| "no port is left".to_owned()),
    }
}

pub(super) fn protocols(names: &[String], not: bool) -> Result<BTreeSet<u8>, String> {
    if not {
        return Err("a rule asks for protocols, not for all but one".to_owned());
    }
    let all = names
        .iter()
        .map(|name| words::protocol(name))
        .collect::<Option<_>>();
    all.ok_or_else(|| "a protocol is not understood".to_owned())
}

pub(super) fn addresses(
    members: &[Value],
    right: &Value,
    family: Family,
    not: bool,
) -> Result<Addresses, String> {
    let mut nets: Vec<IpNet> = Vec::new();
    for member in members {
        let more = match member.get("prefix") {
            Some(prefix) => {
                let text = prefix
                    .get("addr")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let length = prefix.get("len").and_then(Value::as_u64).unwrap_or(999);
                net_or_range(&format!("{text}/{length}"))
            }
            None => match range(Some(member)) {
                Some((first, last)) => matching::range(first, last),
                None => member.as_str().and_then(net_or_range),
            },
        };
        nets.extend(
            more.ok_or_else(|| format!("{} is no plain address or prefix", value_said(member)))?,
        );
    }
    if nets.is_empty() {
        return Err(format!("the set {} is empty", value_said(right)));
    }
    let name = right.as_str().and_then(|text| text.strip_prefix('@'));
    Ok(match not {
        false => Addresses {
            name: name.map(str::to_owned),
            ..Addresses::within(nets)
        },
        // It asks for the family, too.
        true => Addresses {
            except: Addresses::within(nets).within.unwrap_or_default(),
            ..Addresses::within(family.all())
        },
    })
}

/// All texts and numbers of a value.
pub(super) fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(all) => all.iter().flat_map(strings).collect(),
        Value::Object(all) => all.get("set").map(strings).unwrap_or_default(),
        _ => Vec::new(),
    }
}
