//! Macros: services by name.

use std::path::Path;

use super::lines::{Reader, Row};

/// Macros of Shorewall's own, for machines where it is not installed: target, source, destination,
/// protocol, port.
const OWN: &[(&str, &str)] = &[
    ("DNS", "PARAM - - udp 53\nPARAM - - tcp 53"),
    ("FTP", "PARAM - - tcp 21"),
    ("HTTP", "PARAM - - tcp 80"),
    ("HTTPS", "PARAM - - tcp 443"),
    ("IMAP", "PARAM - - tcp 143"),
    ("IMAPS", "PARAM - - tcp 993"),
    ("MySQL", "PARAM - - tcp 3306"),
    ("NTP", "PARAM - - udp 123"),
    ("OpenVPN", "PARAM - - udp 1194"),
    ("Ping", "PARAM - - icmp 8"),
    ("POP3", "PARAM - - tcp 110"),
    ("POP3S", "PARAM - - tcp 995"),
    ("PostgreSQL", "PARAM - - tcp 5432"),
    ("RDP", "PARAM - - udp 3389\nPARAM - - tcp 3389"),
    ("Rsync", "PARAM - - tcp 873"),
    ("SMTP", "PARAM - - tcp 25"),
    ("SMTPS", "PARAM - - tcp 465"),
    ("SNMP", "PARAM - - udp 161\nPARAM - - tcp 161"),
    ("SSH", "PARAM - - tcp 22"),
    ("Submission", "PARAM - - tcp 587"),
    ("Syslog", "PARAM - - udp 514\nPARAM - - tcp 514"),
    ("Telnet", "PARAM - - tcp 23"),
    ("Web", "PARAM - - tcp 80\nPARAM - - tcp 443"),
];

/// One rule of a macro.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) action: String,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) protocol: String,
    pub(super) port: String,
    pub(super) source_port: String,
    pub(super) origin: String,
    /// Something that limits it.
    pub(super) limit: bool,
}

/// A macro's rules; `None`: there is none of that name.
pub(super) fn find(name: &str, reader: &mut Reader<'_>, macros: &Path) -> Option<Vec<Body>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let file = format!("macro.{name}");
    for directory in [reader.directory().to_owned(), macros.to_owned()] {
        let path = directory.join(&file);
        if path.is_file() {
            let rows = reader.rows_of(&path);
            return Some(rows.iter().map(body).collect());
        }
    }
    let (_, text) = OWN.iter().find(|(known, _)| *known == name)?;
    let rule = |line: &str| {
        let mut words = line
            .split_whitespace()
            .map(|word| word.trim_start_matches('-').to_owned());
        let mut word = || words.next().unwrap_or_default();
        Body {
            action: word(),
            source: word(),
            destination: word(),
            protocol: word(),
            port: word(),
            source_port: String::new(),
            origin: String::new(),
            limit: false,
        }
    };
    Some(text.lines().map(rule).collect())
}

fn body(row: &Row) -> Body {
    let column = |place, name| row.column(place, name).to_owned();
    // Until format 2 there was no column for the original destination.
    let limits: &[(usize, &str)] = match row.format {
        1 => &[(6, "rate"), (7, "user")],
        _ => &[
            (7, "rate"),
            (8, "user"),
            (9, "mark"),
            (10, "connlimit"),
            (11, "time"),
        ],
    };
    Body {
        action: column(0, "target"),
        source: column(1, "source"),
        destination: column(2, "dest"),
        protocol: column(3, "proto"),
        port: column(4, "dport"),
        source_port: column(5, "sport"),
        origin: if row.format == 1 {
            String::new()
        } else {
            column(6, "origdest")
        },
        limit: limits
            .iter()
            .any(|(place, name)| !row.column(*place, name).is_empty()),
    }
}
