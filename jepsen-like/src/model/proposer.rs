//! The coordinator of strong writes, as `hansa_consistency::replica` does it: one group in flight, new ballots until
//! it is chosen or nobody waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hansa_consistency::key::NodeId;
use hansa_consistency::quorum::Tally;
use hansa_consistency::register::strong_value::Place;
use hansa_consistency::register::{Action, Attempt, Base, Errand, Outcome, Promise, StrongValue};
use hansa_consistency::rules::Mutant;
use hansa_consistency::session::Context;
use hansa_consistency::topology::ValueType;
use hansa_consistency::version::Ballot;

use super::calls::Version;
use super::combining::{Errands, Handed};
use super::reading::StrongRead;
use super::trace::short;
use super::world::{Body, Envelope, World, describe_value};

/// Operations combined under one ballot, at most.
const GROUP_MAX: usize = 3;

/// Groups that other proposers were handed at once, at most.
const AWAY_MAX: usize = 2;

/// Steps per acceptor after which lost votes are given up.
const PATIENCE: u64 = 20;

/// What a node coordinates. A crash forgets it.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    queue: VecDeque<usize>,
    /// Groups of other proposers, for the next ballot; of each its newest.
    pub(super) handed: Vec<Handed>,
    /// The group that is proposed here.
    pub(super) group: Option<Group>,
    /// Groups that another proposer was handed.
    pub(super) away: Vec<Group>,
    pub(super) reads: BTreeMap<u64, StrongRead>,
    /// Calls nobody waits for any more at this node.
    dropped: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The same for every attempt.
    pub(super) number: u64,
    pub(super) calls: Vec<usize>,
    /// Groups of other proposers under the same ballot.
    pub(super) handed: Vec<Handed>,
    /// Whether it was proposed: from then on its calls are fixed.
    pub(super) proposed: bool,
    pub(super) round: u64,
    pub(super) since: u64,
    pub(super) phase: Phase,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Another region was handed the group under this ballot.
    Delegate(Ballot),
    /// Another proposer was handed the group.
    Combine(usize),
    Prepare(Attempt),
    Accept(Proposal),
    Paused {
        until: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) ballot: Ballot,
    pub(super) value: Arc<StrongValue>,
    /// The proposer's own calls; those of the groups handed to it come behind.
    pub(super) calls: Vec<usize>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) votes: Tally,
}

impl Coordinator {
    /// Whether the next group may begin.
    fn is_free(&self) -> bool {
        self.group.is_none() && self.away.len() < AWAY_MAX
    }

    /// The lowest number of a group that is under way.
    pub(super) fn oldest(&self) -> Option<u64> {
        let groups = self.group.iter().chain(&self.away);
        groups.map(|group| group.number).min()
    }
}

impl World {
    /// Steps after which a conversation with the acceptors starts over.
    pub(super) fn patience(&self) -> u64 {
        PATIENCE * self.nodes.len() as u64
    }

    /// A number no conversation has had.
    pub(super) fn fresh_round(&mut self) -> u64 {
        self.rounds += 1;
        self.rounds
    }

    /// A call to propose arrives at a node.
    pub(super) fn enqueue(&mut self, at: usize, call: usize) {
        let coordinator = &mut self.nodes[at].coordinator;
        coordinator.dropped.remove(&call);
        let queue = &mut coordinator.queue;
        if !queue.contains(&call) {
            queue.push_back(call);
        }
        if coordinator.is_free() {
            self.begin_group(at);
        }
    }

    pub(super) fn begin_group(&mut self, at: usize) {
        let number = self.tick(at).0;
        self.nodes[at].coordinator.group = Some(Group {
            number,
            calls: Vec::new(),
            handed: Vec::new(),
            proposed: false,
            round: 0,
            since: self.now,
            phase: Phase::Paused { until: self.now },
        });
        self.begin_attempt(at);
    }

    fn fill_group(&mut self, at: usize) {
        let Coordinator {
            queue,
            handed,
            group: Some(group),
            dropped,
            ..
        } = &mut self.nodes[at].coordinator
        else {
            return;
        };
        group.handed.append(handed);
        if group.proposed {
            return;
        }
        group.calls.retain(|call| !dropped.contains(call));
        while group.calls.len() < GROUP_MAX
            && let Some(call) = queue.pop_front()
        {
            if !dropped.contains(&call) && !group.calls.contains(&call) {
                group.calls.push(call);
            }
        }
    }

