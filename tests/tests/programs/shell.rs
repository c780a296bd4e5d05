//! Which programs a shell script calls: words at command position, also behind pipes and in `$(...)`.
//! Not a shell: what is decided at run time is not seen.

use std::mem;

use crate::calls::{Found, Word, resolve};

const KEYWORD: &str = "! { } if then elif else fi while until do done time esac";

/// Reads a script, whose first line is `line`.
pub fn scan(script: &str, line: usize, found: &mut Found) {
    let mut reader = Reader {
        text: script.chars().collect(),
        at: 0,
        line,
        documents: Vec::new(),
        found,
    };
    while reader.peek(0).is_some() {
        reader.list();
        reader.at += 1; // a `)` or `;;` that belongs to nothing
    }
}

struct Reader<'a> {
    text: Vec<char>,
    at: usize,
    line: usize,
    /// Ends of here-documents that begin on the next line, and whether they expand.
    documents: Vec<(String, bool)>,
    found: &'a mut Found,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn sees(&self, what: &str) -> bool {
        what.chars()
            .enumerate()
            .all(|(i, c)| self.peek(i) == Some(c))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn blanks(&mut self) {
        loop {
            match self.peek(0) {
                Some(' ' | '\t') => self.at += 1,
                Some('\\') if self.peek(1) == Some('\n') => {
                    self.next();
                    self.next();
                }
                Some('#') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// Commands up to a `)`, a `;;` or an `esac`, which is left to be read.
    fn list(&mut self) {
        loop {
            self.blanks();
            match self.peek(0) {
                None | Some(')') => return,
                Some('\n') => {
                    self.next();
                    self.here_documents();
                }
                Some(';') if self.peek(1) == Some(';') => return,
                Some('&') if self.peek(1) == Some('>') => self.command(),
                Some('<' | '>') => self.command(),
                Some(';' | '&' | '|') => self.at += 1,
                Some('(') if self.peek(1) == Some('(') => self.arithmetic(2),
                Some('(') => self.nested(1),
                Some(_) => {
                    let (at, line, calls) = (self.at, self.line, self.found.calls.len());
                    let word = self.word();
                    match word.text.as_str() {
                        "esac" if !word.quoted => {
                            (self.at, self.line) = (at, line);
                            return;
                        }
                        "case" => self.case(),
                        "[[" => self.condition(),
                        "for" => {
                            // Words, of which none is a command.
                            while !matches!(self.peek(0), None | Some('\n' | ';')) {
                                match self.sees("((") {
                                    true => self.arithmetic(2),
                                    false => _ = self.word(),
                                }
                                self.blanks();
                            }
                        }
                        text if !word.quoted && KEYWORD.split(' ').any(|known| known == text) => {}
                        _ => {
                            (self.at, self.line) = (at, line);
                            self.found.calls.truncate(calls); // they are read again
                            self.command();
                        }
                    }
                }
            }
        }
    }

    /// A simple command, or the head of a function.
    fn command(&mut self) {
        let mut words: Vec<Word> = Vec::new();
        loop {
            self.blanks();
            match self.peek(0) {
                None | Some('\n' | ';' | '|' | ')') => break,
                Some('&') if self.peek(1) != Some('>') => break,
                Some('&' | '<' | '>') => self.redirection(),
                Some('(') if words.len() == 1 => {
                    self.nested(1);
                    self.found.functions.insert(words[0].text.clone());
                    return;
                }
                Some('(') => self.at += 1, // not shell as known here
                Some(_) => {
                    let mut word = self.word();
                    if word.text.ends_with('=') && self.peek(0) == Some('(') {
                        self.array();
                        word.expands = true;
                    }
                    let to_number = matches!(self.peek(0), Some('<' | '>'))
                        && (word.text.starts_with('{')
                            || word.text.chars().all(|c| c.is_ascii_digit()));
                    if !to_number {
                        words.push(word);
                    }
                }
            }
        }
        resolve(&words, self.found);
    }

    fn array(&mut self) {
        self.at += 1;
        loop {
            self.blanks();
            match self.peek(0) {
                None => return,
                Some(')') => {
                    self.at += 1;
                    return;
                }
                Some('\n' | '(' | '|' | '<' | '>' | '&' | ';') => _ = self.next(),
                Some(_) => _ = self.word(),
            }
        }
    }

    fn redirection(&mut self) {
        if matches!(self.peek(0), Some('<' | '>')) && self.peek(1) == Some('(') {
            return self.nested(2);
        }
        let mut sign = String::new();
        while let Some(c @ ('<' | '>' | '&' | '|')) = self.peek(0) {
            sign.push(c);
            self.at += 1;
        }
        if sign == "<<" && self.peek(0) == Some('-') {
            self.at += 1;
        }
        self.blanks();
        if matches!(self.peek(0), Some('<')) && self.peek(1) == Some('(') {
            return self.nested(2);
        }
        let word = self.word();
        if sign == "<<" {
            self.documents.push((word.text, !word.quoted));
        }
    }

    fn here_documents(&mut self) {
        for (end, expands) in mem::take(&mut self.documents) {
            let (line, mut body) = (self.line, String::new());
            while self.peek(0).is_some() {
                let mut text = String::new();
                while let Some(c) = self.next().filter(|c| *c != '\n') {
                    text.push(c);
                }
                if text.trim_start_matches('\t') == end {
                    break;
                }
                body += &text;
                body.push('\n');
            }
            if expands {
                let text = body.chars().collect();
                let found = &mut *self.found;
                let mut inner = Reader {
                    text,
                    at: 0,
                    line,
                    documents: Vec::new(),
                    found,
                };
                inner.quoted(None, &mut Word::default());
            }
        }
    }

    fn case(&mut self) {
        self.blanks();
        self.word();
        loop {
            self.blanks();
            match self.peek(0) {
                None => return,
                Some('\n' | ';' | '(' | '|' | '&') => _ = self.next(),
                Some(')') => {
                    self.at += 1;
                    self.list();
                    if self.peek(0) == Some(')') {
                        return;
                    }
                }
                Some(_) => {
                    if self.word().text == "esac" {
                        return;
                    }
                }
            }
        }
    }

    /// `[[ ... ]]`
    fn condition(&mut self) {
        loop {
            self.blanks();
            match self.peek(0) {
                None => return,
                Some('\n' | '(' | ')' | '|' | '<' | '>' | '&' | ';') => _ = self.next(),
                Some(_) => {
                    if self.word().text == "]]" {
                        return;
                    }
                }
            }
        }
    }

    /// `(...)` of commands, whose opening is so many characters long.
    fn nested(&mut self, opening: usize) {
        self.at += opening;
        let outer = mem::take(&mut self.documents);
        self.list();
        self.documents = outer;
        self.at += 1;
    }

    /// `((...))`, behind which the reading goes on.
    fn arithmetic(&mut self, opening: usize) {
        self.at += opening;
        let mut depth = 0;
        while let Some(c) = self.peek(0) {
            match c {
                '$' => self.expansion(),
                '(' => depth += 1,
                ')' if depth == 0 => {
                    self.at += 2;
                    return;
                }
                ')' => depth -= 1,
                _ => {}
            }
            if c != '$' {
                self.next();
            }
        }
    }

    fn word(&mut self) -> Word {
        let mut word = Word {
            line: self.line,
            ..Word::default()
        };
        let begin = self.at;
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => self.single(&mut word),
                '"' => {
                    self.at += 1;
                    word.quoted = true;
                    self.quoted(Some('"'), &mut word);
                }
                '$' if self.peek(1) == Some('\'') => {
                    self.at += 1;
                    self.single(&mut word);
                }
                '$' => self.expanded(&mut word),
                '\\' => {
                    self.at += 1;
                    word.text.extend(self.next());
                }
                _ => word.text.extend(self.next()),
            }
        }
        self.at += usize::from(self.at == begin); // never stand still
        word
    }

    fn single(&mut self, word: &mut Word) {
        self.at += 1;
        word.quoted = true;
        if word.text.is_empty() {
            word.line = self.line;
        }
        while let Some(c) = self.next().filter(|c| *c != '\'') {
            word.text.push(c);
        }
    }

    /// Text in which only `$` and `\` mean something, up to `end`.
    fn quoted(&mut self, end: Option<char>, word: &mut Word) {
        while let Some(c) = self.peek(0) {
            match c {
                c if Some(c) == end => {
                    self.at += 1;
                    return;
                }
                '\\' => {
                    self.at += 1;
                    word.text.extend(self.next());
                }
                '$' => self.expanded(word),
                _ => word.text.extend(self.next()),
            }
        }
    }

    fn expanded(&mut self, word: &mut Word) {
        let begin = self.at;
        self.expansion();
        word.expands = true;
        word.text.extend(&self.text[begin..self.at]);
    }

    /// What begins with a `$`.
    fn expansion(&mut self) {
        if self.sees("$((") {
            self.arithmetic(3);
        } else if self.sees("$(") {
            self.nested(2);
        } else if self.sees("${") {
            self.at += 2;
            let mut inner = Word::default();
            while let Some(c) = self.peek(0).filter(|c| *c != '}') {
                match c {
                    '"' => {
                        self.at += 1;
                        self.quoted(Some('"'), &mut inner);
                    }
                    '\'' => self.single(&mut inner),
                    '$' if self.peek(1) == Some('\'') => self.at += 1,
                    '$' => self.expansion(),
                    '\\' => {
                        self.at += 1;
                        self.next();
                    }
                    _ => _ = self.next(),
                }
            }
            self.at += 1;
        } else {
            self.at += 1;
        }
    }
}
