//! The files' sections and keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::failure::Failure;
use crate::import::firewall::Origin;
use crate::import::input::text;
use crate::import::system::origin;

/// `[Section]` with its keys.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) keys: Vec<(String, String, Origin)>,
    pub(super) origin: Origin,
}

impl Section {
    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let all = self.keys.iter().rev();
        all.filter(|(known, ..)| known == key)
            .map(|(_, value, _)| value.as_str())
            .next()
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
pub(super) fn with_drop_ins(path: &Path) -> Result<Vec<Section>, Failure> {
    let mut sections = sections(path)?;
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
        sections.extend(self::sections(&path)?);
    }
    Ok(sections)
}

fn sections(path: &Path) -> Result<Vec<Section>, Failure> {
    let file: Rc<str> = path.display().to_string().into();
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in (1..).zip(text(path)?.lines()) {
        let line = line.trim();
        let at = origin(&file, number, line);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            sections.push(Section {
                name: name.to_owned(),
                keys: Vec::new(),
                origin: at,
            });
        } else if let (Some(section), Some((key, value))) =
            (sections.last_mut(), line.split_once('='))
        {
            section
                .keys
                .push((key.trim().to_owned(), value.trim().to_owned(), at));
        }
    }
    Ok(sections)
}
