//! The bytes of one file: what a process sees, and what a power cut leaves of them.
//!
//! The file on the backing file system holds what a process sees. What the disk has instead is kept in memory, block
//! by block, from the first change of a block to the sync that makes it good. So a sync costs no copy, an append
//! costs no copy at all, and a cut writes the old blocks back.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use crate::random::Random;

/// What is written to a disk in one piece by the kernel's cache, bytes.
pub(super) const BLOCK: u64 = 4096;

/// What a disk writes in one piece, bytes: a torn write consists of whole ones.
pub(super) const SECTOR: u64 = 512;

/// Bytes of unsynced writes to one file that are remembered for a tear; of later ones nothing is left by it.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// How long what a sync made good can be taken back.
pub(super) const TAIL_MAX: Duration = Duration::from_secs(1);

/// A block that is not on the disk as the process sees it.
struct Undo {
    /// What the disk has of it: shorter than a block where the durable file ends, and zeros after that.
    image: Vec<u8>,
    /// Whether the next sync writes the block. Not so after a failed sync: the kernel takes its pages for clean.
    dirty: bool,
}

/// A change since the last sync.
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Resize(u64),
}

/// The changes since the last sync in their order, as far as they are remembered.
#[derive(Default)]
struct Unsynced {
    changes: Vec<Change>,
    bytes: u64,
}

impl Unsynced {
    fn note(&mut self, change: Change) {
        if let Change::Write { bytes, .. } = &change {
            self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        }
        // The first that does not fit ends it: what is left by a tear has no gap before it.
        if self.bytes <= UNSYNCED_BYTES_MAX {
            self.changes.push(change);
        }
    }
}

/// What a sync made good, and what stood there before.
struct Synced {
    when: Instant,
    durable_before: u64,
    undo: BTreeMap<u64, Undo>,
}

/// See the module.
pub(super) struct Content {
    file: File,
    size: u64,
    durable: u64,
    undo: BTreeMap<u64, Undo>,
    unsynced: Unsynced,
    /// The syncs of the last [`TAIL_MAX`], the oldest first.
    synced: VecDeque<Synced>,
}

impl Content {
    /// What a file holds, all of it durable.
    pub(super) fn new(file: File) -> io::Result<Content> {
        let size = file.metadata()?.len();
        Ok(Content {
            file,
            size,
            durable: size,
            undo: BTreeMap::new(),
            unsynced: Unsynced::default(),
            synced: VecDeque::new(),
        })
    }

