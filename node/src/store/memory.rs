//! The engine that keeps nothing over a restart: one ordered map per family. For tests.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};

use super::StoreError;
use super::raw::{RawStore, RawView, Visit};

/// A snapshot shares the maps; the first batch after it copies those it changes.
type Maps = [Arc<BTreeMap<Bytes, Bytes>>; Family::ALL.len()];

/// Maps behind a lock. A sync is a promise kept for as long as the process lives.
#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    maps: RwLock<Maps>,
}

impl MemoryStore {
    /// Nothing in here panics while the lock is held, so a poisoned lock is taken as it is.
    fn view(&self) -> MemoryView {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        MemoryView(maps.clone())
    }
}

impl RawView for MemoryStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        Ok(maps[family as usize].get(key).cloned())
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

impl RawStore for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn RawView>, StoreError> {
        Ok(Box::new(self.view()))
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        for write in batch {
            let map = Arc::make_mut(&mut maps[write.family as usize]);
            match write.value {
                Some(value) => map.insert(write.key, value),
                None => map.remove(&write.key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn maintain(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

struct MemoryView(Maps);

impl RawView for MemoryView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0[family as usize].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.0[family as usize].range::<[u8], _>((Bound::Included(from), to)) {
            if visit(key, value.clone()) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
