//! A line of shell, cut as a shell cuts it.

use std::iter::Peekable;
use std::str::Chars;

/// A command with its words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    /// Files that it reads and writes.
    pub(super) files: Vec<String>,
    /// It is for when the one before it fails.
    pub(super) on_failure: bool,
}

/// What was cut so far.
#[derive(Default)]
struct Cut {
    all: Vec<Command>,
    command: Command,
    word: Option<String>,
    /// The next word is a file's name.
    is_file: bool,
    on_failure: bool,
}

/// The commands of a line.
pub(super) fn commands(line: &str) -> Vec<Command> {
    let mut cut = Cut::default();
    let mut letters = line.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '\'' => {
                let word = cut.word.get_or_insert_default();
                word.extend(letters.by_ref().take_while(|c| *c != '\''));
            }
            '"' => quoted(cut.word.get_or_insert_default(), &mut letters),
            '\\' => cut.word.get_or_insert_default().extend(letters.next()),
            '#' if cut.word.is_none() => break,
            '>' | '<' => {
                // The number before it is a descriptor's.
                let is_number = |word: &mut String| word.chars().all(|c| c.is_ascii_digit());
                cut.word.take_if(is_number);
                cut.end_word();
                while letters.next_if(|c| ['>', '&', '|'].contains(c)).is_some() {}
                cut.is_file = true;
            }
            '&' if letters.peek() == Some(&'>') => {}
            ';' | '&' | '|' => {
                cut.end_command();
                let twice = letters.next_if_eq(&c).is_some();
                cut.on_failure = c == '|' && (twice || cut.on_failure);
            }
            c if c.is_whitespace() => cut.end_word(),
            c => cut.word.get_or_insert_default().push(c),
        }
    }
    cut.end_command();
    cut.all
}

/// What stands in double quotes, in which a backslash is one before other letters.
fn quoted(word: &mut String, letters: &mut Peekable<Chars<'_>>) {
    while let Some(c) = letters.next().filter(|c| *c != '"') {
        let special = |c: &char| ['"', '\\', '$', '`'].contains(c);
        match c {
            '\\' => word.push(letters.next_if(special).unwrap_or(c)),
            c => word.push(c),
        }
    }
}

impl Cut {
    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match std::mem::take(&mut self.is_file) {
            true => self.command.files.push(word),
            false => self.command.words.push(word),
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let mut command = std::mem::take(&mut self.command);
        command.on_failure = self.on_failure;
        if !command.words.is_empty() {
            self.all.push(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_commands_are_those_of_a_shell() {
        let line = r#"a 'b; c' "d && \"e\" \n"f\ g; h >/x/y 2>&1 || i | j && k &>z # l"#;
        let (failed, all): (Vec<Command>, Vec<Command>) = commands(line)
            .into_iter()
            .partition(|command| command.on_failure);
        let all: Vec<Vec<String>> = all.into_iter().map(|c| c.words).collect();
        let [a, h, k] = &all[..] else {
            panic!("{all:?}")
        };
        let failed: Vec<&str> = failed.iter().map(|command| &*command.words[0]).collect();
        assert_eq!(failed, ["i", "j"]);
        assert_eq!(*a, ["a", "b; c", "d && \"e\" \\nf g"]);
        assert_eq!((&*h[0], h.len(), &*k[0], k.len()), ("h", 1, "k", 1));
        assert_eq!(commands("echo 1 > /proc/x")[0].files, ["/proc/x"]);
        assert_eq!(commands("a 'b")[0].words, ["a", "b"]);
    }
}
