//! The coordinator of strong writes: one group in flight per row, beside those that another coordinator was handed.
//!
//! Operations on a row queue up here; at most [`GROUP_OPERATIONS_MAX`] are combined
//! under one ballot. Once a group was proposed it is fixed: it is proposed again under
//! new ballots until it is chosen or nobody waits for it any more, and the value itself
//! remembers the groups that each proposer has under way, so that each takes effect once.
//!
//! [`Replica::begin_attempt`] chooses how the base is reached: where it takes one round trip the group is delegated
//! (`delegation.rs`), to each replica at most once and until a higher ballot stands in the way; else a quorum is
//! prepared, which takes two. Where another coordinator's ballots win the row, the group is handed to that one
//! (`combining.rs`).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Hlc;
use crate::effect::Note;
use crate::key::{NodeId, Row, ShardId};
use crate::limits::{
    BACKOFF_MS_MAX, DEDUP_SESSIONS_MAX, GROUP_BYTES_MAX, GROUP_OPERATIONS_MAX, ROW_QUEUE_MAX,
};
use crate::message::{Message, Vote};
use crate::port::Damaged;
use crate::quorum::Tally;
use crate::register::errand::recalls_any;
use crate::register::proposer::Eventual;
use crate::register::strong_value::Place;
use crate::register::{Action, Attempt, Errand, Operation, Outcome, Promise, StrongValue};
use crate::request::{Applied, Command, Level, Path, Reason, Refusal};
use crate::rules::Mutant;
use crate::session::Context;
use crate::topology::ValueType;
use crate::version::Ballot;

use super::group::{Coordinator, Group, Phase, Proposal};
use super::jobs::{JobId, Stage};
use super::reach::{REGION_GONE, UNREACHABLE};
use super::strong_answer::condition_failed;
use super::turn::Turn;
use super::{Replica, Timer};

