//! `netns-scripts/programs` names every program that scripts, the Makefile and tests call, and no
//! other: what is not in it is not installed on a new machine, and fails there only.

mod calls;
mod rust;
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use calls::Found;
use shell::scan;

const LIST: &str = "netns-scripts/programs";

/// Every file of the project that is text, with its path from the top.
fn files() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                if ![".git", ".lab", "artifacts", "corpus", "target"]
                    .map(Into::into)
                    .contains(&name)
                {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                files.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// A program of the list.
struct Listed<'a> {
    line: usize,
    package: &'a str,
    /// It is installed or unpacked by one command only.
    seldom: bool,
}

fn list(text: &str) -> BTreeMap<&str, Listed<'_>> {
    let mut programs = BTreeMap::new();
    for (line, entry) in (1..).zip(text.lines()) {
        if entry.starts_with('#') || entry.is_empty() {
            continue;
        }
        let wanted = "`PACKAGE: PROGRAM...` or `PACKAGE (TARGET): PROGRAM...` is wanted";
        let (head, names) = entry
            .split_once(':')
            .unwrap_or_else(|| panic!("{LIST}:{line}: {wanted}"));
        let (package, seldom) = match head.split_once(" (") {
            Some((package, _)) => (package, true),
            None => (head, false),
        };
        for name in names.split_whitespace() {
            let before = programs.insert(
                name,
                Listed {
                    line,
                    package,
                    seldom,
                },
            );
            assert!(before.is_none(), "{LIST}:{line}: {name} is there twice");
        }
    }
    programs
}

/// Which programs the project calls, and where.
fn called(files: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let (mut calls, mut functions) = (Vec::new(), BTreeSet::new());
    for (path, text) in files {
        let mut found = Found::default();
        let first = text.lines().next().unwrap_or_default();
        let interpreter = first.strip_prefix("#!").unwrap_or_default();
        scan(interpreter, 1, &mut found);
        if path.ends_with(".rs") {
            if let Some(line) = rust::scan_rust(text, &mut found).first() {
                panic!(
                    "{path}:{line}: write the command line as a literal, so that {LIST} can be checked"
                );
            }
        } else if path == "Makefile" {
            make(text, &mut found);
        } else if (path.ends_with(".sh") || interpreter.ends_with("sh"))
            && !interpreter.contains("busybox")
        {
            scan(text, 1, &mut found);
        }
        functions.extend(found.functions);
        calls.extend(found.calls.into_iter().map(|call| (path, call)));
    }
    let mut called = BTreeMap::<String, Vec<String>>::new();
    for (path, call) in calls {
        if call.by_path || !functions.contains(&call.program) {
            let places = called.entry(call.program).or_default();
            places.push(format!("{path}:{}", call.line));
        }
    }
    called
}

/// The recipes of a Makefile, and what its variables run.
fn make(text: &str, found: &mut Found) {
    let mut variables = BTreeMap::from([("MAKE".to_owned(), "make".to_owned())]);
    let text = text.replace("\\\n\t", "\\\n ");
    for (number, line) in (1..).zip(text.lines()) {
        if let Some((name, value)) = line.split_once(" = ").filter(|_| !line.starts_with('\t')) {
            variables.insert(name.to_owned(), value.to_owned());
        }
        let continued = line.starts_with("  ") || line.starts_with(" ");
        if let Some(recipe) = line.strip_prefix('\t').or(continued.then_some(line)) {
            let recipe = recipe.trim_start_matches(['@', '-', '+', ' ']);
            scan(&expand(recipe, &variables, found), number, found);
        } else {
            expand(line, &variables, found);
        }
    }
}

/// A line with make's variables replaced, and without its functions; what `$(shell)` runs is noted.
fn expand(line: &str, variables: &BTreeMap<String, String>, found: &mut Found) -> String {
    let Some((before, rest)) = line.split_once("$(") else {
        return line.replace("$$", "$");
    };
    if before.ends_with('$') {
        return before.replace("$$", "$") + "(" + &expand(rest, variables, found);
    }
    let mut depth = 0;
    let end = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth < 0
    });
    let (inner, after) = rest.split_at(end.unwrap_or(rest.len()));
    let value = match (inner.strip_prefix("shell "), variables.get(inner)) {
        (Some(command), _) => {
            scan(&command.replace("$$", "$"), 1, found);
            String::new()
        }
        (_, Some(value)) => expand(&value.clone(), variables, found),
        _ => {
            expand(inner, variables, found);
            String::new()
        }
    };
    let after = after.strip_prefix(')').unwrap_or_default();
    before.replace("$$", "$") + &value + &expand(after, variables, found)
}

