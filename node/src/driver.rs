//! The only caller of [`Replica::step`]: events in, effects carried out in order.
//!
//! One thread owns the replica of all shards. It takes waiting events, steps each over the store with the
//! writes that are not yet durable laid on top, and collects what the steps want. While one group is being
//! made durable the next one grows, so a slow disk makes groups larger and not more numerous (group commit).
//!
//! What leaves when:
//! * a reply that need not wait, of a step that read nothing pending: at once;
//! * a message of a step that neither wrote nor read anything pending, when nothing is under way or when it claims
//!   nothing that is (`claim`): at once;
//! * everything else: in order, after its group's one atomic batch and one sync; votes also after the
//!   small sequence file holds the group's store sequence. What the node says to itself takes the same way.
//!
//! When the disk fails:
//! * A batch refused for want of space, or any failed sync, ends the replica's *life*: the replica in memory is
//!   ahead of the store, so it is thrown away, with everything that was stepped and is not durable. Whoever
//!   waits for a write is refused: `applied NO` when nothing of it can have reached the store or a peer, else
//!   `applied MAYBE`. Nothing more is written or sent; peers see the node fall silent.
//! * Reads at level eventual go on, from what the store holds. They add nothing to a session's context, because
//!   what they show may not survive.
//! * A full disk is tried again every [`DISK_FULL_RETRY`](crate::limits::DISK_FULL_RETRY). When there is space a new replica is opened from
//!   the store under a fresh start number, as after a restart.
//! * A read that fails ends the life too, with nothing of its step carried out: the core can not tell it from
//!   damage, which would cost the vote. When the system was only short of files or memory it is tried again the
//!   same way.
//! * Any other failure lasts until the node is restarted: after a failed sync nobody can tell what the disk holds.

mod claim;
mod clock;
mod failure;
mod group;
mod mailbox;
mod pipeline;
mod turns;
mod wanted;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use hansa_consistency::clock::Now;
use hansa_consistency::effect::Note;
use hansa_consistency::event::Event;
use hansa_consistency::key::{NodeId, OpId, ShardId};
use hansa_consistency::message::Envelope;
use hansa_consistency::replica::{Config, Opened, Replica, Status, digest};
use hansa_consistency::request::{Applied, Reason, Refusal, Reply, Request};
use tokio::sync::{oneshot, watch};

use self::mailbox::{Mail, Mailbox, Refused};
use self::pipeline::{Pipeline, Progress, Surroundings};
use self::turns::Turns;
use crate::limits::{MAILBOX_PEER_BYTES_MAX, MAILBOX_REQUEST_BYTES_MAX};
use crate::mutant::DiskRules;
use crate::store::Store;
use crate::store::overlay::{Overlay, Pending};
use crate::store::sequence::SequenceFile;

pub use self::clock::now;

/// Where messages to other nodes go.
pub trait Outbound: Send + Sync + 'static {
    /// Takes a message for a peer, without blocking. May drop it: the core tolerates loss.
    fn send(&self, to: NodeId, envelope: Envelope);
}

/// Who is told what the driver does, for metrics. Called from the driver's threads: must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something rare happened in the core.
    fn note(&self, note: Note);
    /// A group became durable.
    fn group(&self, group: &GroupStats);
    /// The small sequence file was synced.
    fn sequence_synced(&self, took: Duration);
    /// The node's condition changed.
    fn condition(&self, condition: &Condition);
}

/// What one group was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupStats {
    /// Steps that left something in it.
    pub events: usize,
    /// Changes of the store in it.
    pub writes: usize,
    /// Bytes of keys and values in them.
    pub bytes: usize,
    /// How long its batch and its sync took together.
    pub took: Duration,
}

/// Whether the node takes writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// As far as the disk is concerned.
    Serving,
    /// The disk is full: eventual reads only, until there is space.
    DiskFull,
    /// The disk failed: eventual reads only, until the node is restarted, or for as long as the system is
    /// short of files or memory.
    DiskFailed(Arc<str>),
}

/// Gives the number of a fresh start of the node, durable when it returns.
pub type NextStart = Box<dyn FnMut() -> io::Result<u64> + Send>;

