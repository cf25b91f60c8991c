//! What the core reads: the store, with the batches that are not yet durable laid over it.
//!
//! The driver steps the next group while the last one is being synced. The core must see every earlier
//! write, durable or not, but a reply that rests on a write that is not yet durable has to wait for its
//! sync. So the overlay says which group a read touched.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Range;
use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use hansa_consistency::port::{Damaged, Family, Reader, Write};

use super::{StoreError, View};

/// The writes to one key that are pending, oldest first, with their groups. Mostly one.
type Versions = VecDeque<(u64, Option<Bytes>)>;
type Rows = BTreeMap<Bytes, Versions>;

/// The batches handed to the store but not yet durable, by group, oldest first.
///
/// Memory is in proportion to what is pending. Pushing and retiring cost a map operation per write.
#[derive(Debug, Default)]
pub struct Pending {
    rows: [Rows; Family::ALL.len()],
    groups: VecDeque<(u64, Vec<(Family, Bytes)>)>,
}

impl Pending {
    /// Lays `batch` over everything before it. A group may be pushed in parts: the group being stepped is
    /// pushed write by write. Group numbers must not go down; one lower than the last counts as the last.
    pub fn push(&mut self, group: u64, batch: &[Write]) {
        let group = self.groups.back().map_or(group, |last| group.max(last.0));
        if self.groups.back().is_none_or(|last| last.0 < group) {
            self.groups.push_back((group, Vec::new()));
        }
        for write in batch {
            let rows = &mut self.rows[write.family as usize];
            let versions = rows.entry(write.key.clone()).or_default();
            match versions.back_mut() {
                Some(last) if last.0 == group => last.1 = write.value.clone(),
                _ => {
                    versions.push_back((group, write.value.clone()));
                    if let Some((_, keys)) = self.groups.back_mut() {
                        keys.push((write.family, write.key.clone()));
                    }
                }
            }
        }
    }

    /// Forgets all groups up to and including `group`. Only after the store applied and synced them: from
    /// now on the store itself is asked.
    pub fn retire(&mut self, group: u64) {
        while self.groups.front().is_some_and(|first| first.0 <= group) {
            let keys = self.groups.pop_front().map(|(_, keys)| keys);
            for (family, key) in keys.into_iter().flatten() {
                let rows = &mut self.rows[family as usize];
                if let Some(versions) = rows.get_mut(&key) {
                    versions.retain(|(of, _)| *of > group);
                    if versions.is_empty() {
                        rows.remove(&key);
                    }
                }
            }
        }
    }

    /// Whether a write to this key is not yet durable.
    pub fn holds(&self, family: Family, key: &[u8]) -> bool {
        self.rows[family as usize].contains_key(key)
    }
}

/// A [`Reader`] of one step: `store` under `pending`.
///
/// The core's reader can only report damage, so a failure of the system or the engine comes to it as
/// [`Damaged`] and is kept in [`Overlay::take_failure`]. Whoever steps the core must look there first: damage
/// costs the vote, a failure that is none must not, so what the step decided on it is not carried out.
pub struct Overlay<'a> {
    store: &'a dyn View,
    pending: &'a Pending,
    touched: Cell<Option<u64>>,
    failure: RefCell<Option<StoreError>>,
}

impl<'a> Overlay<'a> {
    /// Lays `pending` over `store`.
    pub fn new(store: &'a dyn View, pending: &'a Pending) -> Overlay<'a> {
        Overlay {
            store,
            pending,
            touched: Cell::new(None),
            failure: RefCell::new(None),
        }
    }

    /// The newest group of which a read met a write (a delete is one too, and so is a write that a scan passed). A reply that rests on these reads waits for that group's sync.
    pub fn touched_pending(&self) -> Option<u64> {
        self.touched.get()
    }

    /// The first failure of the store that was no damaged record, if one came up. It is handed out once.
    pub fn take_failure(&self) -> Option<StoreError> {
        self.failure.borrow_mut().take()
    }

    /// The pending write to a key that counts, noted as touched.
    fn newest<'v>(&self, versions: &'v Versions) -> Option<&'v Bytes> {
        let (group, value) = versions.back()?;
        self.touched.set(self.touched.get().max(Some(*group)));
        value.as_ref()
    }

    fn damaged(&self, family: Family, error: StoreError) -> Damaged {
        if let StoreError::Damaged(damaged) = error {
            return damaged;
        }
        let what = error.to_string();
        if !error.is_damage() {
            self.failure.borrow_mut().get_or_insert(error);
        }
        Damaged { family, what }
    }
}

/// The pending rows of a scan that were not visited yet.
type Rest<'a> = Peekable<Range<'a, Bytes, Versions>>;

impl Overlay<'_> {
    /// Visits the pending rows of `rest` below `end`, all when `None`.
    fn visit_below(
        &self,
        rest: &mut Rest<'_>,
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while let Some((key, versions)) =
            rest.next_if(|(key, _)| end.is_none_or(|end| key[..] < *end))
        {
            if let Some(value) = self.newest(versions) {
                visit(key, value.clone())?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Reader for Overlay<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
        if let Some(versions) = self.pending.rows[family as usize].get(key) {
            return Ok(self.newest(versions).cloned());
        }
        let value = self.store.get(family, key);
        value.map_err(|error| self.damaged(family, error))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let range = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let rows = &self.pending.rows[family as usize];
        let mut rest = rows.range::<[u8], _>(range).peekable();
        let mut flow = ControlFlow::Continue(());
        let mut outcome = Ok(());
        let scanned = self.store.scan_each(family, from, to, &mut |key, stored| {
            flow = self.visit_below(&mut rest, Some(key), visit);
            flow?;
            // A pending write hides what is stored, even a damaged record.
            flow = match (rest.next_if(|(pending, _)| **pending == *key), stored) {
                (Some((_, versions)), _) => match self.newest(versions) {
                    Some(value) => visit(key, value.clone()),
                    None => ControlFlow::Continue(()),
                },
                (None, Ok(value)) => visit(key, value),
                (None, Err(error)) => {
                    outcome = Err(self.damaged(family, error));
                    ControlFlow::Break(())
                }
            };
            flow
        });
        scanned.map_err(|error| self.damaged(family, error))?;
        outcome?;
        if flow.is_continue() {
            let _ = self.visit_below(&mut rest, None, visit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
