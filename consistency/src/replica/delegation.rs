//! Strong writes in one round trip: the coordinator ships its promise, one far region executes.
//!
//! Where the promises of this node and of one other replica are a quorum (three regions of one replica, or two)
//! a group is delegated to the nearest such replica, which promises, applies the group and accepts in one step. What
//! comes back is accepted here; both votes together are the quorum, so the entry is logged in the same step, and
//! everything this step says waits for that vote as for one that is sent. Both halves are votes of this node: one
//! that is not sure to remember its votes delegates nothing.
//!
//! A ballot is delegated to one region only. Who hears nothing in time goes on under a new ballot with the next region,
//! who is refused by the ordinary way; that the group took effect meanwhile is found by its number.

use std::time::Duration;

use crate::codec::Encode;
use crate::effect::Note;
use crate::key::{NodeId, Row, ShardId};
use crate::layout;
use crate::limits::{DELEGATE_BYTES_MAX, DELEGATE_HEDGE_MS, GROUP_OPERATIONS_MAX, HANDED_MAX};
use crate::message::{Message, Vote};
use crate::port::Family;
use crate::quorum::Tally;
use crate::register::delegation::{Declined, execute};
use crate::register::{Errand, Executed, Promise};
use crate::request::Path;
use crate::rules::Mutant;
use crate::version::Ballot;

use super::group::{Phase, Proposal};
use super::turn::Turn;
use super::votes::promise_of;
use super::{Replica, Standing};

impl Replica {
    /// The nearest replica that the group may be delegated to; `None` where there is none.
    fn delegate(&self, now: Duration, row: &Row) -> Option<NodeId> {
        let group = self.group(row)?;
        let mut near = self.delegates(now, row.shard()).into_iter();
        near.find(|node| group.suits(*node))
    }

    /// The replicas that complete a quorum with this node and answer, nearest first. None while this node may not
    /// vote, and none where a region has several replicas: there a promise is not one node's to give.
    pub(super) fn delegates(&self, now: Duration, shard: ShardId) -> Vec<NodeId> {
        let Some(held) = self.shards.get(&shard).filter(|_| self.may_delegate()) else {
            return Vec::new();
        };
        let regions = held.voters.regions();
        if regions.len() < 2 || regions.values().any(|nodes| nodes.len() > 1) {
            return Vec::new();
        }
        let me = self.me.node;
        let completes = |node: NodeId| held.voters.reached(|n| n == me || n == node);
        let answers = |node: NodeId| {
            let peer = self.peers.get(&node)?;
            let near = peer.reachable(now) && peer.votes && !peer.clock_disputed(now);
            (near && peer.shunned_until <= now).then(|| (peer.round_trip(), node))
        };
        let others = held.voters.nodes().filter(|node| *node != me);
        let mut near: Vec<(Duration, NodeId)> = others
            .filter(|node| completes(*node))
            .filter_map(answers)
            .collect();
        near.sort_unstable();
        near.into_iter().map(|(_, node)| node).collect()
    }

    /// Whether this node remembers all its votes: its promise is one, and so is what it accepts.
    pub(super) fn may_delegate(&self) -> bool {
        self.standing == Standing::Voting || self.rules.broken(Mutant::DelegatesWithoutVote)
    }

