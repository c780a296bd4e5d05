//! What to write instead of text that is not TOML.

use std::ops::Range;

use crate::diagnostics::{Diagnostic, boundary};
use crate::document::SyntaxError;

/// Most syntax errors that are reported: later ones are mostly consequences.
const MOST: usize = 5;

/// What the TOML parser says, what it means for the operator, and what to write instead.
const SAYINGS: &[(&str, &str, &str)] = &[
    (
        "invalid boolean",
        "this is neither `true` nor `false`",
        "write `true` or `false`, in lower case; text goes in quotes",
    ),
    (
        "leading zero",
        "a number begins with 0",
        "write it without the 0, or in quotes if it is text",
    ),
    (
        "unclosed table",
        "the section's name is not closed",
        "write `]` after it",
    ),
    (
        "unclosed inline table",
        "a `{` before this is not closed",
        "write the missing `}`",
    ),
    (
        "unclosed array",
        "a `[` before this is not closed",
        "write the missing `]`",
    ),
    (
        "invalid basic string",
        "text is not closed, or holds a `\\` that means nothing",
        "write the missing `\"` at its end; write `\\\\` for a backslash",
    ),
    (
        "invalid literal string",
        "text is not closed",
        "write the missing `'` at its end",
    ),
    (
        "key with no value",
        "a key has no value",
        "write `key = value`, or `[name]` to begin a section",
    ),
    (
        "missing assignment",
        "a key has no value",
        "write `key = value`",
    ),
    (
        "extra assignment",
        "two entries without a comma between them",
        "write a comma before the key",
    ),
    (
        "missing comma",
        "two entries without a comma between them, or a bracket before them that is not closed",
        "write the comma, or the missing `}` or `]`",
    ),
    (
        "unexpected key or value",
        "something follows a value on the same line",
        "begin a new line, or put the entries into braces with a comma between them",
    ),
    (
        "duplicate key",
        "this key is there already",
        "keep one of the two, or rename one; a section's entries are all under one `[name]`",
    ),
    (
        "invalid unquoted key",
        "a key holds a letter that it cannot hold as it is",
        "use letters, digits, \"-\" and \"_\", and `=` before the value; or put the key in quotes",
    ),
    (
        "invalid key-value pair",
        "neither a key nor a section",
        "write `key = value` or `[name]`",
    ),
    (
        "recurse",
        "brackets are nested too deeply",
        "no part of a configuration needs more than four",
    ),
    (
        "recursion limit",
        "names are nested too deeply",
        "no part of a configuration needs more than four",
    ),
];

/// The diagnostics for what the parser found in `text`: the first fault of each line.
pub fn diagnostics(text: &str, errors: Vec<SyntaxError>) -> Vec<Diagnostic> {
    let mut lines: Vec<(usize, Diagnostic)> = Vec::new();
    for (span, said) in errors {
        let at = span.as_ref().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        let found = diagnostic(text, span, &said);
        match lines.iter_mut().find(|(known, _)| *known == line) {
            None => lines.push((line, found)),
            // An open quote swallows the bracket after it: the quote is the fault.
            Some((_, first)) if first.span == found.span && said.contains("string, expected") => {
                *first = found;
            }
            Some(_) => {}
        }
    }
    lines.sort_by_key(|(line, _)| *line);
    lines.truncate(MOST);
    lines
        .into_iter()
        .map(|(_, diagnostic)| diagnostic)
        .collect()
}

