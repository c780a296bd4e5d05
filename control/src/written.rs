//! A configuration as a file: a heading for each entry, a line for each element of a list of entries, and
//! remarks as comments where they belong.

use std::collections::HashMap;
use std::fmt::Write;

use tapgate_engine::config::Segment;
use toml::{Table, Value};

use crate::remarks::Remark;
use crate::toml_text::{comment, key};

/// Writes `file`.
pub fn written(file: &Table, remarks: &[Remark]) -> String {
    let mut writer = Writer {
        out: String::new(),
        remarks: HashMap::new(),
        within: HashMap::new(),
    };
    for remark in remarks {
        let at = writer.remarks.entry(place(&remark.at)).or_default();
        at.push(&remark.text);
        if let Some((last, before)) = remark.at.split_last() {
            let within = writer.within.entry(place(before)).or_default();
            within.push((last, &remark.text));
        }
    }
    let mut path = Vec::new();
    writer.remarks_at(&path, "");
    writer.table(file, &mut path);
    writer.out
}

struct Writer<'r> {
    out: String,
    /// By place: what is said there.
    remarks: HashMap<String, Vec<&'r str>>,
    /// By place: what is said of what is in it.
    within: HashMap<String, Vec<(&'r Segment, &'r str)>>,
}

/// A path as one text; no key has a slash in it.
fn place(path: &[Segment]) -> String {
    let mut place = String::new();
    for segment in path {
        let _ = match segment {
            Segment::Key(name) => write!(place, "/{name}"),
            Segment::Index(n) => write!(place, "/#{n}"),
        };
    }
    place
}

impl Writer<'_> {
    /// What is in the table at `path`: values, remarks about what is not written, then tables in it that
    /// have a heading.
    fn table(&mut self, table: &Table, path: &mut Vec<Segment>) {
        let has_heading =
            |value: &Value, depth| value.is_table() && (depth < 2 || has_lists(value));
        let depth = path.len();
        for (name, value) in table {
            if !has_heading(value, depth) {
                path.push(Segment::Key(name.clone()));
                self.remarks_at(path, "");
                let _ = write!(self.out, "{} = ", key(name));
                self.value(value, path);
                self.out.push('\n');
                path.pop();
            }
        }
        self.remarks_beside(
            path,
            |segment| matches!(segment, Segment::Key(name) if !table.contains_key(name)),
        );
        for (name, value) in table {
            if let Value::Table(inner) = value
                && has_heading(value, depth)
            {
                path.push(Segment::Key(name.clone()));
                if !self.out.is_empty() && !self.out.ends_with("\n\n") {
                    self.out.push('\n');
                }
                self.remarks_at(path, "");
                let names = path.iter().map(|segment| match segment {
                    Segment::Key(name) => key(name),
                    Segment::Index(n) => n.to_string(),
                });
                let heading: Vec<String> = names.collect();
                let is_told = self.within.contains_key(&place(path));
                let only_headings = inner.values().all(|inner| has_heading(inner, depth + 1));
                // One that only other headings are under is made by these.
                if is_told || inner.is_empty() || !only_headings {
                    let _ = writeln!(self.out, "[{}]", heading.join("."));
                }
                self.table(inner, path);
                path.pop();
            }
        }
    }

    /// A value after its key. A list of entries has a line for each.
    fn value(&mut self, value: &Value, path: &mut Vec<Segment>) {
        let list = match value {
            Value::Array(list) if list.iter().any(Value::is_table) || self.has_remarks(path) => {
                list
            }
            _ => {
                let _ = write!(self.out, "{value}");
                return;
            }
        };
        self.out.push_str("[\n");
        for (n, element) in list.iter().enumerate() {
            path.push(Segment::Index(n));
            self.remarks_at(path, "  ");
            let _ = writeln!(self.out, "  {element},");
            path.pop();
        }
        self.remarks_beside(
            path,
            |segment| matches!(segment, Segment::Index(n) if *n >= list.len()),
        );
        self.out.push(']');
    }

    fn remarks_at(&mut self, path: &[Segment], indent: &str) {
        for text in self.remarks.get(&place(path)).into_iter().flatten() {
            comment(&mut self.out, indent, text);
        }
    }

    /// Remarks about what is in the table or list at `path`, but not written there.
    fn remarks_beside(&mut self, path: &[Segment], is_missing: impl Fn(&Segment) -> bool) {
        for (about, text) in self.within.get(&place(path)).into_iter().flatten() {
            let indent = match about {
                Segment::Index(_) => "  ",
                Segment::Key(_) => "",
            };
            if is_missing(about) {
                comment(&mut self.out, indent, text);
            }
        }
    }

    /// Whether there are remarks about elements of the list at `path`.
    fn has_remarks(&self, path: &[Segment]) -> bool {
        let mut within = self.within.get(&place(path)).into_iter().flatten();
        within.any(|(about, _)| matches!(about, Segment::Index(_)))
    }
}

/// Whether a list of entries is in it, or in what is in it.
fn has_lists(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(Value::is_table),
        Value::Table(table) => table.values().any(has_lists),
        _ => false,
    }
}
