//! Open requests: who asked, until when, and how far each came.

use std::time::Duration;

use crate::clock::Hlc;
use crate::key::{NodeId, OpId};
use crate::request::{Applied, Reason, Refusal, Reply, Request};

use super::local::shard_of;
use super::turn::Turn;
use super::{Replica, Timer};
use crate::effect::{Effect, Note};
use crate::message::Message;
use crate::rules::Mutant;
use crate::version::Dot;

/// An open request's number at this replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct JobId(pub(super) u64);

/// Who waits for the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A client of this node.
    Client(OpId),
    /// A peer that forwarded the request, under its number for it.
    Peer(NodeId, u64),
    /// Nobody: the replica settles an orphaned value.
    Settle,
}

/// How far a request came: decides what a passed deadline means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nothing of it left this replica or was written.
    Clean,
    /// It waits for its session's causes.
    Session,
    /// It may have taken effect.
    Begun,
}

/// An open request.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) asker: Asker,
    pub(super) request: Request,
    pub(super) stage: Stage,
    /// Round trips between regions paid so far.
    pub(super) round_trips: u8,
    /// Whether it may still be forwarded.
    pub(super) may_forward: bool,
    /// The own entry whose durability its reply waits for.
    pub(super) entry: Option<Dot>,
    /// When it is to be forwarded unless it is served here before.
    pub(super) forward_at: Option<Duration>,
}

impl Replica {
    /// Opens a job and sets its deadline.
    pub(super) fn open_job(&mut self, asker: Asker, request: Request) -> JobId {
        self.next_job += 1;
        let id = JobId(self.next_job);
        self.set_timer(request.deadline, Timer::Deadline(id));
        let may_forward = matches!(asker, Asker::Client(_));
        if let Asker::Client(op) = asker {
            self.clients.insert(op, id);
        }
        let job = Job {
            asker,
            request,
            stage: Stage::Clean,
            round_trips: 0,
            may_forward,
            entry: None,
            forward_at: None,
        };
        self.jobs.insert(id, job);
        id
    }

    /// Answers a job and forgets it. A job that is gone (cancelled, expired) gets no answer.
    pub(super) fn finish(
        &mut self,
        turn: &mut Turn<'_>,
        id: JobId,
        result: Result<Reply, Refusal>,
    ) {
        let Some(job) = self.close_job(id) else {
            return;
        };
        let unknown = |refusal: &Refusal| refusal.reason == Reason::UnknownOutcome;
        if job.asker != Asker::Settle && result.as_ref().is_err_and(unknown) {
            turn.note(Note::OutcomeUnknown);
        }
        match job.asker {
            Asker::Settle => {}
            Asker::Client(op) => {
                self.clients.remove(&op);
                let local_read = job.request.command.is_read()
                    && job.request.level != crate::request::Level::Strong;
                // A session that this step woke may have been shown what this step writes. A refusal of
                // what was never begun tells of nothing that could be lost.
                let waits = match &result {
                    Ok(_) => !local_read || turn.showed_own(),
                    Err(_) => job.stage == Stage::Begun,
                };
                turn.say(Effect::Reply {
                    id: op,
                    result,
                    waits,
                });
            }
            Asker::Peer(node, id) => self.send(turn, node, Message::Forwarded { id, result }),
        }
    }

    /// Forgets a job and everything that waits for it: an answer that comes later finds nobody.
    fn close_job(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        let shard = shard_of(&job.request.command);
        self.forwarded.remove(&id);
        self.timers
            .remove(&(job.request.deadline, Timer::Deadline(id)));
        if let Some(at) = job.forward_at {
            self.timers.remove(&(at, Timer::Forward(id)));
        }
        if let Some(held) = self.shards.get_mut(&shard) {
            held.sessions.remove(&id);
        }
        if let Some(dot) = job.entry {
            self.forget_waiting(shard, dot, id);
        }
        Some(job)
    }

    /// Refuses a job with nothing applied.
    pub(super) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        id: JobId,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.finish(turn, id, Err(Refusal::not_applied(reason, message)));
    }

    /// Marks a job as possibly applied.
    pub(super) fn begun(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.stage = Stage::Begun;
        }
    }

    /// The deadline of a job has come.
    pub(super) fn on_deadline(&mut self, turn: &mut Turn<'_>, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let unharmed =
            job.request.command.is_read() || self.rules.broken(Mutant::TimeoutSaysNotApplied);
        let refusal = match job.stage {
            Stage::Session => Refusal::not_applied(
                Reason::SessionUnavailable,
                "what the session has seen did not arrive here before the deadline; \
                 retry, or ask the region the session comes from",
            ),
            Stage::Clean => Refusal::not_applied(
                Reason::DeadlineExceeded,
                "the deadline passed before anything was written; retry",
            ),
            Stage::Begun => Refusal {
                applied: match unharmed {
                    true => Applied::No,
                    false => Applied::Maybe,
                },
                ..Refusal::not_applied(
                    Reason::DeadlineExceeded,
                    "the deadline passed after work had begun; read, or retry with the same request id",
                )
            },
        };
        self.finish(turn, id, Err(refusal));
    }

    /// The client is gone.
    pub(super) fn on_cancelled(&mut self, op: OpId) {
        if let Some(id) = self.clients.remove(&op) {
            self.close_job(id);
        }
    }

    /// Time left to a job.
    pub(super) fn time_left(&self, id: JobId, now: Duration) -> Duration {
        self.jobs.get(&id).map_or(Duration::ZERO, |job| {
            job.request.deadline.saturating_sub(now)
        })
    }

    /// The clock value a reply carries.
    pub(super) fn reply_hlc(&mut self, turn: &Turn<'_>) -> Hlc {
        self.clock.read(turn.now)
    }
}
