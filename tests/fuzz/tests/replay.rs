//! Replays every input of `corpus` and of `artifacts`, where the fuzzers leave what made them fail:
//! what was found once stays mended. `TAPGATE_FUZZ=seeds` first writes the inputs to begin with to
//! `corpus`; `tests/fuzz/run.sh` makes a corpus smaller.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tapgate_fuzz::{TARGETS, seeds};

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target)
}

/// The files of a folder, in order; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

// The only test, since descriptors that others open would look like some that stayed open.
#[test]
fn the_corpora_hold() {
    if std::env::var("TAPGATE_FUZZ").is_ok_and(|mode| mode == "seeds") {
        write_seeds();
    }
    assert_small();
    let mut failed = Vec::new();
    for (target, run) in TARGETS {
        let inputs = files(&folder("corpus", target));
        assert!(!inputs.is_empty(), "there is no corpus of {target}");
        for path in inputs
            .into_iter()
            .chain(files(&folder("artifacts", target)))
        {
            let input = fs::read(&path).expect("an input");
            if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                failed.push(format!("{target} {}", path.display()));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "what failed is said above:\n{}",
        failed.join("\n")
    );
}

/// Above this, an input says little that another does not.
fn assert_small() {
    let all = TARGETS
        .map(|(target, _)| files(&folder("corpus", target)))
        .concat();
    let bytes: u64 = all
        .iter()
        .map(|path| path.metadata().map_or(0, |of| of.len()))
        .sum();
    assert!(bytes < 1 << 20, "{bytes} bytes in {} files", all.len());
}

fn write_seeds() {
    for (target, seeds) in [
        ("control", seeds::control()),
        ("file", seeds::files()),
        ("frames", seeds::frames()),
        ("sessions", seeds::sessions()),
    ] {
        let folder = folder("corpus", target);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, input) in seeds {
            fs::write(folder.join(name), input).expect("to write a seed");
        }
    }
}
