//! A line of a chain, as iptables and nftables have it: where it stands, what it asks and what it does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde::Serialize;

use super::matching::{Family, Match, Ports};
use super::untranslated::{MATCHES, why};

/// A line of what is imported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// The file, as it was named.
    pub(super) file: Rc<str>,
    /// Its line, from 1; or what it has in place of lines.
    pub(super) place: Place,
    /// What stands there.
    pub(super) text: String,
}

/// Where in its file a line is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// By number, from 1.
    Line(usize),
    /// By name.
    Named(String),
}

impl Origin {
    /// The file and the place in it.
    pub(super) fn place(&self) -> String {
        match &self.place {
            Place::Line(0) => self.file.to_string(),
            Place::Line(line) => format!("{}:{line}", self.file),
            Place::Named(name) => format!("{}:{name}", self.file),
        }
    }
}

/// What became of a line that has no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fate {
    /// It is left out; what is written lets in no more than it did.
    Missing,
    /// It is left out, and it kept something out: what is written lets in more than it did.
    Wider,
    /// tapgate does so without being told.
    Implied,
    /// It is about the host itself, whose own packets are none of tapgate's business.
    Host,
}

/// What a rule does with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject,
}

impl Verdict {
    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }

    /// What it means to leave it out.
    pub(super) fn missing(self) -> Fate {
        match self {
            Self::Accept => Fate::Missing,
            Self::Drop | Self::Reject => Fate::Wider,
        }
    }
}

/// What a source becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Worn {
    /// What it was.
    Own,
    /// An address of the device that it leaves by.
    Device { ports: Option<Ports> },
    /// These, from one to another.
    Addresses {
        ranges: Vec<(IpAddr, IpAddr)>,
        ports: Option<Ports>,
    },
}

/// One rule of a chain.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) origin: Origin,
    pub(super) family: Family,
    /// What it asks for, or what of that cannot be said.
    pub(super) when: Result<Match, String>,
    /// What it asks of marks besides.
    pub(super) marks: Vec<Asked>,
    pub(super) then: Then,
}

impl Line {
    /// What it asks of flows.
    ///
    /// # Errors
    /// It cannot be said, or it asks for marks, which a rule does not.
    pub(super) fn asks(&self) -> Result<&Match, &str> {
        match &self.when {
            Ok(when) if self.marks.is_empty() => Ok(when),
            Ok(_) => Err(why(MATCHES, "mark").unwrap_or_default()),
            Err(why) => Err(why),
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    /// It ends the walk.
    Decide(Verdict),
    Jump(String),
    Goto(String),
    Return,
    /// The source becomes another.
    Snat(Worn),
    /// The destination becomes another: one of these.
    Dnat(Vec<IpAddr>, Option<u16>),
    /// A mark becomes another.
    Mark(Marking),
    /// It only counts.
    Nothing,
    /// It does what there is no word for.
    Other(String),
    /// What it does cannot be said, for this reason.
    Unclear(String),
}

/// Chains by name.
pub(super) type Chains = BTreeMap<String, Vec<Line>>;

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
    pub(super) fn value(self) -> Option<u32> {
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
    pub(super) fn reached(&self, chain: &str) -> impl Iterator<Item = &Line> + use<'_> {
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
