//! Arrows between the modules of a crate.
//!
//! The unit is the top-level module: a module and everything below it counts as one. The root file
//! (`lib.rs`, `main.rs`) uses everything and is no node of the graph; a name it re-exports stands
//! for the module it comes from. Code under `#[cfg(test)]` is left out: a test may look from
//! anywhere.
//!
//! References are found in tokens, `crate::name` and `super::...::name` with nested groups, so
//! paths inside macro calls count. A child that is named without either belongs to the same
//! top-level module and needs no arrow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, UseTree};

use super::arrows::Layers;
use super::source::{Source, Sources, attributes, is_test_only};
use super::violation::Violation;

const RULE: &str = "module-arrows";

/// Cycles in every crate, layers where the table gives them.
pub(crate) fn check(sources: &Sources, layers: &[Layers]) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources
        .files
        .iter()
        .filter(|source| source.module.is_some() && !source.is_test)
    {
        crates.entry(&source.package).or_default().push(source);
    }
    let mut violations = Vec::new();
    for (package, files) in crates {
        let graph = Graph::of(&files);
        violations.extend(graph.hidden.iter().cloned());
        violations.extend(graph.cycles());
        let found = layers
            .iter()
            .find(|(name, layers)| *name == package && !layers.is_empty());
        if let Some((_, layers)) = found {
            violations.extend(graph.against(layers));
        }
    }
    violations
}

/// Where one module first uses another.
#[derive(Clone, Debug)]
struct Site {
    path: String,
    line: usize,
}

/// The modules of one crate and who uses whom.
struct Graph {
    /// Every top-level module and its file.
    modules: BTreeMap<String, String>,
    edges: BTreeMap<String, BTreeMap<String, Site>>,
    /// Imports that hide what they use.
    hidden: Vec<Violation>,
}

impl Graph {
    fn of(files: &[&Source]) -> Graph {
        let mut graph = Graph {
            modules: BTreeMap::new(),
            edges: BTreeMap::new(),
            hidden: Vec::new(),
        };
        let mut exports = BTreeMap::new();
        for file in files {
            match file.module.as_deref().and_then(<[String]>::first) {
                Some(top) => {
                    let kept = graph
                        .modules
                        .entry(top.clone())
                        .or_insert_with(|| file.path.clone());
                    // `a.rs` speaks for the module rather than `a/b.rs`.
                    if file.path.len() < kept.len() {
                        kept.clone_from(&file.path);
                    }
                }
                None => exports.extend(root_exports(file)),
            }
        }
        for file in files {
            graph.add(file, &exports);
        }
        graph
    }

    fn add(&mut self, file: &Source, exports: &BTreeMap<String, String>) {
        let Some(module) = file.module.as_deref().filter(|module| !module.is_empty()) else {
            return;
        };
        let mut uses = Vec::new();
        in_items(&file.syntax.items, module.len(), &mut uses);
        for (name, line) in uses {
            if name == "*" {
                let what = "a glob import of the crate's root hides what is used: name it";
                self.hidden
                    .push(Violation::new(&file.path, line, RULE, what));
            }
            let target = if self.modules.contains_key(&name) {
                Some(&name)
            } else {
                exports.get(&name)
            };
            if let Some(target) = target.filter(|target| **target != module[0]) {
                let site = Site {
                    path: file.path.clone(),
                    line,
                };
                self.edges
                    .entry(module[0].clone())
                    .or_default()
                    .entry(target.clone())
                    .or_insert(site);
            }
        }
    }

    /// One violation for each group of modules that all reach each other, showing its shortest
    /// cycle.
    fn cycles(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for module in self.edges.keys() {
            if told.contains(module.as_str()) {
                continue;
            }
            if let Some(cycle) = self.shortest_way(module, module) {
                let reached = self.modules.keys().filter(|other| {
                    self.shortest_way(module, other).is_some()
                        && self.shortest_way(other, module).is_some()
                });
                told.extend(reached.map(String::as_str));
                let sites: Vec<&Site> = cycle
                    .windows(2)
                    .map(|pair| &self.edges[pair[0]][pair[1]])
                    .collect();
                let places: Vec<String> = sites
                    .iter()
                    .map(|site| format!("{}:{}", site.path, site.line))
                    .collect();
                let what = format!("cycle {} ({})", cycle.join(" -> "), places.join(", "));
                violations.push(Violation::new(&sites[0].path, sites[0].line, RULE, what));
            }
        }
        violations
    }

