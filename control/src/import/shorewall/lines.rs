//! Shorewall's files as rows of columns: continued lines, comments, variables, includes, conditions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::firewall::{Fate, Firewall, Origin, Place};
use super::super::input::text;

/// Deepest nesting of includes.
const DEEPEST: usize = 20;
/// Most lines of all files together.
const MOST_LINES: usize = 50_000;

/// A line with something on it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) origin: Origin,
    columns: Vec<String>,
    /// Columns that are given by name.
    named: BTreeMap<String, String>,
    /// The section that it is in.
    pub(super) section: String,
    /// The file's format, 1 unless it says another.
    pub(super) format: u8,
}

impl Row {
    /// A column by its place, or by its name; empty where it is `-` or not there.
    pub(super) fn column(&self, place: usize, name: &str) -> &str {
        let text = self.columns.get(place).filter(|text| *text != "-");
        text.or_else(|| self.named.get(name))
            .map_or("", String::as_str)
    }
}

/// What is known while files are read.
pub(super) struct Reader<'r> {
    directory: PathBuf,
    variables: BTreeMap<String, String>,
    lines: usize,
    pub(super) firewall: &'r mut Firewall,
}

/// A line that is put together, and where it begins.
struct Joined {
    number: usize,
    text: String,
}

/// The state of a file with its includes.
#[derive(Default)]
struct State {
    section: String,
    format: u8,
    /// For each `?IF`: whether this branch holds, and whether one has held.
    conditions: Vec<(bool, bool)>,
    /// Between `BEGIN` and `END`.
    script: bool,
}

impl<'r> Reader<'r> {
    /// Reads the variables that other files use.
    pub(super) fn new(directory: &Path, firewall: &'r mut Firewall) -> Self {
        let mut reader = Self {
            directory: directory.to_owned(),
            variables: BTreeMap::new(),
            lines: 0,
            firewall,
        };
        reader.assignments("shorewall.conf", false);
        reader.assignments("params", true);
        reader
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.directory.join(name).is_file()
    }

    /// Where files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The rows of a file; none if it is not there.
    pub(super) fn rows(&mut self, name: &str) -> Vec<Row> {
        let path = self.directory.join(name);
        self.rows_of(&path)
    }

