//! What must not be in a crate's imports.

use std::collections::BTreeSet;

use crate::graph::{Graph, Import, is_below};
use crate::source::Module;

/// Every import that goes up. `floors` are the crate's top modules, the highest first; the root
/// stands above them all.
pub fn upward(graph: &Graph, floors: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let floor = |file: &str| -> Option<usize> {
        let module = graph.modules.iter().find(|module| module.file == file)?;
        floor_of(module, floors)
    };
    for module in &graph.modules {
        if !module.path.is_empty() && floor_of(module, floors).is_none() {
            faults.push(format!(
                "{}: it is on no floor; move it into the folder of one: {}",
                module.file,
                floors.join(", ")
            ));
        }
    }
    for (from, imports) in &graph.imports {
        // The root knows all.
        let Some(below) = floor(from) else { continue };
        for (to, Import { line, path }) in imports {
            let above = floor(to);
            if above.is_none_or(|above| above < below) {
                let above = above.map_or("the root", |above| floors[above]);
                faults.push(format!(
                    "{from}:{line}: {} imports from {above}, which is above it ({path}, in {to}); \
                     move what both need to {} or lower, or have {above} hand it over as an \
                     argument",
                    floors[below], floors[below]
                ));
            }
        }
    }
    faults
}

/// Every circle of files that import from each other, within a floor if there are `floors`: an
/// import that goes up is told by [`upward`].
pub fn circles(graph: &Graph, floors: &[&str]) -> Vec<String> {
    let files: BTreeSet<&str> = graph.modules.iter().map(|m| m.file.as_str()).collect();
    let floor = |file: &str| {
        let module = graph.modules.iter().find(|module| module.file == file);
        module.and_then(|module| floor_of(module, floors))
    };
    let next = |file: &str| -> Vec<&str> {
        let imports = graph.imports.get(file);
        let all = imports.into_iter().flat_map(|imports| imports.keys());
        all.map(String::as_str)
            .filter(|to| floor(to) == floor(file))
            .collect()
    };
    let reached_from = |file| {
        let mut reached = BTreeSet::new();
        let mut todo = next(file);
        while let Some(file) = todo.pop() {
            if reached.insert(file) {
                todo.extend(next(file));
            }
        }
        reached
    };
    let mut faults = Vec::new();
    let mut told = BTreeSet::new();
    for file in files {
        let reached = reached_from(file);
        if told.contains(file) || !reached.contains(file) {
            continue;
        }
        let circle: BTreeSet<_> = reached
            .into_iter()
            .filter(|other| reached_from(other).contains(file))
            .collect();
        let mut fault = format!(
            "{} files import from each other in a circle; move what both ends need to a file of \
             its own below them:",
            circle.len()
        );
        for from in &circle {
            for (to, Import { line, path }) in &graph.imports[*from] {
                if circle.contains(to.as_str()) {
                    fault += &format!("\n  {from}:{line} -> {to} ({path})");
                }
            }
        }
        faults.push(fault);
        told.extend(circle);
    }
    faults
}

/// Every `impl Type` that stands outside of its type's folder. By such methods what is below
/// would call what is above without importing it.
pub fn strayed_methods(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, module) in graph.modules.iter().enumerate() {
        for block in &module.impls {
            let Some(home) = graph.home(index, &block.path) else {
                continue;
            };
            let home = &graph.modules[home];
            if !is_near(module, home) {
                let name = block.path.join("::");
                faults.push(format!(
                    "{}:{}: methods of {name}, which {} defines; make them functions that take \
                     a {name}, or move them there",
                    module.file, block.line, home.file
                ));
            }
        }
    }
    faults
}

/// Whether methods of a type that `home` defines may stand in `module`: in the same file or
/// folder, or in a folder of the type's own.
fn is_near(module: &Module, home: &Module) -> bool {
    let folder = home.path.split_last().map_or(&[][..], |(_, folder)| folder);
    module.file == home.file
        || is_below(&module.path, &home.path)
        || (!folder.is_empty()
            && (module.path == folder
                || module.path.split_last().is_some_and(|(_, at)| at == folder)))
}

fn floor_of(module: &Module, floors: &[&str]) -> Option<usize> {
    let first = module.path.first()?;
    floors.iter().position(|floor| floor == first)
}
