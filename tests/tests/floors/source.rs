//! Reading a crate's source: its modules, and every name each of them writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::slice::Iter;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The text of each file, by its path in the source folder.
pub type Files = BTreeMap<String, String>;

/// A module, or the part of a file that is one (`mod x { … }`).
#[derive(Debug, Default)]
pub struct Module {
    /// Its path from the crate's root, which is empty.
    pub path: Vec<String>,
    /// The file it is written in.
    pub file: String,
    /// What it imports.
    pub uses: Vec<Use>,
    /// Every other path that it writes, of one name or more.
    pub mentions: Vec<Mention>,
    /// The types it has `impl Type` blocks for.
    pub impls: Vec<Mention>,
    /// What it defines.
    pub defines: BTreeSet<String>,
}

/// One name that `use` brings into a module.
#[derive(Debug)]
pub struct Use {
    /// The name here; `*` for all there are, `_` for none.
    pub name: String,
    pub path: Vec<String>,
    pub line: usize,
    /// Whether others may import it from here.
    pub public: bool,
}

/// A path that a module writes.
#[derive(Debug)]
pub struct Mention {
    pub path: Vec<String>,
    pub line: usize,
}

/// The text of every `.rs` file below `folder`.
pub fn files(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap();
                files.insert(
                    name.to_str().unwrap().to_owned(),
                    fs::read_to_string(&path).unwrap(),
                );
            }
        }
    }
    files
}

/// The modules of the crate whose root is the file `root`, without those that are for tests only.
pub fn modules(files: &Files, root: &str) -> Vec<Module> {
    let mut reader = Reader {
        files,
        modules: Vec::new(),
    };
    reader.file(root, Vec::new());
    reader.modules
}

struct Reader<'a> {
    files: &'a Files,
    modules: Vec<Module>,
}

impl Reader<'_> {
    fn file(&mut self, file: &str, path: Vec<String>) {
        let tokens: TokenStream = self.files[file]
            .parse()
            .unwrap_or_else(|error| panic!("{file} is not Rust: {error}"));
        self.module(tokens, file, path);
    }

    fn module(&mut self, tokens: TokenStream, file: &str, path: Vec<String>) {
        let mut module = Module {
            path,
            file: file.to_owned(),
            ..Module::default()
        };
        let mut inner = Vec::new();
        scan(tokens, &mut module, Some(&mut inner));
        let (file, path) = (module.file.clone(), module.path.clone());
        self.modules.push(module);
        for (name, body) in inner {
            let path = [&path[..], &[name]].concat();
            match body {
                Some(body) => self.module(body, &file, path),
                None => {
                    let at = path.join("/");
                    let found = [format!("{at}.rs"), format!("{at}/mod.rs")]
                        .into_iter()
                        .find(|candidate| self.files.contains_key(candidate));
                    let found = found.unwrap_or_else(|| panic!("{file}: no file for {at}"));
                    self.file(&found, path);
                }
            }
        }
    }
}

/// Modules declared in another: the name, and the body if it stands there.
type Inner = Vec<(String, Option<TokenStream>)>;

/// Reads `tokens` into `module`. `inner` is there at the level of items only.
fn scan(tokens: TokenStream, module: &mut Module, mut inner: Option<&mut Inner>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if let Some((attribute, length)) = attribute(&tokens[at..]) {
            at += length;
            if is_for_tests(&attribute) {
                at += item_length(&tokens[at..]);
            }
            continue;
        }
        if let TokenTree::Group(group) = &tokens[at] {
            // `pub(in crate::x)` says who may see it, and imports nothing.
            if !(at > 0 && word(&tokens[at - 1]).as_deref() == Some("pub")) {
                scan(group.stream(), module, None);
            }
            at += 1;
            continue;
        }
        let Some(name) = word(&tokens[at]) else {
            at += 1;
            continue;
        };
        let next = tokens.get(at + 1);
        let next_word = next.and_then(word);
        let line = tokens[at].span().start().line;
        match (name.as_str(), &mut inner) {
            ("mod", Some(inner)) if next_word.is_some() => {
                let body = match tokens.get(at + 2) {
                    Some(TokenTree::Group(body)) => Some(body.stream()),
                    _ => None,
                };
                inner.extend(next_word.map(|name| (name, body)));
                at += 3;
                continue;
            }
            // Not `impl Trait + use<'a>`.
            ("use", _) if next.is_some_and(|next| !is_punct(next, '<')) => {
                let end = at + item_length(&tokens[at..]);
                let public = at > 0 && is_visibility(&tokens[..at]);
                let mut tree = tokens[at + 1..end].iter().peekable();
                use_tree(&mut tree, &[], public, &mut module.uses);
                at = end;
                continue;
            }
            ("impl", Some(_)) if at == 0 || ends_item(&tokens[at - 1]) => {
                module.impls.extend(inherent(&tokens[at + 1..]));
            }
            (
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static",
                Some(_),
            ) => {
                module.defines.extend(next_word);
            }
            _ => {}
        }
        if at > 0 && !may_start_path(&tokens[..at]) {
            at += 1;
            continue;
        }
        let mut path = vec![name];
        while let (Some(a), Some(b), Some(next)) = (
            tokens.get(at + 1),
            tokens.get(at + 2),
            tokens.get(at + 3).and_then(word),
        ) && is_punct(a, ':')
            && is_punct(b, ':')
        {
            path.push(next);
            at += 3;
        }
        at += 1;
        // A single name in small letters may be a variable; a call is not.
        let called = matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
        if path.len() > 1 || called || path[0].starts_with(char::is_uppercase) {
            module.mentions.push(Mention { path, line });
        }
    }
}