    /// The rows of a file anywhere.
    pub(super) fn rows_of(&mut self, path: &Path) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut state = State {
            format: 1,
            ..State::default()
        };
        self.file(path, &mut state, &mut rows, 0);
        rows
    }

    fn file(&mut self, path: &Path, state: &mut State, rows: &mut Vec<Row>, depth: usize) {
        let Ok(text) = text(path) else { return };
        let name = path.display().to_string();
        for line in joined(&text) {
            self.lines += 1;
            if self.lines > MOST_LINES || depth > DEEPEST {
                return;
            }
            let origin = Origin {
                file: name.as_str().into(),
                place: Place::Line(line.number),
                text: line.text.trim().to_owned(),
            };
            let mut words = line.text.split_whitespace();
            let first = words.next().unwrap_or_default().to_ascii_uppercase();
            let rest = words.collect::<Vec<_>>().join(" ");
            let directive = first.strip_prefix('?').unwrap_or(&first);
            let marked = first.starts_with('?');
            if state.script {
                state.script = directive != "END";
                continue;
            }
            if marked && self.condition(directive, &rest, state, &origin) {
                continue;
            }
            if !state.conditions.iter().all(|(holds, _)| *holds) {
                continue;
            }
            match directive {
                "COMMENT" => {}
                "SECTION" => state.section = rest.to_ascii_uppercase(),
                "FORMAT" => state.format = rest.parse().unwrap_or(1),
                "INCLUDE" => {
                    let target = self.expand(&rest);
                    let target = self.directory.join(target);
                    match target.is_file() {
                        true => self.file(&target, state, rows, depth + 1),
                        false => self
                            .firewall
                            .gap(&origin, Fate::Wider, "there is no such file"),
                    }
                }
                "SET" if marked => {
                    let (name, value) = rest.split_once(' ').unwrap_or((&rest, ""));
                    let value = unquoted(&self.expand(value));
                    self.set(name.trim_start_matches('$'), &value);
                }
                "BEGIN" => {
                    state.script = true;
                    self.firewall.gap(
                        &origin,
                        Fate::Wider,
                        "programs in the configuration are not run",
                    );
                }
                "PERL" | "SHELL" => {
                    self.firewall.gap(
                        &origin,
                        Fate::Wider,
                        "programs in the configuration are not run",
                    );
                }
                _ if marked => {}
                _ => rows.push(self.row(&line.text, state, origin)),
            }
        }
    }

    fn row(&self, text: &str, state: &State, origin: Origin) -> Row {
        let text = self.expand(text);
        // Columns by name are in braces, or after a semicolon.
        let (plain, named) = match text.split_once(['{', ';']) {
            Some((plain, named)) => (plain, named.trim_end().trim_end_matches('}')),
            None => (text.as_str(), ""),
        };
        let pairs = named
            .split([',', ' ', '\t'])
            .filter_map(|pair| pair.split_once(['=', ':']));
        let pairs = pairs.map(|(name, value)| {
            (
                name.trim_end_matches('=').to_ascii_lowercase(),
                unquoted(value.trim_start_matches('>')),
            )
        });
        Row {
            origin,
            columns: plain.split_whitespace().map(str::to_owned).collect(),
            named: pairs.collect(),
            section: state.section.clone(),
            format: state.format,
        }
    }

    /// Follows `?IF` and what belongs to it; whether it was that.
    fn condition(
        &mut self,
        directive: &str,
        rest: &str,
        state: &mut State,
        origin: &Origin,
    ) -> bool {
        match directive {
            "IF" => {
                let holds = self.holds(rest, origin);
                state.conditions.push((holds, holds));
            }
            "ELSIF" | "ELSEIF" => {
                let already = state.conditions.last().is_some_and(|(_, held)| *held);
                let holds = !already && self.holds(rest, origin);
                if let Some(last) = state.conditions.last_mut() {
                    *last = (holds, already || holds);
                }
            }
            "ELSE" => {
                if let Some(last) = state.conditions.last_mut() {
                    *last = (!last.1, true);
                }
            }
            "ENDIF" => {
                state.conditions.pop();
            }
            _ => return false,
        }
        true
    }

    /// Whether a condition holds; one that cannot be told does not, and is noted.
    fn holds(&mut self, text: &str, origin: &Origin) -> bool {
        let known = self.truth(text, 0);
        if known.is_none() {
            let why = "the condition is not understood, so what depends on it is not read";
            self.firewall.gap(origin, Fate::Wider, why);
        }
        known.unwrap_or(false)
    }

    /// Whether an expression holds, as far as that can be told.
    fn truth(&self, text: &str, depth: usize) -> Option<bool> {
        let text = text.trim();
        let inner = text
            .strip_prefix('(')
            .and_then(|text| text.strip_suffix(')'));
        if depth > DEEPEST {
            return None;
        }
        if let Some(inner) = inner.filter(|inner| !inner.contains(['(', ')'])) {
            return self.truth(inner, depth + 1);
        }
        if text.contains(['(', ')', '<', '>']) {
            return None;
        }
        if let Some((one, rest)) = text.split_once("||") {
            return Some(self.truth(one, depth + 1)? | self.truth(rest, depth + 1)?);
        }
        if let Some((one, rest)) = text.split_once("&&") {
            return Some(self.truth(one, depth + 1)? & self.truth(rest, depth + 1)?);
        }
        if let Some((a, b)) = text.split_once("==").or_else(|| text.split_once(" eq ")) {
            return Some(self.value(a)? == self.value(b)?);
        }
        if let Some((a, b)) = text.split_once("!=").or_else(|| text.split_once(" ne ")) {
            return Some(self.value(a)? != self.value(b)?);
        }
        if let Some(rest) = text.strip_prefix('!') {
            return Some(!self.truth(rest, depth + 1)?);
        }
        let value = self.value(text)?;
        Some(!value.is_empty() && value != "0" && !value.eq_ignore_ascii_case("no"))
    }

    /// A variable's value, or a constant. What the kernel is capable of is taken for nothing.
    fn value(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let braced = text
            .strip_prefix("${")
            .and_then(|text| text.strip_suffix('}'));
        match braced.or_else(|| text.strip_prefix('$')) {
            Some(name) => Some(self.variables.get(name).cloned().unwrap_or_default()),
            None if text == "__IPV4" => Some("1".to_owned()),
            None if text.starts_with("__") => Some(String::new()),
            None if text.starts_with(['\'', '"']) || text.parse::<i64>().is_ok() => {
                Some(unquoted(text))
            }
            None => None,
        }
    }

    /// Puts variables' values in their place. One that is not known stays as it is written.
    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, end) = match after.strip_prefix('{') {
                Some(inner) => match inner.find('}') {
                    Some(end) => (&inner[..end], end + 2),
                    None => ("", 0),
                },
                None => {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
                    (&after[..end], end)
                }
            };
            match self.variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push('$');
                    out.push_str(&after[..end]);
                }
            }
            rest = &after[end..];
        }
        out.push_str(rest);
        out
    }

    /// Reads a file of shell assignments; `params`: what cannot be told from it is noted.
    fn assignments(&mut self, name: &str, params: bool) {
        let path = self.directory.join(name);
        let Ok(text) = text(&path) else { return };
        for line in joined(&text) {
            let assignment = line.text.trim();
            let assignment = assignment.strip_prefix("export ").unwrap_or(assignment);
            let simple = |value: &str| !value.contains('`') && !value.contains("$(");
            match assignment.split_once('=') {
                Some((name, value)) if simple(value) && !name.contains(' ') => {
                    let value = unquoted(&self.expand(value.trim()));
                    self.set(name.trim(), &value);
                }
                _ if params && !assignment.is_empty() => {
                    let origin = Origin {
                        file: path.display().to_string().into(),
                        place: Place::Line(line.number),
                        text: assignment.to_owned(),
                    };
                    self.firewall.note(
                        &origin,
                        Fate::Missing,
                        "programs in the configuration are not run",
                    );
                }
                _ => {}
            }
        }
    }
}

/// Lines without comments, those that a `\` continues in one.
fn joined(text: &str) -> Vec<Joined> {
    let mut lines: Vec<Joined> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = match line.find('#') {
            Some(at) => &line[..at],
            None => line,
        };
        let (line, goes_on) = match line.trim_end().strip_suffix('\\') {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some(last) if open => last.text.push_str(line.trim_start()),
            _ => lines.push(Joined {
                number,
                text: line.to_owned(),
            }),
        }
        open = goes_on;
    }
    lines.retain(|line| !line.text.trim().is_empty());
    lines
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    text.to_owned()
}
