//! Rules as nft would write them, nearly: its JSON has no lines to quote.

use serde_json::Value;

/// A rule as nft would write it, nearly.
pub(super) fn said(expressions: &Value) -> String {
    let mut words = Vec::new();
    for expression in expressions.as_array().into_iter().flatten() {
        let Some((kind, value)) = expression
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            continue;
        };
        match kind.as_str() {
            "counter" => {}
            "match" => {
                let side = |key: &str| value.get(key).map(value_said).unwrap_or_default();
                let not = if value.get("op").and_then(Value::as_str) == Some("!=") {
                    "!= "
                } else {
                    ""
                };
                words.push(format!("{} {not}{}", side("left"), side("right")));
            }
            "jump" | "goto" => words.push(format!(
                "{kind} {}",
                value_said(value.get("target").unwrap_or(value))
            )),
            "mangle" => {
                let part = |key: &str| value.get(key).map(value_said).unwrap_or_default();
                words.push(format!("{} set {}", part("key"), part("value")));
            }
            "snat" | "dnat" | "masquerade" | "redirect" => {
                let part = |key: &str| value.get(key).map(value_said);
                let to = match (part("addr"), part("port")) {
                    (Some(address), Some(port)) => format!(" to {address}:{port}"),
                    (Some(address), None) => format!(" to {address}"),
                    (None, Some(port)) => format!(" to :{port}"),
                    (None, None) => String::new(),
                };
                words.push(format!("{kind}{to}"));
            }
            "vmap" => {
                let part = |key: &str| value.get(key).map(value_said).unwrap_or_default();
                words.push(format!("{} vmap {}", part("key"), part("data")));
            }
            "xt" => words.push(format!(
                "xt {}",
                value.get("name").map(value_said).unwrap_or_default()
            )),
            _ => words.push(kind.clone()),
        }
    }
    words.join(" ")
}

/// A value as nft would write it, nearly.
pub(super) fn value_said(value: &Value) -> String {
    let joined = |all: &[Value], by: &str| all.iter().map(value_said).collect::<Vec<_>>().join(by);
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(all) => joined(all, ","),
        Value::Object(all) => match all.iter().next() {
            Some((kind, inner)) => match (kind.as_str(), inner) {
                ("meta", inner) => match value_said(inner.get("key").unwrap_or(inner)) {
                    key if key == "mark" => "meta mark".to_owned(),
                    key => key,
                },
                ("ct", inner) => format!("ct {}", value_said(inner.get("key").unwrap_or(inner))),
                ("payload", inner) => {
                    let part = |key: &str| inner.get(key).map(value_said).unwrap_or_default();
                    format!("{} {}", part("protocol"), part("field"))
                }
                ("prefix", inner) => {
                    let part = |key: &str| inner.get(key).map(value_said).unwrap_or_default();
                    format!("{}/{}", part("addr"), part("len"))
                }
                ("&" | "|" | "^", Value::Array(both)) => joined(both, &format!(" {kind} ")),
                ("range", Value::Array(ends)) => joined(ends, "-"),
                ("set", Value::Array(all)) => format!("{{ {} }}", joined(all, ", ")),
                (_, Value::Null) => kind.clone(),
                (kind, _) => kind.to_owned(),
            },
            None => String::new(),
        },
        other => other.to_string(),
    }
}
