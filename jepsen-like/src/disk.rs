//! A file system in user space that keeps only what was synced, and can fail in every way a disk fails.
//!
//! [`Disk::mount`] serves it from threads of this process. A database is started with its data on it, is killed, and
//! [`Disk::act_data`] takes away what it had not synced: that is a power cut.
//!
//! # What is durable
//!
//! - The bytes and the size of a file: after `fsync` or `fdatasync` of it, or after a write with `O_SYNC` or
//!   `O_DSYNC`. Nothing else counts: not `close`, not `sync_file_range`, not `sync` or `syncfs`.
//! - A name, created, removed or renamed: after `fsync` of its directory. A rename is there or not, also between
//!   directories, and what it depends on is there with it. What was replaced by a rename comes back with the old name.
//! - The name of a file is also durable after a sync of the file itself, as on ext4, with the directories above it:
//!   a new file's after `fsync` and `fdatasync`, a renamed file's after `fsync`. POSIX does not promise that, so
//!   [`Entries::WithDirectory`] does without. A removal never is durable by a sync of the file.
//! - Nothing else: but for a tear no dirty page is ever written back by itself. A file renamed over another one without having been
//!   synced is empty after a cut, although ext4 tries to avoid just that (`auto_da_alloc`). Every state that is left
//!   here can be left by a real disk.
//! - Permissions, owners and times at once.
//!
//! A torn write is a cut in the middle of the kernel's writing back: each file, by itself, has some of its first changes
//! since its last sync in whole, and of the write behind those whole sectors of 512 bytes, a prefix or all but some; gaps
//! are zeros. The first 4 MiB of a file's unsynced writes take part.
//! A lost tail is a cut after which what was synced in the last up to 1000 ms is gone too: a drive that said yes and kept
//! it in its cache. The files at the top are spared, as if they lay on another one, and names that were durable stay: a
//! file that is younger than the tail is there and empty.
//! A failed sync returns EIO and marks the dirty pages of 4 KiB as clean, as Linux does: later syncs succeed and do
//! not write these pages, unless they are written again; the size of the file becomes durable by a later sync. After
//! a failed sync of a directory its names are still to be synced.
//! A full disk has as many bytes as are used at that moment, by file size in whole pages: what is removed makes room,
//! creating something needs a page.
//!
//! # What is supported
//!
//! Files and directories, `flock` and record locks (by the kernel), `mmap` for reading, and for writing with `msync`,
//! `O_DIRECT` (which is no sync). Not: hard and symbolic links, special files, `fallocate`, extended attributes. The
//! kernel's write-back cache is off, so every `write` is seen at once; pages are cached for reading, and numbers of
//! files change with every change from below, so that no cached page outlives it.
//!
//! A process that still runs when the data changes has handles that return ESTALE, but for pages that the kernel has.
//!
//! # What it costs
//!
//! 200 bytes written and synced take 24 to 68 us, and 2.3 to 4.3 ms on the ext4 below it (two busy cores, n = 300, four
//! runs): a hundredth to a thirtieth. A sync is a question to this process, and syncs nothing below.
//! [`nemesis::Disk::Slow`] gives it the time that a disk takes; without that a process is hardly ever caught between a
//! write and its sync.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use fuser::{BackgroundSession, Config, Errno, MountOption, Session};

use crate::nemesis::{self, Refused};

mod content;
mod damage;
mod late;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod tree;

use late::Late;
use server::Server;
use state::{Shared, State};
use tree::{Owner, Tree};

/// When the name of a file that was synced is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entries {
    /// With the file, as on ext4.
    #[default]
    WithFile,
    /// When the directory is synced, which is all that POSIX promises.
    WithDirectory,
}

/// How a disk is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// When names are durable.
    pub entries: Entries,
    /// Whether its syncs do nothing and say they did. To see a check fail.
    pub lying: bool,
}

/// What a disk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Syncs of files and directories that succeeded.
    pub syncs: u64,
    /// Bytes that the last power cut took away, in whole pages.
    pub lost: u64,
    /// Whether the last power cut tore a write.
    pub torn: bool,
}

/// A mounted disk, for processes of this user only. Unmounted when dropped; when this process is killed the mount stays,
/// and everything there fails with ENOTCONN until somebody runs `umount`.
pub struct Disk {
    shared: Shared,
    backing: PathBuf,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts an empty disk at `at`. `backing` is where its bytes are: an empty directory, or one to be made; it is
    /// left for the caller to remove. What is drawn by chance is drawn from `seed`.
    ///
    /// # Errors
    /// [`Refused::NotHere`] when this machine does not let us mount, [`Refused::Failed`] when a directory is not
    /// empty or can not be used.
    pub fn mount(backing: &Path, at: &Path, seed: u64) -> Result<Disk, Refused> {
        Disk::mount_with(backing, at, seed, Settings::default())
    }

