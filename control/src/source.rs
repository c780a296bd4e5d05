//! Reading a configuration file: from bytes to a [`Config`], or to everything that is wrong.

use std::fs::File as OpenFile;
use std::io::{self, Read};
use std::path::Path;

use tapgate_engine::config::{Config, ConfigError, ConfigErrors};

use crate::diagnostics::{Diagnostic, for_people, for_programs};
use crate::document::Document;
use crate::failure::{Code, Failure};
use crate::output::print;
use crate::reader;
use crate::user_data;

/// Largest file that is read, in bytes: 10^5 addresses fit many times over.
const MAX_SIZE: u64 = 64 << 20;

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
}

/// Why a configuration file is refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    source: Source,
    diagnostics: Vec<Diagnostic>,
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<(Config, Source), Box<Refusal>> {
    let source = Source::read(path)?;
    match check(&source.text, Some(path.parent().unwrap_or(Path::new("")))) {
        Ok(config) => Ok((config, source)),
        Err(diagnostics) => Err(Box::new(Refusal {
            source,
            diagnostics,
        })),
    }
}

impl Source {
    /// The file's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is written in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The refusal that `errors`, found by the dataplane, mean for this file.
    pub fn refusal(self, errors: &[ConfigError]) -> Refusal {
        Refusal {
            diagnostics: placed(errors, &self.text),
            source: self,
        }
    }

    fn read(path: &Path) -> Result<Self, Box<Refusal>> {
        let name = path.display().to_string();
        let refuse = |text: String, diagnostic: Diagnostic| {
            let name = name.clone();
            Box::new(Refusal {
                source: Source { name, text },
                diagnostics: vec![diagnostic],
            })
        };
        let bytes = contents(path).map_err(|error| {
            let (problem, remedy) = unreadable(&error);
            refuse(String::new(), Diagnostic::whole(problem, remedy))
        })?;
        if bytes.len() as u64 > MAX_SIZE {
            return Err(refuse(
                String::new(),
                Diagnostic::whole(
                    format!("the file is larger than {} MiB", MAX_SIZE >> 20),
                    "name a tapgate configuration file",
                ),
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Err(refuse(
                    text,
                    Diagnostic {
                        span: Some(at..at + '\u{fffd}'.len_utf8()),
                        problem: format!(
                            "the byte 0x{:02x} here is not UTF-8",
                            error.as_bytes().get(at).copied().unwrap_or_default()
                        ),
                        remedy: "save the file as UTF-8; a configuration needs no other letters than ASCII's"
                            .to_owned(),
                        other: None,
                    },
                ))
            }
        }
    }
}

/// The configuration that is written in `text`. Files that it names are not read.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn check_text(text: &str) -> Result<Config, Vec<Diagnostic>> {
    check(text, None)
}

/// The configuration that is written in `text`; the files that it names begin at `directory`.
fn check(text: &str, directory: Option<&Path>) -> Result<Config, Vec<Diagnostic>> {
    let document =
        Document::parse(text).map_err(|errors| crate::syntax::diagnostics(text, errors))?;
    if document.root().is_empty() {
        return Err(vec![Diagnostic::whole(
            "there is nothing in the file",
            "write at least [ports]; the files in examples/ are a start",
        )]);
    }
    let mut file = reader::read(&document).map_err(|faults| {
        faults
            .iter()
            .map(|fault| Diagnostic::of_fault(fault, &document, text))
            .collect::<Vec<_>>()
    })?;
    // Of a large file it takes most of the memory, and is needed again only for faults.
    drop(document);
    let mut errors = user_data::read(&mut file, directory);
    let config = Config::try_from(file).map_err(|ConfigErrors(more)| errors.extend(more));
    match config {
        Ok(config) if errors.is_empty() => Ok(config),
        _ => Err(placed(&errors, text)),
    }
}

