//! A house with floors: who may import from whom, read from the source.
//!
//! A folder of the engine is a floor, and imports go down only. In every crate no two files import
//! from each other, however long the way round. A parent that only shows what its children define
//! (`mod child; pub use child::Thing;`) does not import from them.

mod faults;
mod graph;
mod rules;
mod source;

use std::path::Path;

use graph::Graph;
use rules::{circles, strayed_methods, upward};

/// The engine's floors, the highest first.
const FLOORS: [&str; 8] = [
    "run", "speak", "path", "state", "model", "config", "wire", "base",
];

fn graph(folder: &str, root: &str) -> Graph {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let graph = Graph::of(&source::files(&workspace.join(folder)), root);
    assert!(
        graph.imports.len() > 1,
        "{folder}: who imports what was not read"
    );
    graph
}

fn assert_none(folder: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{folder}:\n{}", faults.join("\n"));
}

#[test]
fn the_engine_is_a_house_with_floors() {
    let folder = "dataplane/engine/src";
    let graph = graph(folder, "lib.rs");
    let faults = [
        upward(&graph, &FLOORS),
        circles(&graph, &FLOORS),
        strayed_methods(&graph),
    ];
    assert_none(folder, faults.concat());
}

#[test]
fn control_has_no_circle() {
    assert_none("control/src", circles(&graph("control/src", "lib.rs"), &[]));
}

#[test]
fn the_protocol_has_no_circle() {
    let folder = "control/protocol/src";
    assert_none(folder, circles(&graph(folder, "lib.rs"), &[]));
}

#[test]
fn the_dataplane_has_no_circle() {
    assert_none(
        "dataplane/src",
        circles(&graph("dataplane/src", "lib.rs"), &[]),
    );
}
