//! `[routing] rules`: one list for both families, in which no two have the same priority.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::firewall::Fate;
use super::super::links::Links;
use super::super::names::Names;
use super::super::policy::short;
use super::super::system::{Inet, Rule, System, Then, origin};
use super::super::writer::quoted;
use super::entries::{Fields, Routing, missing};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The priorities at which the kernel asks its own tables.
const LOCAL: u32 = 0;
const MAIN: u32 = 32_766;
const DEFAULT: u32 = 32_767;

/// A rule that is written, for one family or for both.
struct Written<'s> {
    rule: &'s Rule,
    both: bool,
    /// What it has in place of devices: each is a rule.
    iif: Option<String>,
    oif: Option<String>,
}

/// Writes the rules.
pub(super) fn rules(system: &System, links: &Links, routing: &mut Routing) {
    let mut written: Vec<Written<'_>> = Vec::new();
    let mut first: HashMap<Rule, usize> = HashMap::new();
    for rule in &system.rules {
        if own(system, rule, routing) {
            continue;
        }
        let mut like = rule.clone();
        like.origin = origin(&Rc::from(""), 0, "");
        like.family = rule.family.other();
        if let Some(at) = first.get(&like) {
            // The other family's rule was written with all its devices.
            let of = written[*at].rule;
            let all = written[*at..].iter_mut();
            all.take_while(|other| std::ptr::eq(other.rule, of))
                .for_each(|other| other.both = true);
            continue;
        }
        let more = on_devices(rule, links, routing);
        if !more.is_empty() {
            like.family = rule.family;
            first.entry(like).or_insert(written.len());
        }
        written.extend(more);
    }
    let priorities = priorities(&written);
    for (place, priority) in priorities.iter().enumerate() {
        let fields = fields(&written, &priorities, place, *priority, &mut routing.names);
        let rule = written[place].rule;
        let refuses = matches!(rule.then, Then::End(_));
        match fields {
            Ok(fields) => routing.rules.push((fields, rule.origin.clone())),
            Err(why) => routing.note(&rule.origin, missing(refuses), why),
        }
    }
    if system.lists_rules {
        let main = |family| {
            let mut rules = system
                .rules
                .iter()
                .filter(|rule| rule.family == family)
                .peekable();
            rules.peek().is_none()
                || rules.any(|rule| rule.priority == MAIN && rule.is_plain("main"))
        };
        if let Some(rule) = system
            .rules
            .first()
            .filter(|_| !main(Inet::V4) || !main(Inet::V6))
        {
            let why = format!(
                "no rule asks the table main at {MAIN}; tapgate always does, after the rules below that"
            );
            routing.note(&rule.origin, Fate::Wider, why);
        }
    }
}

/// Rules that every kernel has, and those about the host itself; they are noted and not written.
fn own(system: &System, rule: &Rule, routing: &mut Routing) -> bool {
    let (fate, why) = match rule.priority {
        LOCAL if rule.is_plain("local") => (Fate::Implied, "own addresses come first"),
        MAIN if rule.is_plain("main") => (Fate::Implied, "main is always asked there"),
        DEFAULT
            if rule.is_plain("default") && !system.routes.iter().any(|r| r.table == "default") =>
        {
            (Fate::Implied, "the table default is empty")
        }
        _ if rule.iif.as_deref() == Some("lo") => (Fate::Host, "about the host's own packets"),
        _ if rule.then == Then::Lookup("local".to_owned()) => {
            (Fate::Missing, "own addresses come first in any case")
        }
        _ if is_of_vrfs(rule) => (
            Fate::Missing,
            "there are no VRFs here, and no rule that asks their tables",
        ),
        _ if !rule.others.is_empty() => {
            let why = format!("a rule does not ask for {}", rule.others.join(" "));
            let refuses = matches!(rule.then, Then::End(_));
            routing.note(&rule.origin, missing(refuses), why);
            return true;
        }
        _ => return false,
    };
    routing.note(&rule.origin, fate, why);
    true
}

/// `lookup [l3mdev-table]`: a VRF's table is asked for what comes by its devices.
fn is_of_vrfs(rule: &Rule) -> bool {
    let told = ["l3mdev", "[l3mdev-table]"];
    let asked = |table: &str| told.contains(&table);
    matches!(&rule.then, Then::Lookup(table) if asked(table))
        || rule.others.iter().any(|word| asked(word))
}

