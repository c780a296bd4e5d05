//! `tapgate show config`: what is configured, as it was written or spelled out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tapgate_engine::config::{Config, File};
use tapgate_protocol::{CONTROL_SOCKET, Configuration, Request, Response};
use toml::{Table, Value};

use crate::cli::ShowWhat;
use crate::connect::{connect, failure};
use crate::failure::Failure;
use crate::output::print;
use crate::remarks::{Remark, remarks};
use crate::{source, written};

/// How long control may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is said before a file whose text nobody has.
const NO_TEXT: &str = "control does not have the text that this was read from: it was applied by an earlier tapgate, or is very large";

/// Prints what control runs with, or a file.
///
/// # Errors
/// Control does not answer, or the file is refused.
pub fn show(directory: &Path, what: &ShowWhat, colour: bool) -> Result<(), Failure> {
    let (config, text) = match &what.config {
        Some(file) => {
            let (config, source) =
                source::load(file).map_err(|refusal| refusal.report(what.json, colour))?;
            (Arc::new(config), Some(source.text().to_owned()))
        }
        None => running(directory)?,
    };
    let (file, implicit) = match what.expanded {
        true => (spelled(&config.expanded())?, remarks(&config)),
        false => (table(config.file())?, Vec::new()),
    };
    if what.json {
        #[derive(Serialize)]
        struct Shown {
            text: Option<String>,
            config: Table,
            implicit: Vec<Remark>,
        }
        let shown = Shown {
            text,
            config: file,
            implicit,
        };
        let json = serde_json::to_string_pretty(&shown).unwrap_or_default();
        return print(&format!("{json}\n"));
    }
    match text.filter(|_| !what.expanded) {
        Some(text) => print(&text),
        None if what.expanded => print(&written::written(&file, &implicit)),
        None => print(&written::written(&file, &[Remark::of_all(NO_TEXT)])),
    }
}

fn running(directory: &Path) -> Result<(Arc<Config>, Option<String>), Failure> {
    let socket = directory.join(CONTROL_SOCKET);
    let failure = |error| failure(&error, "tapgate", &socket);
    let mut peer = connect(&socket, PATIENCE).map_err(failure)?;
    if !peer.channel.speaks(4) {
        return Err(Failure::new(
            "the running tapgate is of an earlier version, which does not tell: start control anew",
        ));
    }
    match peer.channel.ask(&Request::Config).map_err(failure)? {
        Response::Config(Configuration { config, text }) => Ok((config, text)),
        Response::Failed { message } => Err(Failure::new(message)),
        other => Err(Failure::new(format!("tapgate answered {other:?}"))),
    }
}

fn table(file: &File) -> Result<Table, Failure> {
    Table::try_from(file).map_err(unwritable)
}

fn unwritable(error: toml::ser::Error) -> Failure {
    Failure::new(format!("the configuration cannot be written: {error}"))
}

/// The file with what is left out where it is the default, and has a name.
fn spelled(file: &File) -> Result<Table, Failure> {
    let mut all = table(file)?;
    let snat = all.get_mut("nat").and_then(|nat| nat.get_mut("snat"));
    let snat = snat.and_then(Value::as_array_mut).into_iter().flatten();
    for (entry, written) in snat.zip(&file.nat.snat) {
        if let Some(entry) = entry.as_table_mut() {
            put(entry, "mapping", &written.mapping)?;
            put(entry, "filtering", &written.filtering)?;
        }
    }
    let policy = all.entry("policy").or_insert_with(|| Table::new().into());
    if let Some(policy) = policy.as_table_mut() {
        put(policy, "on_stop", &file.policy.on_stop)?;
    }
    Ok(all)
}

fn put(table: &mut Table, key: &str, value: &impl Serialize) -> Result<(), Failure> {
    let value = Value::try_from(value).map_err(unwritable)?;
    table.insert(key.to_owned(), value);
    Ok(())
}