    /// Bytes that the process sees.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that the disk has.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// What the process sees from `at`: `len` bytes, or fewer where the file ends.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let rest = self.size.saturating_sub(at);
        let mut bytes = vec![0; len.min(usize::try_from(rest).unwrap_or(usize::MAX))];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Writes, as a process does: nothing of it is durable.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.before_change(at, at + len)?;
        self.file.write_all_at(bytes, at)?;
        self.size = self.size.max(at + len);
        let bytes = bytes.to_vec();
        self.unsynced.note(Change::Write { at, bytes });
        Ok(())
    }

    /// Cuts the file off, or lets it end in zeros. Not durable either.
    pub(super) fn resize(&mut self, size: u64) -> io::Result<()> {
        self.before_change(size, self.durable)?;
        self.file.set_len(size)?;
        self.size = size;
        self.unsynced.note(Change::Resize(size));
        Ok(())
    }

    /// Keeps what the disk has of the blocks that are about to change. Where the durable file is over there is
    /// nothing to keep, but the block is noted: a failed sync has to know it.
    fn before_change(&mut self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            if let Some(undo) = self.undo.get_mut(&block) {
                undo.dirty = true;
                continue;
            }
            let image = self.block(block, self.durable)?;
            self.undo.insert(block, Undo { image, dirty: true });
        }
        Ok(())
    }

    /// A block of the file as the process sees it, up to `end`.
    fn block(&self, block: u64, end: u64) -> io::Result<Vec<u8>> {
        let start = block * BLOCK;
        self.read(start, BLOCK.min(end.saturating_sub(start)) as usize)
    }

    /// A sync that succeeds, at this moment. What an earlier one that failed should have written stays away.
    pub(super) fn sync(&mut self, when: Instant) {
        let size = self.size;
        let stays = |block: &u64, undo: &mut Undo| !undo.dirty && block * BLOCK < size;
        let before: BTreeMap<u64, Undo> = self.undo.extract_if(.., |b, u| !stays(b, u)).collect();
        // A shorter file ends where it ends, also in a block that was not written.
        if let Some(undo) = self.undo.get_mut(&(size / BLOCK)) {
            undo.image.truncate((size % BLOCK) as usize);
        }
        if !before.is_empty() || self.durable != size {
            self.synced.push_back(Synced {
                when,
                durable_before: self.durable,
                undo: before,
            });
        }
        self.synced
            .retain(|synced| when.duration_since(synced.when) <= TAIL_MAX);
        self.durable = size;
        self.unsynced = Unsynced::default();
    }

    /// A sync that fails: nothing gets to the disk, and later syncs do not try these blocks again.
    pub(super) fn fail_sync(&mut self) {
        for undo in self.undo.values_mut() {
            undo.dirty = false;
        }
        self.unsynced = Unsynced::default();
    }

    /// Makes the file what the disk has of it. Returns how many bytes went away, in whole blocks.
    pub(super) fn roll_back(&mut self) -> io::Result<u64> {
        self.file.set_len(self.durable)?;
        let mut lost = 0;
        for (block, undo) in std::mem::take(&mut self.undo) {
            let start = block * BLOCK;
            lost += BLOCK.min(self.size.max(self.durable).saturating_sub(start));
            let mut bytes = undo.image;
            bytes.resize(BLOCK.min(self.durable.saturating_sub(start)) as usize, 0);
            self.file.write_all_at(&bytes, start)?;
        }
        self.size = self.durable;
        self.unsynced = Unsynced::default();
        Ok(lost)
    }

    /// As [`Content::roll_back`], and what was synced after this moment is gone too, as far back as [`TAIL_MAX`].
    pub(super) fn lose_since(&mut self, moment: Instant) -> io::Result<u64> {
        let mut lost = self.roll_back()?;
        while let Some(synced) = self.synced.pop_back_if(|it| it.when > moment) {
            self.undo = synced.undo;
            self.durable = synced.durable_before;
            lost += self.roll_back()?;
        }
        Ok(lost)
    }

    /// Whether a write came after the last sync.
    pub(super) fn can_tear(&self) -> bool {
        let writes = |change: &Change| matches!(change, Change::Write { .. });
        self.unsynced.changes.iter().any(writes)
    }

    /// Makes the file what the disk has of it, some of the first changes since the last sync, and some sectors of the
    /// write behind those: of one within a sector all or nothing. Returns how many bytes went away and what was done, in words.
    pub(super) fn tear(&mut self, random: &mut Random) -> io::Result<(u64, String)> {
        let changes = std::mem::take(&mut self.unsynced).changes;
        let mut lost = self.roll_back()?;
        let whole = random.below(changes.len().max(1) as u64) as usize;
        let mut done = format!("{whole} of {} changes are there", changes.len());
        for change in changes.iter().take(whole) {
            lost = lost.saturating_sub(self.keep(change)?);
        }
        if let Some(Change::Write { at, bytes }) = changes.get(whole) {
            let (at, len) = (*at, bytes.len() as u64);
            let first = at / SECTOR;
            let sectors = (at + len).div_ceil(SECTOR) - first;
            let kept = choose_sectors(random, sectors);
            for number in &kept {
                let start = ((first + number) * SECTOR).max(at);
                let end = ((first + number + 1) * SECTOR).min(at + len);
                let part = &bytes[(start - at) as usize..(end - at) as usize];
                lost = lost.saturating_sub(self.keep_bytes(start, part)?);
            }
            let kept = kept.len();
            done += &format!(", and {kept} of {sectors} sectors of {len} bytes at {at}");
        }
        self.size = self.durable;
        Ok((lost, done))
    }

    /// Lets the disk have a change. Returns how many bytes it has more.
    fn keep(&mut self, change: &Change) -> io::Result<u64> {
        match change {
            Change::Write { at, bytes } => self.keep_bytes(*at, bytes),
            Change::Resize(size) => {
                self.file.set_len(*size)?;
                self.durable = *size;
                Ok(0)
            }
        }
    }

    fn keep_bytes(&mut self, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let len = bytes.len() as u64;
        self.file.write_all_at(bytes, at)?;
        self.durable = self.durable.max(at + len);
        Ok(len)
    }

    /// A block that the disk has.
    pub(super) fn durable_block(&self, block: u64) -> io::Result<Vec<u8>> {
        let len = BLOCK.min(self.durable.saturating_sub(block * BLOCK)) as usize;
        let mut bytes = match self.undo.get(&block) {
            Some(undo) => undo.image.clone(),
            None => self.block(block, self.durable)?,
        };
        bytes.resize(len, 0);
        Ok(bytes)
    }

    /// Changes a block at rest: what the disk has of it, and what a process will see of it.
    pub(super) fn damage(&mut self, block: u64, change: impl Fn(&mut [u8])) -> io::Result<()> {
        let mut seen = self.block(block, self.size)?;
        change(&mut seen);
        self.file.write_all_at(&seen, block * BLOCK)?;
        if let Some(undo) = self.undo.get_mut(&block) {
            change(&mut undo.image);
        }
        Ok(())
    }
}

/// A prefix of the sectors, or all but some; in order. A single sector is there or not, as it is for a disk.
fn choose_sectors(random: &mut Random, sectors: u64) -> Vec<u64> {
    if sectors == 1 || random.chance(500) {
        return (0..random.below(sectors.max(2))).collect();
    }
    let missing = random.below(sectors);
    let there = |number: &u64| *number != missing && !random.chance(200);
    (0..sectors).filter(there).collect()
}