/// What a driver is started with.
pub struct Parts {
    /// A replica just opened over `store`, not yet told that it started.
    pub replica: Replica,
    /// How it was opened, to open it again after a full disk.
    pub config: Config,
    /// With what it was opened.
    pub opened: Opened,
    /// Its store, in which everything is durable.
    pub store: Arc<dyn Store>,
    /// The small file with the store sequence; not ahead of the store.
    pub sequence: SequenceFile,
    /// Called before the replica is opened again.
    pub next_start: NextStart,
    /// Where messages go.
    pub outbound: Arc<dyn Outbound>,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
}

/// A running driver. Dropped without [`Driver::stop`] it ends as if the process had been killed: what is not
/// yet durable is not made durable, and what waits for it is not said.
pub struct Driver {
    handle: DriverHandle,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

/// The driver did not end in time: the disk hangs. Its threads still hold the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the driver did not end in time: the disk does not answer")]
pub struct Stuck;

/// Starts the driver's threads, and tells the replica that it started.
///
/// # Errors
/// The system refused a thread.
pub fn start(parts: Parts) -> io::Result<Driver> {
    start_with(parts, DiskRules::of_process())
}

fn start_with(parts: Parts, rules: DiskRules) -> io::Result<Driver> {
    let mailbox = Mailbox::new(MAILBOX_REQUEST_BYTES_MAX, MAILBOX_PEER_BYTES_MAX);
    let mailbox = Arc::new(mailbox);
    let progress = Arc::<Progress>::default();
    let around = Surroundings {
        node: parts.config.node,
        store: Arc::clone(&parts.store),
        mailbox: Arc::clone(&mailbox),
        progress: Arc::clone(&progress),
        outbound: parts.outbound,
        observer: parts.observer,
        rules,
    };
    let (status, status_seen) = watch::channel(Arc::new(parts.replica.status(now())));
    let (condition, condition_seen) = watch::channel(Condition::Serving);
    let handle = DriverHandle {
        mailbox: Arc::clone(&mailbox),
        store: Arc::downgrade(&parts.store),
        next_id: Arc::default(),
        status: status_seen,
        condition: condition_seen,
    };
    let pipeline = Pipeline::start(&around, parts.sequence, parts.replica.store_sequence())?;
    let turns = Turns::new(
        turns::Origin {
            replica: parts.replica,
            config: parts.config,
            opened: parts.opened,
            next_start: parts.next_start,
        },
        around,
        pipeline,
        status,
        condition,
    );
    let thread = std::thread::Builder::new()
        .name("hansa-driver".to_owned())
        .spawn(move || {
            // Whatever ends the loop, a panic included: nobody may wait for an answer that never comes.
            let _close = CloseAtEnd(mailbox);
            turns.run();
        })?;
    Ok(Driver {
        handle,
        progress,
        thread: Some(thread),
    })
}

struct CloseAtEnd(Arc<Mailbox>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

impl Driver {
    /// A handle for whoever asks and tells the driver things.
    pub fn handle(&self) -> DriverHandle {
        self.handle.clone()
    }

    /// Ends the driver: refuses what is open, makes everything acknowledged durable, and ends the threads.
    ///
    /// # Errors
    /// [`Stuck`] when that takes longer than `within`. What was acknowledged is durable even then.
    pub async fn stop(mut self, within: Duration) -> Result<(), Stuck> {
        self.handle.mailbox.put(Mail::Stop);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let ended = tokio::time::timeout(within, self.handle.ended()).await;
        ended.map_err(|_| Stuck)?;
        // The thread is past its last statement: this does not block for long.
        let _ = thread.join();
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.progress.abandoned.store(true, Ordering::Release);
            self.handle.mailbox.put(Mail::Stop);
            let _ = thread.join();
        }
    }
}

/// The way to the driver, for any task.
#[derive(Clone)]
pub struct DriverHandle {
    mailbox: Arc<Mailbox>,
    /// The store is closed when the driver has ended, however many handles are left.
    store: Weak<dyn Store>,
    next_id: Arc<AtomicU64>,
    status: watch::Receiver<Arc<Status>>,
    condition: watch::Receiver<Condition>,
}

/// Tells the driver that nobody waits for a request any more.
struct CancelOnDrop<'a> {
    mailbox: &'a Mailbox,
    id: Option<OpId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.mailbox.put(Mail::Event(Event::Cancelled { id }));
        }
    }
}

