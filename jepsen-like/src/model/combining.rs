//! Combining, as `hansa_consistency::replica` does it: a proposer hands its group to another one, which proposes it with
//! its own.

use hansa_consistency::key::NodeId;
use hansa_consistency::quorum::Tally;
use hansa_consistency::register::{Combined, Errand, Executed, Outcome};
use hansa_consistency::rules::Mutant;
use hansa_consistency::version::{Ballot, ShardEpoch};

use super::proposer::{Group, Phase, Proposal};
use super::world::{Body, Calls, Envelope, REGIONS, World};

/// Attempts that are handed to another proposer, per thousand.
const COMBINED_PERMILLE: u64 = 250;

/// A group that another proposer handed over.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    from: usize,
    round: u64,
    epoch: ShardEpoch,
    pub(super) errand: Errand,
    pub(super) calls: Calls,
}

impl World {
    /// Hands the node's group to another proposer, now and then; whether it did.
    pub(super) fn combines(&mut self, at: usize, round: u64) -> bool {
        let free = |group: &Group| group.handed.is_empty();
        let group = self.nodes[at].coordinator.group.as_ref();
        // Without faults nothing is left to chance: scripts count on it.
        if !self.faulty || !group.is_some_and(free) || !self.nodes[at].votes {
            return false;
        }
        if !self.random.chance(COMBINED_PERMILLE) {
            return false;
        }
        let number = self.random.below(REGIONS as u64) as usize;
        let owner = self.proposer(number);
        let Some(mut errand) = self.own_errand(at).filter(|_| owner != at) else {
            return false;
        };
        let Errands { calls, .. } = self.errands(at);
        errand.eventual = self.eventual_unproven(at);
        self.ask(at, owner, round, Body::Combine(errand, calls));
        let coordinator = &mut self.nodes[at].coordinator;
        if let Some(mut group) = coordinator.group.take() {
            group.proposed = true;
            group.phase = Phase::Combine(owner);
            coordinator.away.push(group);
        }
        self.next_group(at);
        true
    }

    /// The node's own group as an errand; none when no call is in it.
    fn own_errand(&self, at: usize) -> Option<Errand> {
        let group = self.nodes[at].coordinator.group.as_ref()?;
        let known = &self.history.calls;
        let operations = group.calls.iter().map(|c| known[*c].operation.clone());
        let errand = Errand {
            proposer: self.nodes[at].origin,
            group: group.number,
            oldest: self.nodes[at].coordinator.oldest()?,
            operations: operations.collect(),
            eventual: None,
        };
        (!group.calls.is_empty()).then_some(errand)
    }

    /// What goes out under the node's next ballot, and the calls of all of it.
    pub(super) fn errands(&self, at: usize) -> Errands {
        let group = self.nodes[at].coordinator.group.as_ref();
        let handed = group.map_or(&[][..], |group| &group.handed);
        let own = self.own_errand(at).into_iter();
        let others = handed.iter().map(|handed| handed.errand.clone());
        let mut calls = group.map_or_else(Vec::new, |group| group.calls.clone());
        calls.extend(handed.iter().flat_map(|handed| &handed.calls));
        Errands {
            errands: own.chain(others).collect(),
            calls,
        }
    }

    /// Another proposer's group arrives.
    pub(super) fn on_combine(&mut self, question: Envelope) {
        let Envelope {
            from,
            to: at,
            epoch,
            round,
            body: Body::Combine(errand, calls),
        } = question
        else {
            return;
        };
        let handed = Handed {
            from,
            round,
            epoch,
            errand,
            calls,
        };
        let coordinator = &mut self.nodes[at].coordinator;
        let number = handed.errand.group;
        let other = |it: &Handed| it.from != from || it.errand.group != number;
        coordinator.handed.retain(other);
        coordinator.handed.push(handed);
        if coordinator.group.is_none() {
            self.begin_group(at);
        }
    }

    /// A node's ballot is chosen: tells the proposers whose groups it carried.
    pub(super) fn answer_handed(&mut self, at: usize, group: &Group, proposal: &Proposal) {
        let mut outcomes = proposal.outcomes.iter().skip(proposal.calls.len()).cloned();
        for handed in &group.handed {
            let count = handed.errand.operations.len();
            let outcomes: Vec<Outcome> = outcomes.by_ref().take(count).collect();
            let combined = Combined {
                executed: Executed {
                    value: proposal.value.clone(),
                    outcomes,
                    absorbed: false,
                    recalled: false,
                },
                voters: proposal.votes.nodes().iter().copied().collect(),
                round_trips: 1,
                busy: true,
            };
            self.counts.combined += 1;
            self.send(Envelope {
                from: at,
                to: handed.from,
                epoch: handed.epoch,
                round: handed.round,
                body: Body::Combined(proposal.ballot, combined),
            });
        }
    }

    /// The group was chosen under another proposer's ballot.
    pub(super) fn on_combined(
        &mut self,
        at: usize,
        (from, round): (usize, u64),
        ballot: Ballot,
        combined: Combined,
    ) {
        let away = &mut self.nodes[at].coordinator.away;
        let asked = |group: &Group| {
            let to = matches!(group.phase, Phase::Combine(owner) if owner == from);
            to && group.round == round
        };
        let Some(position) = away.iter().position(asked) else {
            return;
        };
        let mut group = away.swap_remove(position);
        let mut votes = Tally::default();
        let voters: Vec<NodeId> = combined.voters;
        for voter in voters {
            votes.count(voter);
        }
        group.phase = Phase::Accept(Proposal {
            ballot,
            value: combined.executed.value,
            calls: group.calls.clone(),
            outcomes: combined.executed.outcomes,
            votes,
        });
        self.conclude_group(at, &group);
        self.next_group(at);
    }

    /// A group that was not answered for long is proposed here, once no other one is.
    pub(super) fn take_back(&mut self, at: usize) {
        let (now, patience) = (self.now, self.patience());
        let coordinator = &mut self.nodes[at].coordinator;
        let overdue = |group: &Group| now > group.since + patience;
        if coordinator.group.is_none()
            && let Some(position) = coordinator.away.iter().position(overdue)
        {
            coordinator.group = Some(coordinator.away.swap_remove(position));
            self.begin_attempt(at);
        }
    }

    /// Tells the others before the ballot is chosen. Only a mutant does.
    pub(super) fn answer_handed_early(&mut self, at: usize) {
        let group = self.nodes[at].coordinator.group.clone();
        if self.rules.broken(Mutant::CombinedBeforeChosen)
            && let Some(group) = group
            && let Phase::Accept(proposal) = &group.phase
        {
            self.answer_handed(at, &group, proposal);
        }
    }
}

/// Groups that go out under one ballot.
pub(super) struct Errands {
    pub(super) errands: Vec<Errand>,
    /// The calls of their operations, in order.
    pub(super) calls: Calls,
}
