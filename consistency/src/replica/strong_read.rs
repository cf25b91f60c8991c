//! The coordinator of strong reads: one round trip when the newest ballot is proven,
//! helping when it is not, absorbing when the quorum holds more than the chosen value.

use std::sync::Arc;
use std::time::Duration;

use crate::effect::Note;
use crate::key::{NodeId, Row};
use crate::message::{Message, Vote};
use crate::quorum::Tally;
use crate::record::Record;
use crate::register::{Decision, ReadAnswer, Reading, StrongValue};
use crate::request::{Answer, Level, Path, Reason, Reply};
use crate::version::Ballot;

use super::jobs::JobId;
use super::reach::REGION_GONE;
use super::turn::Turn;
use super::{Replica, Timer, local};

/// One strong read under way.
#[derive(Clone, Debug)]
pub(super) struct StrongRead {
    job: JobId,
    row: Row,
    /// What this node had accepted when it asked: answers leave that value out.
    had: (Ballot, Option<Arc<StrongValue>>),
    reading: Reading,
    /// The unproven value that is being sent again.
    helped: Option<Helped>,
    round_trips: u8,
    /// Rounds that lasted too long before this one.
    attempts: u32,
    /// Until when this round may last.
    until: Duration,
}

#[derive(Clone, Debug)]
struct Helped {
    ballot: Ballot,
    value: Arc<StrongValue>,
    votes: Tally,
}

impl StrongRead {
    /// The row it reads.
    pub(super) fn row(&self) -> &Row {
        &self.row
    }
}

impl Replica {
    /// Begins a strong read. If eventual state beyond the own slot is known here already, it is
    /// proposed at once: asking first would only cost a round trip more.
    pub(super) fn begin_read(&mut self, turn: &mut Turn<'_>, id: JobId, row: Row) {
        self.begin_read_again(turn, id, row, 0);
    }

    fn begin_read_again(&mut self, turn: &mut Turn<'_>, id: JobId, row: Row, attempts: u32) {
        let (slot, record) = match self.load_row(turn, &row) {
            Ok(loaded) => loaded,
            Err(damage) => {
                let refusal = self.meet_damage(turn, damage);
                self.finish(turn, id, Err(refusal));
                return;
            }
        };
        let behind = record.is_some_and(|record| {
            let lacks = slot
                .value
                .as_ref()
                .is_none_or(|value| value.lacks(&record.state));
            record.chosen <= slot.accepted && lacks
        });
        if behind && !self.reads_without_absorbing() {
            self.enqueue(turn, id, row);
            return;
        }
        let round = self.fresh_round();
        let until =
            turn.now.monotonic + self.attempt_patience(turn.now.monotonic, row.shard(), attempts);
        self.set_timer(until, Timer::Read(round));
        let have = slot.accepted;
        let read = StrongRead {
            job: id,
            row: row.clone(),
            had: (have, slot.value),
            reading: Reading::default(),
            helped: None,
            round_trips: 1,
            attempts,
            until,
        };
        self.reads.insert(round, read);
        let vote = self.vote(&row, round);
        self.ask_voters(turn, row.shard(), |_| Message::Read {
            vote: vote.clone(),
            have,
        });
    }

    /// Mutants that show eventual state without absorbing it must be let read.
    fn reads_without_absorbing(&self) -> bool {
        use crate::rules::Mutant::{QuorumEqualityInsteadOfAbsorption, StrongReadJoinsEventual};
        self.rules.broken(StrongReadJoinsEventual)
            || self.rules.broken(QuorumEqualityInsteadOfAbsorption)
    }

