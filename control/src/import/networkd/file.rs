//! The files' sections and keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::failure::Failure;
use crate::import::firewall::{Fate, Note, Origin};
use crate::import::input::text;
use crate::import::system::origin;

/// Sections that are one, however often they stand there.
const ONCE: [&str; 3] = ["Match", "Link", "Network"];
/// Keys of `[Network]` that, empty, take back whole sections before them.
const TAKES_BACK: [(&str, &str); 2] = [("Address", "Address"), ("Gateway", "Route")];

/// A file with its drop-ins.
pub(super) struct File {
    /// Its name without the directory.
    pub(super) name: String,
    pub(super) sections: Vec<Section>,
    /// Lines that say nothing in the end.
    pub(super) notes: Vec<Note>,
}

/// `[Section]` with its keys.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) keys: Vec<(String, String, Origin)>,
    pub(super) origin: Origin,
}

impl Section {
    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).last()
    }

    /// All values of a key.
    pub(super) fn all<'s>(&'s self, key: &str) -> impl Iterator<Item = &'s str> {
        let of = self.keys.iter().filter(move |(known, ..)| known == key);
        of.map(|(_, value, _)| value.as_str())
    }

    /// With all that stands in it.
    pub(super) fn said(&self) -> Origin {
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|(key, value, _)| format!("{key}={value}"))
            .collect();
        let mut said = self.origin.clone();
        said.text = format!("[{}] {}", self.name, keys.join(" "));
        said
    }
}

/// A file's sections, and those of `FILE.d/*.conf`.
pub(super) fn with_drop_ins(path: &Path) -> Result<File, Failure> {
    let name = path.file_name().unwrap_or_default();
    let mut file = File {
        name: name.to_string_lossy().into_owned(),
        sections: Vec::new(),
        notes: Vec::new(),
    };
    file.read(path)?;
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let more = fs::read_dir(Path::new(&directory))
        .into_iter()
        .flatten()
        .flatten();
    let mut more: Vec<PathBuf> = more
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    more.sort();
    for path in more {
        file.read(&path)?;
    }
    file.take_back();
    Ok(file)
}

impl File {
    /// Sections of this name.
    pub(super) fn named<'s>(&'s self, name: &str) -> impl DoubleEndedIterator<Item = &'s Section> {
        self.sections
            .iter()
            .filter(move |section| section.name == name)
    }

    /// The last value that a key has in sections of this name.
    pub(super) fn last(&self, section: &str, key: &str) -> Option<&str> {
        let mut sections = self.named(section).rev();
        sections.find_map(|section| section.get(key))
    }

    fn read(&mut self, path: &Path) -> Result<(), Failure> {
        let file: Rc<str> = path.display().to_string().into();
        let mut in_section = false;
        for (number, line) in lines(&text(path)?) {
            let at = origin(&file, number, line.clone());
            let named = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(name) = named {
                in_section = true;
                self.sections.push(Section {
                    name: name.to_owned(),
                    keys: Vec::new(),
                    origin: at,
                });
                continue;
            }
            match (self.sections.last_mut(), line.split_once('=')) {
                (Some(section), Some((key, value))) if in_section => {
                    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                    section.keys.push((key, value, at));
                }
                _ => self.note(&at, Fate::Missing, "it is no KEY=VALUE of a section"),
            }
        }
        Ok(())
    }

    fn note(&mut self, at: &Origin, fate: Fate, why: &str) {
        self.notes.push(Note {
            origin: at.clone(),
            fate,
            why: why.to_owned(),
        });
    }

    /// A key without a value takes back what it was given before.
    fn take_back(&mut self) {
        let mut kept: Vec<Section> = Vec::new();
        let mut gone: Vec<Origin> = Vec::new();
        for mut section in std::mem::take(&mut self.sections) {
            let keys = std::mem::take(&mut section.keys);
            kept.push(section);
            for (key, value, at) in keys {
                let last = kept.len() - 1;
                let name = kept[last].name.clone();
                if !value.is_empty() {
                    kept[last].keys.push((key, value, at));
                    continue;
                }
                let whole = TAKES_BACK
                    .iter()
                    .find(|(of, _)| name == "Network" && key == *of);
                if let Some((_, whole)) = whole {
                    let of = kept.extract_if(.., |section| section.name == *whole);
                    gone.extend(of.map(|section| section.said()));
                }
                let last = kept.len() - 1;
                let first = if ONCE.contains(&name.as_str()) {
                    0
                } else {
                    last
                };
                for section in kept[first..].iter_mut().filter(|s| s.name == name) {
                    let of = section.keys.extract_if(.., |(known, ..)| *known == key);
                    gone.extend(of.map(|(.., at)| at));
                }
            }
        }
        self.sections = kept;
        for at in gone {
            self.note(&at, Fate::Implied, "a later line takes it back");
        }
    }
}

/// Lines that say something; one that ends in a backslash goes on.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        // Neither ends a line that goes on.
        if line.starts_with(['#', ';']) || (line.is_empty() && !goes_on) {
            continue;
        }
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (line, false),
        };
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, begun)) => {
                begun.push(' ');
                begun.push_str(part);
            }
            None => lines.push((number, part.to_owned())),
        }
        goes_on = more;
    }
    lines
}
