//! Which programs the words of a command call.

use std::collections::BTreeSet;

use crate::shell::scan;

/// A program called.
#[derive(Debug)]
pub struct Call {
    pub program: String,
    pub line: usize,
    /// By its path: no function of that name is meant.
    pub by_path: bool,
}

/// What the scripts of a project call, and the functions that they define.
#[derive(Debug, Default)]
pub struct Found {
    pub calls: Vec<Call>,
    pub functions: BTreeSet<String>,
}

/// What runs another program: how many words of its own come first, and which of its options are
/// followed by a value. The last four are functions of `netns-scripts`.
const WRAPPERS: [(&str, usize, &[&str]); 18] = [
    ("builtin", 0, &[]),
    ("command", 0, &[]),
    ("env", 0, &["-u"]),
    ("exec", 0, &[]),
    ("flock", 1, &["--timeout"]),
    ("nice", 0, &["-n"]),
    ("nsenter", 0, &["--target"]),
    ("setpriv", 0, &["--pdeathsig", "--bounding-set"]),
    ("setsid", 0, &[]),
    ("sudo", 0, &["-u"]),
    ("timeout", 1, &[]),
    ("unshare", 0, &[]),
    ("valgrind", 0, &[]),
    ("xargs", 0, &["-n"]),
    ("client", 1, &[]),
    ("guest", 0, &[]),
    ("inside", 1, &[]),
    ("timed", 1, &[]),
];

/// The shell's own commands and words.
const BUILTIN: &str = ". : [ break builtin cd command compgen continue declare disown echo eval exec \
    exit export false hash kill let local mapfile printf pwd read readonly return set shift shopt \
    source test trap true type ulimit umask unset wait";
/// A word as it stands there, without its outer quotes.
#[derive(Debug, Clone, Default)]
pub struct Word {
    pub text: String,
    pub line: usize,
    /// Some of it is known only at run time.
    pub expands: bool,
    pub quoted: bool,
}

impl Word {
    /// A word without expansions but for Rust's `{}`.
    pub fn plain(text: &str, line: usize) -> Self {
        Self {
            text: text.to_owned(),
            line,
            expands: text.contains('{'),
            quoted: false,
        }
    }
}

/// Notes the programs that a command's words call.
pub fn resolve(words: &[Word], found: &mut Found) {
    let mut words = words
        .iter()
        .skip_while(|word| is_assignment(word))
        .peekable();
    while let Some(word) = words.next() {
        if word.text.contains("[@]") {
            continue; // perhaps `sudo`, perhaps nothing
        }
        let own = word.text.contains('/') && !word.text.starts_with('/');
        if word.expands || own || word.text.is_empty() || word.text.starts_with('-') {
            return;
        }
        let name = word.text.rsplit('/').next().unwrap_or_default();
        if !BUILTIN.split_whitespace().any(|known| known == name) {
            found.calls.push(Call {
                program: name.to_owned(),
                line: word.line,
                by_path: word.text.contains('/'),
            });
        }
        let options: Vec<&Word> = words.clone().collect();
        match name {
            "ip" => match options.iter().position(|word| word.text == "exec") {
                Some(at) => _ = words.nth(at + 1),
                None => return,
            },
            "sh" | "bash" | "trap" => {
                let at = options.iter().position(|word| word.text == "-c");
                let script = match name {
                    "trap" => options.first(),
                    _ => at.and_then(|at| options.get(at + 1)),
                };
                if let Some(script) = script {
                    scan(&script.text, script.line, found);
                }
                return;
            }
            _ => {
                let Some((_, own, valued)) = WRAPPERS.iter().find(|known| known.0 == name) else {
                    return;
                };
                while let Some(option) =
                    words.next_if(|w| w.text.starts_with('-') || is_assignment(w))
                {
                    if valued.contains(&option.text.as_str()) {
                        words.next();
                    }
                }
                for _ in 0..*own {
                    words.next();
                }
            }
        }
    }
}

fn is_assignment(word: &Word) -> bool {
    let Some((name, _)) = word.text.split_once('=') else {
        return false;
    };
    let name = name.trim_end_matches('+');
    let name = name.split('[').next().unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
