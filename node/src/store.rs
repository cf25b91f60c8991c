//! What a node keeps: ordered, checksummed records in four families, changed by atomic batches.
//!
//! [`open`] gives a [`Store`] over one of the engines of [`Engine`]. Whatever the engine, the store
//! wraps every value with a format version and a checksum (`record`), refuses what is out of bounds,
//! keeps a reserve of free disk space, and stops taking writes for good after a failed sync (`checked`).
//! An engine itself only moves raw bytes (`raw`).
//!
//! What is durable when: after [`Store::apply`] a batch is visible to every reader and may or may not
//! survive a crash, whole or not at all; after [`Store::sync`] returned `Ok`, every batch applied before
//! the call is on stable storage.
//!
//! ```text
//! DIR/LOCK              held while a store is open
//! DIR/current/FORMAT    the engine's name and the version of this layout
//! DIR/current/db/       the engine's own files
//! DIR/creating/         a store under construction; never holds anything acknowledged
//! ```

mod checked;
pub(crate) mod directory;
mod error;
mod fjall;
mod memory;
pub mod overlay;
mod raw;
mod record;
pub mod sequence;
mod sled;
pub mod verify;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};

pub use self::error::StoreError;

use self::checked::Checked;
use self::directory::Directory;
use self::fjall::FjallStore;
use self::memory::MemoryStore;
use self::sled::SledStore;

/// Longest key, bytes. A row's name is at most 12 301 bytes: 4096 of key, each perhaps escaped to two, and an
/// element of 4096.
pub const KEY_BYTES_MAX: usize = 13 * 1024;

/// Longest value, bytes. Sixteen times the longest user value, so that grouped records fit.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// About how many bytes go into one batch of a checkpoint.
const CHECKPOINT_BATCH_BYTES: usize = 1 << 20;

/// Takes each pair of a scan: the key, and its value or why that one value can not be had.
pub type VisitEach<'a> = dyn FnMut(&[u8], Result<Bytes, StoreError>) -> ControlFlow<()> + 'a;

/// Something to read from: the store as it is now, or a snapshot of it.
pub trait View: Send + Sync {
    /// The value under `key`, or `None` when absent.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::NewerFormat`] for this record;
    /// [`StoreError::Io`] or [`StoreError::Broken`] when the engine can not read.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the pairs with `from <= key < to` (no upper bound when `to` is `None`) in byte order of the
    /// keys, until `visit` breaks. A record that fails its checksum is visited as an error, and the scan
    /// goes on. The pairs are those of one moment: batches applied meanwhile are not seen. Of a batch that is being
    /// applied at that moment a store may show a part; a snapshot never does.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`] or [`StoreError::Broken`] when the engine can not go on;
    /// pairs before that point were visited.
    fn scan_each(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitEach<'_>,
    ) -> Result<(), StoreError>;

    /// As [`View::scan_each`], but ends at the first record that can not be had.
    ///
    /// # Errors
    /// As [`View::scan_each`], and that record's error.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut first = Ok(());
        self.scan_each(family, from, to, &mut |key, value| match value {
            Ok(value) => visit(key, value),
            Err(error) => {
                first = Err(error);
                ControlFlow::Break(())
            }
        })?;
        first
    }
}

/// The store of one node. One thread applies and syncs; any thread reads.
///
/// [`Store::checkpoint`], [`Store::maintain`] and [`Store::stats`] are part of what an engine must offer and are
/// held by the conformance suite; the node calls none of them yet, as it neither backs up nor collects anything.
pub trait Store: View + 'static {
    /// Which engine this is.
    fn engine(&self) -> Engine;

    /// The store as it is now, untouched by later batches. Short-lived: while it exists the engine keeps
    /// what it needs, and `sled` copies every value overwritten meanwhile into memory.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when the engine refuses.
    fn snapshot(&self) -> Result<Box<dyn View>, StoreError>;

    /// Applies `batch` as a whole: visible when this returns, durable only after [`Store::sync`].
    /// When two writes name one key, the later one counts.
    ///
    /// # Errors
    /// Nothing was applied: [`StoreError::Poisoned`], [`StoreError::Full`], [`StoreError::KeyLength`],
    /// [`StoreError::ValueTooLong`]. Any other error leaves the outcome open and poisons the store.
    fn apply(&self, batch: &[Write]) -> Result<(), StoreError>;

    /// Whether there is space for a batch of `bytes` beside the reserve. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Full`]; [`StoreError::Io`] when the system does not tell.
    fn room_for(&self, bytes: u64) -> Result<(), StoreError>;

    /// Returns when everything applied before the call is on stable storage. Blocks for as long as the
    /// disk takes.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`], and any error of the engine, which poisons the store: what was applied
    /// since the last successful sync may be gone, and no later call can tell. Reads go on.
    fn sync(&self) -> Result<(), StoreError>;

    /// Writes a copy of the store as it is now into `dir`, which must be absent or empty: a store of the
    /// same engine, durable when this returns. Takes time and space in proportion to the data.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] from the memory engine; [`StoreError::NotAStore`] when `dir` holds
    /// something; otherwise as reading, opening and writing a store.
    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError>;

    /// Compacts: gives back the space of overwritten and deleted values, soon. Takes long; call it rarely and
    /// not on the commit thread. A no-op where the engine can not.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] and errors of the engine. No data is lost by a failure.
    fn maintain(&self) -> Result<(), StoreError>;

    /// What the store costs at the moment.
    fn stats(&self) -> Stats;
}