    /// As [`Disk::mount`], with settings.
    ///
    /// # Errors
    /// As [`Disk::mount`].
    pub fn mount_with(
        backing: &Path,
        at: &Path,
        seed: u64,
        settings: Settings,
    ) -> Result<Disk, Refused> {
        for dir in [backing, at] {
            match damage::make_empty_dir(dir) {
                Ok(true) => {}
                Ok(false) => return Err(failed(dir, "is not empty: name an empty directory")),
                Err(error) => return Err(failed(dir, error)),
            }
        }
        let absolute = |dir: &Path| dir.canonicalize().map_err(|error| failed(dir, error));
        let (backing, at) = (absolute(backing)?, absolute(at)?);
        let owner = Owner {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mode: 0o755,
        };
        let tree = Tree::new(&backing, settings.entries, owner);
        let shared = Shared::new(State::new(tree, seed, settings));
        let late = Late::start().map_err(|error| failed(&at, error))?;
        let server = Server::new(shared.clone(), late, backing.clone());
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("hansa-disk".to_owned()),
            MountOption::DefaultPermissions,
        ];
        let session = Session::new(server, &at, &config).and_then(Session::spawn);
        let session = session.map_err(|error| {
            let at = at.display();
            Refused::NotHere(format!(
                "mounting a FUSE file system at {at}: {error}; needs /dev/fuse, and root or fusermount3"
            ))
        })?;
        Ok(Disk {
            shared,
            backing,
            at,
            session: Some(session),
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// Brings a fault about. Faults add up; [`nemesis::Disk::Healthy`] ends all.
    pub fn act_disk(&self, disk: nemesis::Disk) {
        self.shared.lock().act_disk(disk);
    }

    /// The power goes: from now on every request fails with EIO, also the slow syncs that are under way, until
    /// [`Disk::act_data`] says what is left. A process that is only killed gets its last sync done by the kernel.
    pub fn power_off(&self) {
        self.shared.lock().power_off();
    }

    /// Changes the data of a node that does not run. Returns what was done, in words.
    ///
    /// # Errors
    /// [`Refused::NotHere`] when there is no data that could be changed so, [`Refused::Failed`] when the backing file
    /// system fails.
    pub fn act_data(&self, data: nemesis::Data) -> Result<String, Refused> {
        let done = self.shared.lock().act_data(data, &self.backing);
        match done {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(Refused::NotHere(format!(
                "{data:?} needs data on the disk, and to restore a copy that was kept before"
            ))),
            Err(error) => Err(failed(&self.backing, in_words(error))),
        }
    }

    /// Unmounts. When something is still open there, it is gone from sight at once and served until it is closed.
    fn unmount(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if session.umount_and_join().is_ok() {
            return;
        }
        for (program, flag) in [("umount", "-l"), ("fusermount3", "-uz")] {
            let mut command = Command::new(program);
            command.arg(flag).arg(&self.at).stderr(Stdio::null());
            if command.status().is_ok_and(|status| status.success()) {
                return;
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Disk");
        out.field("at", &self.at).finish_non_exhaustive()
    }
}

/// Whether this machine lets us mount a disk: tries it, once in the life of this process.
///
/// # Errors
/// Why not, in words.
pub fn possible() -> Result<(), String> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    TRIED.get_or_init(try_one).clone()
}

fn try_one() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let at = dir.path().join("at");
    let disk =
        Disk::mount(&dir.path().join("backing"), &at, 0).map_err(|error| error.to_string())?;
    let written = std::fs::write(at.join("tried"), "tried");
    let read = written.and_then(|()| std::fs::read(at.join("tried")));
    drop(disk);
    match read {
        Ok(bytes) if bytes == b"tried" => Ok(()),
        Ok(_) => Err("a FUSE file system gives other bytes than were written".to_owned()),
        Err(error) => Err(format!(
            "a FUSE file system is mounted and does not work: {error}"
        )),
    }
}

fn failed(path: &Path, error: impl fmt::Display) -> Refused {
    Refused::Failed(format!("{}: {error}", path.display()))
}

fn in_words(error: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(error.into())
}