/// One tree of a `use`, up to `,` or `;`.
fn use_tree(
    tokens: &mut Peekable<Iter<'_, TokenTree>>,
    before: &[String],
    public: bool,
    uses: &mut Vec<Use>,
) {
    let mut path = before.to_vec();
    let mut line = 0;
    while let Some(token) = tokens.next() {
        line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                let mut inside = inside.iter().peekable();
                while inside.peek().is_some() {
                    use_tree(&mut inside, &path, public, uses);
                }
                // The group is the tree's end; its names have been added.
                path.clear();
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
            TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => break,
            // `::x` begins outside of the crate, whatever x is.
            TokenTree::Punct(_) if path.is_empty() => path.push(String::new()),
            TokenTree::Punct(_) => {}
            token => match word(token) {
                Some(name) if name == "as" => {
                    let name = tokens.next().and_then(word).unwrap_or_default();
                    uses.push(Use {
                        name,
                        path: std::mem::take(&mut path),
                        line,
                        public,
                    });
                }
                // `x::{self}` is x.
                Some(name) if name == "self" && !path.is_empty() => {}
                Some(name) => path.push(name),
                None => {}
            },
        }
    }
    if let Some(name) = path.last().cloned() {
        uses.push(Use {
            name,
            path,
            line,
            public,
        });
    }
}

/// The type of an `impl Type` block, whose tokens after `impl` these are; `None` for a trait's.
fn inherent(tokens: &[TokenTree]) -> Option<Mention> {
    let end = tokens.iter().position(
        |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace),
    )?;
    let mut header = &tokens[..end];
    if header.first().is_some_and(|token| is_punct(token, '<')) {
        let mut depth = 0;
        let close = header.iter().enumerate().position(|(n, token)| {
            if is_punct(token, '<') {
                depth += 1;
            } else if is_punct(token, '>') && !is_punct(&header[n - 1], '-') {
                depth -= 1;
            }
            depth == 0
        })?;
        header = &header[close + 1..];
    }
    let of_a_trait = header.iter().enumerate().any(|(n, token)| {
        let bound = header.get(n + 1).is_some_and(|next| is_punct(next, '<'));
        word(token).as_deref() == Some("for") && !bound
    });
    if of_a_trait {
        return None;
    }
    let mut path = Vec::new();
    let line = header.first()?.span().start().line;
    for token in header {
        match word(token) {
            Some(name) => path.push(name),
            None if is_punct(token, ':') => {}
            None => break,
        }
    }
    Some(Mention { path, line })
}

/// An attribute at the beginning of `tokens`, and how many tokens it takes.
fn attribute(tokens: &[TokenTree]) -> Option<(TokenStream, usize)> {
    if !is_punct(tokens.first()?, '#') {
        return None;
    }
    let inner = is_punct(tokens.get(1)?, '!');
    match tokens.get(1 + usize::from(inner))? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            Some((group.stream(), 2 + usize::from(inner)))
        }
        _ => None,
    }
}

fn is_for_tests(attribute: &TokenStream) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text == "test" || text.starts_with("cfg(test") || text.starts_with("cfg(all(test")
}

/// How many tokens the item or statement at the beginning of `tokens` takes.
fn item_length(tokens: &[TokenTree]) -> usize {
    let is_use = tokens.first().and_then(word).as_deref() == Some("use");
    tokens
        .iter()
        .position(|token| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_use,
            token => is_punct(token, ';'),
        })
        .map_or(tokens.len(), |last| last + 1)
}

/// Whether `before` ends in `pub` or `pub(…)`.
fn is_visibility(before: &[TokenTree]) -> bool {
    let is_pub = |token: Option<&TokenTree>| token.and_then(word).as_deref() == Some("pub");
    match before.last() {
        Some(TokenTree::Group(_)) => is_pub(before.iter().nth_back(1)),
        last => is_pub(last),
    }
}

/// Whether an item may begin after this token.
fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() != Delimiter::Parenthesis,
        token => is_punct(token, ';') || word(token).as_deref() == Some("unsafe"),
    }
}

/// Whether a name after `before` begins a path: not a method, a field, a lifetime, a definition
/// or the rest of a path.
fn may_start_path(before: &[TokenTree]) -> bool {
    let [.., last] = before else { return true };
    let range = before.len() > 1 && is_punct(&before[before.len() - 2], '.');
    let rest = before.len() > 1 && is_punct(last, ':') && is_punct(&before[before.len() - 2], ':');
    !(is_punct(last, '.') && !range
        || rest
        || is_punct(last, '\'')
        || word(last).as_deref() == Some("fn"))
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn word(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}
