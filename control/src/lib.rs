//! The command line and the control process of tapgate; `main.rs` only calls [`main`]. What reads
//! a configuration file is open to the fuzzer too.

mod assignments;
mod block_log;
mod check;
mod cli;
mod client;
mod config;
mod connect;
mod dataplane;
mod descriptors;
mod diagnostics;
mod document;
mod event;
mod explain;
mod failure;
mod health;
mod heartbeat;
mod import;
mod launcher;
mod output;
mod privileges;
mod reader;
mod remarks;
mod run;
mod runtime_dir;
mod server;
mod show;
mod silence;
mod source;
mod status;
mod summary;
mod supervisor;
mod syntax;
mod toml_text;
mod user_data;
mod watch;
mod whois;
mod written;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
pub use diagnostics::{Diagnostic, for_people, for_programs};
use failure::Failure;
pub use source::check_text;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let Cli {
        runtime_dir,
        command,
    } = Cli::parse();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let done = match command {
        Command::Run {
            file,
            dataplane,
            user,
        } => run::run(&file, &runtime_dir, dataplane, &user, colour),
        Command::Launcher => launcher::serve().map_err(Failure::new),
        Command::Check { file, json } => check::check(&file, json, colour),
        Command::Apply { file, json } => client::apply(&file, &runtime_dir, json, colour),
        Command::Show(what) => match what.what.rows() {
            Some(rows) => show::show(&runtime_dir, rows, &what),
            None => config::show(&runtime_dir, &what, colour),
        },
        Command::Explain(question) if question.watch => watch::watch(&runtime_dir, &question),
        Command::Explain(question) => explain::explain(&runtime_dir, &question, colour),
        Command::Whois(question) => whois::whois(&runtime_dir, &question, colour),
        Command::Status { json } => status::status(&runtime_dir, json),
        Command::Stop => client::stop(&runtime_dir),
        Command::Import(what) => import::import(&what),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
