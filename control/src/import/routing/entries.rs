//! Entries as they are written.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;

use super::super::firewall::{Fate, Note, Origin};
use super::super::names::Names;

/// What is written, each entry under the line that it is from.
#[derive(Debug, Default)]
pub(in crate::import) struct Routing {
    pub(in crate::import) tables: BTreeMap<String, Vec<(Fields, Origin)>>,
    pub(in crate::import) rules: Vec<(Fields, Origin)>,
    pub(in crate::import) notes: Vec<Note>,
    /// Tables' names in the file.
    pub(super) names: Names,
    /// What has a route: its table's name, prefix and metric.
    pub(super) taken: HashSet<(String, IpNet, u32)>,
}

/// Keys with their values, as the file has them.
pub(in crate::import) type Fields = Vec<(&'static str, String)>;

impl Routing {
    pub(super) fn note(&mut self, origin: &Origin, fate: Fate, why: impl Into<String>) {
        self.notes.push(Note {
            origin: origin.clone(),
            fate,
            why: why.into(),
        });
    }
}

/// What it means to leave out an entry.
pub(super) fn missing(refuses: bool) -> Fate {
    match refuses {
        true => Fate::Wider,
        false => Fate::Missing,
    }
}
