//! The adapter for `sled` 0.34: one tree, with what the engine leaves out added.
//!
//! - `flush` does not make the file's new length durable (on a power cut everything was lost), so
//!   [`SledStore::sync`] adds an `fdatasync` of the file `db`.
//! - A tree node of more than a quarter of a segment goes into a file of its own under `blobs/` that is never
//!   synced. So values are cut into chunks, segments are as long as the engine allows, and a sync
//!   fails when there is a blob all the same. Arithmetic: see [`SEGMENT_BYTES`].
//! - It has no snapshots: `snapshot` keeps the values that later batches overwrite.
//! - It panics on damaged files: every call is guarded.
//!
//! ```text
//! key:        family u8         | key               ->  00 | value   or   01 | number of chunks u32 BE
//! chunk key:  family u8 + 0x80  | key | index u32 BE ->  chunk
//! ```

mod snapshot;

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hansa_consistency::port::{Damaged, Family, Write};
use sled::{Db, IVec};

use self::snapshot::{Overwritten, SledView};
use super::raw::{RawStore, RawView, Visit, guarded};
use super::{Engine, Options, StoreError};

/// The engine's longest segment. A node is kept out of `blobs/` while it is under a quarter of it, 4 MiB.
/// A leaf splits above 16 items and merges below 4, so it holds at most 20 of 13 + 7 KiB = 400 KiB; an
/// inner node splits above 256 keys of at most 13 KiB = 3.3 MiB.
const SEGMENT_BYTES: usize = 16 << 20;

/// Longest value kept in one item, and longest chunk, bytes: with a short key an item stays under 8 KiB.
const CHUNK_BYTES_MAX: usize = 7 * 1024;

/// Added to the family in the keys of chunks.
const CHUNK: u8 = 0x80;

/// A value that follows in its item.
const WHOLE: u8 = 0;

/// A value in chunks.
const CHUNKED: u8 = 1;

/// How long `open` waits for the threads of an earlier store in this process to let go of the file.
const REOPEN_WAIT_MAX: Duration = Duration::from_secs(10);

/// An open `sled` database.
pub(super) struct SledStore(Arc<Shared>);

/// What the store shares with its snapshots.
struct Shared {
    /// `Some` until dropped.
    db: Option<Db>,
    /// Held for reading while a value is put together from its chunks, for writing while a batch goes in.
    snapshots: RwLock<Vec<Weak<Overwritten>>>,
    /// The engine's file, opened a second time for `fdatasync`.
    file: File,
    blobs: PathBuf,
}

impl SledStore {
    /// Opens the database in `path`, or makes one there.
    pub(super) fn open(path: &Path, options: Options) -> Result<SledStore, StoreError> {
        remove_unfinished(path).map_err(StoreError::io("tidying the database"))?;
        let db = guarded(Engine::Sled, || open_db(path, options))?;
        let file = File::open(path.join("db")).map_err(StoreError::io("opening the database"))?;
        Ok(SledStore(Arc::new(Shared {
            db: Some(db),
            snapshots: RwLock::default(),
            file,
            blobs: path.join("blobs"),
        })))
    }

    fn view(&self) -> SledView {
        let overwritten = Arc::<Overwritten>::default();
        let mut snapshots = self
            .0
            .snapshots
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        snapshots.push(Arc::downgrade(&overwritten));
        SledView::new(self.0.clone(), overwritten)
    }
}

fn open_db(path: &Path, options: Options) -> Result<Db, StoreError> {
    let deadline = Instant::now() + REOPEN_WAIT_MAX;
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(options.cache_bytes)
        .segment_size(SEGMENT_BYTES)
        // Durability is ours to ask for; a timer of the engine would only add load.
        .flush_every_ms(None);
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            // Our own lock is held, so whoever has the file is a thread of this process that is about to end.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(failure("opening the database", error)),
        }
    }
}

/// Removes index snapshots that were being written when the process died: the engine would stumble over them.
fn remove_unfinished(path: &Path) -> std::io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(path.join(&*name))?;
        }
    }
    Ok(())
}

fn failure(what: &'static str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) => StoreError::Io { what, source },
        error => StoreError::Broken {
            engine: Engine::Sled,
            what: format!("{what}: {error}"),
        },
    }
}

/// Damage of the engine's own structure, found while a record of `family` was read.
fn damaged(family: Family, what: &str) -> StoreError {
    StoreError::Damaged(Damaged {
        family,
        what: what.to_owned(),
    })
}

fn item_key(family: Family, key: &[u8]) -> Vec<u8> {
    [&[family as u8], key].concat()
}

fn chunk_key(family: Family, key: &[u8], index: u32) -> Vec<u8> {
    [&[family as u8 + CHUNK], key, &index.to_be_bytes()].concat()
}

