//! What a command prints for others to read.

use std::io::{ErrorKind, Write};

use crate::failure::Failure;

/// Prints on standard output. A reader that has had enough (`| head`) is no failure.
///
/// # Errors
/// It cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
