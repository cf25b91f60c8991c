//! Strong writes in one round trip: the coordinator ships its promise, one far region executes.
//!
//! Where the promises of this node and of one other replica are a quorum (three regions of one replica, or two)
//! the first attempt at a group is delegated to the nearest such replica, which promises, applies the group and
//! accepts in one step. What comes back is accepted here; both votes together are the quorum, so the entry is
//! logged in the same step, and everything this step says waits for that vote as for one that is sent.
//!
//! A ballot is delegated to one region only. Whoever is refused or hears nothing goes on under a new ballot, by
//! the ordinary way; that it took effect meanwhile is found by the group's number.

use std::time::Duration;

use crate::effect::Note;
use crate::key::{NodeId, Row, ShardId};
use crate::layout;
use crate::limits::{DELEGATE_HEDGE_MS, DELEGATE_SHUNNED_MS};
use crate::message::{Message, Vote};
use crate::port::Family;
use crate::quorum::Tally;
use crate::register::delegation::{Declined, execute};
use crate::register::{Errand, Executed, Promise};
use crate::request::Path;
use crate::rules::Mutant;
use crate::version::Ballot;

use super::Replica;
use super::strong::{Phase, Proposal};
use super::turn::Turn;
use super::votes::promise_of;

impl Replica {
    /// The nearest replica that completes a quorum with this node alone; `None` where there is none, or this
    /// was tried for the group before.
    fn delegate(&self, now: Duration, row: &Row) -> Option<NodeId> {
        let first = |group: &super::strong::Group| !group.delegated;
        if !self.group(row).is_some_and(first) && self.reused_ballot(row).is_none() {
            return None;
        }
        self.delegates(now, row.shard()).into_iter().next()
    }

    /// The replicas that complete a quorum with this node alone and answer, nearest first.
    fn delegates(&self, now: Duration, shard: ShardId) -> Vec<NodeId> {
        let Some(held) = self.shards.get(&shard) else {
            return Vec::new();
        };
        let me = self.me.node;
        let completes = |node: NodeId| held.voters.reached(|n| n == me || n == node);
        let answers = |node: NodeId| {
            let peer = self.peers.get(&node)?;
            let near = peer.reachable(now) && peer.votes && !peer.clock_disputed(now);
            (near && peer.shunned_until <= now).then(|| (peer.round_trip(), node))
        };
        if completes(me) {
            return Vec::new();
        }
        let mut near: Vec<(Duration, NodeId)> = held
            .voters
            .nodes()
            .filter(|node| *node != me && completes(*node))
            .filter_map(answers)
            .collect();
        near.sort_unstable();
        near.into_iter().map(|(_, node)| node).collect()
    }

    /// Delegates the row's group, which somebody waits for, if that takes one round trip; whether it did.
    pub(super) fn begin_delegation(&mut self, turn: &mut Turn<'_>, row: &Row) -> bool {
        let now = turn.now.monotonic;
        let Some(delegate) = self.delegate(now, row) else {
            return false;
        };
        let ballot = match self.reused_ballot(row) {
            Some(ballot) => ballot,
            None => self.fresh_ballot(turn),
        };
        let Some(promise) = self.promise_to_ship(turn, row, ballot) else {
            return false;
        };
        let Some(group) = self.group_mut(row) else {
            return false;
        };
        group.proposed = true;
        group.delegated = true;
        group.phase = Phase::Delegate(ballot, delegate);
        group.round_trips = group.round_trips.saturating_add(1);
        let errand = Errand {
            group: group.number,
            operations: group.operations.clone(),
        };
        for id in group.jobs.clone() {
            self.begun(id);
        }
        let round_trip = self.peers.get(&delegate).map(|peer| peer.round_trip());
        let hedge =
            round_trip.unwrap_or_default() * 5 / 4 + Duration::from_millis(DELEGATE_HEDGE_MS);
        let round = self.next_round_within(turn, row, hedge);
        let vote = self.vote(row, round);
        let message = Message::Delegate {
            vote,
            ballot,
            promise,
            errand,
        };
        if self.rules.broken(Mutant::DelegatedToTwo) {
            for node in self.delegates(now, row.shard()) {
                self.send(turn, node, message.clone());
            }
            return true;
        }
        self.send(turn, delegate, message);
        true
    }