    /// Starts an attempt at a node's group under a fresh ballot; ends the group if nobody waits.
    pub(super) fn begin_attempt(&mut self, at: usize) {
        self.fill_group(at);
        let round = self.fresh_round();
        let ballot = self.next_ballot(at);
        let now = self.now;
        let Coordinator {
            group: Some(group),
            dropped,
            ..
        } = &mut self.nodes[at].coordinator
        else {
            return;
        };
        if group.handed.is_empty() && group.calls.iter().all(|call| dropped.contains(call)) {
            self.end_group(at);
            return;
        }
        (group.round, group.since) = (round, now);
        group.phase = Phase::Prepare(Attempt::new(ballot));
        if !self.combines(at, round) && !self.delegated(at, round, ballot) {
            self.ask_all(at, round, &Body::Prepare(ballot));
        }
    }

    /// A fresh ballot; a mutant goes on under that of a delegation.
    fn next_ballot(&mut self, at: usize) -> Ballot {
        let group = self.nodes[at].coordinator.group.as_ref();
        if let Some(Phase::Delegate(ballot)) = group.map(|group| &group.phase)
            && self.rules.broken(Mutant::DelegationReusesBallot)
        {
            return *ballot;
        }
        Ballot {
            n: self.tick(at).0,
            origin: self.nodes[at].origin,
        }
    }

    fn end_group(&mut self, at: usize) {
        let coordinator = &mut self.nodes[at].coordinator;
        coordinator.group = None;
        self.next_group(at);
    }

    /// Begins the next group, if there is something to do.
    pub(super) fn next_group(&mut self, at: usize) {
        let coordinator = &self.nodes[at].coordinator;
        let waited_for = !(coordinator.queue.is_empty() && coordinator.handed.is_empty());
        if coordinator.is_free() && waited_for {
            self.begin_group(at);
        }
    }

    /// An answer arrives at its coordinator.
    pub(super) fn on_answer(&mut self, answer: Envelope) {
        let Envelope { from, to: at, .. } = answer;
        if let Body::Stale(epoch) = answer.body {
            self.adopt(at, epoch);
            return;
        }
        let together = self.rules.broken(Mutant::EpochsCountedTogether);
        if answer.epoch != self.nodes[at].epoch && !together {
            return;
        }
        let group = self.nodes[at].coordinator.group.as_ref();
        let proposing = group.is_some_and(|group| group.round == answer.round);
        match answer.body {
            Body::Promised(ballot, promise) if proposing => {
                self.on_promised(at, from, ballot, promise);
            }
            Body::Delegated(ballot, executed) if proposing => {
                self.on_delegated(at, from, ballot, executed);
            }
            Body::Combined(ballot, combined) => {
                self.on_combined(at, (from, answer.round), ballot, combined);
            }
            Body::Accepted(ballot) if proposing => self.on_accepted(at, from, ballot),
            Body::Accepted(ballot) => self.on_help_accepted(at, from, answer.round, ballot),
            Body::Nack(promised) if proposing => self.on_refused(at, promised),
            Body::Nack(_) => self.on_help_refused(at, answer.round),
            Body::Answer(read) => self.on_read_answer(at, from, answer.round, read),
            _ => {}
        }
    }

    fn on_promised(&mut self, at: usize, from: usize, ballot: Ballot, promise: Promise) {
        let coordinator = &mut self.nodes[at].coordinator;
        let Some(Phase::Prepare(attempt)) = coordinator.group.as_mut().map(|g| &mut g.phase) else {
            return;
        };
        if attempt.ballot != ballot {
            return;
        }
        let from = NodeId(from as u16);
        let base = attempt.promise(from, promise, &self.voters, self.rules);
        let Some(mut base) = base else {
            return;
        };
        if let Some(own) = self.eventual_beyond(at, Some(&base.value)) {
            base.absorb(&own, self.rules);
        }
        self.propose(at, ballot, base);
    }

