//! The guarded opening of a node: nothing is served before it is known what the disk still holds.
//!
//! ```text
//! DATA/LOCK                  held while the node runs
//! DATA/identity              who the directory belongs to (`identity`)
//! DATA/sequence              the small file with the store sequence (`store::sequence`)
//! DATA/store/                the store (`store`)
//! DATA/quarantine-START/     a damaged or shortened store, put aside by the start of that number
//! ```
//!
//! | found | what happens |
//! | --- | --- |
//! | nothing at all | a first start; the peers tell whether the node was there before |
//! | identity, no store | data was lost: new incarnation, empty store, refilled from the peers, no vote |
//! | a damaged record, a store that does not open, or one behind its sequence file | refused, naming the way out; with `rebuild` put aside, and then as above |
//! | a store without its identity | refused; with `rebuild` as above |
//! | somebody else's directory, another engine's or a newer format | refused, always |
//! | a path or a record the system does not let it look at | refused, always |
//!
//! A node that lost data stays so over restarts: its identity says it until it is readmitted.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hansa_consistency::codec::{DecodeError, Decoder, FORMAT};
use hansa_consistency::key::NodeId;
use hansa_consistency::port::Family;
use hansa_consistency::replica::{self, Config, Opened, Replica};

use crate::driver;
use crate::identity::{Identity, IdentityError, fresh_incarnation};
use crate::mutant::{DiskMutant, DiskRules, core_rules};
use crate::settings::Names;
use crate::store::directory::make_durable;
use crate::store::overlay::{Overlay, Pending};
use crate::store::sequence::{SequenceError, SequenceFile};
use crate::store::verify::{Unverified, verify};
use crate::store::{self, Engine, Options, Store, StoreError};

/// What is to be opened.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The data directory; made when it is not there.
    pub dir: &'a Path,
    /// The storage engine.
    pub engine: Engine,
    /// How the engine is opened.
    pub options: Options,
    /// The cluster.
    pub names: &'a Names,
    /// Which of its nodes this is.
    pub node: NodeId,
    /// Whether a damaged or shortened store is put aside.
    pub rebuild: bool,
}

/// A node whose disk was looked at. The data directory is locked until this is dropped.
pub struct Node {
    /// The replica, not yet told that it started.
    pub replica: Replica,
    /// How it was opened.
    pub config: Config,
    /// With what it was opened.
    pub opened: Opened,
    /// Its store; everything in it is durable.
    pub store: Arc<dyn Store>,
    /// The small file; not ahead of the store.
    pub sequence: SequenceFile,
    /// Who this is.
    pub identity: Identity,
    /// Where that is written.
    pub identity_path: PathBuf,
    /// Keeps others out of the directory.
    pub lock: File,
}

/// Why a node is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else's directory, or its identity file is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another process serves from the directory.
    #[error("the data directory {} is in use by another process: stop that one, or give this node a directory of its own", dir.display())]
    InUse {
        /// Which directory.
        dir: PathBuf,
    },
    /// The data is not what was left here.
    #[error("the data in {} is not what this node left there: {what}; the node does not serve, because it may have forgotten what it promised. Way out: `hansa serve --rebuild` puts the old store aside as {}/quarantine-* and refills the node from its peers; until it is readmitted it serves eventual reads and does not vote", dir.display(), dir.display())]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The store can not be opened, and rebuilding it is not the way out.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sequence file can not be read, and rebuilding is not the way out.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// It can not be told what is there. A loss must not be concluded from that.
    #[error("it can not be told whether {} is there: {source}; the node does not serve, and nothing was changed. Way out: let the user it runs as into that path (owner and mode of every directory on the way), or mend the disk, and start it again", path.display())]
    Unseen {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not let the data be read. That says nothing against the data.
    #[error("the data in {} can not be read: {source}; the node does not serve, and nothing was changed. Way out: give the user it runs as access to every file in there, raise its limits of open files and memory, or make space, and start it again", dir.display())]
    Unread {
        /// The data directory.
        dir: PathBuf,
        /// What was refused.
        source: StoreError,
    },
    /// It was told to stop before it was done.
    #[error("the node was stopped while it looked at its data; nothing was changed")]
    Stopped,
    /// The topology does not name the node.
    #[error(transparent)]
    Topology(replica::OpenError),
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Whether something is there.
fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|source| OpenError::Unseen {
        path: path.to_owned(),
        source,
    })
}

