//! What it means for open requests that a group could not be made durable.

use std::sync::Arc;

use bytes::Bytes;
use hansa_consistency::request::{Applied, Reason, Refusal, Reply};

use super::mailbox::Answerer;
use crate::mutant::{DiskMutant, DiskRules};

/// Why a run of groups ended. All groups of one life of the replica fail together, from the first failed
/// one on: each was stepped on top of the one before.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Which life of the replica it ends.
    pub(super) life: u64,
    /// When that is known: the first group of which surely nothing was applied, nor of any later one.
    pub(super) nothing_from: Option<u64>,
    /// What it was.
    pub(super) trouble: Trouble,
    /// What failed, in the words of whoever failed.
    pub(super) cause: Arc<str>,
}

/// What is the matter with the disk, and so for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// A batch was refused for want of space: until there is space.
    Full,
    /// A read failed for want of files, memory or space: until it works again.
    Short,
    /// A sync, a write or a read failed otherwise: until the node is restarted.
    Failed,
}

impl Failure {
    /// Whether the node may take writes again by itself.
    pub(super) fn may_pass(&self) -> bool {
        self.trouble != Trouble::Failed
    }

    /// The refusal of a request that can not be served because of this.
    pub(super) fn refusal(&self, applied: Applied) -> Refusal {
        let what = match self.trouble {
            Trouble::Full => "is full; it takes writes again when there is space",
            Trouble::Short => {
                "can not be read for want of files, memory or space; it goes on when it can"
            }
            Trouble::Failed => {
                "failed; it takes no writes and gives no votes until it is restarted"
            }
        };
        let then = match applied {
            Applied::No => "ask another node",
            Applied::Maybe => "read, or retry with the same request id",
        };
        Refusal {
            applied,
            ..Refusal::not_applied(
                Reason::StoreFailed,
                format!("this node's disk {what}: {then}"),
            )
        }
    }
}

/// A request somebody waits for.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) answerer: Answerer,
    /// The group in which the request was first stepped.
    pub(super) group: u64,
    /// Whether it changes nothing.
    pub(super) read: bool,
}

impl Open {
    /// Answers. Whoever asked may be gone: then nobody needs it.
    pub(super) fn answer(self, result: Result<Reply, Refusal>) {
        let _ = self.answerer.send(result);
    }

    /// Answers with the refusal that is true: `leaked` is the newest group during which something that
    /// may carry a write left before the group was durable.
    pub(super) fn fail(self, failure: &Failure, leaked: u64) {
        let untouched = failure
            .nothing_from
            .is_some_and(|from| self.group >= from && self.group > leaked);
        let rules = DiskRules::of_process();
        let said = rules.broken(DiskMutant::FailureSaysNotApplied);
        let applied = match self.read || untouched || said {
            true => Applied::No,
            false => Applied::Maybe,
        };
        self.answer(Err(failure.refusal(applied)));
    }

    /// As [`Open::fail`], for a request that had an outcome which was still to be made durable. A refusal
    /// that says "not applied" stays true.
    pub(super) fn fail_with(self, result: Result<Reply, Refusal>, failure: &Failure, leaked: u64) {
        match result {
            Err(refusal) if refusal.applied == Applied::No => self.answer(Err(Refusal {
                etag: Bytes::new(),
                ..failure.refusal(Applied::No)
            })),
            _ => self.fail(failure, leaked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn applied(nothing_from: Option<u64>, group: u64, leaked: u64, read: bool) -> Applied {
        let (answerer, mut outcome) = oneshot::channel();
        let failure = Failure {
            life: 0,
            nothing_from,
            trouble: Trouble::Full,
            cause: "a test".into(),
        };
        Open {
            answerer,
            group,
            read,
        }
        .fail(&failure, leaked);
        outcome.try_recv().unwrap().unwrap_err().applied
    }

    #[test]
    fn a_write_is_surely_not_applied_only_when_its_group_was_refused_and_nothing_left() {
        assert_eq!(applied(Some(7), 7, 0, false), Applied::No);
        assert_eq!(applied(Some(7), 9, 8, false), Applied::No);
        assert_eq!(applied(Some(7), 6, 0, false), Applied::Maybe);
        assert_eq!(applied(Some(7), 8, 8, false), Applied::Maybe);
        assert_eq!(applied(None, 7, 0, false), Applied::Maybe);
        assert_eq!(applied(None, 7, 0, true), Applied::No);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn what_left_before_the_failure_is_denied_when_that_is_broken() {
        use crate::mutant::breaking;
        let mutant = DiskMutant::FailureSaysNotApplied;
        let said = breaking(mutant, || applied(None, 7, 8, false));
        assert_eq!(said, Applied::No);
    }
}
