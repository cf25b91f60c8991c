//! Arrows between crates, held against `cargo metadata`.

use super::arrows::{CrateRule, Outside};
use super::cargo::{Dependency, Metadata, Package};
use super::tree::Tree;
use super::violation::Violation;

const RULE: &str = "crate-arrows";

/// Every dependency of every member, against the table.
pub(crate) fn check(metadata: &Metadata, tree: &Tree, rules: &[CrateRule]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let manifest = metadata.manifest(package);
        let Some(rule) = rules.iter().find(|rule| rule.name == package.name) else {
            let what = format!(
                "{} has no row in xtask/src/tidy/arrows.rs: say what it may use",
                package.name
            );
            violations.push(Violation::new(manifest, 1, RULE, what));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(what) = refusal(metadata, package, rule, dependency) {
                let line = tree.line_of(manifest, |line| names_dependency(line, &dependency.name));
                violations.push(Violation::new(manifest, line, RULE, what));
            }
        }
    }
    violations
}

/// Why `dependency` is not allowed, if it is not.
fn refusal(
    metadata: &Metadata,
    package: &Package,
    rule: &CrateRule,
    dependency: &Dependency,
) -> Option<String> {
    let name = dependency.name.as_str();
    if metadata.packages.iter().any(|ours| ours.name == name) {
        let allowed = rule.ours.contains(&name);
        let may = if rule.ours.is_empty() {
            "no crate of ours".to_owned()
        } else {
            rule.ours.join(", ")
        };
        return (!allowed).then(|| {
            format!(
                "{} must not depend on {name}; it may use {may}",
                package.name
            )
        });
    }
    // What only the tests use never reaches the product.
    if dependency.kind.as_deref() == Some("dev") {
        return None;
    }
    match rule.outside {
        Outside::AnyBut(never) if never.contains(&name) => {
            Some(format!("{} must not depend on {name}", package.name))
        }
        Outside::Only(only) if !only.contains(&name) => Some(format!(
            "{} must not depend on {name}; it may use {}",
            package.name,
            only.join(", ")
        )),
        _ => None,
    }
}

/// Whether a manifest line declares the dependency: `name = ...`, `name.workspace = ...`,
/// `[dependencies.name]`, or a rename that ends in `package = "name"`.
pub(crate) fn names_dependency(line: &str, name: &str) -> bool {
    let line = line.trim();
    let declared = line
        .strip_prefix(name)
        .is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
    declared
        || line.ends_with(&format!(".{name}]"))
        || line.contains(&format!("package = \"{name}\""))
}
