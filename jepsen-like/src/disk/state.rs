//! A disk and what is wrong with it. One lock over all of it: see [`Shared`].

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuser::{Errno, INodeNo};

use super::content::BLOCK;
use super::damage::{self, Kept};
use super::tree::{Ino, Kind, ROOT, Tree};
use super::{Counters, Settings};
use crate::nemesis;
use crate::random::Random;

/// Bits of a number that the kernel knows a file by which are our number of it; the others count the lives of the
/// disk.
const INO_BITS: u32 = 40;

/// What is wrong with it now.
#[derive(Clone, Copy, Default)]
struct Faults {
    fail_syncs: bool,
    /// What it holds at most, bytes.
    capacity: Option<u64>,
    slow: Duration,
}

/// What a sync is about.
#[derive(Clone, Copy)]
pub(super) enum Synced {
    File { data_only: bool },
    Directory,
}

/// See the module.
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) counters: Counters,
    faults: Faults,
    lying: bool,
    /// Since when the power is off, if it is: nothing reaches the disk, and nothing comes from it.
    off: Option<Instant>,
    random: Random,
    kept: Option<Kept>,
    /// How often the data was changed from below. After that every file has another number for the kernel, so that
    /// nothing it caches is used, and no handle of before reaches anything.
    life: u64,
}

