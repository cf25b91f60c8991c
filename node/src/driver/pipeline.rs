//! The two threads behind the driver's: one makes groups durable, one says what waited for that.
//!
//! ```text
//! driver: step group 3 | commit: apply and sync group 2 | release: sequence file, sends, replies of group 1
//! ```
//!
//! The small sequence file is written after the batch it counts is on stable storage, and while the next
//! batch is being synced. Written side by side with its own batch it could be the one that survives a power cut,
//! and every later start would take the store for a shortened one, though no vote had left.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use hansa_consistency::event::Event;
use hansa_consistency::key::NodeId;

use super::failure::{Failure, Trouble};
use super::group::{Group, Say};
use super::mailbox::{Mail, Mailbox};
use super::{GroupStats, Observer, Outbound};
use crate::limits::{GROUPS_IN_FLIGHT_MAX, SEQUENCE_SYNC_INTERVAL};
use crate::mutant::{DiskMutant, DiskRules};
use crate::store::sequence::SequenceFile;
use crate::store::{Store, StoreError};

/// How far groups have come. Numbers only grow.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest group the commit thread is done with, durable or failed.
    pub(super) committed: AtomicU64,
    /// The newest group that is durable.
    pub(super) durable: AtomicU64,
    /// The newest group of which everything was said, or refused.
    pub(super) released: AtomicU64,
    /// The store sequence in the small file.
    pub(super) sequence: AtomicU64,
    /// The newest group during which something that may carry a write left before the group was durable.
    pub(super) leaked: AtomicU64,
    /// Set when the driver is dropped without being stopped: nothing more is carried out.
    pub(super) abandoned: AtomicBool,
    /// The failure of the newest life that failed.
    failure: Mutex<Option<Failure>>,
}

impl Progress {
    /// Records a failure unless its life has failed already, and tells which one counts.
    fn fail(&self, failure: Failure, mailbox: &Mailbox) -> Failure {
        let mut slot = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(first) if first.life >= failure.life => first.clone(),
            _ => {
                *slot = Some(failure.clone());
                mailbox.put(Mail::Failed(failure.clone()));
                failure
            }
        }
    }

    /// The failure of a life, if it has failed.
    fn failure_of(&self, life: u64) -> Option<Failure> {
        let slot = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone().filter(|failure| failure.life == life)
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}

/// What both threads need.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) node: NodeId,
    pub(super) store: Arc<dyn Store>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) progress: Arc<Progress>,
    pub(super) outbound: Arc<dyn Outbound>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) rules: DiskRules,
}

/// The way of a group to the disk and out.
pub(super) struct Pipeline {
    groups: SyncSender<Group>,
    threads: [JoinHandle<()>; 2],
}

impl Pipeline {
    /// Starts both threads. `newest` is the store's sequence, of which all is durable.
    pub(super) fn start(
        around: &Surroundings,
        sequence: SequenceFile,
        newest: u64,
    ) -> io::Result<Pipeline> {
        let (groups, to_commit) = sync_channel(GROUPS_IN_FLIGHT_MAX);
        let (committed, to_release) = sync_channel(GROUPS_IN_FLIGHT_MAX);
        around
            .progress
            .sequence
            .store(sequence.current(), Ordering::Release);
        let release = Release {
            around: around.clone(),
            file: sequence,
            newest,
            written_at: Instant::now(),
        };
        let around = around.clone();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        Ok(Pipeline {
            groups,
            threads: [
                thread("hansa-commit").spawn(move || commit(&around, &to_commit, &committed))?,
                thread("hansa-release").spawn(move || release.run(&to_release))?,
            ],
        })
    }

    /// Hands a group on. Does not block while at most [`GROUPS_IN_FLIGHT_MAX`] are under way. An error gives
    /// the group back: the threads have ended, which only a panic in them explains.
    pub(super) fn hand_over(&self, group: Group) -> Result<(), Box<Group>> {
        let sent = self.groups.send(group);
        sent.map_err(|SendError(group)| Box::new(group))
    }

    /// Returns when everything handed over is durable and said.
    pub(super) fn finish(self) {
        drop(self.groups);
        for thread in self.threads {
            // A panic was printed when it happened, and whoever waited for that thread has been refused.
            let _ = thread.join();
        }
    }
}

