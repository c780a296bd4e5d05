//! From a [`Document`] to a [`File`], with every wrong key and value found in one go.
//!
//! serde stops at the first fault. So the document is read again and again, each time without
//! what was found wrong before, until nothing is wrong any more.

mod fault;
mod node;

use serde::Deserialize;
use tapgate_engine::config::{File, Segment};

use crate::document::Document;
pub use fault::{Fault, FaultKind};
use node::Skipped;

/// Most faults that are looked for.
const MOST: usize = 100;

/// Reads the whole document.
///
/// # Errors
/// Every key and value that is of the wrong kind, at most 100, in the order of the document.
pub fn read(document: &Document<'_>) -> Result<File, Vec<Fault>> {
    let mut skipped = Skipped::new();
    let mut faults = Vec::new();
    loop {
        let fault = match File::deserialize(node::Table::new(document.root(), &skipped)) {
            Ok(file) if faults.is_empty() => return Ok(file),
            Ok(_) => break,
            Err(fault) => fault,
        };
        let Some(wrong) = document.entry(&fault.at) else {
            faults.push(fault);
            break;
        };
        let known = skipped.contains(&std::ptr::from_ref(wrong.value));
        // A key missing from a table that lost one is a consequence, not a fault of its own.
        let consequence = matches!(fault.kind, FaultKind::MissingKey { .. })
            && wrong.value.get_ref().as_table().is_some_and(|table| {
                table
                    .values()
                    .any(|value| skipped.contains(&std::ptr::from_ref(value)))
            });
        skipped.insert(std::ptr::from_ref(wrong.value));
        if !consequence {
            faults.push(fault);
        }
        if known || faults.len() >= MOST {
            break;
        }
    }
    faults.sort_by_key(|fault| place(document, &fault.at));
    Err(faults)
}

fn place(document: &Document<'_>, at: &[Segment]) -> usize {
    document.span(at).map_or(0, |span| span.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let document = Document::parse(text).unwrap();
        let faults = read(&document).unwrap_err();
        faults
            .iter()
            .map(|fault| {
                let span = document.span(&fault.at);
                let (problem, remedy) = fault.explain(span.map_or("", |span| &text[span]));
                format!("{problem}; {remedy}")
            })
            .collect()
    }

    #[test]
    fn all_faults_are_found_in_one_go_and_in_order() {
        let found = faults(
            r#"
            [ports]
            uplink = { devise = "eth0", mtu = "big" }
            [personalities]
            A = { port = 5, mac = "02:00", addresses = "203.0.113.10/32", gatewy = "x" }
            [tables]
            t = [{ to = "nowhere" }, { dev = "A" }, { to = "default", type = "blakhole" }]
            "#,
        );
        assert_eq!(found.len(), 9, "{found:#?}");
        assert!(found[0].starts_with("unknown key \"devise\"; did you mean \"device\"?"));
        assert!(
            found[3].starts_with("\"02:00\" is not a MAC address; write six"),
            "{found:#?}"
        );
    }

    #[test]
    fn a_key_missing_from_a_faulty_table_is_not_reported_twice() {
        let found = faults("[networks]\na = { port = [\"x\"], addresses = [] }");
        assert_eq!(found.len(), 1, "{found:#?}");
    }
}
