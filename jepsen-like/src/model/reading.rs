//! The coordinator of strong reads, as `hansa_consistency::replica` does it: one round trip when the newest ballot is
//! proven, the same ballot again when it is not, a proposal when eventual state must be absorbed.

use std::sync::Arc;

use hansa_consistency::key::NodeId;
use hansa_consistency::quorum::Tally;
use hansa_consistency::register::{Decision, Outcome, ReadAnswer, Reading, StrongValue};
use hansa_consistency::rules::Mutant;
use hansa_consistency::version::Ballot;

use super::world::{Body, World};

/// One strong read under way.
#[derive(Clone, Debug)]
pub(super) struct StrongRead {
    pub(super) call: usize,
    since: u64,
    /// What the node had accepted when it asked: answers leave that value out.
    had: (Ballot, Option<Arc<StrongValue>>),
    reading: Reading,
    /// The unproven value that is being sent again.
    helped: Option<Helped>,
}

#[derive(Clone, Debug)]
struct Helped {
    ballot: Ballot,
    value: Arc<StrongValue>,
    votes: Tally,
}

impl World {
    /// Begins a strong read at a node; what is known here to need absorbing is proposed at once.
    pub(super) fn begin_read(&mut self, at: usize, call: usize) {
        let node = &self.nodes[at];
        let behind = node.record.as_ref().is_some_and(|record| {
            let value = node.slot.value.as_ref();
            let lacks = value.is_none_or(|value| value.lacks(&record.state));
            record.chosen <= node.slot.accepted && lacks
        });
        if behind && self.reads_absorb() {
            self.enqueue(at, call);
            return;
        }
        let have = node.slot.accepted;
        let had = (have, node.slot.value.clone());
        let round = self.fresh_round();
        let read = StrongRead {
            call,
            since: self.now,
            had,
            reading: Reading::default(),
            helped: None,
        };
        self.nodes[at].coordinator.reads.insert(round, read);
        self.ask_all(at, round, &Body::Read(have));
    }

    /// Whether reads absorb: mutants that show eventual state otherwise must be let.
    fn reads_absorb(&self) -> bool {
        !self.rules.broken(Mutant::StrongReadJoinsEventual)
            && !self.rules.broken(Mutant::QuorumEqualityInsteadOfAbsorption)
    }

    /// An acceptor answered a read.
    pub(super) fn on_read_answer(
        &mut self,
        at: usize,
        from: usize,
        round: u64,
        mut answer: ReadAnswer,
    ) {
        let reads = &mut self.nodes[at].coordinator.reads;
        let Some(read) = reads.get_mut(&round) else {
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
        let from = NodeId(from as u16);
        match read.reading.answer(from, answer, &self.voters, self.rules) {
            Decision::Wait => {}
            Decision::Chosen(ballot, value) => self.finish_read(at, round, ballot, &value),
            Decision::Resend(ballot, value) => self.help(at, round, ballot, value),
            Decision::Absorb => self.propose_read(at, round),
        }
    }

    fn help(&mut self, at: usize, round: u64, ballot: Ballot, value: Arc<StrongValue>) {
        let Some(read) = self.nodes[at].coordinator.reads.get_mut(&round) else {
            return;
        };
        let mut votes = Tally::default();
        for node in read.reading.accepted_by(ballot) {
            votes.count(node);
        }
        read.helped = Some(Helped {
            ballot,
            value: value.clone(),
            votes: votes.clone(),
        });
        for to in (0..self.nodes.len()).filter(|to| !votes.has(NodeId(*to as u16))) {
            self.ask(at, to, round, Body::Accept(ballot, value.clone()));
        }
    }

    /// An acceptor accepted a value that a read sent again.
    pub(super) fn on_help_accepted(&mut self, at: usize, from: usize, round: u64, ballot: Ballot) {
        let reads = &mut self.nodes[at].coordinator.reads;
        let helped = reads.get_mut(&round).and_then(|read| read.helped.as_mut());
        let Some(helped) = helped.filter(|helped| helped.ballot == ballot) else {
            return;
        };
        if helped.votes.count(NodeId(from as u16)) && helped.votes.reached(&self.voters) {
            let value = helped.value.clone();
            self.finish_read(at, round, ballot, &value);
        }
    }

    /// A higher ballot is about: the read is proposed like a write.
    pub(super) fn on_help_refused(&mut self, at: usize, round: u64) {
        self.propose_read(at, round);
    }

    fn propose_read(&mut self, at: usize, round: u64) {
        if let Some(read) = self.nodes[at].coordinator.reads.remove(&round) {
            self.enqueue(at, read.call);
        }
    }

    /// The value is chosen: answers it, once an entry here carries its ballot or a later one; unless it lacks what
    /// this node has applied, on which the session may count.
    fn finish_read(&mut self, at: usize, round: u64, ballot: Ballot, value: &StrongValue) {
        if self.reads_absorb() && self.eventual_beyond(at, Some(value)).is_some() {
            self.propose_read(at, round);
            return;
        }
        let Some(read) = self.nodes[at].coordinator.reads.remove(&round) else {
            return;
        };
        match read.helped {
            Some(_) => self.counts.helped += 1,
            None => self.counts.one_round_trip += 1,
        }
        let record = self.nodes[at].record.as_ref();
        let context = match record.filter(|record| record.chosen >= ballot) {
            Some(record) => {
                let mut context = value.deps.clone();
                context.join(&record.context());
                context
            }
            None => self.log_chosen(at, ballot, value),
        };
        self.answer(read.call, &Outcome::Read, value, context);
    }

    /// Starts reads over whose answers were lost.
    pub(super) fn wake_reads(&mut self, at: usize) {
        let patience = self.patience();
        let reads = self.nodes[at].coordinator.reads.iter();
        let late = reads.filter(|(_, read)| self.now > read.since + patience);
        let rounds: Vec<u64> = late.map(|(round, _)| *round).collect();
        for round in rounds {
            self.restart_read(at, round);
        }
    }

    /// Starts a read over.
    pub(super) fn restart_read(&mut self, at: usize, round: u64) {
        if let Some(read) = self.nodes[at].coordinator.reads.remove(&round) {
            self.begin_read(at, read.call);
        }
    }
}
