//! The rules of the tree that no compiler knows, each one enforced and each one tested with a
//! planted violation.
//!
//! | module | rules |
//! | --- | --- |
//! | [`crates`] | arrows between crates, and the outside crates some of ours must not use |
//! | [`modules`] | arrows between the modules of a crate: no cycles, layers where given |
//! | [`purity`] | the pure core stays pure; rules broken on purpose stay out of the product |
//! | [`length`] | functions fit on a screen, files can be read |
//! | [`tokens`] | unfinished code, tests switched off, warnings silenced |
//! | [`text`] | left-over notes, machine paths, registry hosts, ASCII |
//! | [`docs`] | one title per document, links that lead somewhere |
//!
//! The tables live in [`arrows`]. A violation reads `path:line: rule: what`.
//!
//! The idea of testing the style itself is taken from TigerBeetle's `tidy`.

mod arrows;
mod cargo;
mod crates;
mod docs;
mod length;
mod modules;
mod purity;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod tree;
mod violation;

use std::path::Path;

use source::Sources;
use tree::Tree;
use violation::Violation;

/// Checks the tree under `root` and prints what it found. True when there was nothing.
///
/// # Errors
/// When a file cannot be read, or cargo cannot describe the workspace. No rule was judged then.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let tree = Tree::read(root)?;
    let mut violations = check_files(&tree);
    violations.extend(check_workspace(root, &tree)?);
    violations.sort();
    violations.dedup();
    for violation in &violations {
        println!("{violation}");
    }
    println!(
        "tidy: {} files, {} violations",
        tree.files.len(),
        violations.len()
    );
    Ok(violations.is_empty())
}

/// Every rule that needs only the text of the files.
fn check_files(tree: &Tree) -> Vec<Violation> {
    let (sources, mut violations) = Sources::parse(tree);
    violations.extend(text::check(tree));
    violations.extend(docs::check(tree));
    violations.extend(tokens::check(&sources));
    violations.extend(length::check(&sources));
    violations.extend(modules::check(&sources, arrows::LAYERS));
    violations.extend(purity::check_files(tree, &sources));
    violations
}

/// Every rule that needs cargo's view of the workspace.
fn check_workspace(root: &Path, tree: &Tree) -> anyhow::Result<Vec<Violation>> {
    let metadata = cargo::metadata(root)?;
    let mut violations = crates::check(&metadata, tree, arrows::CRATES);
    violations.extend(purity::check_closure(&cargo::closure(root, purity::CORE)?));
    violations.extend(purity::check_built_features(&cargo::workspace_features(
        root,
    )?));
    violations.extend(purity::check_forwarding(&metadata, tree));
    Ok(violations)
}
