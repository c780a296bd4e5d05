//! Which file of a crate imports from which.

use std::collections::BTreeMap;

use crate::source::{Files, Module, modules};

/// How many re-exports are followed from one to the next.
const LONGEST_CHAIN: usize = 16;

/// A crate's modules and what they import.
#[derive(Debug)]
pub struct Graph {
    pub modules: Vec<Module>,
    /// By file: the files it imports from, with the line of the first such import and what it
    /// names.
    pub imports: BTreeMap<String, BTreeMap<String, Import>>,
}

/// Why a file imports from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    pub line: usize,
    pub path: String,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Module(usize),
    /// Something that this module defines.
    ItemOf(usize),
}

impl Meaning {
    fn home(self) -> usize {
        match self {
            Self::Module(module) | Self::ItemOf(module) => module,
        }
    }
}

impl Graph {
    /// Of the crate whose root is the file `root`.
    pub fn of(files: &Files, root: &str) -> Self {
        let mut graph = Self {
            modules: modules(files, root),
            imports: BTreeMap::new(),
        };
        for from in 0..graph.modules.len() {
            for (to, import) in graph.imports_of(from) {
                graph.add(from, to, import);
            }
        }
        graph
    }

    /// The module that is, or defines, what `path` means in `from`; `None` if it is of another
    /// crate, or no path at all.
    pub fn home(&self, from: usize, path: &[String]) -> Option<usize> {
        Some(self.resolve(from, path, 0)?.home())
    }

    fn imports_of(&self, from: usize) -> Vec<(usize, Import)> {
        let module = &self.modules[from];
        let mut imports = Vec::new();
        for import in &module.uses {
            let path = match import.path.split_last() {
                Some((last, path)) if last == "*" => path,
                _ => &import.path[..],
            };
            if let Some(to) = self.home(from, path) {
                // A folder that shows what is in it does not depend on it.
                let shown = import.public && is_below(&self.modules[to].path, &module.path);
                if !shown {
                    imports.push((to, import.line, &import.path));
                }
            }
        }
        for mention in &module.mentions {
            if let Some(to) = self.home(from, &mention.path) {
                imports.push((to, mention.line, &mention.path));
            }
        }
        let import = |(to, line, path): (usize, usize, &Vec<String>)| {
            let path = path.join("::");
            (to, Import { line, path })
        };
        imports.into_iter().map(import).collect()
    }

    fn add(&mut self, from: usize, to: usize, import: Import) {
        let (from, to) = (&self.modules[from].file, &self.modules[to].file);
        if from == to {
            return;
        }
        let first = self
            .imports
            .entry(from.clone())
            .or_default()
            .entry(to.clone())
            .or_insert_with(|| import.clone());
        if import.line < first.line {
            *first = import;
        }
    }

    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Meaning> {
        let (first, mut rest) = path.split_first()?;
        let mut meaning = match first.as_str() {
            "crate" => Meaning::Module(0),
            "self" => Meaning::Module(from),
            "super" => Meaning::Module(self.parent(from)?),
            name => self.lookup(from, name, depth)?,
        };
        // `crate`, `self` and `super` alone are no paths (a receiver, a visibility).
        if rest.is_empty() && matches!(first.as_str(), "crate" | "self") {
            return None;
        }
        while let (Meaning::Module(module), Some((name, after))) = (meaning, rest.split_first()) {
            meaning = match name.as_str() {
                "super" => Meaning::Module(self.parent(module)?),
                name => self
                    .lookup(module, name, depth)
                    .unwrap_or(Meaning::ItemOf(module)),
            };
            rest = after;
        }
        Some(meaning)
    }

    /// What `name` means in `module`, through as many re-exports as there are.
    fn lookup(&self, module: usize, name: &str, depth: usize) -> Option<Meaning> {
        if depth > LONGEST_CHAIN {
            return None;
        }
        let Module {
            path,
            uses,
            defines,
            ..
        } = &self.modules[module];
        let child = self.modules.iter().position(|child| {
            child
                .path
                .split_last()
                .is_some_and(|(last, parent)| last == name && parent == path)
        });
        if let Some(child) = child {
            return Some(Meaning::Module(child));
        }
        if defines.contains(name) {
            return Some(Meaning::ItemOf(module));
        }
        if let Some(import) = uses.iter().find(|import| import.name == name) {
            // `use x;` in the crate's root, or of another crate.
            if import.path.len() == 1 {
                return None;
            }
            return self.resolve(module, &import.path, depth + 1);
        }
        let globs = uses.iter().filter(|import| import.name == "*");
        globs
            .filter_map(|glob| {
                let (_, path) = glob.path.split_last()?;
                match self.resolve(module, path, depth + 1)? {
                    Meaning::Module(all) if all != module => self.lookup(all, name, depth + 1),
                    _ => None,
                }
            })
            .next()
    }

    fn parent(&self, module: usize) -> Option<usize> {
        let (_, parent) = self.modules[module].path.split_last()?;
        self.modules
            .iter()
            .position(|candidate| candidate.path == parent)
    }
}

/// Whether `path` is a module somewhere inside `folder`.
pub fn is_below(path: &[String], folder: &[String]) -> bool {
    path.len() > folder.len() && path.starts_with(folder)
}
