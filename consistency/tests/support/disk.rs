//! A disk in memory that may hold writes back until it is synced.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use hansa_consistency::port::{Damaged, Family, Reader, Write};

type Key = (Family, Bytes);

/// What one node stores.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    durable: BTreeMap<Key, Bytes>,
    pending: BTreeMap<Key, Option<Bytes>>,
    used_pending: Cell<bool>,
}

impl Disk {
    /// Takes a batch in: readers see it, a crash loses it until [`Disk::sync`].
    pub(crate) fn write(&mut self, writes: Vec<Write>) {
        for write in writes {
            self.pending.insert((write.family, write.key), write.value);
        }
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) {
        for (key, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => self.durable.insert(key, value),
                None => self.durable.remove(&key),
            };
        }
    }

    /// A crash: what was not synced is gone.
    pub(crate) fn lose_pending(&mut self) {
        self.pending.clear();
    }

    /// Whether anything waits for a sync.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether a read used something pending since this was asked last.
    pub(crate) fn take_used_pending(&self) -> bool {
        self.used_pending.replace(false)
    }
}

impl Reader for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
        let key = (family, Bytes::copy_from_slice(key));
        match self.pending.get(&key) {
            Some(value) => {
                self.used_pending.set(true);
                Ok(value.clone())
            }
            None => Ok(self.durable.get(&key).cloned()),
        }
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        let start = Bound::Included((family, Bytes::copy_from_slice(from)));
        let inside = |key: &Key| key.0 == family && to.is_none_or(|to| &key.1[..] < to);
        let mut rows: BTreeMap<&Key, Option<&Bytes>> = BTreeMap::new();
        let durable = self.durable.range((start.clone(), Bound::Unbounded));
        rows.extend(
            durable
                .take_while(|e| inside(e.0))
                .map(|(k, v)| (k, Some(v))),
        );
        let pending = self.pending.range((start, Bound::Unbounded));
        for (key, value) in pending.take_while(|e| inside(e.0)) {
            self.used_pending.set(true);
            rows.insert(key, value.as_ref());
        }
        for ((_, key), value) in rows {
            if let Some(value) = value
                && visit(key, value.clone()).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}
