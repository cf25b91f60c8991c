//! The `hansa` binary that tests of real processes start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The binary of this profile. No package of ours depends on it, so a test of this package alone may find none, or
/// one that is older than its sources: then it is built.
pub(crate) fn program() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        if let Some(named) = std::env::var_os("HANSA_BIN") {
            return named.into();
        }
        let own = std::env::current_exe().unwrap();
        let beside = own.parent().and_then(Path::parent).unwrap().join("hansa");
        let built = std::fs::metadata(&beside).and_then(|it| it.modified());
        if !built.is_ok_and(|built| built >= newest_source()) {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(cargo);
            command.args(["build", "--quiet", "--package", "hansa"]);
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
            if !cfg!(debug_assertions) {
                command.arg("--release");
            }
            assert!(command.status().unwrap().success(), "no binary");
        }
        beside
    };
    FOUND.get_or_init(find).clone()
}

/// When a source of the binary was changed last.
fn newest_source() -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let parts = [
        "client/src",
        "client/cli/src",
        "consistency/src",
        "node/src",
        "proto",
    ];
    let mut folders: Vec<PathBuf> = parts.iter().map(|part| root.join(part)).collect();
    let mut newest = SystemTime::UNIX_EPOCH;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => newest = newest.max(entry.metadata().unwrap().modified().unwrap()),
            }
        }
    }
    newest
}
