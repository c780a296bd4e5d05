//! The configuration file that comes out, as text.

mod interfaces;
mod quote;
mod routing;
mod toml;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::firewall::{Fate, Firewall, Note};
use super::links::Links;
use super::matching::Family;
use super::names::Names;
use super::nat::Nat;
use super::policy::{Line, Policy, short};
use super::routing::Routing;
pub(super) use quote::said;
use quote::{entries, quote};
use toml::{comment, key, one_or_more, port, shown};
pub(super) use toml::{inline, list, quoted};

/// What rules elsewhere need not say.
const CLOSING: [&str; 4] = [
    "Guests of one network ask the policy too, where a bridge or a switch may have carried their frames",
    "past the old rules. To let them: { action = \"accept\", from = \"NETWORK\", to = \"NETWORK\" }",
    "From outside, guests are reached at forwarded ports and one_to_one addresses alone, whatever rules say;",
    "an address that is routed to a guest is `public` in [guests].",
];

/// What still stands in the kernel.
const TAKE_AWAY: &str = "Before it runs, take away what it replaces: macvlan devices, bridges with the NIC in them, rules, tables, translations.";

/// Writes everything.
pub(super) fn write(
    firewall: &Firewall,
    links: &Links,
    nat: &Nat,
    policy: &Policy,
    routing: Option<&Routing>,
) -> String {
    let mut out = String::new();
    let changes = links.personalities.iter().map(|p| p.changes.len());
    let changes = changes.chain(links.networks.iter().map(|n| n.changes.len()));
    let changes = changes.sum::<usize>() + usize::from(links.networks.is_empty());
    comment(
        &mut out,
        "",
        &format!("Written by `tapgate import` from {}.", firewall.source),
    );
    if routing.is_some() {
        comment(&mut out, "", TAKE_AWAY);
    }
    match changes {
        0 => {}
        1 => comment(
            &mut out,
            "",
            "One thing that the rules do not tell is a guess: look for CHANGE.",
        ),
        many => comment(
            &mut out,
            "",
            &format!("{many} things that the rules do not tell are guesses: look for CHANGE."),
        ),
    }
    if let [Family::V4] = firewall.families[..] {
        comment(
            &mut out,
            "",
            "Only IPv4 was read. A rule without addresses holds for both families.",
        );
    }
    let mut ports = Names::default();
    interfaces::interfaces(&mut out, links, &mut ports);
    interfaces::guests(&mut out, links, &mut ports);
    match routing {
        Some(routing) => routing::write(&mut out, routing),
        None => routes(&mut out, links, nat),
    }
    translations(&mut out, links, nat);
    rules(&mut out, links, policy);
    notes(&mut out, &firewall.notes);
    out
}

/// A default route by the first personality; by another for who is translated there.
fn routes(out: &mut String, links: &Links, nat: &Nat) {
    let defaults = |personality: usize| {
        let p = &links.personalities[personality];
        let to = |gateway: &IpAddr| if gateway.is_ipv4() { "default" } else { "::/0" };
        let routes = p
            .gateways
            .iter()
            .map(|gateway| inline(&[("to", quoted(to(gateway))), ("dev", quoted(&p.name))]));
        list(routes)
    };
    out.push_str("\n[tables]\n");
    let _ = writeln!(out, "main = {}", defaults(0));
    let mut sources: Vec<(String, usize)> = Vec::new();
    for (entry, _) in &nat.one_to_one {
        sources.push((entry.inside.to_string(), entry.personality));
    }
    for (entry, _) in &nat.snat {
        if entry.from.prefix_len() > 0 {
            sources.push((short(&entry.from), entry.personality));
        }
    }
    sources.retain(|(_, personality)| *personality != 0);
    let mut seen = Vec::new();
    sources.retain(|(source, _)| {
        !seen.contains(source) && {
            seen.push(source.clone());
            true
        }
    });
    let mut tables: Vec<usize> = sources
        .iter()
        .map(|(_, personality)| *personality)
        .collect();
    tables.sort_unstable();
    tables.dedup();
    for table in &tables {
        let _ = writeln!(
            out,
            "{} = {}",
            key(&table_of(links, *table)),
            defaults(*table)
        );
    }
    if sources.is_empty() {
        return;
    }
    out.push_str("\n[routing]                # who is translated at another device leaves by it: main's own prefixes first\nrules = [\n");
    out.push_str("  { priority = 100, lookup = \"main\", suppress_prefixlength = 0 },\n");
    for (priority, (source, personality)) in (101..).zip(&sources) {
        let fields = [
            ("priority", format!("{priority}")),
            ("from", quoted(source)),
            ("lookup", quoted(&table_of(links, *personality))),
        ];
        let _ = writeln!(out, "  {},", inline(&fields));
    }
    out.push_str("]\n");
}

/// `main` is the table of all.
fn table_of(links: &Links, personality: usize) -> String {
    match links.personalities[personality].name.as_str() {
        "main" => "main-2".to_owned(),
        name => name.to_owned(),
    }
}

