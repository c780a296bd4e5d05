//! The files that are read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::failure::{Code, Failure};

/// Largest file that is read, in bytes.
const MAX_SIZE: u64 = 64 << 20;

/// Files with their names.
///
/// # Errors
/// One cannot be read.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    paths
        .iter()
        .map(|path| Ok((path.display().to_string(), text(path)?)))
        .collect()
}

/// A file's text; what is not UTF-8 in it shows as that.
///
/// # Errors
/// It cannot be read.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let refuse = |why: String| Failure::with(Code::Refused, format!("{}: {why}", path.display()));
    let mut bytes = Vec::new();
    // A device or a pipe does not tell its size.
    let read = File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > MAX_SIZE => Err(refuse(format!(
            "it is larger than {} MiB; name a smaller file",
            MAX_SIZE >> 20
        ))),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(refuse(format!(
            "it cannot be read: {error}; name a readable file"
        ))),
    }
}
