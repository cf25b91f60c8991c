//! Delegation, as `hansa_consistency::replica` does it: the proposer ships its own promise, one other region executes.

use hansa_consistency::key::NodeId;
use hansa_consistency::quorum::Tally;
use hansa_consistency::register::delegation::{Declined, execute};
use hansa_consistency::register::{Errand, Executed, Promise};
use hansa_consistency::rules::Mutant;
use hansa_consistency::version::Ballot;

use super::combining::Errands;
use super::proposer::{Phase, Proposal};
use super::world::{Body, World};

/// Attempts that are delegated where they can be, per thousand.
const DELEGATED_PERMILLE: u64 = 500;

impl World {
    /// Delegates the node's group under a fresh ballot, now and then and where two promises are a quorum; whether
    /// it did.
    pub(super) fn delegated(&mut self, at: usize, round: u64, ballot: Ballot) -> bool {
        let votes = self.nodes[at].votes || self.rules.broken(Mutant::DelegatesWithoutVote);
        let alone = self.shape.per_region == 1 && votes;
        if !self.faulty || !alone || !self.random.chance(DELEGATED_PERMILLE) {
            return false;
        }
        let Some(promise) = self.own_promise(at, ballot) else {
            return false;
        };
        let others: Vec<usize> = (0..self.nodes.len()).filter(|node| *node != at).collect();
        let chosen = self.random.below(others.len() as u64) as usize;
        let Errands { errands, calls } = self.errands(at);
        let Some(group) = &mut self.nodes[at].coordinator.group else {
            return false;
        };
        group.proposed = true;
        group.phase = Phase::Delegate(ballot);
        let to_all = self.rules.broken(Mutant::DelegatedToTwo);
        let asked = |(number, _): &(usize, usize)| to_all || *number == chosen;
        for (_, to) in others.into_iter().enumerate().filter(asked) {
            let body = Body::Delegate(ballot, promise.clone(), errands.clone(), calls.clone());
            self.ask(at, to, round, body);
        }
        true
    }

    /// The proposer's own promise, written before it is shipped; `None` when it promised a higher ballot.
    fn own_promise(&mut self, at: usize, ballot: Ballot) -> Option<Promise> {
        let node = &mut self.nodes[at];
        let reused = self.rules.broken(Mutant::DelegationReusesBallot);
        if !reused || node.slot.promised != ballot {
            node.slot.prepare(ballot).ok()?;
        }
        if !self.rules.broken(Mutant::ShippedPromiseNotDurable) {
            node.written = node.slot.clone();
        }
        Some(self.promise(at))
    }

    /// A delegate is handed a group.
    pub(super) fn on_delegate(
        &mut self,
        at: usize,
        ballot: Ballot,
        (from, shipped): (usize, Promise),
        (errands, calls): (&[Errand], &[usize]),
    ) -> Option<Body> {
        let place = self.place(at, ballot);
        let own = self.promise(at);
        let parent = own.accepted.max(shipped.accepted);
        let mut slot = self.nodes[at].slot.clone();
        let (asker, own) = ((NodeId(from as u16), shipped), (NodeId(at as u16), own));
        match execute(&mut slot, asker, own, &self.voters, errands, place) {
            Err(Declined::Nack(nack)) => Some(Body::Nack(nack.promised)),
            Err(Declined::NoQuorum) => None,
            Ok(executed) => {
                let node = &mut self.nodes[at];
                node.slot = slot;
                node.written = node.slot.clone();
                let Executed {
                    value, outcomes, ..
                } = &executed;
                self.name_calls(ballot, parent, value, (calls, outcomes));
                self.ledger.accepted(ballot, &executed.value);
                self.holds(at);
                Some(Body::Delegated(ballot, executed))
            }
        }
    }

    /// A delegate has executed the group: what it made is accepted here, too.
    pub(super) fn on_delegated(
        &mut self,
        at: usize,
        from: usize,
        ballot: Ballot,
        executed: Executed,
    ) {
        let Some(group) = &mut self.nodes[at].coordinator.group else {
            return;
        };
        if !matches!(group.phase, Phase::Delegate(open) if open == ballot) {
            return;
        }
        if !self.nodes[at].votes && !self.rules.broken(Mutant::DelegatesWithoutVote) {
            // It lost its vote meanwhile.
            self.begin_attempt(at);
            return;
        }
        let Some(group) = &mut self.nodes[at].coordinator.group else {
            return;
        };
        let mut votes = Tally::default();
        votes.count(NodeId(from as u16));
        let value = executed.value.clone();
        let decides = self.rules.broken(Mutant::DelegateDecides);
        group.phase = Phase::Accept(Proposal {
            ballot,
            value: executed.value,
            calls: group.calls.clone(),
            outcomes: executed.outcomes,
            votes,
        });
        self.counts.delegated += 1;
        if decides || !self.nodes[at].votes {
            // Only a mutant gets here without its vote, and counts what it accepts.
            self.on_chosen(at);
            return;
        }
        let Some(group) = &self.nodes[at].coordinator.group else {
            return;
        };
        let round = group.round;
        self.ask(at, at, round, Body::Accept(ballot, value));
    }
}