/// The number of chunks an item points to; 0 when it holds its value itself.
fn chunk_count(family: Family, item: &[u8]) -> Result<u32, StoreError> {
    match item {
        [WHOLE, ..] => Ok(0),
        [CHUNKED, count @ ..] => count
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| damaged(family, "a chunk count is not four bytes long")),
        _ => Err(damaged(family, "an item is of no known kind")),
    }
}

impl Shared {
    /// The engine. It is there until `drop`, and nothing calls after that.
    fn db(&self) -> Result<&Db, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::Broken {
            engine: Engine::Sled,
            what: "it is closed".into(),
        })
    }

    /// Keeps batches out for as long as the guard lives. A panic under the lock was one of the
    /// engine and has poisoned the store, so the state of the lock says nothing more.
    fn hold(&self) -> RwLockReadGuard<'_, Vec<Weak<Overwritten>>> {
        self.snapshots
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The value under `key` now. The caller holds the lock.
    fn current(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.item(item_key(family, key))? {
            Some(item) => self.value(family, key, &item).map(Some),
            None => Ok(None),
        }
    }

    fn item(&self, key: Vec<u8>) -> Result<Option<IVec>, StoreError> {
        let item = self.db()?.get(key);
        item.map_err(|error| failure("reading a record", error))
    }

    /// The value of `item`, which stands under `key`. The caller holds the lock.
    fn value(&self, family: Family, key: &[u8], item: &[u8]) -> Result<Bytes, StoreError> {
        let chunks = chunk_count(family, item)?;
        if chunks == 0 {
            return Ok(Bytes::copy_from_slice(&item[1..]));
        }
        let mut value = Vec::new();
        for index in 0..chunks {
            let chunk = self.item(chunk_key(family, key, index))?;
            let chunk = chunk.ok_or_else(|| damaged(family, "a chunk is missing"))?;
            value.extend_from_slice(&chunk);
        }
        Ok(value.into())
    }

    /// Adds to `batch` what `write` takes, including the removal of chunks no longer needed.
    fn add(&self, batch: &mut sled::Batch, write: &Write) -> Result<(), StoreError> {
        let Write { family, key, value } = write;
        let (family, item_key) = (*family, item_key(*family, key));
        let old = match self.item(item_key.clone())? {
            // A damaged item is being replaced: whatever chunks it had are lost space at worst.
            Some(item) => chunk_count(family, &item).unwrap_or(0),
            None => 0,
        };
        let mut chunks = 0;
        match value {
            None => batch.remove(item_key),
            Some(value) if value.len() <= CHUNK_BYTES_MAX => {
                batch.insert(item_key, [&[WHOLE], &value[..]].concat());
            }
            Some(value) => {
                for chunk in value.chunks(CHUNK_BYTES_MAX) {
                    batch.insert(chunk_key(family, key, chunks), chunk);
                    chunks += 1;
                }
                let item = [&[CHUNKED], &chunks.to_be_bytes()[..]].concat();
                batch.insert(item_key, item);
            }
        }
        for index in chunks..old {
            batch.remove(chunk_key(family, key, index));
        }
        Ok(())
    }

    fn refuse_blobs(&self) -> Result<(), StoreError> {
        let mut blobs = fs::read_dir(&self.blobs).map_err(StoreError::io("looking for blobs"))?;
        match blobs.next() {
            None => Ok(()),
            Some(_) => Err(StoreError::Broken {
                engine: Engine::Sled,
                what: "it wrote a blob file, which it never syncs".into(),
            }),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The engine writes and syncs when it is dropped, and panics when that fails. What must be durable
        // was synced before, so there is nobody left to tell.
        let db = self.db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

impl RawView for SledStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        guarded(Engine::Sled, || {
            let _hold = self.0.hold();
            self.0.current(family, key)
        })
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.view().scan(family, from, to, visit)
    }
}

impl RawStore for SledStore {
    fn snapshot(&self) -> Result<Box<dyn RawView>, StoreError> {
        Ok(Box::new(self.view()))
    }

    fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        guarded(Engine::Sled, || {
            let mut snapshots = self
                .0
                .snapshots
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            snapshots.retain(|snapshot| snapshot.strong_count() > 0);
            for snapshot in snapshots.iter().filter_map(Weak::upgrade) {
                snapshot.keep(&writes, |family, key| self.0.current(family, key))?;
            }
            let mut batch = sled::Batch::default();
            for write in &writes {
                self.0.add(&mut batch, write)?;
            }
            let applied = self.0.db()?.apply_batch(batch);
            applied.map_err(|error| failure("writing a batch", error))
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        guarded(Engine::Sled, || {
            let flushed = self.0.db()?.flush();
            flushed.map_err(|error| failure("flushing", error))?;
            self.0.refuse_blobs()?;
            let synced = self.0.file.sync_data();
            synced.map_err(StoreError::io("syncing the database"))
        })
    }

    /// The engine cleans segments by itself as it writes, and has no call for more.
    fn maintain(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The engine does not tell.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}
