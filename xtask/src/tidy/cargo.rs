//! What cargo says about the workspace. Always `--locked`: a gate must not write `Cargo.lock`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::Deserialize;

/// The part of `cargo metadata --no-deps` the rules use.
#[derive(Deserialize, Debug)]
pub(crate) struct Metadata {
    /// The members of the workspace.
    pub(crate) packages: Vec<Package>,
    /// The folder of the workspace manifest; manifest paths lie below it.
    pub(crate) workspace_root: String,
}

impl Metadata {
    /// The manifest of `package`, relative to the workspace.
    pub(crate) fn manifest<'a>(&self, package: &'a Package) -> &'a str {
        let below = package.manifest_path.strip_prefix(&self.workspace_root);
        below.map_or(package.manifest_path.as_str(), |path| {
            path.trim_start_matches('/')
        })
    }
}

/// One member of the workspace.
#[derive(Deserialize, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// Feature name to what it switches on.
    #[serde(default)]
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// One line of a dependency table.
#[derive(Deserialize, Debug)]
pub(crate) struct Dependency {
    /// The package, whatever the manifest renames it to.
    pub(crate) name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// The features asked for.
    #[serde(default)]
    pub(crate) features: Vec<String>,
}

/// The members and their direct dependencies.
pub(crate) fn metadata(root: &Path) -> anyhow::Result<Metadata> {
    let text = output(
        root,
        &["metadata", "--no-deps", "--format-version", "1", "--locked"],
    )?;
    serde_json::from_str(&text).context("cannot read the output of cargo metadata")
}

/// Every package that is compiled into `package` or runs to compile it, one per line, as `cargo
/// tree` prints them.
pub(crate) fn closure(root: &Path, package: &str) -> anyhow::Result<String> {
    output(
        root,
        &[
            "tree", "-p", package, "-e", "normal", "--prefix", "none", "--locked",
        ],
    )
}

/// Every package of a plain build of the workspace with its features: `name version
/// (path)|feature,feature`.
///
/// The whole workspace at once, because cargo joins the features of all that is built together.
pub(crate) fn workspace_features(root: &Path) -> anyhow::Result<String> {
    let arguments = [
        "tree",
        "--workspace",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--locked",
        "-f",
        "{p}|{f}",
    ];
    output(root, &arguments)
}

/// The standard output of cargo in `root`; its complaint when it fails.
fn output(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let shown = arguments.join(" ");
    let output = Command::new("cargo")
        .current_dir(root)
        .args(arguments)
        .output();
    let output = output.with_context(|| format!("cannot start cargo {shown}"))?;
    anyhow::ensure!(
        output.status.success(),
        "cargo {shown}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("cargo {shown}: output is not UTF-8"))
}