impl Replica {
    /// Begins a strong request.
    pub(super) fn serve_strong(&mut self, turn: &mut Turn<'_>, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(row) = job.request.command.row().cloned() else {
            return;
        };
        let shard = row.shard();
        if job
            .request
            .retry_of
            .is_some_and(|(_, level)| level != Level::Strong)
        {
            let why = "a retry must name the level of its first attempt";
            self.refuse(turn, id, Reason::Invalid, why);
            return;
        }
        if !self.voters_reachable(turn.now.monotonic, shard) {
            self.refuse(turn, id, Reason::QuorumUnreachable, UNREACHABLE);
            return;
        }
        if !self.covers_for(id, shard) {
            self.wait_for_session(turn, id, shard);
            return;
        }
        if self.rules.broken(Mutant::CasFalseFromCache) && self.cas_false_from_cache(turn, id, &row)
        {
            return;
        }
        if matches!(
            self.jobs.get(&id).map(|j| &j.request.command),
            Some(Command::Get(_))
        ) {
            self.begin_read(turn, id, row);
        } else {
            self.enqueue(turn, id, row);
        }
    }

    /// Answers a compare-and-set from the own slot if it would fail there. Only a mutant calls it.
    fn cas_false_from_cache(&mut self, turn: &mut Turn<'_>, id: JobId, row: &Row) -> bool {
        let Some(Command::CompareAndSet(_, expect, _)) =
            self.jobs.get(&id).map(|job| job.request.command.clone())
        else {
            return false;
        };
        let slot = self.load_slot(turn, row).unwrap_or_default();
        let Some(value) = slot.value.filter(|value| !value.meets(&expect)) else {
            return false;
        };
        let refusal = condition_failed(value.etag(), Context::new());
        self.finish(turn, id, Err(refusal));
        true
    }

    /// Puts an operation into its row's queue, if its outcome can be logged.
    pub(super) fn enqueue(&mut self, turn: &mut Turn<'_>, id: JobId, row: Row) {
        if !self.region_reachable(turn.now.monotonic, row.shard()) {
            self.refuse(turn, id, Reason::QuorumUnreachable, REGION_GONE);
            return;
        }
        let jobs = &self.jobs;
        let coordinator = self.coordinators.entry(row.clone()).or_default();
        if coordinator.queue.len() >= ROW_QUEUE_MAX {
            // Operations nobody waits for any more must not keep others out.
            coordinator.queue.retain(|id| jobs.contains_key(id));
        }
        if coordinator.queue.len() >= ROW_QUEUE_MAX {
            let why = "too many strong operations wait for this key; retry later";
            self.refuse(turn, id, Reason::Overloaded, why);
            return;
        }
        coordinator.queue.push_back(id);
        self.next_group(turn, &row);
    }

    /// Takes the next group from the queue, or closes the coordinator when there is none.
    fn begin_group(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let number = self.clock.tick(turn.now).0;
        let Some(coordinator) = self.coordinators.get_mut(row) else {
            return;
        };
        coordinator.attempts = 0;
        if let Some(back) = coordinator.back.pop_front() {
            coordinator.group = Some(back);
            self.begin_attempt(turn, row);
            return;
        }
        coordinator.begun += 1;
        coordinator.group = Some(Group {
            number,
            ordinal: coordinator.begun,
            jobs: Vec::new(),
            operations: Vec::new(),
            proposed: false,
            handed: Vec::new(),
            delegates: Vec::new(),
            combiners: Vec::new(),
            refused: false,
            round: 0,
            round_trips: 0,
            phase: Phase::Paused,
        });
        self.begin_attempt(turn, row);
    }

    /// Fills a group that was not proposed yet with operations somebody still waits for.
    fn fill_group(&mut self, row: &Row) {
        let jobs = &self.jobs;
        let Some(coordinator) = self.coordinators.get_mut(row) else {
            return;
        };
        let Some(group) = coordinator.group.as_mut() else {
            return;
        };
        // Each of those has a name of its own, so it may join a group that was proposed.
        group.take_handed(&mut coordinator.handed);
        if group.proposed {
            return;
        }
        let payload = |id: &JobId| jobs.get(id).map(|job| payload(&job.request.command));
        let mut bytes: usize = group.jobs.iter().filter_map(payload).sum();
        while group.jobs.len() < GROUP_OPERATIONS_MAX && bytes < GROUP_BYTES_MAX {
            let Some(id) = coordinator.queue.pop_front() else {
                break;
            };
            if let Some(more) = payload(&id) {
                bytes += more;
                group.jobs.push(id);
            }
        }
        self.prune_group(row);
    }

    /// Takes operations nobody waits for out of a group that was not proposed yet.
    pub(super) fn prune_group(&mut self, row: &Row) {
        let jobs = &self.jobs;
        let coordinator = self.coordinators.get_mut(row);
        let group = coordinator.and_then(|c| c.group.as_mut());
        if let Some(group) = group.filter(|g| !g.proposed) {
            group.jobs.retain(|id| jobs.contains_key(id));
            let operation = |id: &JobId| operation_of(&jobs.get(id)?.request);
            group.operations = group.jobs.iter().filter_map(operation).collect();
        }
    }

    /// Takes out of a group what nobody waits for any more: it may have taken effect, and is not proposed again.
    fn drop_given_up(&mut self, now: Duration, row: &Row) {
        let jobs = &self.jobs;
        let coordinator = self.coordinators.get_mut(row);
        let Some(group) = coordinator.and_then(|c| c.group.as_mut()) else {
            return;
        };
        group.handed.retain(|handed| now < handed.until);
        if !group.jobs.iter().any(|id| jobs.contains_key(id)) {
            group.jobs.clear();
            group.operations.clear();
        }
    }

    /// Starts an attempt at the row's group under a fresh ballot.
    pub(super) fn begin_attempt(&mut self, turn: &mut Turn<'_>, row: &Row) {
        self.fill_group(row);
        self.drop_given_up(turn.now.monotonic, row);
        let waits = |group: &Group| !(group.handed.is_empty() && group.jobs.is_empty());
        if !self.group(row).is_some_and(waits) {
            self.end_group(turn, row);
            return;
        }
        if self.begin_combining(turn, row) || self.begin_delegation(turn, row) {
            return;
        }
        let ballot = self.fresh_ballot(turn);
        let round = self.next_round_for(turn, row);
        if let Some(group) = self.group_mut(row) {
            group.phase = Phase::Prepare(Attempt::new(ballot));
            group.round_trips = group.round_trips.saturating_add(1);
        }
        let vote = self.vote(row, round);
        self.ask_voters(turn, row.shard(), |_| Message::Prepare {
            vote: vote.clone(),
            ballot,
        });
    }

    /// The group is done or abandoned: the next one, or none.
    fn end_group(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let group = self.coordinators.get_mut(row).and_then(|c| c.group.take());
        if let Some(group) = group {
            self.proposals.remove(&group.round);
        }
        self.next_group(turn, row);
    }

    /// Begins the next group, unless one runs: what was woken meanwhile may have begun it.
    pub(super) fn next_group(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let now = turn.now.monotonic;
        let free = self.coordinators.get(row).filter(|c| c.is_free(now));
        let Some(coordinator) = free else {
            return;
        };
        if coordinator.is_waited_for() {
            self.begin_group(turn, row);
        } else if coordinator.away.is_empty() {
            self.coordinators.remove(row);
        }
    }

    pub(super) fn group(&self, row: &Row) -> Option<&Group> {
        self.coordinators.get(row)?.group.as_ref()
    }

    pub(super) fn group_mut(&mut self, row: &Row) -> Option<&mut Group> {
        self.coordinators.get_mut(row)?.group.as_mut()
    }

    /// A fresh conversation for the row's group, with its own patience.
    fn next_round_for(&mut self, turn: &Turn<'_>, row: &Row) -> u64 {
        let attempts = self.coordinators.get(row).map_or(0, |c| c.attempts);
        let patience = self.attempt_patience(turn.now.monotonic, row.shard(), attempts);
        self.next_round_within(turn, row, patience)
    }

    /// A fresh conversation for the row's group that lasts this long.
    pub(super) fn next_round_within(
        &mut self,
        turn: &Turn<'_>,
        row: &Row,
        patience: Duration,
    ) -> u64 {
        let round = self.fresh_round();
        self.set_timer(
            turn.now.monotonic + patience,
            Timer::Attempt(row.clone(), round),
        );
        self.proposals.insert(round, row.clone());
        if let Some(group) = self.group_mut(row) {
            let old = std::mem::replace(&mut group.round, round);
            self.proposals.remove(&old);
        }
        round
    }

    /// Where a vote of a conversation belongs.
    pub(super) fn vote(&self, row: &Row, round: u64) -> Vote {
        let held = self.shards.get(&row.shard());
        Vote {
            row: row.clone(),
            epoch: held.map_or_else(Default::default, |held| held.epoch.epoch),
            round,
        }
    }

    /// Asks every voter of a shard, this node included.
    pub(super) fn ask_voters(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        message: impl Fn(NodeId) -> Message,
    ) {
        let held = self.shards.get(&shard);
        let voters: Vec<NodeId> = held.map_or_else(Vec::new, |h| h.voters.nodes().collect());
        for node in voters {
            if node == self.me.node {
                // The own vote is cast in this step and counted when it is durable.
                self.on_vote_message(turn, node, message(node));
            } else {
                self.send(turn, node, message(node));
            }
        }
    }

    /// A voter promised.
    pub(super) fn on_promised(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vote: &Vote,
        ballot: Ballot,
        promise: Promise,
    ) {
        let rules = self.rules;
        let Some(row) = self.proposals.get(&vote.round).cloned() else {
            return;
        };
        let Some(voters) = self.shards.get(&row.shard()).map(|h| h.voters.clone()) else {
            return;
        };
        let Some(group) = self.group_mut(&row) else {
            return;
        };
        let Phase::Prepare(attempt) = &mut group.phase else {
            return;
        };
        if attempt.ballot != ballot {
            return;
        }
        let Some(base) = attempt.promise(from, promise, &voters, rules) else {
            return;
        };
        self.propose(turn, &row, ballot, base);
    }

    /// A base is reached: applies the group and asks the voters to accept the result.
    fn propose(
        &mut self,
        turn: &mut Turn<'_>,
        row: &Row,
        ballot: Ballot,
        mut base: crate::register::Base,
    ) {
        if let Err(damage) = self.absorb_own(turn, row, &mut base) {
            self.refuse_damaged(turn, row, damage);
            return;
        }
        // Whoever gave up meanwhile was told that nothing was applied.
        self.prune_group(row);
        let errands = self.errands(row);
        if errands.is_empty() {
            self.end_group(turn, row);
            return;
        }
        base.absorb_all(&errands, self.rules);
        let place = self.place(turn, row, ballot);
        let after_prepare = self.rules.broken(Mutant::CasFalseAfterPrepare) && !base.settled;
        let second = self.second_proposal(row, &base, place);
        let Some(group) = self.group_mut(row) else {
            return;
        };
        group.proposed = true;
        note_group(turn, &base.value, &errands);
        let absorbed = base.absorbed;
        let (value, mut outcomes) = base.propose(&errands, place);
        let jobs = group.jobs.clone();
        if let Some((_, job, outcome)) = &second {
            group.jobs.push(*job);
            outcomes.push(outcome.clone());
        }
        let failed = outcomes
            .iter()
            .all(|o| matches!(o, Outcome::ConditionFailed { .. }));
        group.phase = Phase::Accept(Proposal {
            ballot,
            value: value.clone(),
            outcomes,
            votes: Tally::default(),
            absorbed,
            path: Path::Prepared,
        });
        group.round_trips = group.round_trips.saturating_add(1);
        if after_prepare && failed {
            self.on_chosen(turn, row);
            return;
        }
        for id in jobs {
            self.begun(id);
        }
        let round = self.next_round_for(turn, row);
        let vote = self.vote(row, round);
        self.answer_handed_early(turn, row);
        for value in [Some(value), second.map(|s| s.0)].into_iter().flatten() {
            self.ask_voters(turn, row.shard(), |_| Message::Accept {
                vote: vote.clone(),
                ballot,
                value: value.clone(),
            });
        }
    }

    /// Takes in what this coordinator has applied: its own promise need not be among the quorum's.
    fn absorb_own(
        &self,
        turn: &mut Turn<'_>,
        row: &Row,
        base: &mut crate::register::Base,
    ) -> Result<(), Damaged> {
        if let Some(own) = self.own_eventual(turn, row)? {
            base.absorb(&own, self.rules);
        }
        if base.absorbed {
            turn.note(Note::Absorbed);
        }
        Ok(())
    }

    /// What this coordinator itself has applied to a row: a session may count on it.
    fn own_eventual(&self, turn: &Turn<'_>, row: &Row) -> Result<Option<Eventual>, Damaged> {
        let record = self.record(turn, row)?;
        Ok(record.map(|record| Eventual {
            context: record.context(),
            state: record.state,
        }))
    }

    /// What goes out under the next ballot: the own group, unless nobody waits for it, then those of others.
    pub(super) fn errands(&self, row: &Row) -> Vec<Errand> {
        let Some(group) = self.group(row) else {
            return Vec::new();
        };
        let own = Some(self.own_errand(row, group));
        let own = own.filter(|own| !own.operations.is_empty());
        let handed = group.handed.iter().map(|handed| handed.errand.clone());
        own.into_iter().chain(handed).collect()
    }

    /// A group of this coordinator, without what this node has applied.
    pub(super) fn own_errand(&self, row: &Row, group: &Group) -> Errand {
        let oldest = self.coordinators.get(row).and_then(Coordinator::oldest);
        Errand {
            proposer: self.own_proposer(),
            group: group.number,
            oldest: oldest.unwrap_or(group.number),
            operations: group.operations.clone(),
            eventual: None,
        }
    }

    /// Where groups are applied: under this ballot.
    pub(super) fn place(&mut self, turn: &Turn<'_>, row: &Row, ballot: Ballot) -> Place {
        let keyspace = self.topology.keyspace(row.shard().keyspace);
        Place {
            ballot,
            hlc: self.clock.tick(turn.now),
            value_type: keyspace.map_or(ValueType::Register, |k| k.value_type),
            dedup_sessions: DEDUP_SESSIONS_MAX,
            rules: self.rules,
        }
    }

    /// Another operation's value under the same ballot. Only a mutant makes one.
    fn second_proposal(
        &mut self,
        row: &Row,
        base: &crate::register::Base,
        place: Place,
    ) -> Option<(Arc<StrongValue>, JobId, Outcome)> {
        if !self.rules.broken(Mutant::DoubleBallot) {
            return None;
        }
        let id = self.coordinators.get_mut(row)?.queue.pop_front()?;
        let operation = operation_of(&self.jobs.get(&id)?.request)?;
        let errand = Errand {
            proposer: place.ballot.origin,
            group: place.ballot.n,
            oldest: place.ballot.n,
            operations: vec![operation],
            eventual: None,
        };
        let (value, mut outcomes) = base.clone().propose(&[errand], place);
        Some((value, id, outcomes.pop()?))
    }

    /// A voter accepted a proposal of this coordinator.
    pub(super) fn on_proposal_accepted(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        row: &Row,
        ballot: Ballot,
    ) {
        let Some(voters) = self.shards.get(&row.shard()).map(|h| h.voters.clone()) else {
            return;
        };
        let Some(group) = self.group_mut(row) else {
            return;
        };
        let Phase::Accept(proposal) = &mut group.phase else {
            return;
        };
        if proposal.ballot == ballot
            && proposal.votes.count(from)
            && proposal.votes.reached(&voters)
        {
            self.on_chosen(turn, row);
        }
    }

    /// The group's value is chosen: logs it, answers when the entry is durable, goes on.
    pub(super) fn on_chosen(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let Some(group) = self.coordinators.get_mut(row).and_then(|c| c.group.take()) else {
            return;
        };
        self.conclude(turn, row, &group);
        self.next_group(turn, row);
    }

    /// A group that is chosen: logs the value, answers when the entry is durable.
    pub(super) fn conclude(&mut self, turn: &mut Turn<'_>, row: &Row, group: &Group) {
        self.proposals.remove(&group.round);
        if let Phase::Accept(proposal) = &group.phase {
            let results = self.results(turn, row, group, proposal);
            if !group.jobs.is_empty() {
                self.answer_with_entry(turn, row, proposal.ballot, &proposal.value, results);
            }
            self.answer_handed(turn, row, group, proposal);
            if self.rules.broken(Mutant::ViewJoinedAtCommit) {
                let vote = self.vote(row, 0);
                let (ballot, value) = (proposal.ballot, proposal.value.clone());
                self.ask_voters(turn, row.shard(), |_| Message::Accept {
                    vote: vote.clone(),
                    ballot,
                    value: value.clone(),
                });
            }
        }
    }

    /// A voter refused: a higher ballot is about. Pause, then a new ballot.
    pub(super) fn on_proposal_refused(&mut self, turn: &mut Turn<'_>, row: &Row, promised: Ballot) {
        turn.note(Note::Nacked);
        // Ballots are clock values: having seen it, the next one lies above.
        let _ = self.clock.observe(turn.now, Hlc(promised.n));
        if self.yields(turn, row, promised) && self.begin_combining(turn, row) {
            return;
        }
        let round_trip = self.quorum_round_trip(turn.now.monotonic, row.shard());
        let Some(coordinator) = self.coordinators.get_mut(row) else {
            return;
        };
        let Some(group) = &mut coordinator.group else {
            return;
        };
        group.phase = Phase::Paused;
        group.refused = true;
        self.proposals.remove(&group.round);
        let doublings = coordinator.attempts.min(4);
        coordinator.attempts += 1;
        let pause = round_trip.max(Duration::from_millis(1)) * 2u32.pow(doublings);
        let pause = pause.min(Duration::from_millis(BACKOFF_MS_MAX));
        let pause = self.random.jitter(pause);
        self.set_timer(turn.now.monotonic + pause, Timer::Retry(row.clone()));
    }

    /// The pause of a row's coordinator is over.
    pub(super) fn on_retry_timer(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let paused = self
            .group_mut(row)
            .is_some_and(|group| matches!(group.phase, Phase::Paused));
        match paused {
            true => self.begin_attempt(turn, row),
            false => self.next_group(turn, row),
        }
    }

    /// An attempt has lasted long enough: votes were lost. A new ballot.
    pub(super) fn on_attempt_timer(&mut self, turn: &mut Turn<'_>, row: &Row, round: u64) {
        if self.take_back(turn, row, round) {
            return;
        }
        if self.proposals.contains_key(&round) {
            self.miss_delegate(turn, row);
            if let Some(coordinator) = self.coordinators.get_mut(row) {
                coordinator.attempts += 1;
            }
            self.begin_attempt(turn, row);
        }
    }

    /// Restarts what runs in a shard under new ballots: its epoch changed.
    pub(super) fn restart_proposals(&mut self, turn: &mut Turn<'_>, shard: ShardId) {
        let rows: Vec<Row> = self
            .coordinators
            .keys()
            .filter(|row| row.shard() == shard)
            .cloned()
            .collect();
        for row in rows {
            self.take_back_all(turn, &row, None);
            self.begin_attempt(turn, &row);
        }
    }

    /// Refuses everything that runs and waits on a row whose record is damaged here: what rests on it
    /// would be shown, or chosen, without what it held.
    pub(super) fn refuse_damaged(&mut self, turn: &mut Turn<'_>, row: &Row, damage: Damaged) {
        let refusal = self.meet_damage(turn, damage);
        for id in self.abandon(row) {
            let applied = match self.may_be_applied(id) {
                true => Applied::Maybe,
                false => Applied::No,
            };
            let refusal = Refusal {
                applied,
                ..refusal.clone()
            };
            self.finish(turn, id, Err(refusal));
        }
    }

    /// Closes a row's coordinator; who waited for it.
    pub(super) fn abandon(&mut self, row: &Row) -> Vec<JobId> {
        let Some(coordinator) = self.coordinators.remove(row) else {
            return Vec::new();
        };
        let mut jobs = Vec::from(coordinator.queue);
        let groups = coordinator.group.into_iter().chain(coordinator.away);
        for group in groups.chain(coordinator.back) {
            self.proposals.remove(&group.round);
            jobs.extend(group.jobs);
        }
        jobs
    }

    /// Whether a strong operation was proposed and may take effect.
    pub(super) fn may_be_applied(&self, id: JobId) -> bool {
        let job = self.jobs.get(&id);
        job.is_some_and(|job| job.stage == Stage::Begun && !job.request.command.is_read())
    }
}

