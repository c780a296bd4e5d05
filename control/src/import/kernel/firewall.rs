//! The firewall's rules that are saved beside: iptables' if there are any, else nft's.

use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::import::firewall::{Fate, Firewall};
use crate::import::input::text;
use crate::import::system::origin;
use crate::import::{iptables, nft};

const IPTABLES: [&str; 3] = ["iptables.save", "ip6tables.save", "ipset.save"];
const NFT: &str = "nft.json";
/// Tables that iptables itself makes in nft.
const BY_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// What the firewall says: iptables if it has rules, else nft.
///
/// # Errors
/// A file is not what it should be.
pub(super) fn read(directory: &Path, found: &mut usize) -> Result<Firewall, Failure> {
    let mut saved = Vec::new();
    for name in IPTABLES {
        let path = directory.join(name);
        if path.exists() {
            let text = text(&path)?;
            let name = path.display().to_string();
            if has_rules(&name, &text)? {
                saved.push((name, text));
            }
        }
    }
    let path = directory.join(NFT);
    let name = path.display().to_string();
    let listed = match path.exists() {
        true => text(&path)?,
        false => String::new(),
    };
    let blank = listed.trim().is_empty();
    if saved.is_empty() && blank {
        return Ok(Firewall::default());
    }
    *found += 1;
    if saved.is_empty() {
        return nft::read(&[(name, listed)]);
    }
    let mut firewall = iptables::read(&saved)?;
    if !blank {
        beside(&mut firewall, &name, &listed)?;
    }
    Ok(firewall)
}

/// Whether there is more in a file than tables without rules.
fn has_rules(name: &str, text: &str) -> Result<bool, Failure> {
    let mut any = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        // Counters may stand before a rule.
        let rule = match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((_, rule)) => rule.trim_start(),
            None => line,
        };
        let adds = rule.starts_with("-A ") || line.starts_with("add ");
        let empty = line.is_empty() || line.starts_with(['#', '*', ':']) || line == "COMMIT";
        if !(adds || empty || line.starts_with("-N ") || line.starts_with("create ")) {
            let why = "this is no line of `iptables-save` or `ipset save`";
            let remedy = "name what they wrote, as `tapgate import kernel --help` says";
            let why = format!("{name}:{number}: {why}; {remedy}");
            return Err(Failure::with(Code::Refused, why));
        }
        any |= adds || (line.starts_with(':') && line.contains(" DROP "));
    }
    Ok(any)
}

/// Notes the tables of nft that iptables did not make.
fn beside(firewall: &mut Firewall, name: &str, listed: &str) -> Result<(), Failure> {
    let json: Value = serde_json::from_str(listed).map_err(|error| {
        let remedy = "name the output of `nft -j list ruleset`";
        let why = format!("{name}:{}: {error}; {remedy}", error.line());
        Failure::with(Code::Refused, why)
    })?;
    let objects = json.get("nftables").and_then(Value::as_array);
    let mut told: Vec<(String, usize)> = Vec::new();
    for rule in objects
        .into_iter()
        .flatten()
        .filter_map(|object| object.get("rule"))
    {
        let word = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let (family, table) = (word("family"), word("table"));
        if ["ip", "ip6"].contains(&family) && BY_IPTABLES.contains(&table) {
            continue;
        }
        let name = format!("table {family} {table}");
        match told.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => told.push((name, 1)),
        }
    }
    let file: Rc<str> = name.into();
    for (table, count) in told {
        let why = format!(
            "iptables has rules and is what was read; this table of nft's own ({count} rules) was not: `tapgate import nft` reads it by itself"
        );
        firewall.gap(&origin(&file, 0, table), Fate::Wider, why);
    }
    Ok(())
}
