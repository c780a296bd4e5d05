//! `docs/requirements.md` is the catalogue of the codes in code and tests: none stands anywhere that
//! it does not have, and its table of tests is what the tree says. Everything is found by walking
//! the tree, so that files may move.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CATALOGUE: &str = "docs/requirements.md";
const BEGIN: &str = "<!-- tests: begin -->\n";
const END: &str = "<!-- tests: end -->";
const UPDATE: &str = "TAPGATE_REQUIREMENTS=update cargo test -p tapgate-tests --test requirements";
/// The sections of the catalogue.
const LETTERS: &str = "FGSANMTDPXH";

/// Tests by code; each with the package that it is in.
type Tests = BTreeMap<String, BTreeSet<(String, String)>>;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every folder of the project, and every file that is text, by its path from the top.
fn tree() -> (Vec<PathBuf>, Vec<(String, String)>) {
    let (mut folders, mut files) = (vec![PathBuf::new()], Vec::new());
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(top().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if ![".git", ".lab", "artifacts", "corpus", "target"]
                    .map(Into::into)
                    .contains(&entry.file_name())
                {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                files.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    files.sort();
    (folders, files)
}

/// Whether `word` is a code, be it in the catalogue or not.
fn is_code(word: &str) -> bool {
    let mut chars = word.chars();
    word.len() == 3
        && chars.next().is_some_and(|letter| LETTERS.contains(letter))
        && chars.all(|digit| digit.is_ascii_digit())
}

/// The codes that a text names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| is_code(word))
}

/// The codes that the name of a test or golden case begins with.
fn leading(name: &str) -> impl Iterator<Item = String> {
    name.split('_')
        .map(str::to_uppercase)
        .take_while(|word| is_code(word) && name.contains('_'))
}

/// The package that a path is in: the nearest folder above it that has a `Cargo.toml`.
fn package<'a>(path: &'a str, files: &[(String, String)]) -> &'a str {
    let is_package = |folder: &str| {
        let manifest = format!("{folder}/Cargo.toml");
        files
            .binary_search_by(|(path, _)| path.as_str().cmp(&manifest))
            .is_ok()
    };
    let mut folders = path.match_indices('/').rev().map(|(end, _)| &path[..end]);
    folders.find(|folder| is_package(folder)).unwrap_or(path)
}

/// The tests of a file: names, and the lines of each with the comments before it.
fn tests(text: &str) -> Vec<(&str, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut tests = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if line.trim() != "#[test]" {
            continue;
        }
        let before = lines[..number].iter().rev();
        let comments = before
            .take_while(|line| line.trim().starts_with("//"))
            .count();
        // As rustfmt sets it: the end is the first brace as far to the left.
        let end = format!("{}}}", &line[..line.len() - "#[test]".len()]);
        let length = lines[number..].iter().position(|line| *line == end);
        let lines = &lines[number - comments..number + length.unwrap_or(2)];
        let name = lines
            .iter()
            .find_map(|line| line.trim().strip_prefix("fn "));
        let name = name.and_then(|name| name.split('(').next());
        tests.push((name.expect("a function after #[test]"), lines.join("\n")));
    }
    tests
}

/// Who names which code.
fn collect(folders: &[PathBuf], files: &[(String, String)]) -> Tests {
    let mut found = Tests::new();
    let mut note = |code: String, path: &str, name: &str| {
        let entry = (package(path, files).to_owned(), name.to_owned());
        found.entry(code).or_default().insert(entry);
    };
    for (path, text) in files {
        if path.ends_with(".rs") {
            for (name, lines) in tests(text) {
                let codes = leading(name).chain(named(&lines).map(str::to_owned));
                codes.for_each(|code| note(code, path, name));
            }
        } else if path.ends_with(".sh") {
            let name = path.rsplit('/').next().unwrap();
            named(text).for_each(|code| note(code.to_owned(), path, name));
        }
    }
    for folder in folders {
        let path = folder.to_string_lossy();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        leading(&name).for_each(|code| note(code, &path, &name));
    }
    found
}