/// A rule, for each interface that its devices are.
fn on_devices<'s>(rule: &'s Rule, links: &Links, routing: &mut Routing) -> Vec<Written<'s>> {
    if rule.iif.is_some() && rule.oif.is_some() && !rule.not {
        let why =
            "no packet has both: what comes in by `iif` has no `oif` when its way is looked up";
        routing.note(&rule.origin, Fate::Missing, why);
        return Vec::new();
    }
    let is_other = |protocol: u8| ![TCP, UDP].contains(&protocol);
    if rule.sport.or(rule.dport).is_some() && !rule.not && rule.ipproto.is_some_and(is_other) {
        let why = "rules see ports of TCP and UDP alone";
        let refuses = matches!(rule.then, Then::End(_));
        routing.note(&rule.origin, missing(refuses), why);
        return Vec::new();
    }
    let mut sides = Vec::new();
    for device in [&rule.iif, &rule.oif] {
        let Some(device) = device else {
            sides.push(vec![None]);
            continue;
        };
        let names = links.interfaces(device);
        if names.is_empty() || (rule.not && names.len() > 1) {
            let why = format!("{device} is neither a personality nor a network");
            let refuses = matches!(rule.then, Then::End(_));
            routing.note(&rule.origin, missing(refuses), why);
            return Vec::new();
        }
        sides.push(names.into_iter().map(Some).collect());
    }
    let mut all = Vec::new();
    for iif in &sides[0] {
        for oif in &sides[1] {
            all.push(Written {
                rule,
                both: false,
                iif: iif.clone(),
                oif: oif.clone(),
            });
        }
    }
    all
}

/// Each rule's own priority: the one it has where nobody else does, else the next; those before main stay
/// before it.
fn priorities(written: &[Written<'_>]) -> Vec<u32> {
    let mut priorities: Vec<u32> = Vec::new();
    let mut last = 0_u32;
    for one in written {
        let mut priority = one.rule.priority.max(last.saturating_add(1));
        if priority == MAIN {
            priority += 1;
        }
        last = priority;
        priorities.push(priority);
    }
    let before = written
        .iter()
        .take_while(|one| one.rule.priority < MAIN)
        .count();
    let mut next = MAIN;
    for priority in priorities[..before].iter_mut().rev() {
        *priority = (*priority).min(next.saturating_sub(1)).max(1);
        next = *priority;
    }
    priorities
}

fn fields(
    written: &[Written<'_>],
    priorities: &[u32],
    place: usize,
    priority: u32,
    names: &mut Names,
) -> Result<Fields, String> {
    let Written {
        rule,
        both,
        iif,
        oif,
    } = &written[place];
    let mut fields = vec![("priority", priority.to_string())];
    if rule.not {
        fields.push(("not", "true".to_owned()));
    }
    // A prefix of all addresses keeps a rule to its family.
    let told = rule.from.or(rule.to).is_some();
    let from = match told || *both {
        true => rule.from,
        false if rule.not => {
            return Err("`not` of one family's rule without a prefix cannot be said".to_owned());
        }
        false => Some(rule.family.all()),
    };
    for (key, net) in [("from", from), ("to", rule.to)] {
        if let Some(net) = net {
            fields.push((key, quoted(&short(&net))));
        }
    }
    for (key, name) in [("iif", iif), ("oif", oif)] {
        if let Some(name) = name {
            fields.push((key, quoted(name)));
        }
    }
    if let Some((mark, mask)) = rule.fwmark {
        let text = match mask {
            u32::MAX if mark != 0 => mark.to_string(),
            // Bits beyond the mask are not compared.
            mask => quoted(&format!("{:#x}/{mask:#x}", mark & mask)),
        };
        fields.push(("fwmark", text));
    }
    for (key, value) in [
        ("tos", rule.tos),
        ("dscp", rule.dscp),
        ("ipproto", rule.ipproto),
    ] {
        if let Some(value) = value {
            fields.push((key, value.to_string()));
        }
    }
    for (key, ports) in [("sport", rule.sport), ("dport", rule.dport)] {
        if let Some((first, last)) = ports {
            let text = match first == last {
                true => first.to_string(),
                false => quoted(&format!("{first}-{last}")),
            };
            fields.push((key, text));
        }
    }
    match &rule.then {
        Then::Lookup(name) => fields.push(("lookup", quoted(&names.of(name)))),
        Then::End(refusal) => fields.push(("action", quoted(refusal.name()))),
        Then::Nop => fields.push(("action", quoted("nop"))),
        Then::Goto(target) => {
            let at = written.partition_point(|other| other.rule.priority < *target);
            let to = priorities.get(at).filter(|_| at > place);
            let to = to.ok_or_else(|| format!("there is no rule at {target} to go to"))?;
            fields.push(("goto", to.to_string()));
        }
    }
    if let Some(length) = rule.suppress_prefixlength {
        fields.push(("suppress_prefixlength", length.to_string()));
    }
    Ok(fields)
}