fn translations(out: &mut String, links: &Links, nat: &Nat) {
    let name = |personality: usize| quoted(&links.personalities[personality].name);
    if nat.snat.is_empty() && nat.one_to_one.is_empty() && nat.forward.is_empty() {
        return;
    }
    out.push_str("\n[nat]\n");
    let snat = nat.snat.iter().map(|(entry, origin)| {
        let mut fields = vec![("from", quoted(&short(&entry.from)))];
        match entry.to.is_empty() {
            true => fields.push(("dev", name(entry.personality))),
            false => {
                let ranges = entry.to.iter().map(|(first, last)| match first == last {
                    true => quoted(&first.to_string()),
                    false => quoted(&format!("{first}-{last}")),
                });
                fields.push(("to", one_or_more(ranges.collect())));
            }
        }
        if !entry.except.is_empty() {
            fields.push((
                "except",
                list(entry.except.iter().map(|net| quoted(&short(net)))),
            ));
        }
        if let Some(ports) = entry.ports {
            fields.push(("ports", port(ports)));
        }
        (inline(&fields), origin)
    });
    entries(out, "snat", snat);
    let pairs = nat.one_to_one.iter().map(|(entry, origin)| {
        let fields = [
            ("inside", quoted(&entry.inside.to_string())),
            ("outside", quoted(&entry.outside.to_string())),
        ];
        (inline(&fields), origin)
    });
    entries(out, "one_to_one", pairs);
    let forward = nat.forward.iter().map(|(entry, origin)| {
        let to = entry.to.iter().map(|to| match (entry.to_port, to) {
            (None, to) => quoted(&to.to_string()),
            (Some(port), IpAddr::V4(to)) => quoted(&format!("{to}:{port}")),
            (Some(port), IpAddr::V6(to)) => quoted(&format!("[{to}]:{port}")),
        });
        let mut fields = vec![
            ("address", quoted(&entry.address.to_string())),
            (
                "proto",
                quoted(if entry.protocol == 6 { "tcp" } else { "udp" }),
            ),
            ("port", port(entry.port)),
            ("to", one_or_more(to.collect())),
        ];
        if !entry.from.is_empty() {
            fields.push((
                "from",
                list(entry.from.iter().map(|net| quoted(&short(net)))),
            ));
        }
        (inline(&fields), origin)
    });
    entries(out, "forward", forward);
}

fn rules(out: &mut String, links: &Links, policy: &Policy) {
    out.push_str("\n[policy]\n");
    let sides = |name: &String, members: &Vec<String>| {
        (name.clone(), members.iter().map(|m| quoted(m)).collect())
    };
    let zones: BTreeMap<String, Vec<String>> =
        policy.zones.iter().map(|(n, m)| sides(n, m)).collect();
    table(out, "zones", zones);
    let nets = policy.sets.iter().map(|(name, nets)| {
        (
            name.clone(),
            nets.iter().map(|net| quoted(&short(net))).collect(),
        )
    });
    table(out, "sets", nets.collect());
    for (key, lines) in [("rules", &policy.rules), ("default", &policy.default)] {
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{key} = [");
        let mut before = None;
        for line in lines {
            match line {
                Line::Missing(note) => {
                    let what = format!("NOT TRANSLATED: {}", said(note));
                    comment(out, "  ", &what);
                    if note.fate == Fate::Wider {
                        comment(
                            out,
                            "  ",
                            "WIDER from here on: what it refused may be accepted below.",
                        );
                    }
                    before = None;
                }
                Line::Written(fields, origin) => {
                    if before != Some(origin) {
                        quote(out, "  ", origin);
                    }
                    before = Some(origin);
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(key, value)| (*key, shown(value)))
                        .collect();
                    let _ = writeln!(out, "  {},", inline(&fields));
                }
            }
        }
        out.push_str("]\n");
    }
    if let [_, ..] = links.networks[..] {
        for line in CLOSING {
            comment(out, "", line);
        }
    }
}

fn table(out: &mut String, key_of: &str, entries: BTreeMap<String, Vec<String>>) {
    for (name, members) in entries {
        let _ = writeln!(
            out,
            "{key_of}.{} = {}",
            key(&name),
            list(members.into_iter())
        );
    }
}

fn notes(out: &mut String, notes: &[Note]) {
    let parts = [
        (
            Fate::Wider,
            "Not translated, and what is written lets in MORE than it did:",
        ),
        (Fate::Missing, "Not translated:"),
        (Fate::Implied, "Needs no entry:"),
        (Fate::Host, "The host's own, which tapgate leaves alone:"),
    ];
    for (fate, title) in parts {
        let mut some = notes.iter().filter(|note| note.fate == fate).peekable();
        if some.peek().is_some() {
            out.push('\n');
            comment(out, "", title);
        }
        for note in some {
            comment(out, "", &format!("  {}", said(note)));
        }
    }
}
