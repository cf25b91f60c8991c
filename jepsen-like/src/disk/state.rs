//! A disk and what is wrong with it. One lock over all of it: see [`Shared`].

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Whether the power is off: nothing reaches the disk, and nothing comes from it.
    off: bool,
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
            off: false,
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
            _ if self.off => Err(Errno::EIO),
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
        self.off = true;
    }

    /// Changes the data. None when there is no data that could be changed so.
    pub(super) fn act_data(
        &mut self,
        data: nemesis::Data,
        backing: &Path,
    ) -> Result<Option<String>, Errno> {
        self.off = false;
        if data != nemesis::Data::Keep {
            self.life += 1;
        }
        match data {
            nemesis::Data::DropUnsynced => self.cut(false).map(Some),
            nemesis::Data::Tear => self.cut(true).map(Some),
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
    fn cut(&mut self, tear: bool) -> Result<String, Errno> {
        let mut lost = self.tree.cut();
        let torn = if tear { self.pick_torn() } else { None };
        let mut done = String::new();
        for (ino, node) in &mut self.tree.nodes {
            let Kind::File(content) = &mut node.kind else {
                continue;
            };
            if Some(*ino) == torn {
                let (gone, how) = content.tear(&mut self.random)?;
                lost += gone;
                done = how;
            } else {
                lost += content.roll_back()?;
            }
        }
        self.counters.lost = lost;
        self.counters.torn = torn.is_some();
        let torn = match torn {
            Some(ino) => format!("; of {} {done}", self.tree.path(ino).display()),
            None if tear => "; no unsynced write to tear".to_owned(),
            None => String::new(),
        };
        Ok(format!("{lost} unsynced bytes are gone{torn}"))
    }

    /// A file with an unsynced write.
    fn pick_torn(&mut self) -> Option<Ino> {
        let can = |ino: &Ino| self.tree.content(*ino).is_ok_and(|it| it.can_tear());
        let all: Vec<Ino> = self.tree.nodes.keys().copied().filter(can).collect();
        self.random.pick(&all).copied()
    }
}
