//! A directory of Shorewall's configuration, of version 3 to 5.

mod columns;
mod lines;
mod macros;
mod nat;
mod rules;
mod side;
mod zones;

use std::path::Path;

use super::firewall::{Fate, Firewall};
use super::matching::Family;
use crate::failure::{Code, Failure};
use lines::{Reader, Row};
use zones::Zones;

/// Files that are not read, and why.
const OTHERS: &[(&str, Fate, &str)] = &[
    (
        "blrules",
        Fate::Wider,
        "blacklists are not read; write it as a rule",
    ),
    (
        "blacklist",
        Fate::Wider,
        "blacklists are not read; write it as a rule",
    ),
    (
        "maclist",
        Fate::Missing,
        "a guest's MAC is written in [guests], and checked by itself",
    ),
    (
        "mangle",
        Fate::Missing,
        "write `mark` at the rules that accept, and `bandwidth` of a guest",
    ),
    (
        "tcrules",
        Fate::Missing,
        "write `mark` at the rules that accept, and `bandwidth` of a guest",
    ),
    ("tcdevices", Fate::Missing, "write `bandwidth` of a guest"),
    ("tcclasses", Fate::Missing, "write `bandwidth` of a guest"),
    (
        "tcinterfaces",
        Fate::Missing,
        "write `bandwidth` of a guest",
    ),
    ("tcpri", Fate::Missing, "write `bandwidth` of a guest"),
    ("tos", Fate::Missing, "the traffic class is not changed"),
    ("ecn", Fate::Missing, "ECN is not changed"),
    (
        "accounting",
        Fate::Missing,
        "`tapgate show counters` and `show guests` count",
    ),
    (
        "conntrack",
        Fate::Missing,
        "there are no application helpers, and all is tracked",
    ),
    ("notrack", Fate::Missing, "all is tracked"),
    (
        "netmap",
        Fate::Missing,
        "write `one_to_one` of the two prefixes",
    ),
    (
        "proxyarp",
        Fate::Missing,
        "write the address as `public` of a guest in [guests]",
    ),
    (
        "proxyndp",
        Fate::Missing,
        "write the address as `public` of a guest in [guests]",
    ),
    (
        "providers",
        Fate::Missing,
        "write a personality, and a table and a rule in [routing]",
    ),
    ("rtrules", Fate::Missing, "write it in [routing]"),
    ("route_rules", Fate::Missing, "write it in [routing]"),
    ("routes", Fate::Missing, "write it in [tables]"),
    (
        "arprules",
        Fate::Missing,
        "tapgate answers for what its guests own, and nothing else",
    ),
    ("secmarks", Fate::Missing, "there is no SELinux here"),
    (
        "tunnels",
        Fate::Host,
        "about tunnels that the host itself ends",
    ),
    (
        "stoppedrules",
        Fate::Host,
        "about a firewall that is stopped; while tapgate is stopped nothing is forwarded",
    ),
    (
        "routestopped",
        Fate::Host,
        "about a firewall that is stopped; while tapgate is stopped nothing is forwarded",
    ),
];

/// Reads a directory; `macros`: where Shorewall's own macros are.
///
/// # Errors
/// It is none of Shorewall's.
pub(super) fn read(directory: &Path, macros: &Path) -> Result<Firewall, Failure> {
    let mut firewall = Firewall {
        source: directory.display().to_string(),
        ..Firewall::default()
    };
    firewall.family(Family::V4);
    let mut reader = Reader::new(directory, &mut firewall);
    if !reader.has("zones") {
        return Err(Failure::with(
            Code::Refused,
            format!(
                "{}: there is no readable file \"zones\" in it; name a directory of Shorewall's configuration, such as /etc/shorewall",
                directory.display()
            ),
        ));
    }
    let zones = Zones::read(&mut reader);
    if zones.of_ipv6 {
        return Err(Failure::with(
            Code::Refused,
            format!(
                "{}/zones: its zones are of IPv6, and shorewall6 is not read; name the output of ip6tables-save: tapgate import iptables",
                directory.display()
            ),
        ));
    }
    let masq = [reader.rows("masq"), reader.rows("snat")];
    let pairs = reader.rows("nat");
    let mut others = Vec::new();
    for (name, fate, why) in OTHERS {
        let rows = reader.rows(name);
        if let Some(Row { origin, .. }) = rows.first() {
            others.push((origin.clone(), *fate, *why, rows.len()));
        }
    }
    for (origin, fate, why, count) in others {
        let why = match count {
            1 => why.to_owned(),
            many => format!("{why} ({many} lines)"),
        };
        match fate {
            Fate::Wider => reader.firewall.gap(&origin, fate, why),
            _ => reader.firewall.note(&origin, fate, why),
        }
    }
    nat::masquerades(&masq, &zones, &mut reader);
    nat::pairs(&pairs, &zones, &mut reader);
    rules::read(&mut reader, &zones, macros);
    Ok(firewall)
}