/// Looks at the disk, and opens the replica over it. Numbers a start, durably, before anything is opened.
/// Reads the whole store: takes time in proportion to the data, and blocks. Once `stop` is set it ends soon, but
/// for the engine's own recovery, with [`OpenError::Stopped`].
///
/// # Errors
/// See [`OpenError`]. But for the start number and what the engine's own recovery does, nothing was changed.
pub fn open(plan: Plan<'_>, stop: &AtomicBool) -> Result<Node, OpenError> {
    make_durable(plan.dir).map_err(io_error("making the data directory", plan.dir))?;
    let lock = lock(plan.dir)?;
    let mut identity = identify(plan)?;
    let path = plan.identity_path();
    identity.begin_start(&path)?;
    let found = match identity.prepared {
        true => look(plan, &identity, stop),
        false => Err(Look::Missing),
    };
    let (store, sequence, replica) = match found {
        // Also when there is nothing to look at: what would follow changes things.
        _ if stop.load(Ordering::Relaxed) => return Err(OpenError::Stopped),
        Ok(found) => found,
        Err(Look::Refused(error)) => return Err(error),
        Err(Look::Missing) => {
            if identity.prepared {
                tracing::warn!(
                    "the store is gone: this node lost data and is refilled from its peers"
                );
                identity = after_loss(identity);
            }
            prepare(plan, &mut identity)?
        }
        Err(Look::Damaged(what)) if plan.rebuild => {
            tracing::warn!(
                what,
                "the store is put aside: this node is refilled from its peers"
            );
            identity = after_loss(identity);
            prepare(plan, &mut identity)?
        }
        Err(Look::Damaged(what)) => {
            return Err(OpenError::Damaged {
                dir: plan.dir.to_owned(),
                what,
            });
        }
    };
    Ok(Node {
        replica,
        config: plan.config(),
        opened: opened(&identity),
        store,
        sequence,
        identity,
        identity_path: path,
        lock,
    })
}

impl Plan<'_> {
    fn identity_path(&self) -> PathBuf {
        self.dir.join("identity")
    }

    fn sequence_path(&self) -> PathBuf {
        self.dir.join("sequence")
    }

    fn store_path(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn config(&self) -> Config {
        Config {
            node: self.node,
            topology: Arc::clone(self.names.topology()),
            rules: core_rules(),
        }
    }
}

