//! What a coordinator keeps of one row: groups of strong operations, where each is, and how far it came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::key::NodeId;
use crate::limits::{GROUPS_AWAY_AT_ONCE, GROUPS_AWAY_MAX, GROUPS_KEPT_MAX, HANDED_MAX};
use crate::quorum::Tally;
use crate::register::{Attempt, Operation, Outcome, StrongValue};
use crate::request::Path;
use crate::version::Ballot;

use super::combining::Handed;
use super::jobs::JobId;

/// What runs and waits on one row.
#[derive(Clone, Debug, Default)]
pub(super) struct Coordinator {
    pub(super) queue: VecDeque<JobId>,
    /// Groups of other coordinators, for the next ballot.
    pub(super) handed: Vec<Handed>,
    /// The group that is proposed here.
    pub(super) group: Option<Group>,
    /// Groups that another coordinator was handed.
    pub(super) away: Vec<Group>,
    /// Groups that came back from there as they were, to be proposed here.
    pub(super) back: VecDeque<Group>,
    pub(super) attempts: u32,
    /// Until when what comes by is collected, if several groups are away.
    pub(super) paced_until: Duration,
    /// Groups begun so far.
    pub(super) begun: u64,
}

/// The group in flight.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The same for every attempt.
    pub(super) number: u64,
    /// How many groups were begun before it.
    pub(super) ordinal: u64,
    pub(super) jobs: Vec<JobId>,
    pub(super) operations: Vec<Operation>,
    /// Whether it was proposed: from then on its operations are fixed.
    pub(super) proposed: bool,
    /// Groups of other coordinators that go out under the same ballot.
    pub(super) handed: Vec<Handed>,
    /// To whom it was delegated; to nobody twice.
    pub(super) delegates: Vec<NodeId>,
    /// Who was asked to combine it; nobody twice.
    pub(super) combiners: Vec<NodeId>,
    /// Whether a higher ballot stood in its way: then it is prepared.
    pub(super) refused: bool,
    pub(super) round: u64,
    pub(super) round_trips: u8,
    pub(super) phase: Phase,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// A far replica was handed the group under this ballot.
    Delegate(Ballot, NodeId),
    /// This coordinator was handed the group, to combine it into its next ballot.
    Combine(NodeId),
    Prepare(Attempt),
    Accept(Proposal),
    Paused,
}

#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) ballot: Ballot,
    pub(super) value: Arc<StrongValue>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) votes: Tally,
    pub(super) absorbed: bool,
    pub(super) path: Path,
}

impl Coordinator {
    pub(super) fn group_mut(&mut self) -> Option<&mut Group> {
        self.group.as_mut()
    }

    pub(super) fn take_group(&mut self) -> Option<Group> {
        self.group.take()
    }

    /// Whether the next group would have something to do.
    pub(super) fn is_waited_for(&self) -> bool {
        !(self.queue.is_empty() && self.handed.is_empty() && self.back.is_empty())
    }

    /// Whether the next group may begin: not another one that goes away, should too many be or the last one have left
    /// just now, and not one so far behind the oldest under way that a value might forget that one.
    pub(super) fn is_free(&self, now: Duration) -> bool {
        if self.group.is_some() {
            return false;
        }
        let stays = !(self.handed.is_empty() && self.back.is_empty());
        let oldest = self.away.iter().map(|group| group.ordinal).min();
        let near = oldest.is_none_or(|oldest| self.begun - oldest < GROUPS_KEPT_MAX as u64);
        let leaves = match self.away.len() {
            0..GROUPS_AWAY_AT_ONCE => true,
            GROUPS_AWAY_AT_ONCE..GROUPS_AWAY_MAX => now >= self.paced_until,
            _ => false,
        };
        !self.back.is_empty() || (near && (stays || leaves))
    }

    /// The lowest number of a group that is under way.
    pub(super) fn oldest(&self) -> Option<u64> {
        let groups = self.group.iter().chain(&self.away).chain(&self.back);
        groups.map(|group| group.number).min()
    }

    /// Whether this coordinator, or anybody but this node, wants something of the row.
    pub(super) fn is_wanted_beside(&self, node: NodeId) -> bool {
        !self.queue.is_empty() || self.handed.iter().any(|handed| handed.from != node)
    }

    /// Takes the group that was handed over in this conversation.
    pub(super) fn take_away(&mut self, round: u64) -> Option<Group> {
        let at = self.away.iter().position(|group| group.round == round)?;
        Some(self.away.swap_remove(at))
    }
}

impl Group {
    /// Takes what was handed over, before a new ballot; what its proposers gave up meanwhile is dropped.
    pub(super) fn take_handed(&mut self, handed: &mut Vec<Handed>) {
        for mut new in handed.drain(..) {
            let given_up = |it: &Handed| {
                it.errand.proposer == new.errand.proposer && it.errand.group < new.errand.oldest
            };
            self.handed.retain(|it| !given_up(it));
            if self.handed.len() < HANDED_MAX {
                new.joined = self.round_trips;
                self.handed.push(new);
            }
        }
    }

    /// The same group of the same coordinator, if it goes out with this one.
    pub(super) fn known(&mut self, handed: &Handed) -> Option<&mut Handed> {
        let number = handed.errand.group;
        let same = |it: &&mut Handed| it.from == handed.from && it.errand.group == number;
        self.handed.iter_mut().find(same)
    }

    /// Whether it may be delegated to this replica.
    pub(super) fn suits(&self, delegate: NodeId) -> bool {
        !self.refused && !self.delegates.contains(&delegate)
    }

    /// The ballot under which it is delegated, and to whom.
    pub(super) fn phase_delegate(&self) -> Option<(Ballot, NodeId)> {
        match self.phase {
            Phase::Delegate(ballot, node) => Some((ballot, node)),
            _ => None,
        }
    }
}
