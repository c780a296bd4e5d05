//! Values and comments as TOML has them.

use std::fmt::Write;

use super::super::matching::Ports;
use super::super::policy::value::Value;

/// A comment holds no control characters (TOML 1.0).
pub(super) fn comment(out: &mut String, indent: &str, text: &str) {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = writeln!(out, "{indent}# {plain}");
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Texts(texts) => {
            let plain = |text: &String| match text.parse::<u8>() {
                Ok(number) => number.to_string(),
                Err(_) => quoted(text),
            };
            one_or_more(texts.iter().map(plain).collect())
        }
        Value::True => "true".to_owned(),
        Value::Ports(ports) => one_or_more(ports.iter().map(|p| port(*p)).collect()),
    }
}

pub(super) fn port((first, last): Ports) -> String {
    match first == last {
        true => first.to_string(),
        false => quoted(&format!("{first}-{last}")),
    }
}

pub(in crate::import) fn inline(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    format!("{{ {} }}", fields.join(", "))
}

pub(super) fn one_or_more(values: Vec<String>) -> String {
    match &values[..] {
        [one] => one.clone(),
        _ => list(values.into_iter()),
    }
}

pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A name as a key: bare where it can be.
pub(super) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match name.chars().all(bare) && !name.is_empty() {
        true => name.to_owned(),
        false => quoted(name),
    }
}

pub(in crate::import) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
