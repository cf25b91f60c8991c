//! The adapter for `fjall`: one of its keyspaces per family, one journal under all of them.
//!
//! A batch goes into the journal as one checksummed entry, so it is there whole or not at all; a sync is
//! one `fdatasync` of the journal. What `fjall` does not do, and this adapter or its callers must:
//! it reads single keys at their newest state, even in the middle of a batch (we read through snapshots);
//! it drops a damaged journal tail without a word (the store sequence notices); it compacts only
//! as a side effect of writes (`maintain`).

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use hansa_consistency::port::{Damaged, Family, Write};

use super::raw::{RawStore, RawView, Visit, guarded};
use super::{Engine, Options, StoreError};

/// Two, because with one `fjall` can wait for itself when it recovers several full write buffers.
const WORKERS: usize = 2;

/// Journal files not yet flushed, bytes: the smallest bound `fjall` takes. Bounds disk use and recovery time.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;

/// Files kept open.
const OPEN_FILES_MAX: usize = 256;

/// How long `maintain` waits for the write buffers to be flushed.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(60);

/// Write buffer of a family, bytes. About twice the sum is in memory while buffers are flushed.
fn write_buffer_bytes(family: Family) -> u64 {
    match family {
        Family::Data | Family::Log => 8 << 20,
        Family::Slot => 4 << 20,
        Family::Meta => 1 << 20,
    }
}

/// An open `fjall` database.
pub(super) struct FjallStore {
    families: [Keyspace; Family::ALL.len()],
    db: Database,
    /// Held while a batch is written and while a snapshot is taken: the engine's own background work may publish half
    /// of a batch to one that is taken in the middle of it. Reads without a snapshot never wait for it.
    batches: Mutex<()>,
}

impl FjallStore {
    /// Opens the database in `path`, or makes one there.
    pub(super) fn open(path: &Path, options: Options) -> Result<FjallStore, StoreError> {
        guarded(Engine::Fjall, || {
            let db = Database::builder(path)
                .cache_size(options.cache_bytes)
                .max_cached_files(Some(OPEN_FILES_MAX))
                .max_journaling_size(JOURNALS_BYTES_MAX)
                .worker_threads(WORKERS)
                .open()
                .map_err(|error| failure("opening the database", error))?;
            let keyspace = |family: Family| {
                let options = || {
                    KeyspaceCreateOptions::default().max_memtable_size(write_buffer_bytes(family))
                };
                db.keyspace(family.name(), options)
                    .map_err(|error| failure("opening a family", error))
            };
            let [meta, data, slot, log] = Family::ALL;
            Ok(FjallStore {
                families: [
                    keyspace(meta)?,
                    keyspace(data)?,
                    keyspace(slot)?,
                    keyspace(log)?,
                ],
                db,
                batches: Mutex::default(),
            })
        })
    }

    fn view(&self) -> FjallView {
        FjallView {
            families: self.families.clone(),
            snapshot: self.db.snapshot(),
        }
    }
}

/// What an error outside of reading means.
fn failure(what: &'static str, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
            StoreError::Io { what, source }
        }
        fjall::Error::Poisoned => StoreError::Poisoned {
            cause: "an earlier write of the engine failed, perhaps in the background".into(),
        },
        error => StoreError::Broken {
            engine: Engine::Fjall,
            what: format!("{what}: {error}"),
        },
    }
}

/// What an error in reading means: anything but a refusal of the system is damage, found by
/// the engine's own checksums.
fn read_failure(family: Family, error: fjall::Error) -> StoreError {
    match failure("reading a record", error) {
        StoreError::Broken { what, .. } => StoreError::Damaged(Damaged { family, what }),
        other => other,
    }
}

impl RawView for FjallStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        read(&self.db.snapshot(), &self.families, family, key)
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

impl RawStore for FjallStore {
    fn snapshot(&self) -> Result<Box<dyn RawView>, StoreError> {
        let _whole = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(self.view()))
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        // A panic under the lock leaves nothing half done: it guards no data.
        let _whole = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(Engine::Fjall, || {
            let mut writes = self.db.batch();
            for write in batch {
                let keyspace = &self.families[write.family as usize];
                match write.value {
                    Some(value) => writes.insert(keyspace, write.key, value),
                    None => writes.remove(keyspace, write.key),
                }
            }
            writes
                .commit()
                .map_err(|error| failure("writing a batch", error))
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        guarded(Engine::Fjall, || {
            self.db
                .persist(PersistMode::SyncData)
                .map_err(|error| failure("syncing the journal", error))
        })
    }

    /// The engine removes the files this replaces with its next flush of a write buffer, or when it is opened.
    fn maintain(&self) -> Result<(), StoreError> {
        guarded(Engine::Fjall, || {
            for keyspace in &self.families {
                flush(&self.db, keyspace)?;
                keyspace
                    .major_compact()
                    .map_err(|error| failure("compacting", error))?;
            }
            Ok(())
        })
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.db.cache_size() + self.db.write_buffer_size())
    }
}

/// Has the write buffer of `keyspace` written out, and waits for it: compaction sees only what is in files.
fn flush(db: &Database, keyspace: &Keyspace) -> Result<(), StoreError> {
    let failed = |error| failure("flushing a write buffer", error);
    keyspace.rotate_memtable().map_err(failed)?;
    let deadline = Instant::now() + FLUSH_WAIT_MAX;
    while keyspace.sealed_memtable_count() > 0 {
        // Fails when the thread that flushes died: then nobody would end the wait.
        db.persist(PersistMode::Buffer).map_err(failed)?;
        if Instant::now() > deadline {
            return Err(StoreError::Broken {
                engine: Engine::Fjall,
                what: "a write buffer was not flushed in time".into(),
            });
        }
        // The engine tells nobody when a flush ends.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn read(
    snapshot: &Snapshot,
    families: &[Keyspace],
    family: Family,
    key: &[u8],
) -> Result<Option<Bytes>, StoreError> {
    guarded(Engine::Fjall, || {
        let value = snapshot
            .get(&families[family as usize], key)
            .map_err(|error| read_failure(family, error))?;
        Ok(value.map(Bytes::from))
    })
}

struct FjallView {
    families: [Keyspace; Family::ALL.len()],
    snapshot: Snapshot,
}

impl RawView for FjallView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        read(&self.snapshot, &self.families, family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        // The engine has no empty keys, not even as bounds.
        let from = match from {
            [] => Bound::Unbounded,
            from => Bound::Included(from),
        };
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut pairs = guarded(Engine::Fjall, || {
            Ok(self
                .snapshot
                .range::<&[u8], _>(&self.families[family as usize], (from, to)))
        })?;
        // The visitor runs outside the guard: its panics are its caller's.
        while let Some((key, value)) = guarded(Engine::Fjall, || {
            let pair = pairs.next().map(fjall::Guard::into_inner).transpose();
            pair.map_err(|error| read_failure(family, error))
        })? {
            if visit(&key, value.into()) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
