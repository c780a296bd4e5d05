//! What `tapgate import` makes of other firewalls' rules. Each line of `tests/import/cases` is a name, the
//! exit code and the arguments; standard output is exactly `NAME.toml`, which `tapgate check` takes, and
//! standard error `NAME.stderr`. `UPDATE=1 cargo test -p tapgate --test import` writes both anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A line of `cases`.
struct Case {
    name: String,
    code: i32,
    arguments: Vec<String>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(directory().join("cases")).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<Case> = lines
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Case {
                name: words.next().unwrap(),
                code: words.next().unwrap().parse().unwrap(),
                arguments: words.collect(),
            }
        })
        .collect();
    assert!(cases.len() > 5);
    cases
}

fn tapgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .args(arguments)
        .current_dir(directory())
        .output()
        .unwrap()
}

fn import(case: &Case, more: &[&str]) -> Output {
    let words = case.arguments.iter().map(String::as_str);
    let arguments: Vec<&str> = std::iter::once("import")
        .chain(words)
        .chain(more.iter().copied())
        .collect();
    tapgate(&arguments)
}

#[test]
fn each_is_written_as_it_should_be() {
    for case in cases() {
        let output = import(&case, &[]);
        let got = [("toml", output.stdout), ("stderr", output.stderr)];
        for (end, got) in got {
            let got = String::from_utf8(got).unwrap();
            let file = directory().join(format!("{}.{end}", case.name));
            if std::env::var_os("UPDATE").is_some() {
                match got.is_empty() {
                    true => drop(fs::remove_file(&file)),
                    false => fs::write(&file, &got).unwrap(),
                }
            }
            let expected = fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(
                got,
                expected,
                "{}: if it is right, run again with UPDATE=1",
                file.display()
            );
        }
        assert_eq!(output.status.code(), Some(case.code), "{}", case.name);
    }
}

/// What netplan says, and what its own `netplan generate` makes of that for networkd.
#[test]
fn netplan_and_what_it_generates_say_the_same() {
    let lines = |name: &str| {
        let text = fs::read_to_string(directory().join(name)).unwrap();
        let entries = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'));
        let mut entries: Vec<String> = entries.map(str::to_owned).collect();
        entries.sort();
        entries
    };
    let netplan = lines("netplan.toml");
    assert!(netplan.len() > 30);
    assert_eq!(netplan, lines("networkd-of-netplan.toml"));
}

#[test]
fn what_is_written_is_taken() {
    for case in cases().iter().filter(|case| case.code < 2) {
        let output = tapgate(&["check", &format!("{}.toml", case.name)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", case.name);
    }
}

/// Programs are told of every line that has no entry, and people of those that are missing.
#[test]
fn the_list_for_programs_is_that_for_people() {
    for case in cases().iter().filter(|case| case.code < 2) {
        let file = std::env::temp_dir().join(format!(
            "tapgate-import-{}-{}",
            std::process::id(),
            case.name
        ));
        let output = import(case, &["--json", "-o", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(case.code), "{}", case.name);
        let written = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let expected = fs::read_to_string(directory().join(format!("{}.toml", case.name))).unwrap();
        assert_eq!(written, expected, "{}", case.name);
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = list.as_array().unwrap();
        let people = import(case, &[]).stderr;
        let people = String::from_utf8(people).unwrap();
        let mut missing = 0;
        for entry in list {
            let place = entry["place"].as_str().unwrap();
            let why = entry["why"].as_str().unwrap();
            assert!(written.contains(place) && written.contains(why), "{entry}");
            if ["missing", "wider"].contains(&entry["fate"].as_str().unwrap()) {
                missing += 1;
                assert!(
                    people
                        .lines()
                        .any(|line| line.starts_with(place) && line.contains(why)),
                    "{entry}"
                );
            }
        }
        assert_eq!(missing > 0, case.code == 1, "{}", case.name);
    }
}
