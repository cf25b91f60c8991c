//! The small file with the store sequence: a number that only grows, durable before any vote that
//! counts on it. A store that was shortened behind the node's back is behind this number.
//!
//! Two slots of one disk block each are written in turn, so that a write torn by a crash leaves
//! the other slot, which holds the last number that was acknowledged or the one before the torn one.
//!
//! ```text
//! slot, at 0 and at 4096:  "hansaseq" | format u8 | sequence u64 LE | xxh3-64 of the 17 bytes before, LE
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"hansaseq";
const FORMAT: u8 = 1;
const RECORD_BYTES: usize = 25;

/// Distance of the slots, bytes: a block, so that no one write of the disk touches both.
const SLOT_BYTES: usize = 4096;

/// Why there is no store sequence to go by.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// There is no such file. Beside a store that holds anything this is a loss.
    #[error("the store sequence file is missing")]
    Missing,
    /// The file is there, and neither slot holds.
    #[error("the store sequence file is damaged")]
    Damaged,
    /// A later version wrote it.
    #[error(
        "the store sequence file has format {found}, this version knows formats up to {known}: \
         use the version that wrote it"
    )]
    NewerFormat {
        /// Its format.
        found: u8,
        /// The newest format known here.
        known: u8,
    },
    /// A write failed earlier: what the file holds is open until it is opened again.
    #[error("the store sequence takes no writes until it is opened again")]
    Poisoned,
    /// Sequences only grow.
    #[error("store sequence {asked} is not above {current}")]
    NotAbove {
        /// What was to be written.
        asked: u64,
        /// What is there.
        current: u64,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> SequenceError {
    move |source| SequenceError::Io { what, source }
}

/// The open file. One writer; the caller's lock on the data directory keeps others out.
#[derive(Debug)]
pub struct SequenceFile {
    file: File,
    current: u64,
    /// The slot `current` is not in.
    next_slot: usize,
    poisoned: bool,
}

impl SequenceFile {
    /// Makes the file, holding `sequence`, durably. Replaces one that is there: only for a store that starts anew.
    ///
    /// # Errors
    /// [`SequenceError::Io`]; the old file, if any, is then still there.
    pub fn create(path: &Path, sequence: u64) -> Result<SequenceFile, SequenceError> {
        let made = || -> io::Result<()> {
            let mut name = path.as_os_str().to_owned();
            name.push(".creating");
            let creating = PathBuf::from(name);
            let mut slot = [0; SLOT_BYTES];
            slot[..RECORD_BYTES].copy_from_slice(&encode(sequence));
            let mut file = File::create(&creating)?;
            file.write_all(&[slot, slot].concat())?;
            file.sync_all()?;
            fs::rename(&creating, path)?;
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        made().map_err(io_error("making the store sequence file"))?;
        SequenceFile::open(path)
    }

    /// Opens the file and reads the highest sequence in it that holds.
    ///
    /// # Errors
    /// [`SequenceError::Missing`], [`SequenceError::Damaged`], [`SequenceError::NewerFormat`],
    /// [`SequenceError::Io`].
    pub fn open(path: &Path) -> Result<SequenceFile, SequenceError> {
        let opened = File::options().read(true).write(true).open(path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SequenceError::Missing,
            _ => io_error("opening the store sequence file")(source),
        })?;
        let (first, second) = (read_slot(&file, 0)?, read_slot(&file, 1)?);
        let Some(current) = first.max(second) else {
            return Err(SequenceError::Damaged);
        };
        Ok(SequenceFile {
            file,
            current,
            // The slot that is not the newest; when one is torn that is the torn one.
            next_slot: usize::from(first == Some(current)),
            poisoned: false,
        })
    }

    /// The highest sequence known to be durable. After damage of the newest slot it is one write behind: that
    /// can not be told from a write cut off by a crash.
    pub fn current(&self) -> u64 {
        self.current
    }

    /// Writes `sequence` and returns when it is durable. One small write and one `fdatasync`.
    ///
    /// # Errors
    /// [`SequenceError::NotAbove`], nothing written; [`SequenceError::Io`], after which every write is
    /// refused as [`SequenceError::Poisoned`].
    pub fn write(&mut self, sequence: u64) -> Result<(), SequenceError> {
        if self.poisoned {
            return Err(SequenceError::Poisoned);
        }
        if sequence <= self.current {
            return Err(SequenceError::NotAbove {
                asked: sequence,
                current: self.current,
            });
        }
        let offset = (self.next_slot * SLOT_BYTES) as u64;
        let written = self
            .file
            .write_all_at(&encode(sequence), offset)
            .and_then(|()| self.file.sync_data());
        self.poisoned = written.is_err();
        written.map_err(io_error("writing the store sequence file"))?;
        self.current = sequence;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn encode(sequence: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(MAGIC);
    record[8] = FORMAT;
    record[9..17].copy_from_slice(&sequence.to_le_bytes());
    let sum = xxh3_64(&record[..17]);
    record[17..].copy_from_slice(&sum.to_le_bytes());
    record
}

/// The sequence in a slot, `None` when it does not hold.
fn read_slot(file: &File, slot: usize) -> Result<Option<u64>, SequenceError> {
    let mut record = [0; RECORD_BYTES];
    match file.read_exact_at(&mut record, (slot * SLOT_BYTES) as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read.map_err(io_error("reading the store sequence file"))?,
    }
    let (body, sum) = record.split_at(17);
    if body[..8] != *MAGIC || sum != xxh3_64(body).to_le_bytes() {
        return Ok(None);
    }
    if body[8] != FORMAT {
        return Err(SequenceError::NewerFormat {
            found: body[8],
            known: FORMAT,
        });
    }
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&body[9..]);
    Ok(Some(u64::from_le_bytes(sequence)))
}

#[cfg(test)]
mod tests;