impl DriverHandle {
    /// Asks the replica. A reply to a write means that what its level promises is durable. Dropping the
    /// future cancels the request: what was begun may still take effect.
    ///
    /// # Errors
    /// The core's refusal; [`Reason::Overloaded`] at once when too many requests wait,
    /// [`Reason::StoreFailed`] when the disk is full or has failed, [`Reason::ShuttingDown`] when the node stops.
    pub async fn request(&self, request: Request) -> Result<Reply, Refusal> {
        let id = OpId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let read = request.command.is_read();
        let (answerer, outcome) = oneshot::channel();
        self.mailbox
            .request(id, request, answerer)
            .map_err(|refused| match refused {
                Refused::Full => Refusal::not_applied(
                    Reason::Overloaded,
                    "too many requests wait at this node; retry later",
                ),
                Refused::Closed => stopping(Applied::No),
            })?;
        let mut cancel = CancelOnDrop {
            mailbox: &self.mailbox,
            id: Some(id),
        };
        let outcome = outcome.await;
        cancel.id = None;
        outcome.unwrap_or_else(|_| {
            Err(stopping(match read {
                true => Applied::No,
                false => Applied::Maybe,
            }))
        })
    }

    /// Hands in a message of a peer, `bytes` long on the wire. Waits while too much waits for the driver, so that
    /// the sender is slowed down.
    pub async fn received(&self, envelope: Envelope, bytes: usize) {
        self.mailbox.received(envelope, bytes).await;
    }

    /// A stream to a peer stands.
    pub fn link_up(&self, node: NodeId) {
        self.mailbox.put(Mail::Event(Event::LinkUp(node)));
    }

    /// The stream to a peer broke.
    pub fn link_down(&self, node: NodeId) {
        self.mailbox.put(Mail::Event(Event::LinkDown(node)));
    }

    /// What the replica last said of itself: at most about [`STATUS_INTERVAL`](crate::limits::STATUS_INTERVAL) old.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Returns when a newer status than the last one seen through this handle is there, or the driver has ended.
    pub async fn status_changed(&mut self) {
        let _ = self.status.changed().await;
    }

    /// Whether the node takes writes, as far as its disk is concerned.
    pub fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }

    /// Returns when the driver has ended, for whatever reason.
    pub async fn ended(&self) {
        let mut condition = self.condition.clone();
        while condition.changed().await.is_ok() {}
    }

    /// The digest of the eventual view of one shard, of a moment since the call. Reads the whole shard, on a thread of its own.
    /// Dropping the future ends that after the row it is at.
    ///
    /// # Errors
    /// [`Reason::Damaged`] when a record of the shard is damaged, [`Reason::StoreFailed`] when the shard can not
    /// be read for another cause, [`Reason::ShuttingDown`].
    pub async fn digest(&self, shard: ShardId) -> Result<u128, Refusal> {
        let store = self.store.upgrade().ok_or_else(|| stopping(Applied::No))?;
        let waiting = Arc::new(());
        let by = Arc::downgrade(&waiting);
        let refusal = |reason| {
            move |error: &dyn fmt::Display| Refusal::not_applied(reason, error.to_string())
        };
        let read = move || {
            let failed = refusal(Reason::StoreFailed);
            let view = store.snapshot().map_err(|error| failed(&error))?;
            let nothing = Pending::default();
            let overlay = Overlay::new(&*view, &nothing);
            let reader = &overlay;
            digest(&wanted::Wanted { reader, by }, shard).map_err(|damaged| {
                match overlay.take_failure() {
                    Some(error) => failed(&error),
                    None => refusal(Reason::Damaged)(&damaged),
                }
            })
        };
        let result = match tokio::task::spawn_blocking(read).await {
            Ok(result) => result,
            Err(error) => Err(refusal(Reason::StoreFailed)(&error)),
        };
        drop(waiting);
        result
    }

    /// The time as the driver sees it: what a request's deadline is measured on.
    pub fn now(&self) -> Now {
        now()
    }
}

/// The refusal of a request that meets the end of the driver.
fn stopping(applied: Applied) -> Refusal {
    let message = match applied {
        Applied::No => "this node is stopping: ask another node",
        Applied::Maybe => {
            "this node is stopping: read elsewhere, or retry with the same request id"
        }
    };
    Refusal {
        applied,
        ..Refusal::not_applied(Reason::ShuttingDown, message)
    }
}

#[cfg(test)]
mod tests;
