//! How a command fails: the exit code and what to print.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    message: String,
}

/// An exit code; `tapgate --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Something did not work.
    Failed = 1,
    /// The configuration is refused.
    Refused = 2,
    /// There is no tapgate to talk to.
    NotRunning = 3,
    /// The user may not.
    Permission = 4,
}

impl Failure {
    /// Something did not work.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with(Code::Failed, message)
    }

    /// Fails with `code`.
    pub fn with(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Everything there is to say has been said.
    pub fn silent(code: Code) -> Self {
        Self::with(code, "")
    }

    /// The exit code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Prints the message, and gives the code.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("tapgate: {}", self.message);
        }
        ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
