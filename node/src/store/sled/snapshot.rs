//! Snapshots for an engine that has none: each keeps the values that batches overwrote since it was taken,
//! and lays them over the engine's present state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};

use super::{Shared, failure, item_key};
use crate::store::raw::{RawView, Visit, guarded};
use crate::store::{Engine, StoreError};

/// Pairs read under the lock at once: a scan must not keep a batch waiting for long.
const PAGE_PAIRS_MAX: usize = 256;

/// Bytes of values read under the lock at once, about at most.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Old values by key; `None` where there was no value.
type Old = BTreeMap<Bytes, Option<Bytes>>;

/// What one snapshot keeps, per family.
#[derive(Default)]
pub(super) struct Overwritten([Mutex<Old>; Family::ALL.len()]);

impl Overwritten {
    fn of(&self, family: Family) -> MutexGuard<'_, Old> {
        let old = self.0[family as usize].lock();
        old.unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what `writes` are about to overwrite, as `current` gives it.
    pub(super) fn keep(
        &self,
        writes: &[Write],
        current: impl Fn(Family, &[u8]) -> Result<Option<Bytes>, StoreError>,
    ) -> Result<(), StoreError> {
        for write in writes {
            if let Entry::Vacant(entry) = self.of(write.family).entry(write.key.clone()) {
                entry.insert(current(write.family, &write.key)?);
            }
        }
        Ok(())
    }
}

/// A snapshot.
pub(super) struct SledView {
    shared: Arc<Shared>,
    overwritten: Arc<Overwritten>,
}

/// Some pairs of a scan, and the key after which to go on, if there may be more.
#[derive(Default)]
struct Page {
    pairs: Vec<(Bytes, Bytes)>,
    last: Option<Bytes>,
}

impl SledView {
    pub(super) fn new(shared: Arc<Shared>, overwritten: Arc<Overwritten>) -> SledView {
        SledView {
            shared,
            overwritten,
        }
    }

    /// The next pairs from `from` on: those the engine has now, but for keys overwritten since.
    fn page(
        &self,
        family: Family,
        from: Bound<&[u8]>,
        to: Option<&[u8]>,
    ) -> Result<Page, StoreError> {
        let _hold = self.shared.hold();
        let (mut page, mut bytes) = (Page::default(), 0);
        let range = (from, to.map_or(Bound::Unbounded, Bound::Excluded));
        let overwritten = self.overwritten.of(family);
        let mut old = overwritten.range::<[u8], _>(range).peekable();
        for item in self.shared.db()?.range(item_range(family, from, to)) {
            let (key, item) = item.map_err(|error| failure("reading a record", error))?;
            let key = Bytes::copy_from_slice(&key[1..]);
            while let Some((old_key, value)) = old.next_if(|(old_key, _)| **old_key < key) {
                page.push(old_key, value.as_ref());
            }
            if let Some((_, value)) = old.next_if(|(old_key, _)| **old_key == key) {
                page.push(&key, value.as_ref());
            } else {
                let value = self.shared.value(family, &key, &item)?;
                bytes += value.len();
                page.push(&key, Some(&value));
            }
            if page.pairs.len() >= PAGE_PAIRS_MAX || bytes >= PAGE_BYTES_MAX {
                page.last = Some(key);
                return Ok(page);
            }
        }
        for (old_key, value) in old {
            page.push(old_key, value.as_ref());
        }
        Ok(page)
    }
}

impl Page {
    fn push(&mut self, key: &Bytes, value: Option<&Bytes>) {
        if let Some(value) = value {
            self.pairs.push((key.clone(), value.clone()));
        }
    }
}

/// The engine's keys of a range of `family`.
fn item_range(
    family: Family,
    from: Bound<&[u8]>,
    to: Option<&[u8]>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = match to {
        Some(to) => item_key(family, to),
        None => vec![family as u8 + 1],
    };
    (
        from.map(|from| item_key(family, from)),
        Bound::Excluded(end),
    )
}

impl RawView for SledView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        guarded(Engine::Sled, || {
            let _hold = self.shared.hold();
            match self.overwritten.of(family).get(key) {
                Some(old) => Ok(old.clone()),
                None => self.shared.current(family, key),
            }
        })
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut page = guarded(Engine::Sled, || {
            self.page(family, Bound::Included(from), to)
        })?;
        loop {
            for (key, value) in page.pairs {
                if visit(&key, value) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            let Some(last) = page.last else { return Ok(()) };
            page = guarded(Engine::Sled, || {
                self.page(family, Bound::Excluded(&last), to)
            })?;
        }
    }
}