/// The state, for the server and for whoever brings faults about.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        Shared(Arc::new(Mutex::new(state)))
    }

    /// What a panic of another thread leaves is used as it is: the run has failed anyway.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn new(tree: Tree, seed: u64, settings: Settings) -> State {
        State {
            tree,
            counters: Counters::default(),
            faults: Faults::default(),
            lying: settings.lying,
            off: None,
            random: Random::new(seed),
            kept: None,
            life: 0,
        }
    }

    /// The number that the kernel knows something by.
    pub(super) fn number(&self, ino: Ino) -> INodeNo {
        match ino {
            ROOT => INodeNo::ROOT,
            ino => INodeNo((self.life << INO_BITS) | ino),
        }
    }

    /// What the kernel means.
    pub(super) fn find(&self, number: INodeNo) -> Result<Ino, Errno> {
        match number {
            _ if self.off.is_some() => Err(Errno::EIO),
            INodeNo::ROOT => Ok(ROOT),
            INodeNo(number) if number >> INO_BITS == self.life => {
                Ok(number & ((1 << INO_BITS) - 1))
            }
            _ => Err(Errno::ESTALE),
        }
    }

    /// Bytes left, where that is bounded.
    pub(super) fn room(&self) -> Option<u64> {
        let capacity = self.faults.capacity?;
        Some(capacity.saturating_sub(self.tree.used()))
    }

    /// Refuses what needs more bytes than are left.
    pub(super) fn need(&self, bytes: u64) -> Result<(), Errno> {
        match self.room() {
            Some(room) if bytes > 0 && room < bytes => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    /// Refuses to let a file end there when there is no room for that.
    pub(super) fn need_size(&self, ino: Ino, size: u64) -> Result<(), Errno> {
        let now = self.tree.content(ino)?.size().next_multiple_of(BLOCK);
        self.need(size.next_multiple_of(BLOCK).saturating_sub(now))
    }

    /// How much later a sync is.
    pub(super) fn slowness(&self) -> Duration {
        self.faults.slow
    }

    /// Carries a sync out.
    pub(super) fn sync(&mut self, number: INodeNo, what: Synced) -> Result<(), Errno> {
        let ino = self.find(number)?;
        if self.faults.fail_syncs {
            if let Kind::File(content) = &mut self.tree.node_mut(ino)?.kind {
                content.fail_sync();
            }
            return Err(Errno::EIO);
        }
        self.counters.syncs += 1;
        match what {
            _ if self.lying => Ok(()),
            Synced::File { data_only } => self.tree.sync_file(ino, data_only),
            Synced::Directory => self.tree.sync_dir(ino),
        }
    }

    /// Brings a fault about, or ends all.
    pub(super) fn act_disk(&mut self, disk: nemesis::Disk) {
        match disk {
            nemesis::Disk::Healthy => self.faults = Faults::default(),
            nemesis::Disk::FailSyncs => self.faults.fail_syncs = true,
            nemesis::Disk::Full => self.faults.capacity = Some(self.tree.used()),
            nemesis::Disk::Slow(ms) => self.faults.slow = Duration::from_millis(ms),
        }
    }

    /// The power goes, and comes back with the next change of the data.
    pub(super) fn power_off(&mut self) {
        self.off.get_or_insert_with(Instant::now);
    }

    /// Changes the data. None when there is no data that could be changed so.
    pub(super) fn act_data(
        &mut self,
        data: nemesis::Data,
        backing: &Path,
    ) -> Result<Option<String>, Errno> {
        let ended = self.off.take().unwrap_or_else(Instant::now);
        if data != nemesis::Data::Keep {
            self.life += 1;
        }
        match data {
            nemesis::Data::DropUnsynced => self.cut().map(Some),
            nemesis::Data::Tear => self.tear().map(Some),
            nemesis::Data::LoseTail(ms) => {
                let tail = Duration::from_millis(ms);
                // A clock that began later than that has seen no sync before.
                self.lose_tail(ended.checked_sub(tail)).map(Some)
            }
            nemesis::Data::FlipBit => damage::flip_bit(&mut self.tree, &mut self.random),
            nemesis::Data::Misdirect => damage::misdirect(&mut self.tree, &mut self.random),
            nemesis::Data::Wipe => {
                let entries = self.tree.nodes.len() - 1;
                self.tree.wipe();
                Ok(Some(format!("wiped {entries} files and directories")))
            }
            nemesis::Data::Keep => {
                let kept = Kept::keep(&self.tree, &backing.join("kept"))?;
                let done = format!("kept {} files and directories", kept.len());
                self.kept = Some(kept);
                Ok(Some(done))
            }
            nemesis::Data::Restore => {
                let Some(kept) = &self.kept else {
                    return Ok(None);
                };
                kept.restore(&mut self.tree)?;
                Ok(Some(format!(
                    "restored {} files and directories",
                    kept.len()
                )))
            }
        }
    }

    /// The power goes and comes back.
    fn cut(&mut self) -> Result<String, Errno> {
        let mut lost = self.tree.cut();
        for ino in self.tree.files() {
            lost += self.tree.content_mut(ino)?.roll_back()?;
        }
        self.counters.lost = lost;
        self.counters.torn = false;
        Ok(format!("{lost} unsynced bytes are gone"))
    }

    /// As a cut, and of every file some of what was not synced is there: each is written back by itself.
    fn tear(&mut self) -> Result<String, Errno> {
        let mut lost = self.tree.cut();
        let mut torn = String::new();
        for ino in self.tree.files() {
            let content = self.tree.content_mut(ino)?;
            if !content.can_tear() {
                lost += content.roll_back()?;
                continue;
            }
            let (gone, how) = content.tear(&mut self.random)?;
            lost += gone;
            torn += &format!("; of {} {how}", self.tree.path(ino).display());
        }
        self.counters.lost = lost;
        self.counters.torn = !torn.is_empty();
        if torn.is_empty() {
            torn = "; no unsynced write to tear".to_owned();
        }
        Ok(format!("{lost} unsynced bytes are gone{torn}"))
    }

    /// As a cut, and of files below the top what was synced since that moment is gone too.
    fn lose_tail(&mut self, since: Option<Instant>) -> Result<String, Errno> {
        let mut lost = self.tree.cut();
        for ino in self.tree.files() {
            let place = &self.tree.node(ino)?.durable;
            let below = place.as_ref().is_some_and(|place| place.dir != ROOT);
            let content = self.tree.content_mut(ino)?;
            lost += match since.filter(|_| below) {
                Some(since) => content.lose_since(since)?,
                None => content.roll_back()?,
            };
        }
        self.counters.lost = lost;
        self.counters.torn = false;
        Ok(format!("{lost} bytes are gone, synced ones too"))
    }
}