    pub(super) fn place(&mut self, at: usize, ballot: Ballot) -> Place {
        Place {
            ballot,
            hlc: self.tick(at),
            value_type: self.shape.value_type,
            dedup_sessions: self.shape.dedup_sessions,
            rules: self.rules,
        }
    }

    /// A quorum has promised: applies the group to what it reported and asks for acceptance.
    fn propose(&mut self, at: usize, ballot: Ballot, mut base: Base) {
        let Some(group) = &mut self.nodes[at].coordinator.group else {
            return;
        };
        group.proposed = true;
        let calls = group.calls.clone();
        let all = self.errands(at);
        base.absorb_all(&all.errands, self.rules);
        let answers_early = self.rules.broken(Mutant::CasFalseAfterPrepare) && !base.settled;
        let second = self.second_proposal(at, ballot, &base);
        let mut proposal = self.apply(at, ballot, base, all);
        proposal.calls = calls;
        let value = proposal.value.clone();
        if let Some(second) = &second {
            proposal.calls.extend(&second.calls);
            proposal.outcomes.extend(second.outcomes.iter().cloned());
        }
        let refused = |o: &Outcome| matches!(o, Outcome::ConditionFailed { .. });
        let all_refused = proposal.outcomes.iter().all(refused);
        let (round, now) = (self.fresh_round(), self.now);
        if let Some(group) = &mut self.nodes[at].coordinator.group {
            (group.round, group.since) = (round, now);
            group.phase = Phase::Accept(proposal);
        }
        if answers_early && all_refused {
            self.on_chosen(at);
            return;
        }
        self.answer_handed_early(at);
        for value in std::iter::once(value).chain(second.map(|s| s.value)) {
            self.ask_all(at, round, &Body::Accept(ballot, value));
        }
    }

    /// Applies calls to a base, and enters the proposal in the ledger.
    fn apply(&mut self, at: usize, ballot: Ballot, base: Base, all: Errands) -> Proposal {
        let Errands { errands, calls } = all;
        let place = self.place(at, ballot);
        let parent = base.accepted;
        let (value, outcomes) = base.propose(&errands, place);
        self.trace.note(self.now, (b'P', at, ballot, &calls), || {
            let (ballot, parent) = (short(ballot), short(parent));
            let value = describe_value(Some(&value));
            format!("n{at} proposes {ballot} from {parent}, calls {calls:?}: {value}")
        });
        self.name_calls(ballot, parent, &value, (&calls, &outcomes));
        Proposal {
            ballot,
            value,
            calls,
            outcomes,
            votes: Tally::default(),
        }
    }

    /// Enters a proposal in the ledger, and the versions that its calls make.
    pub(super) fn name_calls(
        &mut self,
        ballot: Ballot,
        parent: Ballot,
        value: &Arc<StrongValue>,
        (calls, outcomes): (&[usize], &[Outcome]),
    ) {
        let mut done = BTreeSet::new();
        for (call, outcome) in calls.iter().zip(outcomes) {
            if let Outcome::Done { etag, .. } = outcome {
                done.insert(*call);
                if self.shape.value_type == ValueType::Register {
                    self.ledger.name(etag, *call as Version + 1);
                }
            }
        }
        self.ledger.proposed(ballot, parent, value, done);
    }

    /// Another call's value under the same ballot. Only a mutant makes one.
    fn second_proposal(&mut self, at: usize, ballot: Ballot, base: &Base) -> Option<Proposal> {
        if !self.rules.broken(Mutant::DoubleBallot) {
            return None;
        }
        let call = self.nodes[at].coordinator.queue.pop_front()?;
        let errand = Errand {
            proposer: self.nodes[at].origin,
            group: ballot.n,
            oldest: ballot.n,
            operations: vec![self.history.calls[call].operation.clone()],
            eventual: None,
        };
        let all = Errands {
            errands: vec![errand],
            calls: vec![call],
        };
        Some(self.apply(at, ballot, base.clone(), all))
    }

    fn on_accepted(&mut self, at: usize, from: usize, ballot: Ballot) {
        let coordinator = &mut self.nodes[at].coordinator;
        let Some(Phase::Accept(proposal)) = coordinator.group.as_mut().map(|g| &mut g.phase) else {
            return;
        };
        let votes = &mut proposal.votes;
        let counted = proposal.ballot == ballot && votes.count(NodeId(from as u16));
        if counted && votes.reached(&self.voters) {
            self.on_chosen(at);
        }
    }

