//! What every source is read into: zones, rules and translations, each with where it stands.

use std::net::IpAddr;

use super::line::Marks;
pub(super) use super::line::{Fate, Origin, Place, Verdict, Worn};
use super::matching::{Devices, Family, Match};

/// A line that has no entry, and why.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) origin: Origin,
    pub(super) fate: Fate,
    pub(super) why: String,
}

/// A verdict, and what else becomes of flows that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    /// They are written into the log.
    pub(super) log: bool,
    /// They bear this mark.
    pub(super) mark: Option<u32>,
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            log: false,
            mark: None,
        }
    }
}

/// One entry of the policy, in its order.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A rule.
    Rule(Box<Rule>),
    /// A place where one is missing.
    Gap(Note),
}

/// A rule about forwarded flows.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) when: Match,
    pub(super) family: Family,
    pub(super) decision: Decision,
    pub(super) origin: Origin,
}

/// A source translation, or what is spared it.
#[derive(Debug, Clone)]
pub(super) struct Snat {
    pub(super) when: Match,
    pub(super) family: Family,
    pub(super) worn: Worn,
    pub(super) origin: Origin,
}

/// A destination translation, or what is spared it.
#[derive(Debug, Clone)]
pub(super) struct Dnat {
    pub(super) when: Match,
    pub(super) family: Family,
    /// Where it goes; nowhere else, if empty.
    pub(super) to: Vec<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) origin: Origin,
}

/// Names that rules give to devices together.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub(super) name: String,
    pub(super) devices: Vec<String>,
}

/// A firewall as it was read.
#[derive(Debug, Default)]
pub(super) struct Firewall {
    /// What it was made of, for people.
    pub(super) source: String,
    /// Families that were read.
    pub(super) families: Vec<Family>,
    /// Devices in the order in which they are named.
    pub(super) devices: Vec<String>,
    /// Devices known to face the provider.
    pub(super) uplinks: Vec<String>,
    pub(super) zones: Vec<Zone>,
    pub(super) rules: Vec<Entry>,
    /// What becomes of flows that no rule decides, for each family.
    pub(super) defaults: Vec<Rule>,
    pub(super) snat: Vec<Snat>,
    pub(super) dnat: Vec<Dnat>,
    /// An address inside, one outside that stands for it, and the device that has that.
    pub(super) one_to_one: Vec<(IpAddr, IpAddr, String, Origin)>,
    /// Chains that set marks.
    pub(super) marks: Vec<Marks>,
    pub(super) notes: Vec<Note>,
}

impl Firewall {
    /// Remembers a device; a pattern is none.
    pub(super) fn device(&mut self, name: &str) {
        let is_device = !name.is_empty() && name != "lo" && !name.ends_with(['+', '*']);
        if is_device && !self.devices.iter().any(|known| known == name) {
            self.devices.push(name.to_owned());
        }
    }

    /// Remembers a family.
    pub(super) fn family(&mut self, family: Family) {
        let each: &[Family] = match family {
            Family::Both => &[Family::V4, Family::V6],
            Family::V4 => &[Family::V4],
            Family::V6 => &[Family::V6],
        };
        for family in each {
            if !self.families.contains(family) {
                self.families.push(*family);
            }
        }
    }

    /// The devices that a name in a rule means: itself, or those that a pattern is for.
    pub(super) fn named(&self, name: &str) -> Option<Devices> {
        match name.strip_suffix(['+', '*']) {
            None => Some(Devices::one(name)),
            Some("") => Some(Devices::default()),
            Some(start) => {
                let all = self.devices.iter().filter(|name| name.starts_with(start));
                let all = Devices::of(all.cloned());
                all.within
                    .as_ref()
                    .is_some_and(|names| !names.is_empty())
                    .then_some(all)
            }
        }
    }

    /// Notes that a line has no entry.
    pub(super) fn note(&mut self, origin: &Origin, fate: Fate, why: impl Into<String>) {
        self.notes.push(Note {
            origin: origin.clone(),
            fate,
            why: why.into(),
        });
    }

    /// Notes that a rule is missing among the others.
    pub(super) fn gap(&mut self, origin: &Origin, fate: Fate, why: impl Into<String>) {
        self.rules.push(Entry::Gap(Note {
            origin: origin.clone(),
            fate,
            why: why.into(),
        }));
    }
}
