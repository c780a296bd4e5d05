//! Made-up crates, one for each fault, and one with none.

use crate::graph::Graph;
use crate::rules::{circles, strayed_methods, upward};
use crate::source::Files;

const FLOORS: [&str; 3] = ["attic", "hall", "cellar"];

/// A house without a fault, in which much is written that looks like one.
const GOOD: [(&str, &str); 9] = [
    (
        "lib.rs",
        "mod attic; mod hall; mod cellar; pub use attic::run; use cellar::Coal;
         fn all(_: Coal) { hall::door::open() }",
    ),
    (
        "attic.rs",
        "use crate::{cellar::{Coal, oven::{self, Oven}}, hall::door};
         pub fn run(coal: Coal) { door::open(); oven::heat(coal); let _: Option<Oven> = None; }
         #[cfg(test)] mod tests { use super::*; }",
    ),
    // Shows what is in it, and uses nothing of it.
    (
        "hall/mod.rs",
        "pub mod door; mod stairs; pub use stairs::Stairs;",
    ),
    (
        "hall/door.rs",
        "use super::Stairs; use crate::cellar::Coal;
         /// See [`crate::attic::run`].
         pub fn open() { let run = \"crate::attic::run\"; stairs(run, 'a') }
         pub(in crate::hall) fn stairs(_: &str, _: char) { Stairs::climb(&Stairs); }
         #[cfg(test)] use crate::attic;
         impl std::fmt::Display for Coal {}",
    ),
    (
        "hall/stairs.rs",
        "pub struct Stairs; impl Stairs { pub fn climb(&self) {} }",
    ),
    ("cellar/mod.rs", "pub mod oven; mod coal; pub use coal::*;"),
    (
        "cellar/coal.rs",
        "pub struct Coal { pub door: u8 }
         impl Coal { #[cfg(test)] fn up(&self) { crate::attic::run(self) } fn down(&self) {} }",
    ),
    (
        "cellar/oven.rs",
        "mod grate; use super::Coal; pub struct Oven<T = u8>(T); pub fn heat(_: Coal) {}",
    ),
    // Methods in the folder of their type.
    (
        "cellar/oven/grate.rs",
        "impl<T: Fn() -> u8> super::Oven<T> where T: Copy { fn sweep(&self) {} }",
    ),
];

/// GOOD with `text` added to `file`.
fn house(file: &str, text: &str) -> Graph {
    let mut files: Files = GOOD
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    let file = files.entry(file.to_owned()).or_default();
    *file += &format!("\n{text}");
    Graph::of(&files, "lib.rs")
}

fn faults(graph: &Graph) -> Vec<String> {
    [
        upward(graph, &FLOORS),
        circles(graph, &FLOORS),
        strayed_methods(graph),
    ]
    .concat()
}

#[track_caller]
fn assert_fault(file: &str, text: &str, expected: &str) {
    let faults = faults(&house(file, text));
    assert!(
        faults.len() == 1 && faults[0].contains(expected),
        "{text} in {file}: {faults:#?}"
    );
}

#[test]
fn a_good_house_has_no_fault() {
    let house = house("lib.rs", "");
    assert_eq!(faults(&house), [""; 0]);
    assert_eq!(circles(&house, &[]), [""; 0]);
    let imports =
        |file: &str| -> Vec<&str> { house.imports[file].keys().map(String::as_str).collect() };
    assert_eq!(
        imports("attic.rs"),
        ["cellar/coal.rs", "cellar/oven.rs", "hall/door.rs"]
    );
    assert_eq!(
        imports("hall/door.rs"),
        ["cellar/coal.rs", "hall/stairs.rs"]
    );
    assert_eq!(house.imports.get("hall/mod.rs"), None);
}

#[test]
fn an_import_that_goes_up_is_found_however_it_is_written() {
    let up = "cellar/coal.rs:";
    for text in [
        "use crate::attic::run;",
        "use crate::{attic::{self as top}};",
        "use super::super::attic::*;",
        "fn burn() { crate::attic::run(1) }",
        "fn burn() { assert_eq!(1, [super::super::attic::run(1)][0]) }",
        "fn burn() { use crate::attic; }",
        "pub use crate::attic::run;",
        // The root shows what is in the attic.
        "use crate::run;",
        "macro_rules! burn { () => { $crate::attic::run() } }",
        "impl From<crate::attic::Roof> for Coal {}",
    ] {
        assert_fault("cellar/coal.rs", text, up);
    }
    assert_fault(
        "hall/stairs.rs",
        "\nuse crate::attic::run;",
        "hall/stairs.rs:3: hall imports from attic, which is above it (crate::attic::run, in \
         attic.rs); move what both need to hall or lower",
    );
    assert_fault("hall/stairs.rs", "use crate::all;", "imports from the root");
}

#[test]
fn a_module_on_no_floor_is_found() {
    let mut files: Files = GOOD
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    files.get_mut("lib.rs").unwrap().push_str(" mod shed;");
    files.insert("shed.rs".to_owned(), "fn rake() {}".to_owned());
    let faults = faults(&Graph::of(&files, "lib.rs"));
    assert_eq!(
        faults,
        ["shed.rs: it is on no floor; move it into the folder of one: attic, hall, cellar"]
    );
}

#[test]
fn a_circle_within_a_floor_is_found() {
    assert_fault(
        "hall/stairs.rs",
        "use super::door;",
        "2 files import from each other in a circle; move what both ends need to a file of its \
         own below them:\n  hall/door.rs:1 -> hall/stairs.rs (super::Stairs)\n  \
         hall/stairs.rs:2 -> hall/door.rs (super::door)",
    );
    // By way of what the folder shows.
    assert_fault(
        "cellar/coal.rs",
        "use super::oven::Oven;",
        "cellar/coal.rs:3 -> cellar/oven.rs",
    );
    // A parent that uses what its child defines, and whose child uses what it defines.
    for text in [
        "pub struct Hall; fn step(_: Stairs) {}",
        "pub struct Hall; fn step() { stairs::Stairs::climb() }",
    ] {
        let mut files: Files = GOOD
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        files.get_mut("hall/mod.rs").unwrap().push_str(text);
        let graph = Graph::of(&files, "lib.rs");
        assert_eq!(faults(&graph), [""; 0], "{text}");
        files
            .get_mut("hall/stairs.rs")
            .unwrap()
            .push_str("use super::Hall;");
        let faults = faults(&Graph::of(&files, "lib.rs"));
        assert!(
            faults.len() == 1 && faults[0].contains("hall/mod.rs:1 -> hall/stairs.rs"),
            "{text}: {faults:#?}"
        );
    }
    // A crate without floors.
    assert_eq!(
        circles(&house("hall/stairs.rs", "use super::door;"), &[]).len(),
        1
    );
}

#[test]
fn methods_outside_of_their_types_folder_are_found() {
    for text in [
        "use crate::cellar::Coal; impl Coal { fn shine(&self) {} }",
        "impl crate::cellar::Coal { fn shine(&self) {} }",
        "impl<T: Fn() -> u8> crate::cellar::oven::Oven<T> { fn shine(&self) {} }",
    ] {
        assert_fault("hall/stairs.rs", text, "hall/stairs.rs:2: methods of ");
    }
    assert_fault(
        "hall/stairs.rs",
        "use crate::cellar::Coal as Fuel; #[must_use] impl Fuel {}",
        "methods of Fuel, which cellar/coal.rs defines; make them functions that take a Fuel",
    );
}