    /// The ballot under which the group was delegated before. Only a mutant goes on under it.
    fn reused_ballot(&self, row: &Row) -> Option<Ballot> {
        let delegate = self.group(row).and_then(|group| group.phase_delegate());
        let broken = self.rules.broken(Mutant::DelegationReusesBallot);
        delegate.filter(|_| broken).map(|(ballot, _)| ballot)
    }

    /// This node's own promise, written in this step; `None` when it promised as high a ballot, or its record
    /// is damaged: then the ordinary way finds out.
    fn promise_to_ship(
        &mut self,
        turn: &mut Turn<'_>,
        row: &Row,
        ballot: Ballot,
    ) -> Option<Promise> {
        let (mut slot, record) = self.load_row(turn, row).ok()?;
        let reused = self.reused_ballot(row) == Some(ballot);
        if !reused {
            slot.prepare(ballot).ok()?;
        }
        if self.rules.broken(Mutant::ShippedPromiseNotDurable) {
            self.unwritten.insert(row.clone(), ballot);
        } else {
            turn.store(Family::Slot, layout::slot(row, layout::PROMISED), &ballot);
        }
        Some(promise_of(slot, record))
    }

    /// A peer hands over a group: promises, executes and accepts in this step.
    pub(super) fn on_delegate(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (vote, ballot): (Vote, Ballot),
        shipped: Promise,
        errand: &Errand,
    ) {
        let (mut slot, record) = match self.load_row(turn, &vote.row) {
            Ok(loaded) => loaded,
            Err(damage) => {
                self.meet_damage(turn, damage);
                return;
            }
        };
        let Some(held) = self.shards.get(&vote.row.shard()) else {
            return;
        };
        let voters = held.voters.clone();
        let place = self.place(turn, &vote.row, ballot, errand.group);
        let own = (self.me.node, promise_of(slot.clone(), record));
        let operations = &errand.operations;
        let asker = (from, shipped);
        let message = match execute(&mut slot, asker, own, &voters, operations, place) {
            Err(Declined::NoQuorum) => return,
            Err(Declined::Nack(nack)) => Message::Nack {
                vote,
                ballot,
                promised: nack.promised,
            },
            Ok(executed) => {
                // The asker's promise was used: should its store come back shorter, it must be noticed.
                self.store_seen_of(turn, from);
                self.store_accepted(turn, &vote.row, ballot, &executed.value);
                Message::Delegated {
                    vote,
                    ballot,
                    executed,
                }
            }
        };
        self.send(turn, from, message);
    }

    /// The delegate executed the group: accepts what it made, which completes the quorum.
    pub(super) fn on_delegated(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        row: &Row,
        ballot: Ballot,
        executed: Executed,
    ) {
        let Some(group) = self.group_mut(row) else {
            return;
        };
        if group
            .phase_delegate()
            .is_none_or(|(open, _)| open != ballot)
        {
            return;
        }
        let mut votes = Tally::default();
        votes.count(from);
        let absorbed = executed.absorbed;
        let value = executed.value.clone();
        group.phase = Phase::Accept(Proposal {
            ballot,
            value: executed.value,
            outcomes: executed.outcomes,
            votes,
            absorbed,
            path: Path::Delegated,
        });
        if absorbed {
            turn.note(Note::Absorbed);
        }
        if self.rules.broken(Mutant::DelegateDecides) {
            self.on_chosen(turn, row);
            return;
        }
        let mut slot = match self.load_slot(turn, row) {
            Ok(slot) => slot,
            Err(damage) => {
                self.refuse_damaged(turn, row, damage);
                return;
            }
        };
        match slot.accept(ballot, &value, self.rules) {
            Ok(_) => {
                turn.note(Note::Delegated);
                self.store_accepted(turn, row, ballot, &value);
                turn.count_own_vote();
                let me = self.me.node;
                self.on_proposal_accepted(turn, me, row, ballot);
            }
            Err(nack) => self.on_proposal_refused(turn, row, nack.promised),
        }
    }

    /// A delegate did not answer in time: it is shunned for a while.
    pub(super) fn shun_delegate(&mut self, turn: &Turn<'_>, row: &Row) {
        let delegate = self.group(row).and_then(|group| group.phase_delegate());
        if let Some((_, node)) = delegate
            && let Some(peer) = self.peers.get_mut(&node)
        {
            peer.shunned_until = turn.now.monotonic + Duration::from_millis(DELEGATE_SHUNNED_MS);
        }
    }
}