fn diagnostic(text: &str, span: Option<Range<usize>>, said: &str) -> Diagnostic {
    let bare = [
        "must be quoted",
        "invalid datetime",
        "invalid float",
        "invalid integer",
    ];
    let (span, problem, remedy) = if bare.iter().any(|saying| said.contains(saying)) {
        let word = span.map(|span| whole_word(text, span));
        let (problem, remedy) = unquoted(word.clone().map_or("", |word| &text[word]));
        (word, problem, remedy)
    } else if let Some((_, problem, remedy)) =
        SAYINGS.iter().find(|(saying, _, _)| said.contains(saying))
    {
        let colon = span.as_ref().is_some_and(|span| {
            let before = &text[..boundary(text, span.start)];
            before.trim_end().ends_with(':') || text[before.len()..].starts_with(':')
        });
        let remedy = if colon && remedy.contains("key = value") {
            "write `=` instead of `:`"
        } else {
            remedy
        };
        (span, (*problem).to_owned(), remedy.to_owned())
    } else {
        let (what, expected) = said.split_once(", expected ").unwrap_or((said, ""));
        let remedy = match expected {
            "" | "nothing" => "remove it, or put text in quotes".to_owned(),
            expected => format!("write {expected} here"),
        };
        (span, what.to_owned(), remedy)
    };
    Diagnostic {
        span: span.or_else(|| Some(most_nested(text))),
        problem: format!("not TOML: {problem}"),
        remedy,
        other: None,
    }
}

/// The line with most dots and brackets. The parser names no place of what is nested too deeply, which is
/// all that it names no place of.
fn most_nested(text: &str) -> Range<usize> {
    let mut begin = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        begin += line.len();
        begin - line.len()..begin
    });
    let nested = |line: &Range<usize>| {
        let marks = text[line.clone()].bytes();
        marks.filter(|byte| b".[{".contains(byte)).count()
    };
    lines.max_by_key(nested).unwrap_or_default()
}

fn unquoted(word: &str) -> (String, String) {
    let plain = word.trim_matches(|c: char| !c.is_ascii() || c == '"' || c == '\'');
    if word.is_empty() {
        let remedy = "write one after the `=`, such as \"eth0\" or 1500";
        ("a value is missing".to_owned(), remedy.to_owned())
    } else if plain != word {
        (
            "these are not the quotes TOML knows".to_owned(),
            format!("write \"{plain}\""),
        )
    } else {
        (
            "text without quotes".to_owned(),
            format!("write \"{word}\""),
        )
    }
}

/// The word that `span` is a part of.
fn whole_word(text: &str, span: Range<usize>) -> Range<usize> {
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | '[' | '{' | '=' | '#');
    let start = boundary(text, span.start);
    let before = text[..start].rfind(ends).map_or(0, |at| {
        at + text[at..].chars().next().map_or(1, char::len_utf8)
    });
    let after = text[start..].find(ends).map_or(text.len(), |at| start + at);
    before..after.max(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;

    fn first(text: &str) -> (String, String, String) {
        let errors = Document::parse(text).unwrap_err();
        let found = diagnostics(text, errors).remove(0);
        let written = found.span.map_or("", |span| &text[span]);
        (written.to_owned(), found.problem, found.remedy)
    }

    #[test]
    fn forgotten_quotes_are_offered_around_the_whole_word() {
        for (text, word) in [
            ("a = eth0", "eth0"),
            ("a = 02:00:00:00:00:aa", "02:00:00:00:00:aa"),
            ("a = [203.0.113.10/32]", "203.0.113.10/32"),
        ] {
            let (written, _, remedy) = first(text);
            assert_eq!(
                (written.as_str(), remedy),
                (word, format!("write \"{word}\""))
            );
        }
        assert_eq!(first("a = “eth0”").2, "write \"eth0\"");
        assert_eq!(first("a = \nb = 1").1, "not TOML: a value is missing");
    }

    #[test]
    fn an_open_quote_is_the_fault_not_the_bracket_it_swallowed() {
        assert!(
            first("a = { b = \"eth0 }\n")
                .1
                .contains("text is not closed")
        );
    }

    #[test]
    fn each_line_is_reported_once() {
        let text = "ports:\n  uplink:\n    device: eth0\n";
        let found = diagnostics(text, Document::parse(text).unwrap_err());
        assert_eq!(found.len(), 3);
    }
}
