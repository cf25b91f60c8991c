//! The pure core stays pure: no clock, no thread, no socket, no randomness, no order that depends
//! on a hash.
//!
//! Three locks. The packages it is built from are on a list. The types and functions of the
//! standard library that would break it are refused by clippy, and this checks that the refusal
//! stands. And the rules that can be broken on purpose (feature `mutants`) stay out of every build
//! of the product.

use syn::{AttrStyle, Meta};

use super::arrows::{CORE_BANNED_METHODS, CORE_BANNED_TYPES, CORE_CLOSURE, CORE_NEVER};
use super::cargo::{Metadata, Package};
use super::crates::names_dependency;
use super::source::Sources;
use super::tree::Tree;
use super::violation::Violation;

/// The package that must stay pure.
pub(crate) const CORE: &str = "hansa-consistency";

/// The only packages that may switch on the rules broken on purpose, by their own feature of that
/// name: the harness in its simulator, and the node and its binary for the harness's real processes.
const FORWARDERS: [&str; 3] = ["hansa-jepsen", "hansa-node", "hansa"];

const MUTANTS: &str = "mutants";
const ROOT: &str = "consistency/src/lib.rs";
const CLIPPY: &str = "consistency/clippy.toml";
const MANIFEST: &str = "consistency/Cargo.toml";

/// The attribute in the core's root and the list in its `clippy.toml`. A tree without a core has
/// nothing to check.
pub(crate) fn check_files(tree: &Tree, sources: &Sources) -> Vec<Violation> {
    if tree.file(MANIFEST).is_none() {
        return Vec::new();
    }
    let mut violations = forbidden_lints(sources);
    violations.extend(clippy_bans(tree));
    violations
}

fn forbidden_lints(sources: &Sources) -> Vec<Violation> {
    let Some(root) = sources.files.iter().find(|source| source.path == ROOT) else {
        return vec![Violation::new(
            ROOT,
            1,
            "purity",
            "the root of the pure core is missing or does not parse",
        )];
    };
    let mut forbidden = String::new();
    for attribute in root
        .syntax
        .attrs
        .iter()
        .filter(|found| matches!(found.style, AttrStyle::Inner(_)))
    {
        if let Meta::List(list) = &attribute.meta
            && list.path.is_ident("forbid")
        {
            let words: String = list.tokens.to_string().split_whitespace().collect();
            forbidden.push_str(&format!(",{words},"));
        }
    }
    let missing = ["clippy::disallowed_methods", "clippy::disallowed_types"].into_iter();
    let missing = missing.filter(|lint| !forbidden.contains(&format!(",{lint},")));
    missing
        .map(|lint| Violation::new(ROOT, 1, "purity", format!("#![forbid({lint})] is missing")))
        .collect()
}

fn clippy_bans(tree: &Tree) -> Vec<Violation> {
    let table = tree
        .file(CLIPPY)
        .map(|file| file.text.parse::<toml::Table>());
    let Some(Ok(table)) = table else {
        return vec![Violation::new(
            CLIPPY,
            1,
            "purity",
            "missing or not TOML: it bans clocks, threads and hash maps",
        )];
    };
    let wanted = [
        ("disallowed-types", CORE_BANNED_TYPES),
        ("disallowed-methods", CORE_BANNED_METHODS),
    ];
    let mut violations = Vec::new();
    for (list, paths) in wanted {
        let entries = table
            .get(list)
            .and_then(toml::Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        // An entry is a path, or a table that gives the path and a reason.
        let banned: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry.get("path").unwrap_or(entry).as_str())
            .collect();
        for path in paths.iter().filter(|path| !banned.contains(*path)) {
            violations.push(Violation::new(
                CLIPPY,
                1,
                "purity",
                format!("{list} does not ban {path}"),
            ));
        }
    }
    violations
}

/// Every package the core is built from, against the list. `tree_lines` as
/// [`super::cargo::closure`] gives them.
pub(crate) fn check_closure(tree_lines: &str) -> Vec<Violation> {
    let mut packages: Vec<&str> = tree_lines
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    packages.sort_unstable();
    packages.dedup();
    let mut violations = Vec::new();
    for package in packages {
        let what = if CORE_NEVER.contains(&package) {
            format!("{package} must never be part of the pure core")
        } else if !CORE_CLOSURE.contains(&package) {
            format!("{package} is not on the list CORE_CLOSURE of xtask/src/tidy/arrows.rs")
        } else {
            continue;
        };
        violations.push(Violation::new(MANIFEST, 1, "purity", what));
    }
    violations
}

/// No package of a plain build has the feature on. `lines` as [`super::cargo::workspace_features`]
/// gives them.
pub(crate) fn check_built_features(lines: &str) -> Vec<Violation> {
    let mut packages: Vec<&str> = Vec::new();
    for line in lines.lines() {
        // A package that was printed before ends in ` (*)`.
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        if features.split(',').any(|feature| feature == MUTANTS) {
            packages.extend(package.split_whitespace().next());
        }
    }
    packages.sort_unstable();
    packages.dedup();
    let what = |package: &str| {
        format!("feature {MUTANTS} of {package} is on in a plain build of the workspace")
    };
    packages
        .into_iter()
        .map(|package| Violation::new("Cargo.toml", 1, MUTANTS, what(package)))
        .collect()
}

/// Nobody but those that need it forwards the feature, and nobody asks for it in a dependency or has it on
/// by default.
pub(crate) fn check_forwarding(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let manifest = metadata.manifest(package);
        for dependency in &package.dependencies {
            if dependency.features.iter().any(|feature| feature == MUTANTS) {
                let line = tree.line_of(manifest, |line| names_dependency(line, &dependency.name));
                let what = format!(
                    "{} is asked for with feature {MUTANTS}: forward it instead",
                    dependency.name
                );
                violations.push(Violation::new(manifest, line, MUTANTS, what));
            }
        }
        for (feature, what) in wrong_features(package) {
            let line = tree.line_of(manifest, |line| names_dependency(line, feature));
            violations.push(Violation::new(manifest, line, MUTANTS, what));
        }
    }
    violations
}

/// The features of `package` that switch on the rules broken on purpose and must not.
fn wrong_features(package: &Package) -> Vec<(&str, String)> {
    let suffix = format!("/{MUTANTS}");
    let mut wrong = Vec::new();
    for (feature, enables) in &package.features {
        let forwards = enables.iter().any(|enabled| enabled.ends_with(&suffix));
        let switches_on = enables.iter().any(|enabled| enabled == MUTANTS);
        let is_forwarder = FORWARDERS.contains(&package.name.as_str()) && feature == MUTANTS;
        if (forwards || switches_on) && !is_forwarder {
            let what = format!(
                "feature {feature} of {} switches on {MUTANTS}: only their own feature of that name in {} may",
                package.name,
                FORWARDERS.join(", ")
            );
            wrong.push((feature.as_str(), what));
        }
    }
    wrong
}