    /// Delegates the row's group, which somebody waits for, if that takes one round trip; whether it did.
    pub(super) fn begin_delegation(&mut self, turn: &mut Turn<'_>, row: &Row) -> bool {
        let now = turn.now.monotonic;
        let Some(delegate) = self.delegate(now, row) else {
            return false;
        };
        let ballot = self.ballot_to_delegate(turn, row);
        let Some((promise, errands)) = self.what_to_ship(turn, row, ballot) else {
            return false;
        };
        let Some(group) = self.group_mut(row) else {
            return false;
        };
        group.proposed = true;
        group.delegates.push(delegate);
        group.phase = Phase::Delegate(ballot, delegate);
        group.round_trips = group.round_trips.saturating_add(1);
        for id in group.jobs.clone() {
            self.begun(id);
        }
        let round_trip = self.peers.get(&delegate).map(|peer| peer.round_trip());
        let hedge =
            round_trip.unwrap_or_default() * 5 / 4 + Duration::from_millis(DELEGATE_HEDGE_MS);
        let round = self.next_round_within(turn, row, hedge);
        let message = Message::Delegate {
            vote: self.vote(row, round),
            ballot,
            promise,
            errands,
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

    /// A fresh ballot; a mutant goes on under that of the delegation before.
    fn ballot_to_delegate(&mut self, turn: &Turn<'_>, row: &Row) -> Ballot {
        let before = self.group(row).and_then(|group| group.phase_delegate());
        match before.filter(|_| self.rules.broken(Mutant::DelegationReusesBallot)) {
            Some((ballot, _)) => ballot,
            None => self.fresh_ballot(turn),
        }
    }

    /// This node's own promise, written in this step, and the group with those handed to it. `None` when it promised as high a ballot, when its
    /// record is damaged, or when it is too much to send: then the ordinary way is taken.
    fn what_to_ship(
        &mut self,
        turn: &mut Turn<'_>,
        row: &Row,
        ballot: Ballot,
    ) -> Option<(Promise, Vec<Errand>)> {
        let (mut slot, record) = self.load_row(turn, row).ok()?;
        let errands = self.errands(row);
        let eventual = record.as_ref().map_or(0, |record| bytes_of(&record.state));
        let value = slot
            .value
            .as_ref()
            .map_or(0, |value| bytes_of(value.as_ref()));
        let shipped: usize = errands.iter().map(bytes_of).sum();
        if shipped + value + eventual > DELEGATE_BYTES_MAX {
            return None;
        }
        let reuses = self.rules.broken(Mutant::DelegationReusesBallot);
        if !reuses || slot.promised != ballot {
            slot.prepare(ballot).ok()?;
        }
        if self.rules.broken(Mutant::ShippedPromiseNotDurable) {
            self.unwritten.insert(row.clone(), ballot);
        } else {
            turn.store(Family::Slot, layout::slot(row, layout::PROMISED), &ballot);
        }
        Some((promise_of(slot, record), errands))
    }

    /// A peer hands over a group: promises, executes and accepts in this step.
    pub(super) fn on_delegate(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        (vote, ballot): (Vote, Ballot),
        shipped: Promise,
        errands: &[Errand],
    ) {
        let short = |errand: &Errand| errand.operations.len() <= GROUP_OPERATIONS_MAX;
        if errands.len() > HANDED_MAX + 1 || !errands.iter().all(short) {
            // No honest coordinator sends so many.
            return;
        }
        let asker_votes = self.peers.get(&from).is_some_and(|peer| peer.votes);
        if !asker_votes && !self.rules.broken(Mutant::DelegatesWithoutVote) {
            // Its promise is none. One that votes since a moment is asked again, by the ordinary way.
            return;
        }
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
        let place = self.place(turn, &vote.row, ballot);
        let own = (self.me.node, promise_of(slot.clone(), record));
        let asker = (from, shipped);
        let message = match execute(&mut slot, asker, own, &voters, errands, place) {
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
        let delegated = self.group(row).and_then(|group| group.phase_delegate());
        if delegated.is_none_or(|(open, _)| open != ballot) {
            return;
        }
        if !self.may_delegate() {
            // What this node accepts counts no more: the others may still choose.
            self.begin_attempt(turn, row);
            return;
        }
        let Some(group) = self.group_mut(row) else {
            return;
        };
        let shared = group.operations.len() > 1;
        let mut votes = Tally::default();
        votes.count(from);
        let (absorbed, recalled) = (executed.absorbed, executed.recalled);
        let value = executed.value.clone();
        group.phase = Phase::Accept(Proposal {
            ballot,
            value: executed.value,
            outcomes: executed.outcomes,
            votes,
            absorbed,
            path: Path::Delegated,
        });
        let paths = [
            (absorbed, Note::Absorbed),
            (recalled, Note::RequestRecalled),
            (shared, Note::OperationsShared),
        ];
        for (_, note) in paths.into_iter().filter(|(taken, _)| *taken) {
            turn.note(note);
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

    /// The delegate of a row's group, if it has one, did not answer in time.
    pub(super) fn miss_delegate(&mut self, turn: &mut Turn<'_>, row: &Row) {
        let now = turn.now.monotonic;
        let delegate = self.group(row).and_then(|group| group.phase_delegate());
        let peer = delegate.and_then(|(_, node)| self.peers.get_mut(&node));
        if peer.is_some_and(|peer| peer.miss(now)) {
            turn.note(Note::DelegateShunned);
        }
    }
}

pub(super) fn bytes_of(what: &impl Encode) -> usize {
    what.to_record().len()
}