/// The codes of the catalogue, in its order.
fn catalogue(text: &str) -> Vec<&str> {
    let (text, _) = text.split_once(BEGIN).expect(BEGIN);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let first = rows.filter_map(|row| row.split(' ').next());
    first.filter(|code| is_code(code)).collect()
}

fn table(codes: &[&str], tests: &Tests) -> String {
    let mut table = "\n| Code | Tests |\n|---|---|\n".to_owned();
    for code in codes {
        let mut by_package = BTreeMap::<&str, Vec<String>>::new();
        for (package, name) in tests.get(*code).into_iter().flatten() {
            by_package
                .entry(package)
                .or_default()
                .push(format!("`{name}`"));
        }
        let tests = by_package
            .iter()
            .map(|(package, names)| format!("{package}: {}", names.join(", ")));
        let tests: Vec<_> = tests.collect();
        let tests = if tests.is_empty() {
            "none yet".to_owned()
        } else {
            tests.join("; ")
        };
        table += &format!("| {code} | {tests} |\n");
    }
    table + "\n"
}

#[test]
fn every_code_is_in_the_catalogue() {
    let (folders, files) = tree();
    let (_, text) = files.iter().find(|(path, _)| path == CATALOGUE).unwrap();
    let codes = catalogue(text);
    let unique: BTreeSet<_> = codes.iter().collect();
    assert_eq!(
        unique.len(),
        codes.len(),
        "{CATALOGUE}: a code has two rows: {codes:?}"
    );
    let mut faults = String::new();
    for (path, text) in &files {
        for (number, line) in (1..).zip(text.lines()) {
            let function = line.trim().strip_prefix("fn ").unwrap_or_default();
            let names = leading(function).chain(named(line).map(str::to_owned));
            for code in names.filter(|code| !unique.contains(&code.as_str())) {
                faults += &format!("{path}:{number}: {code} is not in {CATALOGUE}\n");
            }
        }
    }
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        for code in leading(&name).filter(|code| !unique.contains(&code.as_str())) {
            faults += &format!("{}: {code} is not in {CATALOGUE}\n", folder.display());
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_table_of_tests_is_what_the_tree_says() {
    let (folders, files) = tree();
    let (_, text) = files.iter().find(|(path, _)| path == CATALOGUE).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect(BEGIN);
    let (committed, after) = rest.split_once(END).expect(END);
    let table = table(&catalogue(text), &collect(&folders, &files));
    if std::env::var("TAPGATE_REQUIREMENTS").is_ok_and(|what| what == "update") {
        let text = [before, BEGIN, &table, END, after].concat();
        fs::write(top().join(CATALOGUE), text).unwrap();
        return;
    }
    let mut lines = committed.lines().zip(table.lines());
    let (old, new) = lines
        .find(|(old, new)| old != new)
        .unwrap_or(("", "fewer or more rows"));
    assert!(
        committed == table,
        "{CATALOGUE} is out of date; to make its table anew, run:\n  {UPDATE}\nthe first difference:\n- {old}\n+ {new}"
    );
}

#[test]
fn codes_are_read_from_names_and_comments() {
    let code = |letter: char, number| format!("{letter}{number:02}");
    let (a, b) = (code('T', 3), code('X', 1));
    assert_eq!(
        named(&format!("0{a} ({a}, x{b} {b}: {a}_")).collect::<Vec<_>>(),
        [&a, &b]
    );
    let name = format!(
        "{}_{}_that_{}_is",
        a.to_lowercase(),
        b.to_lowercase(),
        a.to_lowercase()
    );
    assert_eq!(leading(&name).collect::<Vec<_>>(), [a.clone(), b.clone()]);
    let text =
        format!("    /// {a}\n    #[test]\n    fn it() {{\n        // {b}\n    }}\n    // {a}\n");
    let found = tests(&text);
    assert_eq!((found.len(), found[0].0), (1, "it"));
    assert_eq!(named(&found[0].1).collect::<Vec<_>>(), [&a, &b]);
    let files = ["a/Cargo.toml", "a/b/Cargo.toml", "a/b/c/d.rs"]
        .map(|path| (path.to_owned(), String::new()));
    assert_eq!(
        (package("a/b/c/d.rs", &files), package("a/x/d.rs", &files)),
        ("a/b", "a")
    );
}
