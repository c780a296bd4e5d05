//! The columns of a rule.

use std::collections::BTreeSet;

use super::super::firewall::Fate;
use super::super::matching::{Ports, Service, other_ports};
use super::super::untranslated::{MATCHES, why};
use super::super::words;
use super::macros::Body;

/// A rule with its columns.
#[derive(Clone)]
pub(super) struct Columns<'c> {
    pub(super) action: &'c str,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) protocol: String,
    pub(super) port: String,
    pub(super) source_port: String,
    pub(super) original: String,
    pub(super) limit: Option<&'static str>,
    /// Flows are written into the log.
    pub(super) log: bool,
}

/// The action without its log level, and whether there was one.
pub(super) fn action_of(text: &str) -> (&str, bool) {
    let end = text.rfind(')').map_or(0, |at| at + 1);
    let (head, tail) = text.split_at(end);
    match tail.split_once(':') {
        None => (text.trim_end_matches(['!', '+']), false),
        Some((name, level)) => {
            let action = if head.is_empty() { name } else { head };
            let level = level.split(':').next().unwrap_or_default();
            let silent = level.is_empty() || level.eq_ignore_ascii_case("none");
            (action.trim_end_matches(['!', '+']), !silent)
        }
    }
}

/// `Macro(ACTION)` and `Macro/ACTION` as a name and a parameter.
pub(super) fn parameter_of(text: &str) -> (&str, &str) {
    let (name, parameter) = text.split_once(['(', '/']).unwrap_or((text, ""));
    (name, parameter.trim_end_matches(')'))
}

pub(super) fn is_verdict(name: &str) -> bool {
    [
        "ACCEPT", "DROP", "REJECT", "DNAT", "DNAT-", "REDIRECT", "LOG", "PARAM", "A_ACCEPT",
        "A_DROP", "A_REJECT",
    ]
    .contains(&name)
}

/// What it means to leave out a rule that does this.
pub(super) fn fate_of(name: &str, parameter: &str) -> Fate {
    let accepts = |text: &str| ["ACCEPT", "DNAT", "DNAT-", "REDIRECT", "LOG"].contains(&text);
    match accepts(name) || accepts(parameter) {
        true => Fate::Missing,
        false => Fate::Wider,
    }
}

/// A macro's rule in the place where it is called: what is said there goes first.
pub(super) fn merged<'c>(
    called: &Columns<'_>,
    body: &Body,
    (action, log): (&'c str, bool),
) -> Columns<'c> {
    let rate = why(MATCHES, "limit").unwrap_or_default();
    let first = |said: &str, own: &str| {
        if said.is_empty() {
            own.to_owned()
        } else {
            said.to_owned()
        }
    };
    let side = |own: &str, same: &str| match own {
        "SOURCE" => called.source.clone(),
        "DEST" => called.destination.clone(),
        "" => same.to_owned(),
        more => format!("{same}:{more}"),
    };
    Columns {
        action,
        source: side(&body.source, &called.source),
        destination: side(&body.destination, &called.destination),
        protocol: first(&called.protocol, &body.protocol),
        port: first(&called.port, &body.port),
        source_port: first(&called.source_port, &body.source_port),
        original: first(&called.original, &body.origin),
        limit: called.limit.or(body.limit.then_some(rate)),
        log,
    }
}

/// Protocol and ports, as columns have them.
pub(super) fn service(protocol: &str, port: &str, source_port: &str) -> Result<Service, String> {
    if protocol.is_empty() || protocol == "all" || protocol == "any" {
        return match port.is_empty() && source_port.is_empty() {
            true => Ok(Service::default()),
            false => Err("it asks for ports without a protocol".to_owned()),
        };
    }
    let numbers: Option<BTreeSet<u8>> = protocol.split(',').map(words::protocol).collect();
    let numbers = numbers.ok_or_else(|| format!("{protocol} is no plain protocol"))?;
    let is_icmp = numbers == [1].into();
    let mut service = Service {
        protocols: Some(numbers),
        ..Service::default()
    };
    if is_icmp {
        if !port.is_empty() {
            let types: Option<BTreeSet<u8>> = port
                .split(',')
                .map(|kind| words::icmp_type(kind, 1))
                .collect();
            service.icmp_types = Some(types.ok_or("a rule asks for ICMP types, not for codes")?);
        }
        return Ok(service);
    }
    let ports = |text: &str| -> Result<Option<Vec<Ports>>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let (list, not) = text
            .strip_prefix('!')
            .map_or((text, false), |rest| (rest, true));
        let list = words::port_list(list).ok_or_else(|| format!("{text} are no plain ports"))?;
        match not {
            false => Ok(Some(list)),
            true => Some(other_ports(&list))
                .filter(|left| !left.is_empty())
                .map(Some)
                .ok_or_else(|| "no port is left".to_owned()),
        }
    };
    service.ports = ports(port)?;
    service.source_ports = ports(source_port)?;
    Ok(service)
}
