//! Names in the file for what rules and systems call otherwise.

use std::collections::{BTreeMap, BTreeSet};

/// Longest name.
const MAX_NAME: usize = 32;

/// Names of which no two are the same.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl Names {
    /// What this is called, given when it is first asked for.
    pub(super) fn of(&mut self, text: &str) -> String {
        if let Some(name) = self.given.get(text) {
            return name.clone();
        }
        let name = free(text, |name| self.taken.contains(name));
        self.taken.insert(name.clone());
        self.given.insert(text.to_owned(), name.clone());
        name
    }
}

/// A name that nothing has yet.
pub(super) fn free(text: &str, taken: impl Fn(&str) -> bool) -> String {
    let plain = name(text);
    let mut free = plain.clone();
    let mut n = 2;
    while taken(&free) {
        let end = format!("-{n}");
        free = plain.chars().take(MAX_NAME - end.len()).collect();
        free.push_str(&end);
        n += 1;
    }
    free
}

/// A name as the file can have it.
pub(super) fn name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = text
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    match name.is_empty() {
        true => "unnamed".to_owned(),
        false => name,
    }
}
