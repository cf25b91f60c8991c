//! Why a store refused or failed.

use std::io;
use std::path::PathBuf;

use hansa_consistency::port::{Damaged, Family};
use rustix::io::Errno;

use super::Engine;

/// Why a store refused or failed. No message holds a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A record is there but its checksum does not hold. Other records are not concerned.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// An earlier sync or batch failed, so the store's files may be behind what was applied.
    /// Writes are refused until the store is opened again; reads go on.
    #[error("the store takes no writes until it is opened again: {cause}")]
    Poisoned {
        /// The failure that came first.
        cause: String,
    },
    /// Free disk space is below the reserve. Nothing was applied. Writes are taken again
    /// as soon as there is space.
    #[error("the disk is full: {free} bytes free, {needed} bytes needed")]
    Full {
        /// Free bytes on the store's file system.
        free: u64,
        /// The reserve, and what the batch takes.
        needed: u64,
    },
    /// Another process, or another part of this one, has the directory open.
    #[error("the store in {} is in use", dir.display())]
    InUse {
        /// Which directory.
        dir: PathBuf,
    },
    /// The directory was made by another engine.
    #[error(
        "the store in {} was made by engine {found:?}, not {wanted}: \
         start with `engine = {found:?}`, or with an empty data directory",
        dir.display()
    )]
    WrongEngine {
        /// Which directory.
        dir: PathBuf,
        /// The engine its `FORMAT` file names.
        found: String,
        /// The engine asked for.
        wanted: Engine,
    },
    /// Something was written by a later version of this program. It was not touched.
    #[error(
        "{what} has format {found}, this version knows formats up to {known}: use the version that wrote it"
    )]
    NewerFormat {
        /// What it is.
        what: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The directory holds something, but no store that can be recognised.
    #[error("no store in {}: {what}", dir.display())]
    NotAStore {
        /// Which directory.
        dir: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The engine found its own files damaged, or failed in a way it has no name for.
    #[error("engine {engine} failed: {what}")]
    Broken {
        /// Which engine.
        engine: Engine,
        /// What it said.
        what: String,
    },
    /// A key is empty or too long. Nothing was applied.
    #[error("a key of {bytes} bytes for family {}: 1 to {max} are allowed", family.name(), max = super::KEY_BYTES_MAX)]
    KeyLength {
        /// For which family.
        family: Family,
        /// Its length.
        bytes: usize,
    },
    /// A value is too long. Nothing was applied.
    #[error(
        "a value of {bytes} bytes for family {}: at most {max} are allowed",
        family.name(),
        max = super::VALUE_BYTES_MAX
    )]
    ValueTooLong {
        /// For which family.
        family: Family,
        /// Its length.
        bytes: usize,
    },
    /// The engine can not do this.
    #[error("engine {engine} can not {what}")]
    Unsupported {
        /// Which engine.
        engine: Engine,
        /// What it can not do.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether it says that stored bytes are not what was written, rather than that the system refused
    /// something. Engines run into files that are cut off or gone as ordinary errors of reading.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged(_) => true,
            StoreError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::NotFound
            ),
            _ => false,
        }
    }

    /// Whether, met while everything is looked at, it says that the store can not be used as it is: damage, an
    /// engine that gives up, a device that fails. Anything else is a refusal that somebody can lift.
    pub fn condemns(&self) -> bool {
        match self {
            StoreError::Broken { .. } | StoreError::NotAStore { .. } => true,
            StoreError::Io { source, .. } if Errno::from_io_error(source) == Some(Errno::IO) => {
                true
            }
            error => error.is_damage(),
        }
    }

    /// Whether the system was only short of something: files, memory or space. The same call may work later.
    pub fn may_pass(&self) -> bool {
        let StoreError::Io { source, .. } = self else {
            return false;
        };
        matches!(
            Errno::from_io_error(source),
            Some(
                Errno::MFILE
                    | Errno::NFILE
                    | Errno::NOMEM
                    | Errno::NOBUFS
                    | Errno::NOSPC
                    | Errno::DQUOT
                    | Errno::AGAIN
                    | Errno::INTR
            )
        )
    }

    /// For `map_err`: the system refused while `what` was being done.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io { what, source }
    }
}
