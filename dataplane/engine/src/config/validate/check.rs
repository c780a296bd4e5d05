//! Collecting faults, each with its place in the file and its remedy.

use std::collections::BTreeMap;

use crate::config::{ConfigError, Segment, closest};

macro_rules! place {
    ($($segment:expr),*) => { vec![$(crate::config::Segment::from($segment)),*] };
}
pub(super) use place;

/// Longest name in the file, in bytes.
const MAX_NAME: usize = 32;
/// Most entries of a section: the engine numbers them with 16 bits, personalities and networks
/// together.
const MOST_ENTRIES: usize = 30_000;
/// Most names that a remedy lists.
pub(super) const MOST_NAMES: usize = 12;

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

/// Collects faults.
#[derive(Default)]
pub(super) struct Check {
    pub(super) errors: Vec<ConfigError>,
}

impl Check {
    pub(super) fn fault(
        &mut self,
        at: impl Into<Vec<Segment>>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors.push(ConfigError {
            at: at.into(),
            problem: problem.into(),
            remedy: remedy.into(),
            other: None,
        });
    }

    /// A fault that two places have a part in.
    pub(super) fn conflict(
        &mut self,
        at: impl Into<Vec<Segment>>,
        other: impl Into<Vec<Segment>>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors.push(ConfigError {
            at: at.into(),
            problem: problem.into(),
            remedy: remedy.into(),
            other: Some(other.into()),
        });
    }

    /// Remembers `key` as seen at `at`; a second sight of it is a fault that names both places.
    pub(super) fn unique<K: Ord>(
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

    pub(super) fn count(&mut self, section: &str, entries: usize) {
        if entries > MOST_ENTRIES {
            self.fault(
                place![section],
                format!("{entries} entries are too many"),
                format!("write at most {MOST_ENTRIES}"),
            );
        }
    }

    pub(super) fn name(&mut self, at: Vec<Segment>, name: &str) {
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
    pub(super) fn undefined(
        &mut self,
        at: impl Into<Vec<Segment>>,
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
}
