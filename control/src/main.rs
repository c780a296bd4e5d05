//! The command line and the control process of tapgate.

mod cli;
mod client;
mod connect;
mod dataplane;
mod diagnostics;
mod document;
mod explain;
mod failure;
mod privileges;
mod reader;
mod run;
mod runtime_dir;
mod server;
mod show;
mod source;
mod status;
mod supervisor;
mod syntax;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tapgate_engine::config::{Config, InterfaceKind, PortKind};

use cli::{Cli, Command};
use failure::{Code, Failure};

fn main() -> ExitCode {
    let Cli {
        runtime_dir,
        command,
    } = Cli::parse();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let done = match command {
        Command::Run { file, dataplane } => run::run(&file, &runtime_dir, dataplane, colour),
        Command::Check { file, json } => check(&file, json, colour),
        Command::Apply { file, json } => client::apply(&file, &runtime_dir, json, colour),
        Command::Show { what, json, all } => show::show(&runtime_dir, what.into(), json, all),
        Command::Explain(question) => explain::explain(&runtime_dir, &question, colour),
        Command::Status { json } => status::status(&runtime_dir, json),
        Command::Stop => client::stop(&runtime_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// `tapgate check`.
fn check(file: &Path, json: bool, colour: bool) -> Result<(), Failure> {
    let config = match source::load(file) {
        Ok((config, _)) => config,
        Err(refusal) => return Err(refuse(&refusal, json, colour)),
    };
    if json {
        return print("[]\n");
    }
    for note in notes(&config) {
        eprintln!("note: {note}");
    }
    print(&format!("{}: ok ({})\n", file.display(), summary(&config)))
}

/// What is allowed but may not be meant.
fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, port) in config.ports().iter().enumerate() {
        if let PortKind::Device {
            device,
            create: None,
        } = &port.kind
            && !Path::new("/sys/class/net").join(device).exists()
        {
            notes.push(format!(
                "there is no device {device} here now; port \"{}\" would wait for it",
                port.name
            ));
        }
        let used = config.interfaces().iter().any(|i| match &i.kind {
            InterfaceKind::Personality { port, .. } => *port == index,
            InterfaceKind::Network { ports, .. } => ports.contains(&index),
        });
        if !used {
            notes.push(format!(
                "port \"{}\" is in no personality and no network: what comes in by it is dropped",
                port.name
            ));
        }
    }
    notes
}

/// Prints why a file is refused, for people or programs.
fn refuse(refusal: &source::Refusal, json: bool, colour: bool) -> Failure {
    if json {
        let _ = print(&format!("{}\n", refusal.for_programs()));
    } else {
        eprint!("{}", refusal.for_people(colour));
    }
    Failure::silent(Code::Refused)
}

/// What a configuration consists of, in one line.
fn summary(config: &Config) -> String {
    let personalities = config
        .interfaces()
        .iter()
        .filter(|i| i.kind.is_personality());
    let personalities = personalities.count();
    let count = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    [
        count(config.ports().len(), "port", "ports"),
        count(personalities, "personality", "personalities"),
        count(
            config.interfaces().len() - personalities,
            "network",
            "networks",
        ),
        // Beside the one that is always there.
        count(config.tables().len() - 1, "table", "tables"),
        count(config.rules().len() - 1, "rule", "rules"),
        count(config.snat().len(), "SNAT", "SNATs"),
    ]
    .join(", ")
}

/// Prints on standard output. A reader that has had enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
