//! Reading the files that hold guests' user data: what is in them travels with the configuration.

use std::fs::{self, File as OpenFile};
use std::io::{self, Read};
use std::path::Path;

use tapgate_engine::config::metadata::{LONGEST_USER_DATA, Secret};
use tapgate_engine::config::{ConfigError, File, Segment};

/// Puts what is in each guest's `user_data.file` into its `text`; relative names begin at `directory`.
/// Returns what is wrong with them. Without a directory nothing is read.
pub fn read(file: &mut File, directory: Option<&Path>) -> Vec<ConfigError> {
    let mut faults = Vec::new();
    for (name, guest) in &mut file.guests {
        let Some(data) = &mut guest.user_data else {
            continue;
        };
        let (Some(path), Some(directory)) = (&data.file, directory) else {
            continue;
        };
        let mut fault = |key: &str, problem: String, remedy: &str| {
            let at = ["guests", name, "user_data", key];
            faults.push(ConfigError {
                at: at.map(|key| Segment::Key(key.to_owned())).to_vec(),
                problem,
                remedy: remedy.to_owned(),
                other: None,
            });
        };
        if data.text.is_some() {
            let problem = format!("guest \"{name}\" has both a `file` and a `text`");
            fault("text", problem, "keep one of them");
            continue;
        }
        let text = contents(&directory.join(path)).unwrap_or_else(|(problem, remedy)| {
            fault("file", format!("\"{}\" {problem}", path.display()), remedy);
            String::new()
        });
        data.text = Some(Secret::from(text));
    }
    faults
}

/// The text of a file; one byte more than may be is enough to see that it is too long.
fn contents(path: &Path) -> Result<String, (String, &'static str)> {
    let read = || {
        // A pipe would keep whoever opens it waiting.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        let file = OpenFile::open(path)?;
        file.take(LONGEST_USER_DATA as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => (
            "is not there".to_owned(),
            "name an existing file; a relative name begins at the configuration file's directory",
        ),
        io::ErrorKind::PermissionDenied => (
            "may not be read".to_owned(),
            "make it readable for the user tapgate runs as, or use `tapgate apply` as a user who may read it",
        ),
        _ => (
            format!("cannot be read: {error}"),
            "check the file and the file system it is on",
        ),
    })?;
    if bytes.len() > LONGEST_USER_DATA {
        return Err((
            format!("is longer than {LONGEST_USER_DATA} bytes"),
            "shorten it, as on EC2: `#include` has cloud-init fetch the rest",
        ));
    }
    String::from_utf8(bytes).map_err(|_| {
        (
            "is not text in UTF-8".to_owned(),
            "write it as text: cloud-init takes base64 in a MIME message for the rest",
        )
    })
}
