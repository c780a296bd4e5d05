//! The files that are read.

use std::fs;
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
    let size = fs::metadata(path).map_or(0, |file| file.len());
    if size > MAX_SIZE {
        return Err(refuse(format!(
            "the file is larger than {} MiB",
            MAX_SIZE >> 20
        )));
    }
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(refuse(format!(
            "it cannot be read: {error}; name a readable file"
        ))),
    }
}
