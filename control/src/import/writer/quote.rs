//! Lines that entries are from.

use std::fmt::Write;

use super::super::firewall::{Note, Origin};
use super::toml::comment;

/// Longest quotation of a line, in characters.
const MOST_QUOTED: usize = 160;

/// A list with an entry a line, each under the line that it is from.
pub(super) fn entries<'o>(
    out: &mut String,
    key: &str,
    entries: impl Iterator<Item = (String, &'o Origin)>,
) {
    let mut before = None;
    for (entry, origin) in entries {
        if before.is_none() {
            let _ = writeln!(out, "{key} = [");
        }
        if before != Some(origin) {
            quote(out, "  ", origin);
        }
        before = Some(origin);
        let _ = writeln!(out, "  {entry},");
    }
    if before.is_some() {
        out.push_str("]\n");
    }
}

/// A note in one line.
pub(in crate::import) fn said(note: &Note) -> String {
    let Note { origin, why, .. } = note;
    match origin.text.is_empty() {
        true => format!("{}: {why}", origin.place()),
        false => format!("{}: {}: {why}", origin.place(), shortened(&origin.text)),
    }
}

pub(super) fn quote(out: &mut String, indent: &str, origin: &Origin) {
    comment(
        out,
        indent,
        &format!("{}: {}", origin.place(), shortened(&origin.text)),
    );
}

fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.chars().count() > MOST_QUOTED {
        true => line.chars().take(MOST_QUOTED).chain(['…']).collect(),
        false => line,
    }
}

pub(super) fn change(out: &mut String, changes: &[String]) {
    for what in changes {
        comment(out, "", &format!("CHANGE: {what}"));
    }
}
