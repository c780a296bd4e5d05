//! The program `tapgate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tapgate::main()
}