    /// A voter answered a read.
    pub(super) fn on_read_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vote: &Vote,
        mut answer: ReadAnswer,
    ) {
        let Some(voters) = self.shards.get(&vote.row.shard()).map(|h| h.voters.clone()) else {
            return;
        };
        let Some(read) = self.reads.get_mut(&vote.round) else {
            return;
        };
        if read.helped.is_some() {
            return;
        }
        if answer.value.is_none() && answer.accepted > Ballot::ZERO {
            // Left out because this node had it when it asked; meanwhile it may have accepted others.
            if answer.accepted != read.had.0 {
                return;
            }
            answer.value.clone_from(&read.had.1);
        }
        match read.reading.answer(from, answer, &voters, self.rules) {
            Decision::Wait => {}
            Decision::Chosen(ballot, value) => self.finish_read(turn, vote.round, ballot, &value),
            Decision::Resend(ballot, value) => self.help(turn, vote.round, ballot, value),
            Decision::Absorb => self.propose_read(turn, vote.round),
        }
    }

    /// Sends the newest value again, under its own ballot, to whoever lacks it.
    fn help(&mut self, turn: &mut Turn<'_>, round: u64, ballot: Ballot, value: Arc<StrongValue>) {
        turn.note(Note::ReadHelped);
        let Some(read) = self.reads.get_mut(&round) else {
            return;
        };
        let mut votes = Tally::default();
        for node in read.reading.accepted_by(ballot) {
            votes.count(node);
        }
        // Where the votes of the own region complete the quorum, nothing far is waited for.
        let own = self.me.region;
        let held = self.shards.get(&read.row.shard());
        let near = held.is_some_and(|held| {
            let voters = &held.voters;
            voters.reached(|node| votes.has(node) || voters.region_of(node) == Some(own))
        });
        read.round_trips += u8::from(!near);
        read.helped = Some(Helped {
            ballot,
            value: value.clone(),
            votes: votes.clone(),
        });
        let (row, attempts) = (read.row.clone(), read.attempts);
        let now = turn.now.monotonic;
        let until = now + self.attempt_patience(now, row.shard(), attempts);
        self.set_timer(until, Timer::Read(round));
        if let Some(read) = self.reads.get_mut(&round) {
            read.until = until;
        }
        let vote = self.vote(&row, round);
        let held = self.shards.get(&row.shard());
        let voters: Vec<NodeId> = held.map_or_else(Vec::new, |h| h.voters.nodes().collect());
        for node in voters.into_iter().filter(|node| !votes.has(*node)) {
            let message = Message::Accept {
                vote: vote.clone(),
                ballot,
                value: value.clone(),
            };
            match node == self.me.node {
                true => self.on_vote_message(turn, node, message),
                false => self.send(turn, node, message),
            }
        }
    }

    /// A voter accepted a value that a read sent again.
    pub(super) fn on_help_accepted(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        round: u64,
        ballot: Ballot,
    ) {
        let Some(read) = self.reads.get_mut(&round) else {
            return;
        };
        let Some(voters) = self.shards.get(&read.row.shard()).map(|h| &h.voters) else {
            return;
        };
        let Some(helped) = read.helped.as_mut().filter(|h| h.ballot == ballot) else {
            return;
        };
        if helped.votes.count(from) && helped.votes.reached(voters) {
            let value = helped.value.clone();
            self.finish_read(turn, round, ballot, &value);
        }
    }

    /// A higher ballot is about: the read is proposed like a write.
    pub(super) fn on_help_refused(&mut self, turn: &mut Turn<'_>, round: u64) {
        if self.reads.contains_key(&round) {
            self.propose_read(turn, round);
        }
    }

    fn propose_read(&mut self, turn: &mut Turn<'_>, round: u64) {
        let Some(read) = self.reads.remove(&round) else {
            return;
        };
        if let Some(job) = self.jobs.get_mut(&read.job) {
            job.round_trips = job.round_trips.saturating_add(read.round_trips);
            self.enqueue(turn, read.job, read.row);
        }
    }

    /// The value is chosen: answers it, once an entry of this region carries it; unless it lacks what
    /// this node has applied: its own answer need not be among the quorum's, yet a session counts on it.
    fn finish_read(
        &mut self,
        turn: &mut Turn<'_>,
        round: u64,
        ballot: Ballot,
        value: &StrongValue,
    ) {
        let Some(read) = self.reads.get(&round) else {
            return;
        };
        let record = self.record(turn, &read.row);
        let own = record.as_ref().ok().and_then(Option::as_ref);
        let lacks = own.is_some_and(|own| value.lacks(&own.state));
        if lacks && !self.reads_without_absorbing() {
            self.propose_read(turn, round);
            return;
        }
        let Some(read) = self.reads.remove(&round) else {
            return;
        };
        match record {
            Ok(record) => self.answer_read(turn, read, ballot, value, record),
            Err(damage) => {
                let refusal = self.meet_damage(turn, damage);
                self.finish(turn, read.job, Err(refusal));
            }
        }
    }

    /// Answers a read with a chosen value; `record` is the row of the eventual view.
    fn answer_read(
        &mut self,
        turn: &mut Turn<'_>,
        read: StrongRead,
        ballot: Ballot,
        value: &StrongValue,
        record: Option<Record>,
    ) {
        let Some(job) = self.jobs.get(&read.job) else {
            return;
        };
        let mut context = job.request.context.clone();
        context.join(&value.deps);
        let trips = read.round_trips.saturating_add(job.round_trips);
        let found = match local::found(value.state.as_ref()) {
            Ok(found) => found,
            Err(error) => {
                self.finish(turn, read.job, Err(local::overflow(error)));
                return;
            }
        };
        let mut voted = Tally::default();
        for node in read.reading.nodes() {
            voted.count(node);
        }
        let path = match read.helped {
            Some(_) => Path::Helped,
            None => Path::Proven,
        };
        let mut reply = Reply {
            answer: Answer::Read {
                found,
                etag: value.etag(),
            },
            level: Level::Strong,
            context,
            hlc: self.reply_hlc(turn),
            receipt: self.strong_receipt(&read.row, &voted, trips, path),
        };
        reply.receipt.durable_regions.clear();
        match record.filter(|record| record.chosen >= ballot) {
            // Some applied entry carries this ballot or a later one: the row's context names it.
            Some(record) => {
                reply.context.join(&self.context_of(&record));
                self.finish(turn, read.job, Ok(reply));
            }
            None if !self.region_reachable(turn.now.monotonic, read.row.shard()) => {
                self.refuse(turn, read.job, Reason::QuorumUnreachable, REGION_GONE);
            }
            None => {
                let results = vec![(read.job, Ok(reply))];
                self.answer_with_entry(turn, &read.row, ballot, value, results);
            }
        }
    }

    /// A read has lasted long enough: answers were lost.
    pub(super) fn on_read_timer(&mut self, turn: &mut Turn<'_>, round: u64) {
        let now = turn.now.monotonic;
        if self.reads.get(&round).is_some_and(|read| read.until <= now) {
            self.restart_read(turn, round);
        }
    }

    fn restart_read(&mut self, turn: &mut Turn<'_>, round: u64) {
        if let Some(read) = self.reads.remove(&round)
            && let Some(job) = self.jobs.get_mut(&read.job)
        {
            job.round_trips = job.round_trips.saturating_add(read.round_trips);
            self.begin_read_again(turn, read.job, read.row, read.attempts + 1);
        }
    }

    /// Restarts the reads of a shard: its epoch changed.
    pub(super) fn restart_reads(&mut self, turn: &mut Turn<'_>, shard: crate::key::ShardId) {
        let rounds: Vec<u64> = self
            .reads
            .iter()
            .filter(|(_, read)| read.row.shard() == shard)
            .map(|(round, _)| *round)
            .collect();
        for round in rounds {
            self.restart_read(turn, round);
        }
    }

    /// Takes the reads whose quorum is gone.
    pub(super) fn take_unreachable_reads(&mut self, now: Duration) -> Vec<JobId> {
        let rounds: Vec<u64> = self
            .reads
            .iter()
            .filter(|(_, read)| !self.voters_reachable(now, read.row.shard()))
            .map(|(round, _)| *round)
            .collect();
        let taken = rounds.iter().filter_map(|round| self.reads.remove(round));
        taken.map(|read| read.job).collect()
    }
}
