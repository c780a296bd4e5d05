//! Values and comments as TOML has them.

use super::super::matching::Ports;
use super::super::policy::value::Value;
pub(in crate::import) use crate::toml_text::quoted;
pub(super) use crate::toml_text::{comment, key};

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
        Value::Number(number) => number.to_string(),
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

pub(in crate::import) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}
