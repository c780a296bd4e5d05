//! What is wrong with a configuration file, where, and what to write instead.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;
use tapgate_engine::config::ConfigError;

use crate::document::Document;
use crate::reader::Fault;

/// Most faults that are printed.
const MOST: usize = 50;
/// Columns a diagnostic is laid out for, whatever the terminal's width: a file wider than that is
/// cut around the fault.
const WIDTH: usize = 120;

/// One fault of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The text at fault, in bytes; `None` when it is the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
    /// Another place that the fault involves.
    pub other: Option<Range<usize>>,
}

impl Diagnostic {
    /// A fault of the file as a whole.
    pub fn whole(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            span: None,
            problem: problem.into(),
            remedy: remedy.into(),
            other: None,
        }
    }

    /// A key or value of the wrong kind.
    pub fn of_fault(fault: &Fault, document: &Document<'_>, text: &str) -> Self {
        let span = match fault.kind {
            // Where the key is, not what it is set to.
            crate::reader::FaultKind::UnknownKey { .. } => {
                document.entry(&fault.at).and_then(|entry| entry.key)
            }
            _ => document.entry(&fault.at).map(|entry| entry.value.span()),
        };
        let (problem, remedy) = fault.explain(span.clone().map_or("", |span| &text[span]));
        Self {
            span: match fault.kind {
                crate::reader::FaultKind::MissingKey { .. } => document.span(&fault.at),
                _ => span,
            },
            problem,
            remedy,
            other: None,
        }
    }

    /// A contradiction between values.
    pub fn of_error(error: &ConfigError, document: &Document<'_>) -> Self {
        Self {
            span: document.span(&error.at),
            problem: error.problem.clone(),
            remedy: error.remedy.clone(),
            other: error.other.as_ref().and_then(|at| document.span(at)),
        }
    }
}

/// The diagnostics of `text`, the content of `file`, for people.
pub fn for_people(file: &str, text: &str, diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(WIDTH);
    let lines = Lines::new(text);
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(MOST) {
        let title = Level::ERROR.primary_title(&diagnostic.problem);
        let help = Level::HELP.message(&diagnostic.remedy);
        let group = match &diagnostic.span {
            None => title
                .element(annotate_snippets::Origin::path(file))
                .element(help),
            Some(span) => {
                let span = lines.underlined(span);
                let other = diagnostic
                    .other
                    .as_ref()
                    .map(|other| lines.underlined(other));
                let first = other
                    .as_ref()
                    .map_or(span.start, |o| o.start.min(span.start));
                let last = other.as_ref().map_or(span.end, |o| o.end.max(span.end));
                let (line, window) = lines.window(first, last);
                let inside =
                    |span: Range<usize>| span.start - window.start..span.end - window.start;
                let snippet = Snippet::source(&text[window.clone()])
                    .path(file)
                    .line_start(line)
                    .annotation(AnnotationKind::Primary.span(inside(span)))
                    .annotations(other.map(|other| {
                        AnnotationKind::Context
                            .span(inside(other))
                            .label("the other one")
                    }));
                title.element(snippet).element(help)
            }
        };
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    if diagnostics.len() > MOST {
        out.push_str(&format!(
            "… and {} more faults\n\n",
            diagnostics.len() - MOST
        ));
    }
    out
}

/// A diagnostic for programs. Lines and columns count from 1, columns and length in characters;
/// all three are 0 when it is the file as a whole.
#[derive(Debug, Serialize)]
struct Record<'d> {
    file: &'d str,
    line: usize,
    column: usize,
    length: usize,
    problem: &'d str,
    remedy: &'d str,
}

/// The diagnostics of `text`, the content of `file`, as a JSON array.
pub fn for_programs(file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let lines = Lines::new(text);
    let records: Vec<Record<'_>> = diagnostics
        .iter()
        .map(|diagnostic| {
            let span = diagnostic.span.as_ref().map(|span| lines.underlined(span));
            let (line, column) = span
                .as_ref()
                .map_or((0, 0), |span| lines.position(span.start));
            Record {
                file,
                line,
                column,
                length: span.map_or(0, |span| text[span].chars().count()),
                problem: &diagnostic.problem,
                remedy: &diagnostic.remedy,
            }
        })
        .collect();
    serde_json::to_string_pretty(&records).unwrap_or_default()
}

/// The last place not after the byte at `at` where a character of `text` begins.
pub fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after).collect(),
        }
    }

    /// The line, from 0, that holds the byte at `at`.
    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }

    /// Line and column, from 1, of the byte at `at`.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.line(at);
        (
            line + 1,
            self.text[self.starts[line]..at].chars().count() + 1,
        )
    }

    /// The part of `span` that is underlined: what is on its first line, within the text.
    fn underlined(&self, span: &Range<usize>) -> Range<usize> {
        let start = boundary(self.text, span.start);
        let end = boundary(self.text, span.end.max(start));
        match self.text[start..end].find(['\r', '\n']) {
            Some(0) | None => start..end,
            Some(length) => start..start + length,
        }
    }

    /// The number of the first line, from 1, and the range of the lines that hold `first` to
    /// `last`.
    fn window(&self, first: usize, last: usize) -> (usize, Range<usize>) {
        let (top, bottom) = (self.line(first), self.line(last));
        let end = self
            .starts
            .get(bottom + 1)
            .copied()
            .unwrap_or(self.text.len());
        (top + 1, self.starts[top]..end)
    }
}