/// Faults with their places in `text`, in its order.
fn placed(errors: &[ConfigError], text: &str) -> Vec<Diagnostic> {
    let Ok(document) = Document::parse(text) else {
        let whole = |error: &ConfigError| Diagnostic::whole(error.to_string(), "correct the file");
        return errors.iter().map(whole).collect();
    };
    let of_error = |error| Diagnostic::of_error(error, &document);
    let mut found: Vec<_> = errors.iter().map(of_error).collect();
    found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
    found
}

impl Refusal {
    /// For people, with a last line that counts the faults.
    pub fn for_people(&self, colour: bool) -> String {
        let Source { name, text } = &self.source;
        let faults = match self.diagnostics.len() {
            1 => "1 fault".to_owned(),
            many => format!("{many} faults"),
        };
        format!(
            "{}{name}: refused, {faults}; nothing was changed\n",
            for_people(name, text, &self.diagnostics, colour)
        )
    }

    /// For programs: a JSON array of objects with file, line, column, length, problem, remedy.
    pub fn for_programs(&self) -> String {
        for_programs(&self.source.name, &self.source.text, &self.diagnostics)
    }

    /// Prints it, for people or programs, and gives the failure it is for a command.
    pub fn report(&self, json: bool, colour: bool) -> Failure {
        if json {
            let _ = print(&format!("{}\n", self.for_programs()));
        } else {
            eprint!("{}", self.for_people(colour));
        }
        Failure::silent(Code::Refused)
    }
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenFile::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            "name an existing configuration file; the files in examples/ are a start",
        ),
        io::ErrorKind::IsADirectory => (
            "this is a directory".to_owned(),
            "name the configuration file in it",
        ),
        io::ErrorKind::PermissionDenied => (
            "the file may not be read".to_owned(),
            "make it readable for the user tapgate runs as (as root, tapgate has given up the right to read other users' private files), or use `tapgate apply` as a user who may read it",
        ),
        _ => (
            format!("the file cannot be read: {error}"),
            "check the file and the file system it is on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../examples/multi-mac.toml");

    /// Checks `text` and renders what is wrong with it; whether it is right.
    fn check(text: &str) -> bool {
        let source = Source {
            name: "file".to_owned(),
            text: text.to_owned(),
        };
        match check_text(&source.text) {
            Ok(config) => {
                let sent = serde_json::to_vec(&config).unwrap();
                assert_eq!(serde_json::from_slice::<Config>(&sent).unwrap(), config);
                true
            }
            Err(diagnostics) => {
                assert!(!diagnostics.is_empty());
                for diagnostic in &diagnostics {
                    assert!(!diagnostic.problem.is_empty() && !diagnostic.remedy.is_empty());
                }
                let refusal = Refusal {
                    source,
                    diagnostics,
                };
                assert!(refusal.for_people(true).contains("refused"));
                serde_json::from_str::<serde_json::Value>(&refusal.for_programs()).unwrap();
                false
            }
        }
    }

    #[test]
    fn every_example_is_right() {
        assert!(check(EXAMPLE));
        assert!(check(include_str!("../../examples/ovh-ipv6.toml")));
        assert!(check(include_str!("../../examples/hetzner-routed.toml")));
    }

    #[test]
    fn any_slip_of_the_finger_is_either_right_or_explained() {
        assert!(check(EXAMPLE));
        let places: Vec<usize> = EXAMPLE.char_indices().map(|(at, _)| at).collect();
        for (n, at) in places.into_iter().enumerate() {
            let (before, after) = EXAMPLE.split_at(at);
            let mut rest = after.chars();
            rest.next();
            // One character left out, replaced or put in, in turn.
            match n % 4 {
                0 => check(&format!("{before}{}", rest.as_str())),
                1 => check(&format!("{before}\"{}", rest.as_str())),
                2 => check(&format!("{before}9{after}")),
                _ => check(&format!("{before}é{after}")),
            };
        }
    }

    #[test]
    fn a_file_that_ends_anywhere_is_either_right_or_explained() {
        for (at, _) in EXAMPLE.char_indices().step_by(3) {
            check(&EXAMPLE[..at]);
        }
    }
}
