//! Marks of packets and connections, and what they are for: the policy's `mark`, where rules of routing ask for
//! it; or that what comes by an uplink is answered by it, which tapgate does by itself.

mod policy;
mod purpose;
mod routing;
mod run;

use super::chains::{Chains, Line, Then};
use super::firewall::{Fate, Firewall, Origin};
use super::links::Links;
use super::matching::Family;
use super::system::System;
use super::untranslated::{TARGETS, why};
use purpose::{Purpose, Purposes};

/// Whose mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Packet,
    Connection,
}

/// What a rule asks of a mark: that these bits of it are so, or are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) of: Of,
    pub(super) value: u32,
    pub(super) mask: u32,
    pub(super) not: bool,
}

/// What becomes of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marking {
    pub(super) to: Of,
    /// The bits that it keeps.
    pub(super) keep: u32,
    /// The bits that it takes of the other mark.
    pub(super) take: u32,
    /// The bits that are then flipped.
    pub(super) flip: u32,
}

impl Marking {
    /// What the mark becomes, whatever it was; `None`: that depends.
    fn value(self) -> Option<u32> {
        (self.keep == 0 && self.take == 0).then_some(self.flip)
    }
}

/// Chains that set marks.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) family: Family,
    pub(super) chains: Chains,
    /// Those that packets come to before they are routed.
    pub(super) before: Vec<String>,
    /// And after that.
    pub(super) after: Vec<String>,
}

impl Marks {
    /// A chain, and those that it jumps to.
    pub(super) fn names(&self, chain: &str) -> Vec<String> {
        let mut names = vec![chain.to_owned()];
        let mut n = 0;
        while let Some(lines) = names.get(n).map(|name| self.chains.get(name)) {
            n += 1;
            for line in lines.into_iter().flatten() {
                if let Then::Jump(to) | Then::Goto(to) = &line.then
                    && !names.contains(to)
                {
                    names.push(to.clone());
                }
            }
        }
        names
    }

    /// The lines of these.
    fn reached(&self, chain: &str) -> impl Iterator<Item = &Line> + use<'_> {
        let names = self.names(chain).into_iter();
        names.filter_map(|name| self.chains.get(&name)).flatten()
    }

    /// Its lines that set marks.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&Origin, Marking)> {
        let lines = self.chains.values().flatten();
        lines.filter_map(|line| match line.then {
            Then::Mark(marking) => Some((&line.origin, marking)),
            _ => None,
        })
    }
}

/// Notes all lines that set marks: which rules of routing ask for them is not known.
pub(super) fn list(firewall: &mut Firewall) {
    for marks in std::mem::take(&mut firewall.marks) {
        for (origin, _) in marks.lines() {
            firewall.note(
                origin,
                Fate::Missing,
                why(TARGETS, "MARK").unwrap_or_default(),
            );
        }
    }
}

/// Writes marks into the rules of the firewall, and takes out what rules and tables tapgate does not need.
/// Every line that sets a mark is written or noted.
pub(super) fn settle(system: &mut System, links: &Links) {
    let all = std::mem::take(&mut system.firewall.marks);
    let mut purposes = Purposes::default();
    for family in [Family::V4, Family::V6] {
        let of: Vec<&Marks> = all
            .iter()
            .filter(|marks| [family, Family::Both].contains(&marks.family))
            .collect();
        let lines = of.iter().flat_map(|marks| marks.lines());
        if lines.count() > 0 {
            purposes.find(&of, family, system, links);
        }
    }
    let mut seen: Vec<&Origin> = Vec::new();
    for (origin, marking) in all.iter().flat_map(Marks::lines) {
        if seen.contains(&origin) {
            continue;
        }
        seen.push(origin);
        match purposes.of(origin) {
            Some(Purpose::Written) => {}
            Some(Purpose::Implied(why)) => system.firewall.note(origin, Fate::Implied, *why),
            Some(Purpose::Left(why)) => {
                let fate = routing::fate(system, marking);
                system.firewall.note(origin, fate, why);
            }
            None => {
                let why = match routing::may_ask(system, marking) {
                    false => "no rule of routing asks for this mark",
                    true => "what it is for cannot be said in other words",
                };
                let fate = routing::fate(system, marking);
                system.firewall.note(origin, fate, why);
                purposes.leave(marking);
            }
        }
    }
    routing::settle(system, &purposes);
    for (family, classes) in &purposes.classes {
        policy::give(&mut system.firewall, *family, classes);
    }
    policy::note(&mut system.firewall, &purposes.classes);
}