#[test]
fn every_program_called_is_in_the_list_and_no_other() {
    let files = files();
    let (_, text) = files.iter().find(|(path, _)| path == LIST).unwrap();
    let (list, called) = (list(text), called(&files));
    let mut faults = String::new();
    for (program, places) in &called {
        if !list.contains_key(program.as_str()) {
            let places = places.join(", ");
            faults += &format!(
                "{program} is called at {places}: add it to {LIST}, by its Debian package\n"
            );
        }
    }
    for (program, listed) in &list {
        if !called.contains_key(*program) {
            faults += &format!(
                "{LIST}:{}: nothing calls {program}: remove it\n",
                listed.line
            );
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
#[ignore = "needs what packages.sh installs; run by make test"]
fn the_packages_hold_the_programs() {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/lib/systemd";
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(LIST)).unwrap();
    let missing: Vec<_> = list(&text)
        .into_iter()
        .filter(|(_, listed)| listed.package != "-" && !listed.seldom)
        .filter(|(program, _)| {
            !path
                .split(':')
                .any(|folder| Path::new(folder).join(program).exists())
        })
        .map(|(program, listed)| format!("{program} ({})", listed.package))
        .collect();
    assert!(
        missing.is_empty(),
        "packages.sh has run, and there is no {}",
        missing.join(", ")
    );
}

/// Calls wherever a shell has them, and words that look like calls and are none.
#[test]
fn calls_are_found_wherever_they_stand() {
    let script = r##"#!/bin/sh
a1 none; b2 && c3 | d4 & # none
x=$(e5 "$(f6)") y=1 env -u Z W=1 g7
array=(none $(h8)); for i in none $(i9); do ! j10; done
case $none in none | "none") k11 ;; *) l12 && m13; esac
[[ none =~ ^none([0-9]+)$ && -n ${x:-$(n14)} ]] || exec o15 >none 2>&1
((none > $(p16))) && timeout 5 ip -n none netns exec none q17
trap 'r18 "$x"' EXIT; sh -c 's19; t20' none
cat <<END
none $(u21)
END
function22() { while read -r none; do "${sudo[@]}" v23; done < <(w24 <<<none); }
command -v x25 >/dev/null || { /usr/sbin/y26; ./none; "$none" none; }
"##;
    let mut found = Found::default();
    scan(script, 1, &mut found);
    let calls: Vec<_> = found
        .calls
        .iter()
        .map(|call| call.program.as_str())
        .collect();
    for (number, letter) in (1..).zip('a'..='y').filter(|(number, _)| *number < 22) {
        assert!(
            calls.contains(&format!("{letter}{number}").as_str()),
            "{letter}{number}: {calls:?}"
        );
    }
    for call in ["v23", "w24", "x25", "y26"] {
        assert!(calls.contains(&call), "{call}: {calls:?}");
    }
    assert!(
        !calls
            .iter()
            .any(|call| call.contains("none") || call.contains("function")),
        "{calls:?}"
    );
    let y26 = found
        .calls
        .iter()
        .find(|call| call.program == "y26")
        .unwrap();
    assert_eq!((y26.line, y26.by_path), (13, true));

    let code = r##"
        Command::new("a1"); run(&format!("ip netns exec {ns} b2 none")); let line = "c3 | d4"; lab::shell(&line);
        run("e5 none | none"); eventually("none", 1, || attempt("f6").0); socket.listen("none");
    "##;
    let mut found = Found::default();
    assert!(rust::scan_rust(code, &mut found).is_empty());
    let calls: BTreeSet<_> = found
        .calls
        .iter()
        .map(|call| call.program.as_str())
        .collect();
    assert_eq!(calls, ["a1", "b2", "c3", "d4", "e5", "f6", "ip"].into());
}