/// The bytes that a strong operation writes.
fn payload(command: &Command) -> usize {
    match command {
        Command::Put(_, value) | Command::CompareAndSet(_, _, Some(value)) => value.len(),
        _ => 0,
    }
}

fn operation_of(request: &crate::request::Request) -> Option<Operation> {
    let action = match &request.command {
        Command::Get(_) => Action::Read,
        Command::Put(_, value) => Action::Put(value.clone()),
        Command::Delete(_) => Action::Delete,
        Command::CompareAndSet(_, expect, update) => {
            Action::CompareAndSet(expect.clone(), update.clone())
        }
        Command::Increment(_, amount) => Action::Increment(*amount),
        Command::AddElement(_) => Action::AddElement,
        Command::RemoveElement(_) => Action::RemoveElement,
        Command::Scan(_) => return None,
    };
    Some(Operation {
        action,
        request: request.request_id,
        deps: request.context.clone(),
    })
}

/// Counts what is rare about a group that goes out on top of a value.
fn note_group(turn: &mut Turn<'_>, base: &StrongValue, errands: &[Errand]) {
    if recalls_any(base, errands) {
        turn.note(Note::RequestRecalled);
    }
    if errands.iter().any(|errand| errand.operations.len() > 1) {
        turn.note(Note::OperationsShared);
    }
}
