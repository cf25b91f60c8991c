//! What the cases are made of.

pub(crate) mod node;

use std::path::{Path, PathBuf};

use hansa_jepsen::disk::{self, Disk, Settings};
use tempfile::TempDir;

use crate::say::say;

/// A mounted disk and the directory that all of it is in.
pub(crate) struct Bench {
    // Before the directory: it is unmounted first.
    pub(crate) disk: Disk,
    pub(crate) home: TempDir,
}

impl Bench {
    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.disk.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// A disk, or none and a line that says why.
pub(crate) fn bench(case: &str) -> Option<Bench> {
    bench_with(case, Settings::default())
}

pub(crate) fn bench_with(case: &str, settings: Settings) -> Option<Bench> {
    if let Err(reason) = disk::possible() {
        say(&format!("not run: disk {case}: {reason}"));
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let (backing, at) = (home.path().join("backing"), home.path().join("at"));
    let disk = Disk::mount_with(&backing, &at, 7, settings).unwrap();
    Some(Bench { disk, home })
}