/// What a store costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Bytes the engine's files take on disk (allocated, not apparent size); 0 in memory.
    pub disk_bytes: u64,
    /// Bytes of caches and write buffers, where the engine tells.
    pub memory_bytes: Option<u64>,
    /// Whether writes are refused until the store is opened again.
    pub poisoned: bool,
}

/// Which engine keeps the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Engine {
    /// A log-structured merge tree with a journal. The default: it lost nothing in any test.
    #[default]
    Fjall,
    /// A log-structured B-tree, with the syncs it leaves out added.
    Sled,
    /// Nothing is kept over a restart. For tests.
    Memory,
}

impl Engine {
    /// All engines.
    pub const ALL: [Engine; 3] = [Engine::Fjall, Engine::Sled, Engine::Memory];

    /// The name in settings and in a store's `FORMAT` file.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Fjall => "fjall",
            Engine::Sled => "sled",
            Engine::Memory => "memory",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown engine {0:?}: expected fjall, sled or memory")]
pub struct UnknownEngine(String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Engine, UnknownEngine> {
        Engine::ALL
            .into_iter()
            .find(|engine| engine.name() == name)
            .ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// How to open a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Read cache, bytes. Write buffers of up to about 40 MiB come on top.
    pub cache_bytes: u64,
    /// Free disk space below which writes are refused, bytes. Engines need it for their own
    /// flushes and compaction; most of them do not survive running out of space in the middle of one.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache_bytes: 16 << 20,
            reserve_bytes: 128 << 20,
        }
    }
}

/// Opens the store in `dir`, creating it when there is none. `dir` is not looked at by the memory engine.
///
/// Never panics, whatever the files hold. Does not read all records: that is [`verify::verify`].
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::WrongEngine`], [`StoreError::NewerFormat`],
/// [`StoreError::NotAStore`]; [`StoreError::Broken`] when the engine finds its files damaged;
/// [`StoreError::Io`]. The files are left as they were, but for what the engine's own recovery does.
pub fn open(engine: Engine, dir: &Path, options: Options) -> Result<Arc<dyn Store>, StoreError> {
    match engine {
        Engine::Memory => Ok(Arc::new(Checked::new(
            MemoryStore::default(),
            engine,
            None,
            options,
        ))),
        Engine::Fjall => open_on_disk(engine, dir, options, |db| FjallStore::open(db, options)),
        Engine::Sled => open_on_disk(engine, dir, options, |db| SledStore::open(db, options)),
    }
}

fn open_on_disk<R: raw::RawStore>(
    engine: Engine,
    dir: &Path,
    options: Options,
    open_raw: impl Fn(&Path) -> Result<R, StoreError>,
) -> Result<Arc<dyn Store>, StoreError> {
    let directory = Directory::open(dir, engine, |db| open_raw(db).map(drop))?;
    let raw = open_raw(&directory.db())?;
    Ok(Arc::new(Checked::new(
        raw,
        engine,
        Some(directory),
        options,
    )))
}

/// Copies every record of `from` into `to` and makes it durable. Families keep their order.
fn copy(from: &dyn View, to: &dyn Store) -> Result<(), StoreError> {
    for family in Family::ALL {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut applied = Ok(());
        from.scan(family, &[], None, &mut |key, value| {
            bytes += key.len() + value.len();
            batch.push(Write {
                family,
                key: Bytes::copy_from_slice(key),
                value: Some(value),
            });
            if bytes < CHECKPOINT_BATCH_BYTES {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            applied = to.apply(&std::mem::take(&mut batch));
            match applied {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        applied?;
        to.apply(&batch)?;
    }
    to.sync()
}
