//! What can be wrong with a single key or value.

use std::fmt;

use serde::de::{self, Expected, Unexpected};
use tapgate_engine::config::{Segment, closest};

/// What is said of a number that no integer holds.
pub(super) const TOO_LARGE: &str = "too large";

/// One wrong key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is.
    pub at: Vec<Segment>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a key or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// The table has no such key.
    UnknownKey {
        /// All keys it has.
        known: &'static [&'static str],
    },
    /// One of a few words is wanted, and it is another.
    UnknownWord {
        /// The words.
        known: &'static [&'static str],
    },
    /// The table lacks a key it must have.
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A value of another type is wanted.
    Type {
        /// What is there.
        found: String,
        /// What serde wants, in its words.
        wanted: String,
    },
    /// The type is right, the value is not.
    Value {
        /// Why, in the words of the type's own parser.
        why: String,
    },
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Self {
            at: Vec::new(),
            kind,
        }
    }

    /// The fault as seen from the table or array around it.
    pub fn inside(mut self, segment: Segment) -> Self {
        self.at.insert(0, segment);
        self
    }

    /// The problem and the remedy; `written` is the text at fault.
    pub fn explain(&self, written: &str) -> (String, String) {
        match &self.kind {
            FaultKind::UnknownKey { known } => {
                let key = match self.at.last() {
                    Some(Segment::Key(key)) => key,
                    _ => written,
                };
                (
                    format!("unknown key \"{key}\""),
                    one_of(key, known, "known here"),
                )
            }
            FaultKind::UnknownWord { known } => (
                format!("{written} is not known here"),
                one_of(written.trim_matches(['"', '\'']), known, "write one of"),
            ),
            FaultKind::MissingKey { key } => (
                format!("\"{key}\" is missing"),
                format!("add {}", example_of(key)),
            ),
            FaultKind::Type { found, wanted } => {
                let (what, remedy) = wanted_type(wanted);
                let remedy = retyped(what, found, written).unwrap_or_else(|| remedy.to_owned());
                (format!("{what} is wanted here, not {found}"), remedy)
            }
            FaultKind::Value { why } if why == TOO_LARGE => (
                format!("{written} is too large"),
                "write a smaller number".to_owned(),
            ),
            FaultKind::Value { why } => match why.split_once(": write ") {
                Some((problem, remedy)) if problem.starts_with("not ") => {
                    (format!("{written} is {problem}"), format!("write {remedy}"))
                }
                Some((problem, remedy)) => (problem.to_owned(), format!("write {remedy}")),
                None if why.contains("IP") => (
                    format!("{written} is not an IP address"),
                    "write one such as \"192.0.2.1\", without a prefix length".to_owned(),
                ),
                None => (
                    format!("{written} is not possible here: {why}"),
                    "write another value".to_owned(),
                ),
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (problem, remedy) = self.explain("this");
        write!(f, "{problem}; {remedy}")
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::new(FaultKind::Value {
            why: why.to_string(),
        })
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(FaultKind::Type {
            found: in_words(found),
            wanted: wanted.to_string(),
        })
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownWord { known })
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownKey { known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(FaultKind::MissingKey { key })
    }
}

fn one_of(written: &str, known: &[&str], intro: &str) -> String {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    let list = sorted.join(", ");
    match closest(written, known) {
        Some(close) => format!("did you mean \"{close}\"? {intro}: {list}"),
        None => format!("{intro}: {list}"),
    }
}

fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(_) => "text".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// The remedy where there is one value.
const ONE_OF_A_LIST: &str = "write one value; where there are several, an entry for each";

/// What serde calls `wanted`, in words, and how to write one.
fn wanted_type(wanted: &str) -> (&str, &'static str) {
    match wanted {
        "u8" => (
            "a number from 0 to 255",
            "write a whole number without quotes",
        ),
        "u16" => (
            "a number from 0 to 65535",
            "write a whole number without quotes",
        ),
        "u32" => (
            "a number from 0 to 4294967295",
            "write a whole number without quotes",
        ),
        "a boolean" => ("true or false", "write `true` or `false`, without quotes"),
        "a sequence" => ("a list", "write it in brackets: [ … ]"),
        "IP address" => ("text", "write an address in quotes, such as \"192.0.2.1\""),
        "IPv4 address" => (
            "text",
            "write an IPv4 address in quotes, such as \"192.0.2.1\"",
        ),
        text if text.contains("string") || text.starts_with("enum") => {
            ("text", "write it in quotes")
        }
        table if table.starts_with("struct") || table.contains("map") => {
            ("a table", "write it in braces: { key = value, … }")
        }
        other => (other, ONE_OF_A_LIST),
    }
}

/// How `written`, which is `found`, becomes `what` is wanted, if that is certain.
fn retyped(what: &str, found: &str, written: &str) -> Option<String> {
    let short = written.len() <= 60 && !written.contains('\n');
    let bare = written.trim_matches(['"', '\'']);
    match what {
        "a list" if short => Some(format!("write it in brackets: [{written}]")),
        "a list" | "a table" => None,
        _ if found == "a list" => Some(ONE_OF_A_LIST.to_owned()),
        "text" if short => Some(format!("write it in quotes: \"{written}\"")),
        number if number.starts_with("a number from ") => {
            if bare != written && bare.parse::<u32>().is_ok() {
                return Some(format!("write it without quotes: {bare}"));
            }
            found
                .starts_with("the number ")
                .then(|| "write another number".to_owned())
        }
        _ => None,
    }
}

/// How a key that must not be missing is written.
fn example_of(key: &str) -> String {
    let example = match key {
        "port" => "\"NAME\"` with a name from [ports]",
        "ports" => "[\"NAME\"]` with names from [ports]",
        "mac" => "\"02:00:00:00:00:aa\"` with the MAC the provider ties to the address",
        "addresses" => "[\"203.0.113.10/32\"]` with at least one address",
        "to" => "\"…\"`: a prefix, an address or \"default\"",
        "from" => "\"10.0.1.0/24\"` with the source prefix",
        "priority" => "100`: the lower the earlier",
        _ => "…`",
    };
    format!("`{key} = {example}")
}
