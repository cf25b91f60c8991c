//! A simulated disk: writes become durable when a group is synced; a crash undoes what was not.
//!
//! Worse disks are part of it: one whose sync does nothing, and one that loses the tail of what it
//! had synced (a shortened journal), in which case only the separately synced sequence file tells.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use hansa_consistency::port::{Damaged, Family, Reader, Write};

type Key = (Family, Bytes);

/// Synced groups whose undoing is remembered, so that a tail can be lost.
const TAIL_MAX: usize = 64;

/// Records written so lately count as in use.
const IN_USE_MAX: usize = 8;

#[derive(Debug)]
struct Group {
    number: u64,
    synced: bool,
    before: Vec<(Key, Option<Bytes>)>,
}

/// A log entry that had been durable and is gone.
#[derive(Debug)]
pub struct LostEntry {
    /// Its storage key, the same on every node.
    pub key: Bytes,
    /// What stood there.
    pub record: Bytes,
}

/// One node's disk.
#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<Key, Bytes>,
    groups: VecDeque<Group>,
    next: u64,
    /// The sequence file's content.
    sequence_file: u64,
    /// Whether reads see the groups that are not synced yet.
    pub hides_pending: bool,
    touched_pending: Cell<bool>,
    /// Records whose checksum no longer holds, until they are written again.
    damaged: BTreeSet<Key>,
}

/// A disk's content at one moment.
#[derive(Clone, Debug)]
pub struct Copy {
    rows: BTreeMap<Key, Bytes>,
    sequence_file: u64,
}

