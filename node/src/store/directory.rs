//! The directory of a store: who may open it, which engine made it, and how it comes into being.
//!
//! A new store is made whole under `creating/` and renamed to `current/`, so that a crash in the middle
//! leaves either nothing or a store, and never half of one.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Engine, StoreError};
use crate::mutant::{DiskMutant, DiskRules};

/// The version of the directory's layout and of the use of the engine made by its adapter.
const FORMAT: u32 = 1;

const TITLE: &str = "hansa store";

/// An opened and locked directory that holds a whole store. The lock ends with this value.
#[derive(Debug)]
pub(super) struct Directory {
    dir: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks `dir`, and checks that it holds a store of `engine`; makes one with `create` when there is none.
    /// `create` makes the engine's files in the path it is given and has closed them when it returns.
    pub(super) fn open(
        dir: &Path,
        engine: Engine,
        create: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<Directory, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("making the store's directory"))?;
        let directory = Directory {
            dir: dir.to_owned(),
            _lock: lock(dir)?,
        };
        let current = dir.join("current");
        let exists = fs::exists(&current).map_err(StoreError::io("looking for the store"))?;
        if exists {
            check_format(&current, engine)?;
        } else {
            let creating = dir.join("creating");
            begin(&creating, engine).map_err(StoreError::io("starting a new store"))?;
            create(&creating.join("db"))?;
            finish(&creating, &current).map_err(StoreError::io("finishing a new store"))?;
        }
        Ok(directory)
    }

    /// Where the engine's files are.
    pub(super) fn db(&self) -> PathBuf {
        self.dir.join("current").join("db")
    }

    /// Bytes on disk of the engine's files, as allocated. Files that vanish while being counted count 0.
    pub(super) fn disk_bytes(&self) -> u64 {
        allocated(&self.db()).unwrap_or(0)
    }

    /// Free bytes of the file system, for whoever runs this process.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let vfs = rustix::fs::statvfs(&self.dir)?;
        Ok(vfs.f_bavail.saturating_mul(vfs.f_frsize))
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("LOCK"))
        .map_err(StoreError::io("opening the store's lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(StoreError::io("taking the store's lock")(source)),
    }
}

fn begin(creating: &Path, engine: Engine) -> io::Result<()> {
    match fs::remove_dir_all(creating) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(creating.join("db"))?;
    let mut format = File::create(creating.join("FORMAT"))?;
    write!(format, "{TITLE}\nengine = {engine}\nformat = {FORMAT}\n")
}

fn finish(creating: &Path, current: &Path) -> io::Result<()> {
    if DiskRules::of_process().broken(DiskMutant::NamesNotSynced) {
        return fs::rename(creating, current);
    }
    sync_tree(creating)?;
    fs::rename(creating, current)?;
    // `current` has a parent, the directory, and that has one too unless it is the root.
    for dir in current.ancestors().skip(1).take(2) {
        sync_names(dir)?;
    }
    Ok(())
}

/// Makes a directory and all that leads to it; when this returns, the names of those that were missing are durable.
/// A directory that only the page cache knows is gone after a power cut, with everything that was synced in it.
pub(crate) fn make_durable(path: &Path) -> io::Result<()> {
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let made: Vec<&Path> = path.ancestors().take_while(missing).collect();
    fs::create_dir_all(path)?;
    if DiskRules::of_process().broken(DiskMutant::NamesNotSynced) {
        return Ok(());
    }
    for dir in made.iter().filter_map(|dir| dir.parent()) {
        sync_names(dir)?;
    }
    Ok(())
}

/// Makes the names in a directory durable. The name of a relative directory's parent is empty: it is the working
/// directory.
fn sync_names(dir: &Path) -> io::Result<()> {
    let empty = dir.as_os_str().is_empty();
    File::open(if empty { Path::new(".") } else { dir })?.sync_all()
}

/// Syncs every file and directory under `path`: engines do not all sync the directories they make.
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

fn allocated(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // A file that a compaction removed meanwhile takes no space any more.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            allocated(&entry.path()).unwrap_or(0)
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

fn check_format(current: &Path, engine: Engine) -> Result<(), StoreError> {
    let not_a_store = |what: String| StoreError::NotAStore {
        dir: current.to_owned(),
        what,
    };
    let bytes = match fs::read(current.join("FORMAT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(not_a_store("the file FORMAT is missing".into()));
        }
        read => read.map_err(StoreError::io("reading the store's FORMAT"))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let (found, format) =
        parse_format(&text).ok_or_else(|| not_a_store("the file FORMAT is damaged".into()))?;
    if format > FORMAT {
        return Err(StoreError::NewerFormat {
            what: format!("the store in {}", current.display()),
            found: format,
            known: FORMAT,
        });
    }
    if found != engine.name() {
        return Err(StoreError::WrongEngine {
            dir: current.to_owned(),
            found: found.to_owned(),
            wanted: engine,
        });
    }
    Ok(())
}

/// The engine's name and the format. Later formats keep these three lines and may add others.
fn parse_format(text: &str) -> Option<(&str, u32)> {
    let mut lines = text.lines();
    (lines.next()? == TITLE).then_some(())?;
    let engine = lines.next()?.strip_prefix("engine = ")?;
    let format = lines.next()?.strip_prefix("format = ")?.parse().ok()?;
    (format > 0).then_some((engine, format))
}

#[cfg(test)]
mod tests;
