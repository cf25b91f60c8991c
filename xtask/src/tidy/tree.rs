//! The files of the workspace, read once.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// One text file.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Relative to the workspace, with forward slashes.
    pub(crate) path: String,
    /// The whole content.
    pub(crate) text: String,
}

impl TextFile {
    /// Whether the file name ends in `.extension`.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }
}

/// Every file that is tracked or would be.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The text files, in order of their paths.
    pub(crate) files: Vec<TextFile>,
    /// The paths of all files, binary ones too, and of all their folders.
    pub(crate) paths: BTreeSet<String>,
}

impl Tree {
    /// Reads the tree under `root`: what git tracks or would track, else every file but `target`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Tree> {
        let mut names = if root.join(".git").exists() {
            git_files(root)?
        } else {
            all_files(root)?
        };
        names.sort();
        names.dedup();
        let mut tree = Tree {
            files: Vec::new(),
            paths: BTreeSet::new(),
        };
        for path in names {
            let full = root.join(&path);
            // A link is not a file of ours, and a file git still lists may be deleted in the
            // working tree.
            if !full.symlink_metadata().is_ok_and(|found| found.is_file()) {
                continue;
            }
            let folders = Path::new(&path).ancestors().filter_map(Path::to_str);
            tree.paths.extend(folders.map(str::to_owned));
            let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
            // Anything else is data: the rules are about text.
            if let Ok(text) = String::from_utf8(bytes)
                && !text.contains('\0')
            {
                tree.files.push(TextFile { path, text });
            }
        }
        Ok(tree)
    }

    /// The text file at `path`, if there is one.
    pub(crate) fn file(&self, path: &str) -> Option<&TextFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The first line of the file at `path` that `wanted` accepts, counted from 1; 1 when there is
    /// none.
    pub(crate) fn line_of(&self, path: &str, wanted: impl Fn(&str) -> bool) -> usize {
        let position = self
            .file(path)
            .and_then(|file| file.text.lines().position(wanted));
        position.map_or(1, |index| index + 1)
    }
}

/// Tracked files and new ones that no ignore rule covers, so that a rule speaks before the commit
/// and not after.
fn git_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new("git");
    // A build machine may have checked out as another user; we only list names.
    command.args(["-c", "safe.directory=*", "ls-files", "-z"]);
    command.args(["--cached", "--others", "--exclude-standard"]);
    command.current_dir(root);
    let output = command.output().context("cannot start git ls-files")?;
    anyhow::ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let list = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}

/// Every file below `root`, for a tree that came without git: a release archive, or a test.
fn all_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))
            .with_context(|| format!("cannot list {folder}"))?
        {
            let entry = entry?;
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .context("a file name is not UTF-8")?;
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            if !entry.file_type()?.is_dir() {
                found.push(path);
            } else if path != "target" {
                folders.push(path);
            }
        }
    }
    Ok(found)
}
