//! Comments, keys and texts as TOML has them.

use std::fmt::Write;

/// Writes a line of comment. It holds no control characters (TOML 1.0).
pub fn comment(out: &mut String, indent: &str, text: &str) {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = writeln!(out, "{indent}# {plain}");
}

/// A name as a key: bare where it can be.
pub fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match name.chars().all(bare) && !name.is_empty() {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// A text in quotation marks.
pub fn quoted(text: &str) -> String {
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
