//! Every way a file can be wrong, and what is said about it: `tests/diagnostics/NAME.toml` is
//! refused with exactly `NAME.stderr`. `UPDATE=1 cargo test -p tapgate --test diagnostics` writes
//! the latter anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

fn check(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .arg("check")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

#[test]
fn wrong_files_are_refused_with_place_and_remedy() {
    let directory = directory();
    for name in files(&directory) {
        let output = check(&directory, &[&name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(output.stdout.is_empty(), "{name}");
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = directory.join(&name).with_extension("stderr");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(
            said, expected,
            "{name}: if it is right, run again with UPDATE=1"
        );
    }
}

#[test]
fn programs_are_told_the_same_places() {
    let directory = directory();
    for name in files(&directory) {
        let output = check(&directory, &["--json", &name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(output.stderr.is_empty(), "{name}");
        let faults: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let faults = faults.as_array().unwrap();
        let people = String::from_utf8(check(&directory, &[&name]).stderr).unwrap();
        assert_eq!(
            people.matches("\nerror: ").count() + 1,
            faults.len(),
            "{name}"
        );
        for fault in faults {
            assert_eq!(fault["file"], *name);
            let problem = fault["problem"].as_str().unwrap();
            assert!(people.contains(&format!("error: {problem}\n")), "{fault}");
            assert!(people.contains(&format!("help: {}\n", fault["remedy"].as_str().unwrap())));
            if fault["line"] != 0 {
                let place = format!("--> {name}:{}:{}\n", fault["line"], fault["column"]);
                assert!(people.contains(&place), "{fault}");
            }
        }
    }
}

#[test]
fn the_examples_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in files(&examples) {
        let output = check(&examples, &[&name]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(&format!("{name}: ok (")), "{said}");
        assert_eq!(check(&examples, &["--json", &name]).stdout, b"[]\n");
    }
    let recipe = fs::read_to_string(examples.join("multi-mac.toml")).unwrap();
    assert!(recipe.lines().count() <= 40, "the recipe has grown");
}

#[test]
fn what_is_no_file_is_refused_too() {
    let directory = std::env::temp_dir().join(format!("tapgate-check-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    File::create(directory.join("huge"))
        .unwrap()
        .set_len(65 << 20)
        .unwrap();
    fs::write(
        directory.join("deep"),
        format!("a = {}", "[".repeat(100_000)),
    )
    .unwrap();
    fs::write(directory.join("zeros"), [0; 100]).unwrap();
    for (name, what) in [
        ("missing", "there is no such file"),
        ("directory", "this is a directory"),
        ("huge", "larger than 64 MiB"),
        ("deep", "nested too deeply"),
        ("zeros", "not TOML"),
        ("/dev/null", "nothing in the file"),
        ("/dev/zero", "larger than 64 MiB"),
    ] {
        let output = check(&directory, &[name]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(what), "{name}: {said}");
    }
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn many_faults_in_a_large_file_take_no_longer_than_they_must() {
    let directory = std::env::temp_dir().join(format!("tapgate-large-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let mut text = String::from("[ports]\nuplink = { device = \"eth0\" }\n[personalities]\n");
    for n in 0..20_000 {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256);
        let address = format!("10.{}.{}.{}", n / 65_536, n / 256 % 256, n % 256);
        // Every hundredth lacks its port's letter.
        let port = if n % 100 == 0 { "uplnk" } else { "uplink" };
        text += &format!(
            "P{n} = {{ port = \"{port}\", mac = \"{mac}\", addresses = [\"{address}/32\"] }}\n"
        );
    }
    fs::write(directory.join("large.toml"), text).unwrap();
    let begun = std::time::Instant::now();
    let output = check(&directory, &["large.toml"]);
    let took = begun.elapsed();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("… and 150 more faults"), "{said}");
    assert!(said.contains("refused, 200 faults"), "{said}");
    assert!(took.as_secs() < 20, "{took:?}");
    fs::remove_dir_all(&directory).unwrap();
}
