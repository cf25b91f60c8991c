//! The Rust files of the tree, parsed once, each with its crate, its module and whether it is a
//! test.

use std::collections::BTreeSet;

use syn::{Attribute, Item, ItemMod};

use super::tree::Tree;
use super::violation::Violation;

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: String,
    /// The whole content.
    pub(crate) text: String,
    /// The content, parsed; spans tell lines.
    pub(crate) syntax: syn::File,
    /// The package it belongs to; empty when it stands outside of every crate.
    pub(crate) package: String,
    /// The path of the module inside the crate's `src`; empty for the root, `None` outside of
    /// `src`.
    pub(crate) module: Option<Vec<String>>,
    /// Compiled for tests only: below `tests` or `benches`, or declared by a `#[cfg(test)] mod
    /// name;`.
    pub(crate) is_test: bool,
}

/// All of them.
pub(crate) struct Sources {
    /// In order of their paths.
    pub(crate) files: Vec<Source>,
}

impl Sources {
    /// Parses every Rust file; a file that does not parse is a violation and left out.
    pub(crate) fn parse(tree: &Tree) -> (Sources, Vec<Violation>) {
        let crates = crate_folders(tree);
        let mut files = Vec::new();
        let mut violations = Vec::new();
        for file in tree.files.iter().filter(|file| file.has_extension("rs")) {
            match syn::parse_file(&file.text) {
                Ok(syntax) => files.push(source(&file.path, &file.text, syntax, &crates)),
                Err(error) => {
                    let line = error.span().start().line;
                    violations.push(Violation::new(&file.path, line, "parse", error.to_string()));
                }
            }
        }
        mark_test_modules(&mut files);
        (Sources { files }, violations)
    }
}

/// The folder and the package name of every crate, longest folder first, so that a nested crate is
/// found first.
fn crate_folders(tree: &Tree) -> Vec<(String, String)> {
    let mut folders = Vec::new();
    for file in &tree.files {
        let Some(folder) = file.path.strip_suffix("Cargo.toml") else {
            continue;
        };
        let manifest: Option<toml::Table> = file.text.parse().ok();
        let package = manifest.as_ref().and_then(|table| table.get("package"));
        let name = package
            .and_then(|package| package.get("name"))
            .and_then(|name| name.as_str());
        if let Some(name) = name {
            folders.push((folder.to_owned(), name.to_owned()));
        }
    }
    folders.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
    folders
}

fn source(path: &str, text: &str, syntax: syn::File, crates: &[(String, String)]) -> Source {
    let owner = crates
        .iter()
        .find_map(|(folder, name)| Some((path.strip_prefix(folder.as_str())?, name)));
    let (inside, package) = owner.map_or((path, ""), |(inside, name)| (inside, name.as_str()));
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
        syntax,
        package: package.to_owned(),
        module: inside.strip_prefix("src/").and_then(module_path),
        is_test: inside.starts_with("tests/") || inside.starts_with("benches/"),
    }
}

/// The module a file below `src` holds. A file below `src/bin` is a crate of its own.
fn module_path(below_src: &str) -> Option<Vec<String>> {
    let mut parts: Vec<String> = below_src
        .strip_suffix(".rs")?
        .split('/')
        .map(str::to_owned)
        .collect();
    if parts.first().is_some_and(|first| first == "bin") {
        return None;
    }
    if parts.len() == 1 && (parts[0] == "lib" || parts[0] == "main") {
        parts.clear();
    }
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    Some(parts)
}

/// Marks the files that a `#[cfg(test)] mod name;` declares, and everything below them.
fn mark_test_modules(files: &mut [Source]) {
    let mut test_modules: BTreeSet<String> = BTreeSet::new();
    for file in files.iter() {
        let folder = children_folder(&file.path);
        for item in &file.syntax.items {
            if let Item::Mod(ItemMod {
                content: None,
                ident,
                ..
            }) = item
                && is_test_only(attributes(item))
            {
                test_modules.insert(format!("{folder}{ident}"));
            }
        }
    }
    for file in files {
        let belongs = |module: &String| {
            let rest = file.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file.is_test |= test_modules.iter().any(belongs);
    }
}

/// Where the modules that a file declares are looked for, with a closing slash.
fn children_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => format!("{folder}/"),
        _ => format!("{}/", path.trim_end_matches(".rs")),
    }
}

/// Whether an attribute list holds `cfg(test)` or `cfg(all(test, ...))`.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition: String = list.tokens.to_string().split_whitespace().collect();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

/// Whether an attribute list makes a function a test: `test`, `tokio::test` and their like.
pub(crate) fn is_test_function(attributes: &[Attribute]) -> bool {
    let last_is_test = |attribute: &Attribute| {
        attribute
            .path()
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "test")
    };
    attributes.iter().any(last_is_test)
}

/// The outer attributes of an item.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
