//! Which programs Rust code calls: the text given to `Command::new`, and the command lines given
//! to the tests' own helpers, directly or by a variable.

use crate::calls::{Found, Word, resolve};
use crate::shell::scan;

/// Functions whose first argument is a command line; that of the last is shell.
const HELPERS: [&str; 5] = ["attempt", "background", "listen", "run", "shell"];

/// A string literal, and the code before it.
struct Literal {
    text: String,
    line: usize,
    /// Where it begins in the code without literals.
    at: usize,
}

/// Notes the programs that `source` calls. Returns the lines where a command line comes from
/// nowhere that can be read here.
pub fn scan_rust(source: &str, found: &mut Found) -> Vec<usize> {
    let (code, literals) = split(source);
    // Elsewhere the helpers' names mean something else.
    let starts_programs = code.contains("lab::") || code.contains("Command::new");
    for literal in &literals {
        match taker(&code[..literal.at]) {
            Some("Command::new") => {
                let statement = code[literal.at..]
                    .find(';')
                    .map_or(code.len(), |end| literal.at + end);
                let words = literals
                    .iter()
                    .filter(|l| (literal.at..statement).contains(&l.at));
                let words: Vec<_> = words.map(|l| Word::plain(&l.text, l.line)).collect();
                resolve(&words, found);
            }
            Some(helper) if starts_programs && HELPERS.contains(&helper) => {
                command_line(helper, literal, found);
            }
            _ => {}
        }
    }
    match code.contains("lab::") {
        true => by_variable(&code, &literals, found),
        false => Vec::new(),
    }
}

fn command_line(helper: &str, literal: &Literal, found: &mut Found) {
    if helper == "shell" {
        return scan(&literal.text, literal.line, found);
    }
    let words = literal.text.split_whitespace();
    let words: Vec<_> = words.map(|word| Word::plain(word, literal.line)).collect();
    resolve(&words, found);
}

/// What takes the literal that comes after `code` as its first argument.
fn taker(code: &str) -> Option<&str> {
    let code = code.trim_end();
    let code = code.strip_suffix("format!(").unwrap_or(code).trim_end();
    let code = code.strip_suffix('&').unwrap_or(code).trim_end();
    let code = code.strip_suffix('(')?;
    let begin = code.rfind(|c: char| !c.is_alphanumeric() && c != '_')? + 1;
    match code.ends_with("Command::new") {
        true => Some("Command::new"),
        false if code[..begin].ends_with('.') || code[..begin].ends_with("fn ") => None,
        false => Some(&code[begin..]),
    }
}

/// Helpers that are handed a variable: the literal that it was last bound to. Returns the lines of
/// those whose variable was bound to something else.
fn by_variable(code: &str, literals: &[Literal], found: &mut Found) -> Vec<usize> {
    let mut unknown = Vec::new();
    for helper in HELPERS {
        for (at, _) in code.match_indices(&format!("{helper}(")) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_.".contains(c))
                || code[..at].ends_with("fn ")
            {
                continue;
            }
            let argument = code[at + helper.len() + 1..].trim_start();
            let argument = argument.strip_prefix('&').unwrap_or(argument);
            let end = argument.find(|c: char| !c.is_alphanumeric() && c != '_');
            let (name, rest) = argument.split_at(end.unwrap_or(0));
            let is_variable =
                name.starts_with(|c: char| c.is_lowercase()) && rest.starts_with([',', ')']);
            if !is_variable {
                continue;
            }
            let binding = format!("let {name} = ");
            let bound = literals.iter().rfind(|literal| {
                let code = code[..literal.at].trim_end();
                let code = code.strip_suffix("format!(").unwrap_or(code).trim_end();
                literal.at < at && code.ends_with(binding.trim_end())
            });
            match bound {
                Some(literal) => command_line(helper, literal, found),
                // What is handed on was read where it came from.
                None if code.contains(&format!("{name}: &str")) => {}
                None if code[..at].contains(&binding) => unknown.push(line(code, at)),
                None => {}
            }
        }
    }
    unknown
}

fn line(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Code without comments and literals, of as many lines; and the literals.
fn split(source: &str) -> (String, Vec<Literal>) {
    let (mut code, mut literals) = (String::new(), Vec::new());
    let (mut rest, mut line) = (source, 1);
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if c == '"' || rest.starts_with("r#\"") || rest.starts_with("r\"") {
            let (text, length) = literal(rest);
            let at = code.len();
            literals.push(Literal { text, line, at });
            length
        } else if c == '\'' {
            character(rest)
        } else {
            code.push(c);
            c.len_utf8()
        };
        let (gone, after) = rest.split_at(length);
        if length != c.len_utf8() || c == '"' {
            code.extend(gone.chars().filter(|c| *c == '\n'));
        }
        line += gone.matches('\n').count();
        rest = after;
    }
    (code, literals)
}

/// The literal that `rest` begins with: what it means, and its length.
fn literal(rest: &str) -> (String, usize) {
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.chars().take_while(|c| *c == '#').count();
        let body = &raw[hashes + 1..];
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).unwrap_or(body.len());
        return (
            body[..length].to_owned(),
            1 + hashes + 1 + length + end.len(),
        );
    }
    let (mut text, mut chars) = (String::new(), rest.char_indices().skip(1).peekable());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                Some((_, '\n')) => while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {},
                Some((_, 'n')) => text.push('\n'),
                Some((_, c)) => text.push(c),
                None => break,
            },
            _ => text.push(c),
        }
    }
    (text, rest.len())
}

/// The length of a character literal, or 1 if it is a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => rest[3..].find('\'').map_or(1, |end| end + 4),
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}