    /// The shortest non-empty way along the arrows, both ends included.
    fn shortest_way<'a>(&'a self, from: &'a str, to: &'a str) -> Option<Vec<&'a str>> {
        let mut ways = VecDeque::from([vec![from]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let last = way.last().copied().unwrap_or(from);
            for next in self.edges.get(last).into_iter().flat_map(BTreeMap::keys) {
                let mut longer = way.clone();
                longer.push(next);
                if next == to {
                    return Some(longer);
                }
                if seen.insert(next) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    /// Every module in a layer, no arrow upwards.
    fn against(&self, layers: &[&[&str]]) -> Vec<Violation> {
        let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
        let mut violations = Vec::new();
        for (module, path) in &self.modules {
            if layer_of(module).is_none() {
                let what =
                    format!("module {module} stands in no layer of xtask/src/tidy/arrows.rs");
                violations.push(Violation::new(path, 1, RULE, what));
            }
        }
        for (from, targets) in &self.edges {
            for (to, site) in targets {
                if let (Some(lower), Some(higher)) = (layer_of(from), layer_of(to))
                    && higher > lower
                {
                    let what = format!("{from} (layer {lower}) must not use {to} (layer {higher})");
                    violations.push(Violation::new(&site.path, site.line, RULE, what));
                }
            }
        }
        violations
    }
}

/// The names the root file imports or re-exports, with the top-level module each comes from.
fn root_exports(root: &Source) -> Vec<(String, String)> {
    let mut exports = Vec::new();
    for item in &root.syntax.items {
        if let Item::Use(item) = item {
            leaves(&item.tree, None, &mut exports);
        }
    }
    exports
}

fn leaves(tree: &UseTree, top: Option<&str>, exports: &mut Vec<(String, String)>) {
    match tree {
        UseTree::Path(path) => {
            let name = path.ident.to_string();
            let is_prefix = top.is_none() && (name == "crate" || name == "self");
            let top = if is_prefix { None } else { top.or(Some(&name)) };
            leaves(&path.tree, top, exports);
        }
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| leaves(tree, top, exports)),
        UseTree::Name(leaf) => {
            exports.extend(top.map(|top| (leaf.ident.to_string(), top.to_owned())))
        }
        UseTree::Rename(leaf) => {
            exports.extend(top.map(|top| (leaf.rename.to_string(), top.to_owned())))
        }
        UseTree::Glob(_) => {}
    }
}

/// A name used at the root of the crate, and the line.
type Use = (String, usize);

/// Collects what `items`, standing `depth` modules below the root, use at the root.
fn in_items(items: &[Item], depth: usize, uses: &mut Vec<Use>) {
    for item in items.iter().filter(|item| !is_test_only(attributes(item))) {
        match item {
            Item::Mod(module) => {
                let inside = module.content.as_ref().map(|(_, items)| items.as_slice());
                in_items(inside.unwrap_or_default(), depth + 1, uses);
            }
            other => in_tokens(other.to_token_stream(), depth, uses),
        }
    }
}

fn in_tokens(tokens: TokenStream, depth: usize, uses: &mut Vec<Use>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token {
            TokenTree::Ident(name) if name == "crate" || name == "super" => {
                index = follow(&tokens, index, depth, uses);
                continue;
            }
            TokenTree::Group(group) => in_tokens(group.stream(), depth, uses),
            _ => {}
        }
        index += 1;
    }
}

/// Follows the path whose first segment stands at `index`, `depth` modules below the root, to the
/// first name that stands at the root. Returns the index behind what it used.
fn follow(tokens: &[TokenTree], mut index: usize, mut depth: usize, uses: &mut Vec<Use>) -> usize {
    loop {
        match tokens.get(index) {
            Some(TokenTree::Ident(name)) if name == "crate" => depth = 0,
            Some(TokenTree::Ident(name)) if name == "super" => depth = depth.saturating_sub(1),
            Some(TokenTree::Ident(name)) if name == "self" => {}
            Some(TokenTree::Ident(name)) => {
                if depth == 0 {
                    uses.push((name.to_string(), name.span().start().line));
                }
                return index + 1;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' && depth == 0 => {
                uses.push(("*".to_owned(), star.span().start().line));
                return index + 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for element in inside.split(is_comma) {
                    follow(element, 0, depth, uses);
                }
                return index + 1;
            }
            _ => return index + 1,
        }
        // `pub(crate)`, `super` in a receiver of a macro: a keyword that no path follows.
        if !is_colon(tokens.get(index + 1)) || !is_colon(tokens.get(index + 2)) {
            return index + 1;
        }
        index += 3;
    }
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}