    /// The group's value is chosen: logs it, answers, goes on.
    pub(super) fn on_chosen(&mut self, at: usize) {
        let Some(group) = self.nodes[at].coordinator.group.take() else {
            return;
        };
        self.conclude_group(at, &group);
        self.end_group(at);
    }

    /// A group that is chosen: logs it, and answers.
    pub(super) fn conclude_group(&mut self, at: usize, group: &Group) {
        if let Phase::Accept(proposal) = &group.phase {
            self.answer_handed(at, group, proposal);
            let context = match proposal.calls.is_empty() {
                // Whose group it is logs it.
                true => Context::new(),
                false => self.log_chosen(at, proposal.ballot, &proposal.value),
            };
            for (call, outcome) in proposal.calls.iter().zip(&proposal.outcomes) {
                if *outcome == Outcome::Read {
                    self.counts.absorbed += 1;
                }
                self.answer(*call, outcome, &proposal.value, context.clone());
            }
        }
    }

    /// Logs a chosen value in a node's own log; the context that a reply with it carries.
    pub(super) fn log_chosen(&mut self, at: usize, ballot: Ballot, value: &StrongValue) -> Context {
        let mut context = value.deps.clone();
        if let Some(state) = value.state.clone() {
            let hlc = self.tick(at);
            context.raise(self.nodes[at].region, hlc);
            self.append(at, hlc, (state, ballot), value.deps.clone());
        }
        context
    }

    /// An acceptor refused: pauses, then a new ballot.
    fn on_refused(&mut self, at: usize, promised: Ballot) {
        let until = self.now + self.random.below(self.patience());
        let node = &mut self.nodes[at];
        // Ballots are clock values: having seen it, the next one lies above.
        node.clock = node.clock.max(promised.n);
        if let Some(group) = &mut node.coordinator.group {
            group.phase = Phase::Paused { until };
            group.round = 0;
        }
    }

    /// A timer: pauses that are over and votes that were lost.
    pub(super) fn wake(&mut self, at: usize) {
        let patience = self.patience();
        let group = self.nodes[at].coordinator.group.as_ref();
        let due = group.is_some_and(|group| match group.phase {
            Phase::Paused { until } => self.now >= until,
            Phase::Delegate(_) | Phase::Combine(_) | Phase::Prepare(_) | Phase::Accept(_) => {
                self.now > group.since + patience
            }
        });
        if due {
            self.begin_attempt(at);
        }
        self.take_back(at);
        self.wake_reads(at);
    }

    /// A deadline at a node: the call is no longer waited for there.
    pub(super) fn give_up(&mut self, at: usize, call: usize) {
        let coordinator = &mut self.nodes[at].coordinator;
        coordinator.dropped.insert(call);
        coordinator.reads.retain(|_, read| read.call != call);
    }

    /// Starts everything that a node coordinates over: its epoch changed.
    pub(super) fn restart_all(&mut self, at: usize) {
        for group in &mut self.nodes[at].coordinator.away {
            // Whatever is answered now is of the old epoch.
            (group.round, group.since) = (0, 0);
        }
        if self.nodes[at].coordinator.group.is_some() {
            self.begin_attempt(at);
        }
        let rounds: Vec<u64> = self.nodes[at].coordinator.reads.keys().copied().collect();
        for round in rounds {
            self.restart_read(at, round);
        }
    }

    /// Answers a compare-and-set from the own slot if it would fail there. Only a mutant does.
    pub(super) fn refused_from_cache(&mut self, at: usize, call: usize) -> bool {
        let action = &self.history.calls[call].operation.action;
        let (Action::CompareAndSet(expect, _), true) =
            (action, self.rules.broken(Mutant::CasFalseFromCache))
        else {
            return false;
        };
        let value = self.nodes[at].slot.value.clone();
        let Some(value) = value.filter(|value| !value.meets(expect)) else {
            return false;
        };
        let etag = value.etag();
        self.answer(
            call,
            &Outcome::ConditionFailed { etag },
            &value,
            Context::new(),
        );
        true
    }
}
