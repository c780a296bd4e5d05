//! The same of systems' own setup.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Copies a directory of inputs, with the files that `change` changes.
fn copied(name: &str, to: &Path, mut change: impl FnMut(&str, String) -> String) {
    fs::create_dir_all(to).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(name);
    for file in fs::read_dir(from).unwrap().flatten() {
        if file.path().is_file() {
            let name = file.file_name().into_string().unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            fs::write(to.join(&name), change(&name, text)).unwrap();
        }
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tapgate-import-{name}-{}", std::process::id()))
}

#[test]
fn whatever_the_kernel_says_is_written_or_refused() {
    let mut numbers = Numbers(5);
    let (to, mut written, mut taken) = (scratch("kernel"), 0, 0);
    for name in ["kernel/hard", "kernel/ovh-ipv6", "kernel/bridged"] {
        for round in 0..40 {
            let mut place = 0;
            copied(name, &to, |file, text| match file.strip_suffix(".json") {
                // One at a time; text that is still JSON comes further.
                _ if {
                    place += 1;
                    place % 9 != round % 9
                } =>
                {
                    text
                }
                Some(_) if round % 4 > 0 => {
                    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
                    (0..3).for_each(|_| shake(&mut json, &mut numbers));
                    json.to_string()
                }
                _ => mutated(&text, &mut numbers),
            });
            let result = set_up(kernel::read(&to));
            written += usize::from(result.is_some());
            taken += usize::from(result == Some(true));
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(
        written > 60 && taken * 2 > written,
        "{taken} of {written} would be taken"
    );
}

#[test]
fn whatever_interfaces_say_is_written_or_refused() {
    let mut numbers = Numbers(6);
    let (to, mut written) = (scratch("interfaces"), 0);
    fs::create_dir_all(&to).unwrap();
    let text = format!("{}{}", input("interfaces"), input("interfaces.d/lan"));
    for _ in 0..150 {
        fs::write(to.join("interfaces"), mutated(&text, &mut numbers)).unwrap();
        written += usize::from(set_up(interfaces::read(&to.join("interfaces"))).is_some());
    }
    fs::remove_dir_all(&to).unwrap();
    assert!(written > 120, "{written}");
}

#[test]
fn whatever_netplan_says_is_written_or_refused() {
    let mut numbers = Numbers(7);
    let mut written = 0;
    let text = input("netplan/10-base.yaml");
    for _ in 0..150 {
        let files = [("a.yaml".to_owned(), mutated(&text, &mut numbers))];
        written += usize::from(set_up(netplan::read(&files)).is_some());
    }
    assert!(written > 40, "{written}");
}

#[test]
fn whatever_networkd_says_is_written_or_refused() {
    let mut numbers = Numbers(8);
    let (to, mut written) = (scratch("networkd"), 0);
    for name in ["networkd", "networkd-of-netplan"] {
        for _ in 0..60 {
            copied(name, &to, |_, text| mutated(&text, &mut numbers));
            written += usize::from(set_up(networkd::read(&to)).is_some());
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(written > 80, "{written}");
}