/// The commit thread: one batch and one sync per group.
fn commit(around: &Surroundings, groups: &Receiver<Group>, next: &SyncSender<Group>) {
    let progress = &around.progress;
    for mut group in groups {
        if progress.is_abandoned() {
            return;
        }
        group.failed = progress.failure_of(group.life);
        if group.failed.is_none() && !group.writes.is_empty() {
            group.failed = match make_durable(around, &group) {
                Ok(()) => None,
                Err(error) => Some(progress.fail(failure(&group, &error), &around.mailbox)),
            };
        }
        if group.failed.is_none() {
            progress.durable.store(group.number, Ordering::Release);
        }
        progress.committed.store(group.number, Ordering::Release);
        around.mailbox.poke();
        if next.send(group).is_err() {
            return;
        }
    }
}

fn make_durable(around: &Surroundings, group: &Group) -> Result<(), StoreError> {
    let begun = Instant::now();
    around.store.apply(&group.writes)?;
    let at_times = around.rules.broken(DiskMutant::SyncSkippedAtTimes);
    let fourth = group.number.is_multiple_of(4);
    let skipped = around.rules.broken(DiskMutant::SyncSkipped) || (at_times && fourth);
    if !skipped {
        around.store.sync()?;
    }
    around.observer.group(&GroupStats {
        events: group.events,
        writes: group.writes.len(),
        bytes: group.bytes,
        took: begun.elapsed(),
    });
    Ok(())
}

fn failure(group: &Group, error: &StoreError) -> Failure {
    let full = matches!(error, StoreError::Full { .. });
    Failure {
        life: group.life,
        nothing_from: full.then_some(group.number),
        trouble: match full {
            true => Trouble::Full,
            false => Trouble::Failed,
        },
        cause: error.to_string().into(),
    }
}

/// The release thread: says what was waiting.
struct Release {
    around: Surroundings,
    file: SequenceFile,
    /// The newest store sequence that is durable in the store.
    newest: u64,
    written_at: Instant,
}

impl Release {
    fn run(mut self, groups: &Receiver<Group>) {
        loop {
            let due = SEQUENCE_SYNC_INTERVAL.saturating_sub(self.written_at.elapsed());
            match groups.recv_timeout(due) {
                Ok(_) if self.around.progress.is_abandoned() => return,
                Ok(group) => self.release(group),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.written_at.elapsed() >= SEQUENCE_SYNC_INTERVAL {
                // A failure here costs nothing yet: the file only lags. The next vote meets it.
                let _ = self.write_sequence();
                self.written_at = Instant::now();
            }
        }
        if !self.around.progress.is_abandoned() && self.write_sequence().is_err() {
            tracing::warn!("the store sequence file could not be brought up to date at the end");
        }
    }

    fn release(&mut self, mut group: Group) {
        let number = group.number;
        // The group may have become durable after an earlier one of its life had failed here.
        let failed_before = || self.around.progress.failure_of(group.life);
        group.failed = group.failed.take().or_else(failed_before);
        if group.failed.is_none() {
            self.newest = self.newest.max(group.sequence.unwrap_or(0));
            if group.votes && !self.around.rules.broken(DiskMutant::SequenceNotSynced) {
                let written = self.write_sequence();
                let around = &self.around;
                group.failed = written.err().map(|cause| {
                    let failure = Failure {
                        life: group.life,
                        nothing_from: None,
                        trouble: Trouble::Failed,
                        cause,
                    };
                    around.progress.fail(failure, &around.mailbox)
                });
            }
        }
        match group.failed.take() {
            None => self.say(group),
            Some(failure) => {
                let leaked = self.around.progress.leaked.load(Ordering::Acquire);
                group.fail(&failure, leaked);
            }
        }
        self.around
            .progress
            .released
            .store(number, Ordering::Release);
        self.around.mailbox.poke();
    }

    /// Brings the small file up to what the store holds durably.
    fn write_sequence(&mut self) -> Result<(), Arc<str>> {
        if self.newest <= self.file.current() {
            return Ok(());
        }
        let begun = Instant::now();
        let written = self.file.write(self.newest);
        written.map_err(|error| Arc::from(error.to_string()))?;
        self.written_at = Instant::now();
        let progress = &self.around.progress;
        progress.sequence.store(self.newest, Ordering::Release);
        self.around.observer.sequence_synced(begun.elapsed());
        Ok(())
    }

    fn say(&self, group: Group) {
        for say in group.says {
            match say {
                Say::Send { to, envelope } if to == self.around.node => {
                    let event = Event::Received(envelope);
                    self.around.mailbox.put(Mail::Event(event));
                }
                Say::Send { to, envelope } => self.around.outbound.send(to, envelope),
                Say::Reply { open, result } => open.answer(result),
            }
        }
    }
}
