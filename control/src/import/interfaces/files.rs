//! The files' lines, and the files that they name.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use glob::{MatchOptions, Pattern, glob_with};

use crate::import::firewall::Origin;
use crate::import::iproute;
use crate::import::system::origin;

/// A logical line.
pub(super) struct Line {
    pub(super) words: Vec<String>,
    pub(super) origin: Origin,
    pub(super) number: usize,
}

/// Lines without comments; one that ends in a backslash goes on.
pub(super) fn lines(text: &str, name: &Rc<str>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (number, raw) in (1..).zip(text.lines()) {
        if begun.is_none() && raw.trim_start().starts_with('#') {
            continue;
        }
        let (first, mut line) = begun.take().unwrap_or((number, String::new()));
        match raw.trim_end().strip_suffix('\\') {
            Some(start) => {
                line.push_str(start);
                begun = Some((first, line));
            }
            None => {
                line.push_str(raw);
                lines.push((first, line));
            }
        }
    }
    lines.extend(begun);
    lines
        .into_iter()
        .map(|(number, line)| Line {
            words: iproute::cut(&line),
            origin: origin(name, number, line.trim()),
            number,
        })
        .collect()
}

/// The files that a pattern means, from the directory of the one that names it; of a directory, all.
pub(super) fn named(from: &Path, pattern: &str, directory: bool) -> Vec<PathBuf> {
    let of = from.parent().unwrap_or(Path::new("")).display().to_string();
    let of = PathBuf::from(Pattern::escape(&of)).join(pattern);
    let path = if directory { of.join("*") } else { of };
    let options = MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..MatchOptions::new()
    };
    let found = glob_with(&path.display().to_string(), options);
    let found = found.into_iter().flatten().flatten();
    found
        .filter(|path| path.is_file() && !path.to_string_lossy().ends_with('~'))
        .collect()
}

/// Whether a pattern is one, and no file's own name.
pub(super) fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}
