//! What becomes of a strong operation whose value is chosen: an entry of this region, a receipt, an answer.
//!
//! A reply leaves only when an entry with the chosen value is durable in the log of this region; its token
//! names that entry (DESIGN 4.1, 1).

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::key::Row;
use crate::quorum::Tally;
use crate::record::{Change, Entry};
use crate::register::{Outcome, StrongValue};
use crate::request::{Answer, Command, Level, Path, Reason, Receipt, Refusal, Reply};
use crate::rules::Mutant;
use crate::session::Context;
use crate::value::State;
use crate::version::Ballot;

use super::group::{Group, Proposal};
use super::jobs::JobId;
use super::shard::Waiting;
use super::turn::Turn;
use super::{Replica, local};

impl Replica {
    /// What each operation of a chosen group is told.
    pub(super) fn results(
        &mut self,
        turn: &Turn<'_>,
        row: &Row,
        group: &Group,
        proposal: &Proposal,
    ) -> Vec<(JobId, Result<Reply, Refusal>)> {
        let hlc = self.reply_hlc(turn);
        let mut results = Vec::new();
        for (id, outcome) in group.jobs.iter().zip(&proposal.outcomes) {
            let Some(job) = self.jobs.get(id) else {
                continue;
            };
            let mut context = job.request.context.clone();
            context.join(&proposal.value.deps);
            let trips = group.round_trips.saturating_add(job.round_trips);
            let mut receipt = self.strong_receipt(row, &proposal.votes, trips, proposal.path);
            (receipt.absorbed, receipt.merged) = (proposal.absorbed, proposal.absorbed);
            let result = answer(outcome, &proposal.value, &context).map(|answer| Reply {
                answer,
                level: Level::Strong,
                context,
                hlc,
                receipt,
            });
            results.push((*id, result));
        }
        results
    }

    /// The receipt of a strong operation that these voters decided.
    pub(super) fn strong_receipt(
        &self,
        row: &Row,
        votes: &Tally,
        round_trips: u8,
        path: Path,
    ) -> Receipt {
        let held = self.shards.get(&row.shard());
        let regions = held.map_or_else(Vec::new, |h| h.voters.regions_reached(|n| votes.has(n)));
        let far = held.is_some_and(|h| h.voters.regions().len() > 1);
        Receipt {
            staleness: Some(Duration::ZERO),
            replicas: votes.nodes().iter().copied().collect(),
            regions: regions.clone(),
            durable_regions: regions,
            wan_round_trips: if far { round_trips } else { 0 },
            path: Some(path),
            ..Receipt::default()
        }
    }

    /// Logs a chosen value in the own log and answers once the entry is durable; every answer's
    /// context names the entry.
    pub(super) fn answer_with_entry(
        &mut self,
        turn: &mut Turn<'_>,
        row: &Row,
        ballot: Ballot,
        value: &StrongValue,
        results: Vec<(JobId, Result<Reply, Refusal>)>,
    ) {
        let reads = results.iter().all(|(id, _)| {
            let command = self.jobs.get(id).map(|job| &job.request.command);
            command.is_none_or(Command::is_read)
        });
        let skipped = match reads {
            true => self.rules.broken(Mutant::ReadWithoutEntry),
            false => self.rules.broken(Mutant::ReplyBeforeEntry),
        };
        let Some(state) = value.state.clone().filter(|_| !skipped) else {
            // A row that was never written has nothing to log.
            for (id, mut result) in results {
                if skipped {
                    raise(&mut result, self.me.region, stamp_hlc(value.state.as_ref()));
                }
                self.finish(turn, id, result);
            }
            return;
        };
        self.store_all_seen(turn);
        let hlc = self.clock.tick(turn.now);
        let named = match self.rules.broken(Mutant::TokenFromStamp) {
            true => stamp_hlc(Some(&state)),
            false => hlc,
        };
        let entry = Entry {
            hlc,
            deps: value.deps.clone(),
            request: None,
            changes: vec![Change {
                row: row.clone(),
                state,
                chosen: ballot,
            }],
            extension: Bytes::new(),
        };
        let waiting = results
            .into_iter()
            .map(|(job, mut result)| {
                raise(&mut result, self.me.region, named);
                Waiting {
                    job,
                    ack_regions: 0,
                    result,
                }
            })
            .collect();
        self.append(turn, row.shard(), entry, waiting);
    }
}

/// The refusal of a condition that did not hold: a linearized read.
pub(super) fn condition_failed(etag: Bytes, context: Context) -> Refusal {
    Refusal {
        etag,
        context,
        ..Refusal::not_applied(
            Reason::ConditionFailed,
            "the condition did not hold; read again and decide",
        )
    }
}

fn answer(outcome: &Outcome, value: &StrongValue, context: &Context) -> Result<Answer, Refusal> {
    match outcome {
        Outcome::Read => Ok(Answer::Read {
            found: local::found(value.state.as_ref()).map_err(local::overflow)?,
            etag: value.etag(),
        }),
        Outcome::Done { etag, total } => Ok(Answer::Written {
            etag: etag.clone(),
            total: *total,
        }),
        Outcome::ConditionFailed { etag } => Err(condition_failed(etag.clone(), context.clone())),
        Outcome::Unknown => Err(Refusal::maybe_applied(
            Reason::UnknownOutcome,
            "the request id is older than what the key remembers: read, then decide",
        )),
        Outcome::Overflow => Err(local::overflow(crate::value::Overflow)),
    }
}

fn raise(result: &mut Result<Reply, Refusal>, region: crate::key::RegionId, hlc: Hlc) {
    match result {
        Ok(reply) => reply.context.raise(region, hlc),
        Err(refusal) => refusal.context.raise(region, hlc),
    }
}

fn stamp_hlc(state: Option<&State>) -> Hlc {
    match state {
        Some(State::Register(register)) => register.marker.hlc,
        _ => Hlc::ZERO,
    }
}
