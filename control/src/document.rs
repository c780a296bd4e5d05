//! A TOML document that knows where each of its keys and values is written.

use std::ops::Range;

use tapgate_engine::config::Segment;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place in the text.
pub type Value<'t> = Spanned<DeValue<'t>>;

/// Where the parser stumbled, when it knows, and what it says.
pub type SyntaxError = (Option<Range<usize>>, String);

/// A parsed TOML text.
#[derive(Debug)]
pub struct Document<'t> {
    root: DeTable<'t>,
}

/// A key and its value, or an element of an array.
#[derive(Debug, Clone)]
pub struct Entry<'d, 't> {
    /// Where the key is written; `None` for an array's element.
    pub key: Option<Range<usize>>,
    /// The value.
    pub value: &'d Value<'t>,
}

impl<'t> Document<'t> {
    /// Parses `text`.
    ///
    /// # Errors
    /// Every syntax error: where (when known) and what.
    pub fn parse(text: &'t str) -> Result<Self, Vec<SyntaxError>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self {
                root: root.into_inner(),
            });
        }
        Err(errors
            .iter()
            .map(|error| (error.span(), error.message().to_owned()))
            .collect())
    }

    /// The top-level table.
    pub fn root(&self) -> &DeTable<'t> {
        &self.root
    }

    /// What is at `path`, if it is written in the file.
    pub fn entry(&self, path: &[Segment]) -> Option<Entry<'_, 't>> {
        let (first, rest) = path.split_first()?;
        let mut entry = child_of_table(&self.root, first)?;
        for segment in rest {
            entry = match (entry.value.get_ref(), segment) {
                (DeValue::Table(table), key) => child_of_table(table, key)?,
                (DeValue::Array(array), Segment::Index(index)) => Entry {
                    key: None,
                    value: array.get(*index)?,
                },
                _ => return None,
            };
        }
        Some(entry)
    }

    /// The text to underline for `path`: a simple value itself, but the key of a table or an
    /// array. What is not written (a value by default) is shown where it would be: at the nearest
    /// thing around it that is.
    pub fn span(&self, path: &[Segment]) -> Option<Range<usize>> {
        let written = (1..=path.len())
            .rev()
            .find_map(|length| self.entry(&path[..length]))?;
        Some(match (written.value.get_ref(), written.key) {
            (DeValue::Table(_) | DeValue::Array(_), Some(key)) => key,
            _ => written.value.span(),
        })
    }
}

fn child_of_table<'d, 't>(table: &'d DeTable<'t>, segment: &Segment) -> Option<Entry<'d, 't>> {
    let Segment::Key(name) = segment else {
        return None;
    };
    let (key, value) = table.get_key_value(name.as_str())?;
    Some(Entry {
        key: Some(key.span()),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[ports]
uplink = { device = "eth0" }

[tables]
main = [{ to = "default" }, { to = "10.0.0.0/8" }]

[networks.a]
ports = ["x",
  "y"]
"#;

    fn shown(path: &[Segment]) -> &'static str {
        let document = Document::parse(TEXT).unwrap();
        &TEXT[document.span(path).unwrap()]
    }

    fn path(keys: &[&str]) -> Vec<Segment> {
        keys.iter()
            .map(|key| match key.parse() {
                Ok(index) => Segment::Index(index),
                Err(_) => Segment::Key((*key).to_owned()),
            })
            .collect()
    }

    #[test]
    fn values_keys_and_absent_things_have_a_place() {
        assert_eq!(shown(&path(&["ports", "uplink", "device"])), "\"eth0\"");
        assert_eq!(shown(&path(&["ports", "uplink"])), "uplink");
        assert_eq!(shown(&path(&["ports", "uplink", "mtu"])), "uplink");
        assert_eq!(
            shown(&path(&["tables", "main", "1", "to"])),
            "\"10.0.0.0/8\""
        );
        assert_eq!(
            shown(&path(&["tables", "main", "0"])),
            "{ to = \"default\" }"
        );
        assert_eq!(shown(&path(&["networks", "a"])), "a");
        assert_eq!(shown(&path(&["networks", "a", "ports", "1"])), "\"y\"");
        assert_eq!(shown(&path(&["networks", "a", "ports", "7"])), "ports");
        assert!(
            Document::parse(TEXT)
                .unwrap()
                .span(&path(&["nat"]))
                .is_none()
        );
    }
}