fn opened(identity: &Identity) -> Opened {
    Opened {
        incarnation: identity.incarnation,
        start: identity.start,
        lost: identity.lost,
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("opening the lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("taking the lock", &path)(source)),
    }
}

/// The identity in the directory, or a new one.
fn identify(plan: Plan<'_>) -> Result<Identity, OpenError> {
    let cluster_id = plan.names.cluster_id();
    let node = plan.names.node_name(plan.node);
    let read = match Identity::read(&plan.identity_path()) {
        // The operator has decided: whatever it said, a new incarnation makes nothing of it count.
        Err(IdentityError::Damaged { .. }) if plan.rebuild => None,
        read => read?,
    };
    let layout = plan.names.layout();
    if let Some(mut identity) = read {
        identity.check(plan.dir, cluster_id, node)?;
        identity.take_layout(plan.dir, layout)?;
        return Ok(identity);
    }
    let first = Identity::first(cluster_id, node, layout);
    let used = exists(&plan.store_path())? || exists(&plan.sequence_path())?;
    match (used, plan.rebuild) {
        (false, _) => Ok(first),
        (true, true) => Ok(after_loss(first)),
        (true, false) => Err(OpenError::Damaged {
            dir: plan.dir.to_owned(),
            what: "there is a store, but no identity file".to_owned(),
        }),
    }
}

/// What the node is after it lost data: nobody it was before.
fn after_loss(identity: Identity) -> Identity {
    Identity {
        incarnation: fresh_incarnation(),
        lost: true,
        prepared: false,
        ..identity
    }
}

/// What keeps the store from being used as it is.
enum Look {
    Missing,
    Damaged(String),
    Refused(OpenError),
}

impl<E: Into<OpenError>> From<E> for Look {
    fn from(error: E) -> Look {
        Look::Refused(error.into())
    }
}

type Found = (Arc<dyn Store>, SequenceFile, Replica);

/// Opens the store of an earlier start and checks everything in it.
fn look(plan: Plan<'_>, identity: &Identity, stop: &AtomicBool) -> Result<Found, Look> {
    let exists = exists(&plan.store_path().join("current"))?;
    if exists && plan.engine == Engine::Memory {
        return Err(StoreError::WrongEngine {
            dir: plan.store_path(),
            found: "on disk".to_owned(),
            wanted: plan.engine,
        }
        .into());
    }
    if !exists {
        return Err(Look::Missing);
    }
    let store = open_store(plan).map_err(|error| match error.condemns() {
        true => Look::Damaged(error.to_string()),
        false => refused(plan, error).into(),
    })?;
    // What an engine recovered after a kill may be in the page cache only.
    store.sync()?;
    let sequence = SequenceFile::open(&plan.sequence_path()).map_err(|error| match error {
        SequenceError::Missing | SequenceError::Damaged => Look::Damaged(error.to_string()),
        error => error.into(),
    })?;
    let rules = DiskRules::of_process();
    if !rules.broken(DiskMutant::VerifySkipped) {
        verify(&*store, stop, &known_format).map_err(|unverified| match unverified {
            Unverified::Failed(failed) => Look::Damaged(failed.to_string()),
            Unverified::Refused(error) => refused(plan, error).into(),
            Unverified::Stopped => OpenError::Stopped.into(),
        })?;
    }
    let replica = open_replica(plan, identity, &*store)?;
    let short = replica.store_sequence() < sequence.current();
    if short && !rules.broken(DiskMutant::ShortStoreAccepted) {
        return Err(Look::Damaged(format!(
            "the store ends at sequence {}, but {} was acknowledged",
            replica.store_sequence(),
            sequence.current()
        )));
    }
    Ok((store, sequence, replica))
}

/// Refuses a record of a later version of the core by name: the core itself could only call it damaged.
fn known_format(family: Family, value: &Bytes) -> Result<(), StoreError> {
    match Decoder::record(value) {
        Err(DecodeError::NewerFormat { found }) => Err(StoreError::NewerFormat {
            what: format!("the content of a record of family {}", family.name()),
            found: found.into(),
            known: FORMAT.into(),
        }),
        // What is malformed is met where it is decoded.
        _ => Ok(()),
    }
}

/// Why a store that is not damaged is not served.
fn refused(plan: Plan<'_>, error: StoreError) -> OpenError {
    match error {
        StoreError::Io { .. } => OpenError::Unread {
            dir: plan.dir.to_owned(),
            source: error,
        },
        error => OpenError::Store(error),
    }
}

fn open_store(plan: Plan<'_>) -> Result<Arc<dyn Store>, StoreError> {
    store::open(plan.engine, &plan.store_path(), plan.options)
}

fn open_replica(plan: Plan<'_>, identity: &Identity, store: &dyn Store) -> Result<Replica, Look> {
    let nothing = Pending::default();
    let overlay = Overlay::new(store, &nothing);
    let seed = rand::random();
    let replica = Replica::open(
        plan.config(),
        opened(identity),
        seed,
        driver::now(),
        &overlay,
    );
    replica.map_err(|error| match (overlay.take_failure(), error) {
        (Some(error), _) => refused(plan, error).into(),
        (None, replica::OpenError::Damaged(damaged)) => Look::Damaged(damaged.to_string()),
        (None, error) => OpenError::Topology(error).into(),
    })
}

/// Makes an empty store for the identity's incarnation, and puts aside whatever lies where it goes.
///
/// The identity is written first, unprepared: a crash at any point leads back here, and never to a store that
/// is taken for the old one.
fn prepare(plan: Plan<'_>, identity: &mut Identity) -> Result<Found, OpenError> {
    let path = plan.identity_path();
    identity.write(&path)?;
    put_aside(plan, identity.start)?;
    let sequence = SequenceFile::create(&plan.sequence_path(), 0)?;
    let store = open_store(plan)?;
    store.sync()?;
    let replica = open_replica(plan, identity, &*store).map_err(|look| match look {
        Look::Refused(error) => error,
        Look::Damaged(what) => OpenError::Damaged {
            dir: plan.dir.to_owned(),
            what,
        },
        Look::Missing => OpenError::Damaged {
            dir: plan.dir.to_owned(),
            what: "the new store is gone".to_owned(),
        },
    })?;
    identity.prepared = true;
    identity.write(&path)?;
    Ok((store, sequence, replica))
}

fn put_aside(plan: Plan<'_>, start: u64) -> Result<(), OpenError> {
    let aside = plan.dir.join(format!("quarantine-{start}"));
    for (name, path) in [
        ("store", plan.store_path()),
        ("sequence", plan.sequence_path()),
    ] {
        // Beside a store in memory the sequence file alone is nothing worth keeping.
        if !exists(&path)? || plan.engine == Engine::Memory {
            continue;
        }
        fs::create_dir_all(&aside).map_err(io_error("making the quarantine", &aside))?;
        fs::rename(&path, aside.join(name)).map_err(io_error("putting aside", &path))?;
    }
    let dir = File::open(plan.dir).and_then(|dir| dir.sync_all());
    dir.map_err(io_error("syncing", plan.dir))
}

#[cfg(test)]
mod tests;
