//! Entries as they are written, and what of them the file has no word for.

use std::collections::BTreeMap;

use super::super::firewall::{Fate, Note, Origin};
use super::super::links;
use super::words::{self, Without, Word};

/// What is written, each entry under the line that it is from.
#[derive(Debug, Default)]
pub(in crate::import) struct Routing {
    pub(in crate::import) tables: BTreeMap<String, Vec<(Fields, Origin)>>,
    pub(in crate::import) rules: Vec<(Fields, Origin)>,
    pub(in crate::import) notes: Vec<Note>,
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

    /// Takes out what the file has no word for; `None` if nothing is left to write.
    pub(super) fn fit(
        &mut self,
        words: &'static [Word],
        fields: Vec<(&'static str, String)>,
        origin: &Origin,
        refuses: bool,
    ) -> Option<Fields> {
        let mut fit = Fields::new();
        for (name, value) in fields {
            let word = words::find(words, name);
            match word.map(|word| (word.known, word.without)) {
                Some((true, _)) => fit.push((name.split(' ').next().unwrap_or(name), value)),
                Some((false, Without::Rest(why))) => {
                    self.note(
                        origin,
                        Fate::Missing,
                        format!("there is no `{name}` yet: {why}"),
                    );
                }
                Some((false, Without::Enough(why))) => self.note(origin, Fate::Implied, why),
                _ => {
                    let why = format!(
                        "there is no `{name}` yet, and without it it would say something else"
                    );
                    self.note(origin, missing(refuses), why);
                    return None;
                }
            }
        }
        Some(fit)
    }
}

/// What it means to leave out an entry.
pub(super) fn missing(refuses: bool) -> Fate {
    match refuses {
        true => Fate::Wider,
        false => Fate::Missing,
    }
}

/// A table's name in the file.
pub(super) fn table(name: &str) -> String {
    match name {
        "local" => "local-table".to_owned(),
        name => links::name(name),
    }
}
