//! `iptables …`, kept for the reader of `iptables-save`.

use std::collections::BTreeMap;

use crate::import::firewall::Fate;

/// Rules of iptables by table and family.
pub(in crate::import) type Chains = BTreeMap<(String, bool), Lines>;

/// Rules of a table, each at the line where it stands.
#[derive(Debug, Default)]
pub(in crate::import) struct Lines {
    said: BTreeMap<usize, String>,
    /// The line that was run last.
    last: usize,
}

/// Targets without which no more is let in.
const LETS_IN: [&str; 4] = ["ACCEPT", "LOG", "NFLOG", "ULOG"];
/// What follows a command that empties tables.
const EMPTY: &str = "what is written starts with nothing";

/// Does what a command says.
///
/// # Errors
/// It is not done, or what was done needs no entry.
pub(super) fn iptables(
    chains: &mut Chains,
    words: &[String],
    v6: bool,
    number: usize,
) -> Result<(), (Fate, String)> {
    let (table, words) = plain(words);
    let Some((verb, rest)) = words.split_first() else {
        return Err((Fate::Missing, "there is no command".to_owned()));
    };
    let chain = rest.first().map(String::as_str).unwrap_or_default();
    let text: Vec<String> = rest.iter().map(|word| quoted(word)).collect();
    let text = text.join(" ");
    let lines = chains.entry((table.clone(), v6)).or_default();
    let is_late = number < lines.last;
    lines.last = lines.last.max(number);
    let lines = &mut lines.said;
    let said = match verb.as_str() {
        "-A" | "--append" | "-N" | "--new-chain" | "-P" | "--policy" if is_late => {
            let why = "it is run after a line that stands below it: write the lines in the order in which they are run";
            return Err((inserted(&table, "-I", rest), why.to_owned()));
        }
        "-A" | "--append" => format!("-A {text}"),
        "-N" | "--new-chain" => format!("-N {text}"),
        "-P" | "--policy" => format!(":{text} [0:0]"),
        "-D" | "--delete" => return Err(delete(lines, &text)),
        "-F" | "--flush" => {
            let start = format!("-A {chain}");
            let before = lines.len();
            lines.retain(|_, line| {
                let of = line.strip_prefix(&start);
                !of.is_some_and(|rest| chain.is_empty() || rest.starts_with(' '))
            });
            let why = match before - lines.len() {
                0 => EMPTY.to_owned(),
                1 => "the rule that stands before it is left out".to_owned(),
                many => format!("the {many} rules that stand before it are left out"),
            };
            return Err((Fate::Implied, why));
        }
        // A rule that is asked for is not there yet.
        "-C" | "--check" => return Err((Fate::Implied, EMPTY.to_owned())),
        "-X" | "--delete-chain" | "-Z" | "--zero" => {
            return Err((Fate::Implied, EMPTY.to_owned()));
        }
        "-I" | "--insert" | "-R" | "--replace" => {
            let why = "of `iptables` -A, -D, -N, -P and -F are read: where else a rule comes depends on what was before; write it with -A in its place";
            return Err((inserted(&table, verb, rest), why.to_owned()));
        }
        _ => {
            let why = format!("of `iptables` -A, -D, -N, -P and -F are read, and {verb} is not");
            return Err((Fate::Missing, why));
        }
    };
    // A line of its own each; those of one line follow each other as far as there is room.
    let mut at = number;
    while lines.contains_key(&at) {
        at += 1;
    }
    lines.insert(at, said);
    Ok(())
}

/// The table, and the words without what says it or how to wait.
fn plain(words: &[String]) -> (String, Vec<String>) {
    let mut table = "filter".to_owned();
    let mut rest = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-t" | "--table" => table = words.next().cloned().unwrap_or_default(),
            "-v" | "--verbose" | "-n" | "-4" | "-6" => {}
            "-w" | "--wait" => drop(words.next_if(|word| word.parse::<u32>().is_ok())),
            _ => rest.push(word.clone()),
        }
    }
    (table, rest)
}

/// Takes away the rule that a line before it has added.
fn delete(lines: &mut BTreeMap<usize, String>, text: &str) -> (Fate, String) {
    let rule = format!("-A {text}");
    let second = text.split(' ').nth(1);
    let by_number = second.is_some_and(|word| word.parse::<u32>().is_ok());
    let added = lines.iter().rev().find(|(_, line)| **line == rule);
    match added.map(|(at, _)| *at) {
        Some(at) => {
            lines.remove(&at);
            let why = format!("the rule that line {at} adds is left out");
            (Fate::Implied, why)
        }
        None if by_number => {
            let why =
                "which rule has this number is not known: leave out the one that it takes away";
            (Fate::Wider, why.to_owned())
        }
        None => {
            let why = "no line before it adds this rule, as it stands here";
            let lets_in = text.ends_with("-j ACCEPT");
            let fate = if lets_in { Fate::Wider } else { Fate::Missing };
            (fate, why.to_owned())
        }
    }
}

/// What it means to leave out a command: one of iptables may keep something out.
pub(super) fn left_out(words: &[String]) -> Fate {
    let is_it = |word: &String| word.ends_with("iptables") || word.ends_with("ip6tables");
    let Some(at) = words.iter().position(is_it) else {
        return Fate::Missing;
    };
    let (table, words) = plain(&words[at + 1..]);
    match words.split_first() {
        Some((verb, rest)) => inserted(&table, verb, rest),
        None => Fate::Missing,
    }
}

/// What it means to leave out a rule that comes before others.
fn inserted(table: &str, verb: &str, rest: &[String]) -> Fate {
    let target = rest
        .iter()
        .skip_while(|word| !["-j", "--jump"].contains(&word.as_str()))
        .nth(1);
    let lets_in = target.is_some_and(|target| LETS_IN.contains(&target.as_str()));
    let chain = rest.first().map(String::as_str);
    match (table, chain) {
        (_, Some("INPUT" | "OUTPUT")) => Fate::Host,
        ("nat", _) => Fate::Missing,
        _ if lets_in && !["-R", "--replace", "-D", "--delete"].contains(&verb) => Fate::Missing,
        _ => Fate::Wider,
    }
}

/// A word as the reader takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '\\';
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        if ['"', '\\'].contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Rules as `iptables-save` would write them, each at its own line.
pub(in crate::import) fn saved(chains: &Chains) -> Vec<String> {
    let text = |((table, v6), lines): (&(String, bool), &Lines)| {
        let mut text = format!("*{table}\n");
        let mut at = 2;
        for (number, line) in &lines.said {
            while at < *number {
                text.push('\n');
                at += 1;
            }
            text.push_str(line);
            text.push('\n');
            at += 1;
        }
        let program = if *v6 { "ip6tables" } else { "iptables" };
        text.push_str(&format!("COMMIT\n# Generated by {program}\n"));
        text
    };
    let written = chains.iter().filter(|(_, lines)| !lines.said.is_empty());
    written.map(text).collect()
}
