//! What every engine's store does alike: bounds, checksums, the space reserve and poisoning.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};

use super::directory::Directory;
use super::raw::{RawStore, RawView};
use super::{
    Engine, KEY_BYTES_MAX, Options, Stats, Store, StoreError, VALUE_BYTES_MAX, View, VisitEach,
    copy, record,
};
use crate::mutant::{DiskMutant, DiskRules};

/// A [`Store`] over a raw engine.
pub(super) struct Checked<R> {
    // Dropped in this order: the engine closes its files before the lock is given up.
    raw: R,
    /// `None` for a store that lies nowhere. Snapshots share the lock.
    directory: Option<Arc<Directory>>,
    engine: Engine,
    options: Options,
    /// Set once, by the first failed batch or sync.
    poison: OnceLock<String>,
    rules: DiskRules,
}

impl<R: RawStore> Checked<R> {
    pub(super) fn new(
        raw: R,
        engine: Engine,
        directory: Option<Directory>,
        options: Options,
    ) -> Self {
        Checked {
            raw,
            directory: directory.map(Arc::new),
            engine,
            options,
            poison: OnceLock::new(),
            rules: DiskRules::of_process(),
        }
    }

    fn refuse_if_poisoned(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            Some(cause) => Err(StoreError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Lets no further write pass when `outcome` is a failure.
    fn poison_on_failure(
        &self,
        what: &str,
        outcome: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Err(error) = &outcome {
            self.poison
                .get_or_init(|| format!("{what} failed: {error}"));
        }
        outcome
    }

    /// Checks the bounds of every write, and the free space for all of them.
    fn admit(&self, batch: &[Write]) -> Result<(), StoreError> {
        let mut bytes = 0;
        for write in batch {
            let family = write.family;
            if !key_in_bounds(&write.key) {
                let bytes = write.key.len();
                return Err(StoreError::KeyLength { family, bytes });
            }
            let value = write.value.as_ref().map_or(0, Bytes::len);
            if value > VALUE_BYTES_MAX {
                return Err(StoreError::ValueTooLong {
                    family,
                    bytes: value,
                });
            }
            bytes += (write.key.len() + value) as u64;
        }
        self.room_for(bytes)
    }
}

fn key_in_bounds(key: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len())
}

/// The batch as the engine gets it: values wrapped, and of the writes to one key only the last one.
fn prepare(batch: &[Write]) -> Vec<Write> {
    let mut seen = HashSet::with_capacity(batch.len());
    let mut prepared = Vec::with_capacity(batch.len());
    for write in batch.iter().rev() {
        if !seen.insert((write.family, &write.key[..])) {
            continue;
        }
        let value = write.value.as_ref();
        prepared.push(Write {
            family: write.family,
            // A copy: the caller's key may be a part of a whole network buffer, and the engine keeps it for long.
            key: Bytes::copy_from_slice(&write.key),
            value: value.map(|value| record::wrap(write.family, &write.key, value)),
        });
    }
    prepared
}

fn get(raw: &dyn RawView, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    if !key_in_bounds(key) {
        return Ok(None);
    }
    let record = raw.get(family, key)?;
    record
        .map(|record| record::unwrap(family, key, &record))
        .transpose()
}

fn scan(
    raw: &dyn RawView,
    family: Family,
    from: &[u8],
    to: Option<&[u8]>,
    visit: &mut VisitEach<'_>,
) -> Result<(), StoreError> {
    if to.is_some_and(|to| to <= from) {
        return Ok(());
    }
    raw.scan(family, from, to, &mut |key, record| {
        visit(key, record::unwrap(family, key, &record))
    })
}

impl<R: RawStore> View for Checked<R> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        get(&self.raw, family, key)
    }

    fn scan_each(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitEach<'_>,
    ) -> Result<(), StoreError> {
        scan(&self.raw, family, from, to, visit)
    }
}

/// A snapshot with the same checks.
struct CheckedView {
    raw: Box<dyn RawView>,
    _directory: Option<Arc<Directory>>,
}

impl View for CheckedView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        get(&*self.raw, family, key)
    }

    fn scan_each(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitEach<'_>,
    ) -> Result<(), StoreError> {
        scan(&*self.raw, family, from, to, visit)
    }
}

impl<R: RawStore> Store for Checked<R> {
    fn engine(&self) -> Engine {
        self.engine
    }

    fn snapshot(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(CheckedView {
            raw: self.raw.snapshot()?,
            _directory: self.directory.clone(),
        }))
    }

    fn apply(&self, batch: &[Write]) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.admit(batch)?;
        if self.rules.broken(DiskMutant::BatchTorn) {
            let mut records = prepare(batch).into_iter();
            return records.try_for_each(|record| self.raw.apply(vec![record]));
        }
        self.poison_on_failure("a batch", self.raw.apply(prepare(batch)))
    }

    fn room_for(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let free = directory
            .free_bytes()
            .map_err(StoreError::io("asking for the free disk space"))?;
        let needed = self.options.reserve_bytes + bytes;
        if free < needed {
            return Err(StoreError::Full { free, needed });
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        if self.rules.broken(DiskMutant::SyncFailureIgnored) {
            return self.raw.sync().or_else(|_| self.raw.sync()).or(Ok(()));
        }
        self.poison_on_failure("a sync", self.raw.sync())
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        if self.directory.is_none() {
            return Err(StoreError::Unsupported {
                engine: self.engine,
                what: "write a checkpoint",
            });
        }
        if holds_something(dir)? {
            return Err(StoreError::NotAStore {
                dir: dir.to_owned(),
                what: "a checkpoint goes into an absent or empty directory".into(),
            });
        }
        let snapshot = self.snapshot()?;
        copy(&*snapshot, &*super::open(self.engine, dir, self.options)?)
    }

    fn maintain(&self) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        self.raw.maintain()
    }

    fn stats(&self) -> Stats {
        let disk = |directory: &Arc<Directory>| directory.disk_bytes();
        Stats {
            disk_bytes: self.directory.as_ref().map_or(0, disk),
            memory_bytes: self.raw.memory_bytes(),
            poisoned: self.poison.get().is_some(),
        }
    }
}

fn holds_something(dir: &Path) -> Result<bool, StoreError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("looking at the checkpoint's directory")(
            error,
        )),
    }
}

#[cfg(test)]
mod tests;
