//! From [`File`] to [`Config`]: every check a configuration must pass, all faults reported at once.

use std::collections::BTreeMap;

use super::{Config, ConfigError, ConfigErrors, File, Segment, closest};

macro_rules! path {
    ($($segment:expr),*) => { vec![$(crate::config::Segment::from($segment)),*] };
}

mod address;
mod forward;
mod guests;
mod interfaces;
mod ports;
mod rules;
mod services;
mod snat;
mod tables;
#[cfg(test)]
mod tests;

/// Longest name in the file, in bytes.
const MAX_NAME: usize = 32;
/// Most entries of a section: the engine numbers them with 16 bits, personalities and networks
/// together.
const MOST_ENTRIES: usize = 30_000;
/// Most names that a remedy lists.
const MOST_NAMES: usize = 12;

impl TryFrom<File> for Config {
    type Error = ConfigErrors;

    fn try_from(file: File) -> Result<Self, ConfigErrors> {
        let mut check = Check::default();
        check.router(&file);
        for (section, entries) in [
            ("ports", file.ports.len()),
            ("personalities", file.personalities.len()),
            ("networks", file.networks.len()),
            ("guests", file.guests.len()),
            ("tables", file.tables.len()),
        ] {
            check.count(section, entries);
        }
        let ports = check.ports(&file);
        let interfaces = check.interfaces(&file, &ports);
        let guests = check.guests(&file, &ports, &interfaces);
        let tables = check.tables(&file, &interfaces);
        let rules = check.rules(&file, &interfaces, &tables);
        let snat = check.snat(&file, &interfaces);
        let forwards = check.forwards(&file, &interfaces);
        if check.errors.is_empty() {
            Ok(Self {
                file,
                ports,
                interfaces,
                guests,
                tables,
                rules,
                snat,
                forwards,
            })
        } else {
            Err(ConfigErrors(check.errors))
        }
    }
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Segment {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

#[derive(Default)]
struct Check {
    errors: Vec<ConfigError>,
}

impl Check {
    fn fault(&mut self, at: Vec<Segment>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(ConfigError {
            at,
            problem: problem.into(),
            remedy: remedy.into(),
            other: None,
        });
    }

    /// A fault that two places have a part in.
    fn conflict(
        &mut self,
        at: Vec<Segment>,
        other: Vec<Segment>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors.push(ConfigError {
            at,
            problem: problem.into(),
            remedy: remedy.into(),
            other: Some(other),
        });
    }

    /// Remembers `key` as seen at `at`; a second sight of it is a fault that names both places.
    fn unique<K: Ord>(
        &mut self,
        seen: &mut BTreeMap<K, Vec<Segment>>,
        key: K,
        at: Vec<Segment>,
        what: &str,
        remedy: &str,
    ) {
        if let Some(first) = seen.get(&key) {
            self.conflict(at, first.clone(), what, remedy);
        } else {
            seen.insert(key, at);
        }
    }

    fn count(&mut self, section: &str, entries: usize) {
        if entries > MOST_ENTRIES {
            self.fault(
                path![section],
                format!("{entries} entries are too many"),
                format!("write at most {MOST_ENTRIES}"),
            );
        }
    }

    fn name(&mut self, at: Vec<Segment>, name: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
            self.fault(
                at,
                format!("\"{name}\" cannot be a name"),
                format!("use 1 to {MAX_NAME} letters, digits, \"-\", \"_\" or \".\""),
            );
        }
    }

    /// A name that is used but not in `section`, where the names in `known` are.
    fn undefined(
        &mut self,
        at: Vec<Segment>,
        what: &str,
        name: &str,
        known: &[&str],
        section: &str,
    ) {
        let list = known[..known.len().min(MOST_NAMES)].join(", ");
        let more = if known.len() > MOST_NAMES {
            ", …"
        } else {
            ""
        };
        let remedy = match closest(name, known) {
            Some(close) => format!("did you mean \"{close}\"? in {section} are {list}{more}"),
            None if known.is_empty() => format!("define it in {section}"),
            None => format!("define it in {section}, or write one of {list}{more}"),
        };
        self.fault(at, format!("{what} \"{name}\" is not defined"), remedy);
    }

    fn router(&mut self, file: &File) {
        let router = &file.router;
        if let Some(why) = address::not_a_host(router.id.into()) {
            self.fault(
                path!["router", "id"],
                format!("{} {why}", router.id),
                "write an IPv4 address of the router's own, or leave it out",
            );
        }
        let minimum = [
            (
                "tcp_established",
                router.timeouts.tcp_established,
                7_440,
                "RFC 5382 REQ-5",
            ),
            (
                "tcp_transitory",
                router.timeouts.tcp_transitory,
                240,
                "RFC 5382 REQ-5",
            ),
            ("udp", router.timeouts.udp, 120, "RFC 4787 REQ-5"),
            ("icmp", router.timeouts.icmp, 60, "RFC 5508 REQ-1"),
            (
                "other",
                router.timeouts.other,
                1,
                "no session can end at once",
            ),
        ];
        for (key, value, least, why) in minimum {
            if value < least {
                self.fault(
                    path!["router", "timeouts", key],
                    format!("{value} s is too short ({why})"),
                    format!("write {least} or more, or leave it out"),
                );
            }
        }
        if router.proxy_delay > 1_000 {
            self.fault(
                path!["router", "proxy_delay"],
                format!(
                    "{} ms is too long: who asks gives up after 1 s",
                    router.proxy_delay
                ),
                "write 0 to 1000 milliseconds",
            );
        }
        if router.announce_interval > 0 && router.announce_interval < 10 {
            self.fault(
                path!["router", "announce_interval"],
                format!("every {} s is too often", router.announce_interval),
                "write 10 or more seconds, or 0 to announce only at a start or change",
            );
        }
        for (key, value, most) in [
            ("answers_per_second", router.answers_per_second, 1_000_000),
            ("sessions", router.sessions, 1 << 24),
            ("neighbors", router.neighbors, 60_000),
        ] {
            if value == 0 || value > most {
                self.fault(
                    path!["router", key],
                    format!("{value} is out of range"),
                    format!("write 1 to {most}"),
                );
            }
        }
    }
}
