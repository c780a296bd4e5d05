//! `tapgate whois`: who has an external address and port, or had it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::Serialize;
use tapgate_engine::config::{Config, Prefix};
use tapgate_protocol::{DATAPLANE_SOCKET, Rows, Show};

use crate::assignments::{Assignment, assignments, guest};
use crate::block_log;
use crate::cli::Whois;
use crate::connect::{connect, failure};
use crate::failure::Failure;
use crate::output::print;
use crate::{show, source};

/// How long the dataplane may take over one page.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Who has it.
#[derive(Debug, Serialize)]
struct Holder {
    guest: Option<String>,
    inside: String,
    /// The inside port, where flows have it now.
    port: Option<u16>,
    protocol: Option<String>,
    /// What says so: a key of the configuration, or `session`.
    by: String,
    /// The external ports that are its own; all when absent.
    ports: Option<String>,
    /// Since when, where the log of blocks tells.
    since: Option<String>,
}

/// Says who has an external address and port; with `--at`, who had it.
///
/// # Errors
/// Nobody has it, or that cannot be found out.
pub fn whois(directory: &Path, question: &Whois, colour: bool) -> Result<(), Failure> {
    let (config, _) =
        source::load(&question.config).map_err(|refusal| refusal.report(question.json, colour))?;
    let place = (question.place.ip(), question.place.port());
    let holders = match &question.at {
        Some(time) => then(&config, place, question.proto, time)?,
        None => now(directory, &config, place, question.proto)?,
    };
    if question.json {
        let json = serde_json::to_string_pretty(&holders).unwrap_or_default();
        print(&format!("{json}\n"))?;
    } else {
        for holder in &holders {
            print(&sentence(question.place, holder, question.at.as_deref()))?;
        }
    }
    if !holders.is_empty() {
        return Ok(());
    }
    Err(Failure::new(match &question.at {
        None => format!("nobody has {}", question.place),
        Some(time) => format!(
            "the log names nobody who had {} at {time}; it has blocks, `one_to_one`, `public` addresses and forwarded ports, no flows",
            question.place
        ),
    }))
}

/// Who has it now: by the configuration, else by the running dataplane's sessions.
fn now(
    directory: &Path,
    config: &Config,
    place: (IpAddr, u16),
    proto: Option<u8>,
) -> Result<Vec<Holder>, Failure> {
    let logged = config.file().nat.block_log.as_deref();
    let logged = logged.and_then(|path| block_log::assigned(path, None).ok());
    let since = |assignment: &Assignment| {
        let mut logged = logged.iter().flatten();
        logged
            .find(|(other, _)| other == assignment)
            .map(|(_, time)| time.clone())
    };
    let all = assignments(config).into_iter();
    let assigned = all.map(|assignment| (since(&assignment), assignment));
    let holders = first_kind(config, assigned, place, proto);
    if !holders.is_empty() {
        return Ok(holders);
    }
    by_sessions(directory, config, place, proto)
}

/// Who had it at `time`, by the log.
fn then(
    config: &Config,
    place: (IpAddr, u16),
    proto: Option<u8>,
    time: &str,
) -> Result<Vec<Holder>, Failure> {
    let Some(path) = &config.file().nat.block_log else {
        return Err(Failure::new(
            "the configuration has no `block_log`: nothing is known of what was",
        ));
    };
    let logged = block_log::assigned(path, Some(time))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let assigned = logged
        .into_iter()
        .map(|(assignment, since)| (Some(since), assignment));
    Ok(first_kind(config, assigned, place, proto))
}

/// Those whose the place is. Whatever takes a port away from a block goes before it.
fn first_kind(
    config: &Config,
    assigned: impl Iterator<Item = (Option<String>, Assignment)>,
    place: (IpAddr, u16),
    proto: Option<u8>,
) -> Vec<Holder> {
    let mut found: Vec<_> = assigned
        .filter(|(_, assignment)| assignment.place.has(place, proto))
        .collect();
    let is_block = |assignment: &Assignment| assignment.by == "nat.snat";
    if let Some(by) = found
        .iter()
        .find(|(_, assignment)| !is_block(assignment))
        .map(|(_, assignment)| assignment.place.proto)
        && (by.is_none() || proto.is_some())
    {
        found.retain(|(_, assignment)| !is_block(assignment));
    }
    let holder = |(since, assignment): (Option<String>, Assignment)| {
        let inside = assignment.inside_of(place.0);
        // Of prefixes the log does not say which guest has which address.
        let whose = || guest(config, inside.0.addr());
        Holder {
            guest: assignment.guest.or_else(whose),
            inside: bare(inside),
            port: None,
            protocol: assignment.place.proto.map(|proto| proto.name().to_owned()),
            ports: assignment.place.ports.map(|ports| ports.to_string()),
            by: assignment.by,
            since,
        }
    };
    found.into_iter().map(holder).collect()
}

/// Who uses it in a session now.
fn by_sessions(
    directory: &Path,
    config: &Config,
    place: (IpAddr, u16),
    proto: Option<u8>,
) -> Result<Vec<Holder>, Failure> {
    let socket = directory.join(DATAPLANE_SOCKET);
    let peer = connect(&socket, PATIENCE).map_err(|error| failure(&error, "tapgate", &socket))?;
    let wanted = proto.map(|proto| match proto {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    });
    let mut holders: Vec<Holder> = Vec::new();
    show::pages(peer.channel, Show::Sessions, |rows| {
        let Rows::Sessions(rows) = rows else {
            return Ok(());
        };
        for row in rows {
            let of_protocol = wanted.as_ref().is_none_or(|wanted| *wanted == row.protocol);
            if row.translated != Some(place) || !of_protocol {
                continue;
            }
            let holder = Holder {
                guest: guest(config, row.source),
                inside: row.source.to_string(),
                port: Some(row.source_port),
                protocol: Some(row.protocol),
                by: "session".to_owned(),
                ports: None,
                since: None,
            };
            let same = |other: &Holder| {
                (&other.inside, other.port, &other.protocol)
                    == (&holder.inside, holder.port, &holder.protocol)
            };
            if !holders.iter().any(same) {
                holders.push(holder);
            }
        }
        Ok(())
    })?;
    Ok(holders)
}

fn sentence(place: SocketAddr, holder: &Holder, at: Option<&str>) -> String {
    let whose = match &holder.guest {
        Some(guest) => format!("guest {guest}'s, {}", holder.inside),
        None => format!("{}'s, which is no configured guest", holder.inside),
    };
    let port = holder
        .port
        .map_or_else(String::new, |port| format!(" port {port}"));
    let protocol = holder
        .protocol
        .as_deref()
        .map_or_else(String::new, |protocol| format!(" ({protocol})"));
    let ports = holder
        .ports
        .as_deref()
        .map_or_else(String::new, |ports| format!(", ports {ports}"));
    let since = holder
        .since
        .as_deref()
        .map_or_else(String::new, |since| format!(", since {since}"));
    let was = at.map_or_else(|| "is".to_owned(), |at| format!("was at {at}"));
    format!(
        "{place}{protocol} {was} {whose}{port}: by {}{ports}{since}\n",
        holder.by
    )
}

/// A host without its prefix length.
fn bare(prefix: Prefix) -> String {
    match prefix.0.prefix_len() == prefix.0.max_prefix_len() {
        true => prefix.0.addr().to_string(),
        false => prefix.to_string(),
    }
}