impl Disk {
    /// Writes a group; it is visible at once and durable after [`Disk::sync`]. Returns its number.
    pub fn write(&mut self, writes: &[Write]) -> u64 {
        let mut before = Vec::with_capacity(writes.len());
        for write in writes {
            let key = (write.family, write.key.clone());
            self.damaged.remove(&key);
            let old = match &write.value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(&key),
            };
            before.push((key, old));
        }
        self.next += 1;
        self.groups.push_back(Group {
            number: self.next,
            synced: false,
            before,
        });
        self.next
    }

    /// Makes every group up to this one durable.
    pub fn sync(&mut self, upto: u64) {
        for group in &mut self.groups {
            group.synced |= group.number <= upto;
        }
        while self.groups.len() > TAIL_MAX && self.groups[0].synced {
            self.groups.pop_front();
        }
    }

    /// The newest group written.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.next
    }

    /// Whether everything written is durable.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.groups.back().is_none_or(|group| group.synced)
    }

    /// Syncs the sequence file.
    pub fn write_sequence(&mut self, sequence: u64) {
        self.sequence_file = self.sequence_file.max(sequence);
    }

    /// What the sequence file says.
    #[must_use]
    pub fn sequence_file(&self) -> u64 {
        self.sequence_file
    }

    /// The machine loses power: what was not synced is gone, and of what was, the last `tail` groups.
    /// Returns the log entries that had been durable and are gone.
    pub fn crash(&mut self, tail: usize) -> Vec<LostEntry> {
        let mut lost = Vec::new();
        let mut lost_synced = 0;
        while let Some(group) = self.groups.back() {
            if group.synced {
                if lost_synced == tail {
                    break;
                }
                lost_synced += 1;
            }
            lost.extend(self.undo_newest());
        }
        lost
    }

    /// Undoes the newest group. Returns its log entries if it was synced.
    fn undo_newest(&mut self) -> Vec<LostEntry> {
        let mut lost = Vec::new();
        let Some(group) = self.groups.pop_back() else {
            return lost;
        };
        for (key, old) in group.before.into_iter().rev() {
            let now = match old {
                Some(value) => self.rows.insert(key.clone(), value),
                None => self.rows.remove(&key),
            };
            if let (true, Family::Log, Some(record)) = (group.synced, key.0, now) {
                lost.push(LostEntry { key: key.1, record });
            }
        }
        lost
    }

    /// The disk is replaced by an empty one. Returns the log entries that had been durable.
    pub fn wipe(&mut self) -> Vec<LostEntry> {
        self.crash(0);
        let entries = std::mem::take(self).rows.into_iter();
        let entries = entries.filter(|((family, _), _)| *family == Family::Log);
        let lost = entries.map(|((_, key), record)| LostEntry { key, record });
        lost.collect()
    }

    /// The process ends and the machine goes on: of the groups not synced yet the oldest `handed_over` had reached
    /// the system and are still there, those behind them are gone.
    pub fn end_process(&mut self, handed_over: usize) {
        let unsynced = self.groups.iter().filter(|group| !group.synced).count();
        for _ in handed_over..unsynced {
            self.undo_newest();
        }
    }

    /// How many groups are not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.groups.iter().filter(|group| !group.synced).count()
    }

    /// Everything that is visible is durable from now on: what a start finds.
    pub fn settle(&mut self) {
        self.sync(self.next);
    }

    /// The machine loses power in the middle of a write: the oldest `written` of the groups not synced are there by
    /// chance, the next one in part. A batch that is there in part is dropped by its checksum, and all behind it.
    pub fn tear(&mut self, written: usize) {
        let upto = self.groups.iter().filter(|group| !group.synced);
        if let Some(last) = upto.take(written).last().map(|group| group.number) {
            self.sync(last);
        }
        self.crash(0);
    }

    /// Damages a record, of all the one at this place; `false` when there is none.
    pub fn damage(&mut self, place: u64) -> bool {
        let count = self.rows.len() as u64;
        let place = place.checked_rem(count).unwrap_or(0) as usize;
        let key = self.rows.keys().nth(place).cloned();
        let hit = key.is_some();
        self.damaged.extend(key);
        hit
    }

    /// Damages, of the rows and ballot records written lately, the one at this place: one that is in use, else
    /// nobody would meet it. `false` when there is none.
    pub fn damage_in_use(&mut self, place: u64) -> bool {
        let lately = self.groups.iter().rev().flat_map(|group| &group.before);
        let in_use: BTreeSet<&Key> = lately
            .map(|(key, _)| key)
            .filter(|key| matches!(key.0, Family::Data | Family::Slot))
            .filter(|key| self.rows.contains_key(*key))
            .take(IN_USE_MAX)
            .collect();
        let place = place.checked_rem(in_use.len() as u64).unwrap_or(0) as usize;
        let key = in_use.into_iter().nth(place).cloned();
        let hit = key.is_some();
        self.damaged.extend(key);
        hit
    }

    /// Whether a pass over all records finds a damaged one.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// A copy of what is durable.
    #[must_use]
    pub fn copy(&self) -> Copy {
        let mut rows = self.rows.clone();
        for group in self.groups.iter().rev().take_while(|group| !group.synced) {
            for (key, old) in group.before.iter().rev() {
                match old {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        Copy {
            rows,
            sequence_file: self.sequence_file,
        }
    }

    /// An earlier copy is put back. Returns the log entries that had been durable and are gone.
    pub fn restore(&mut self, copy: &Copy) -> Vec<LostEntry> {
        self.crash(0);
        let before = std::mem::take(self).rows;
        self.rows = copy.rows.clone();
        self.sequence_file = copy.sequence_file;
        let lost = before.into_iter().filter(|((family, key), record)| {
            *family == Family::Log && copy.rows.get(&(*family, key.clone())) != Some(record)
        });
        lost.map(|((_, key), record)| LostEntry { key, record })
            .collect()
    }

    /// Whether this very log entry is held: visible now, and durable too when `durably`.
    #[must_use]
    pub fn holds(&self, entry: &LostEntry, durably: bool) -> bool {
        let key = (Family::Log, entry.key.clone());
        // Another entry may stand under the same name: a name that nobody else knew is given again.
        let held = match self.pending(&key).filter(|_| durably) {
            Some(durable) => durable,
            None => self.rows.get(&key),
        };
        held == Some(&entry.record)
    }

    /// Whether a read since the last call used a row that is not durable yet.
    pub fn take_touched_pending(&self) -> bool {
        self.touched_pending.replace(false)
    }

    /// The durable value of a key that an unsynced group wrote: `Some(old)`, else `None`.
    fn pending(&self, key: &Key) -> Option<Option<&Bytes>> {
        let mut unsynced = self.groups.iter().rev().take_while(|group| !group.synced);
        let mut oldest = None;
        for group in &mut unsynced {
            let written = group.before.iter().find(|(written, _)| written == key);
            oldest = written.map(|(_, old)| old.as_ref()).or(oldest);
        }
        oldest
    }

    fn look(&self, key: &Key, visible: Option<&Bytes>) -> Result<Option<Bytes>, Damaged> {
        if self.damaged.contains(key) {
            return Err(Damaged {
                family: key.0,
                what: "the checksum does not hold".into(),
            });
        }
        Ok(match self.pending(key) {
            None => visible.cloned(),
            Some(durable) => {
                self.touched_pending.set(true);
                match self.hides_pending {
                    true => durable.cloned(),
                    false => visible.cloned(),
                }
            }
        })
    }
}

impl Reader for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
        let key = (family, Bytes::copy_from_slice(key));
        self.look(&key, self.rows.get(&key))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        let from = (family, Bytes::copy_from_slice(from));
        for (key, value) in self.rows.range(from..) {
            if key.0 != family || to.is_some_and(|to| &key.1[..] >= to) {
                break;
            }
            if let Some(value) = self.look(key, Some(value))?
                && visit(&key.1, value).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Write {
        Write {
            family: Family::Data,
            key: Bytes::from(key),
            value: Some(Bytes::from(value)),
        }
    }

    fn get(disk: &Disk, key: &str) -> Option<Bytes> {
        disk.get(Family::Data, key.as_bytes()).unwrap()
    }

    #[test]
    fn a_crash_undoes_what_was_not_synced_and_a_lost_tail_more() {
        let mut disk = Disk::default();
        let first = disk.write(&[put("a", "1")]);
        disk.sync(first);
        let second = disk.write(&[put("a", "2"), put("b", "2")]);
        disk.sync(second);
        disk.write(&[put("a", "3")]);
        assert_eq!(get(&disk, "a"), Some("3".into()));
        assert!(disk.take_touched_pending());
        disk.crash(0);
        assert_eq!(get(&disk, "a"), Some("2".into()));
        assert!(!disk.take_touched_pending());
        disk.crash(1);
        assert_eq!((get(&disk, "a"), get(&disk, "b")), (Some("1".into()), None));
    }

    #[test]
    fn a_torn_write_leaves_whole_groups_and_an_ended_process_what_it_had_handed_over() {
        let mut disk = Disk::default();
        for (key, value) in [("a", "1"), ("b", "1"), ("c", "1")] {
            disk.write(&[put(key, value)]);
        }
        disk.end_process(2);
        assert_eq!((disk.unsynced(), get(&disk, "c")), (2, None));
        disk.tear(1);
        assert!(disk.is_clean());
        assert_eq!((get(&disk, "a"), get(&disk, "b")), (Some("1".into()), None));
    }

    #[test]
    fn a_damaged_record_is_told_until_it_is_written_again() {
        let mut disk = Disk::default();
        assert!(!disk.damage(7));
        disk.write(&[put("a", "1")]);
        assert!(disk.damage(7) && disk.is_damaged());
        assert!(disk.get(Family::Data, b"a").is_err());
        disk.write(&[put("a", "2")]);
        assert_eq!(get(&disk, "a"), Some("2".into()));
    }

    #[test]
    fn an_old_copy_holds_what_was_durable_and_loses_what_came_later() {
        let mut disk = Disk::default();
        let log = |key: &'static str, value: &'static str| Write {
            family: Family::Log,
            ..put(key, value)
        };
        let first = disk.write(&[log("a", "1")]);
        disk.sync(first);
        disk.write(&[log("a", "2")]);
        let copy = disk.copy();
        disk.write(&[log("b", "1")]);
        disk.settle();
        let lost = disk.restore(&copy);
        assert_eq!(lost.len(), 2);
        let held = disk.get(Family::Log, b"a").unwrap();
        assert_eq!(held, Some("1".into()));
        assert_eq!(disk.get(Family::Log, b"b").unwrap(), None);
    }

    #[test]
    fn a_reader_that_hides_pending_writes_sees_the_durable_ones() {
        let mut disk = Disk::default();
        let first = disk.write(&[put("a", "1")]);
        disk.sync(first);
        disk.write(&[put("a", "2")]);
        disk.write(&[put("a", "3")]);
        disk.hides_pending = true;
        assert_eq!(get(&disk, "a"), Some("1".into()));
    }
}
