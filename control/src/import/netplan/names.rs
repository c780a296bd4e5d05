//! Which device an ID means: netplan's own names are those of devices only where nothing else is said.

use std::collections::BTreeMap;

use super::node::{Node, get, pairs, scalar};

/// What all files together say of each ID.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Told>);

#[derive(Debug, Default)]
struct Told {
    set: Option<String>,
    matched: Option<String>,
    /// It is told by something else.
    otherwise: bool,
}

impl Names {
    /// Takes in a document's `network`.
    pub(super) fn add(&mut self, network: &Node<'_>) {
        let devices = pairs(network).into_iter().flat_map(|(_, kind)| pairs(kind));
        for (id, node) in devices {
            let told = self.0.entry(id).or_default();
            let set = get(node, "set-name").and_then(scalar);
            told.set = set.or(told.set.take());
            if let Some(matched) = get(node, "match") {
                let name = get(matched, "name").and_then(scalar);
                told.matched = name.or(told.matched.take());
                told.otherwise = true;
            }
        }
    }

    /// The device that an ID means.
    ///
    /// # Errors
    /// It means all that a pattern has.
    pub(super) fn of(&self, id: &str) -> Result<String, String> {
        let told = self.0.get(id);
        let name = told.and_then(|told| told.set.as_ref().or(told.matched.as_ref()));
        match name {
            Some(pattern) if pattern.contains(['*', '?', '[']) => Err(format!(
                "which devices {pattern} are is not known here: write their names in place of {id}"
            )),
            Some(name) => Ok(name.clone()),
            None => Ok(id.to_owned()),
        }
    }

    /// Whether nothing tells the name of the device that an ID means.
    pub(super) fn is_unknown(&self, id: &str) -> bool {
        let told = self.0.get(id);
        told.is_some_and(|told| told.otherwise && told.set.is_none() && told.matched.is_none())
    }
}
