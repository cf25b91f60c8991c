//! Contended rows: coordinators that get into each other's way let one of them propose for all.
//!
//! A coordinator whose proposal is refused by the ballot of another one hands its group to that *owner* of the row
//! instead of fighting for it; the owner combines what it was handed with its own group under its next ballot, and tells
//! what was chosen. The asker logs the value in its own region and answers, as if it had proposed itself. So a row that
//! all regions write to has one proposer, every ballot serves all who wait, and nobody starves.
//!
//! Only who proposes is decided here, so a wrong guess costs time and nothing else: the group keeps its name, and
//! whoever proposes it, it takes effect once ([`crate::register::errand`]). An owner that does not answer in time is
//! given up and the group prepared here.
//!
//! Who yields: the one whose proposal was refused, unless it is much nearer to its quorum than the owner. Who has been
//! handed groups yields to nobody: a group travels once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::Note;
use crate::key::{NodeId, Row};
use crate::limits::{
    COMBINE_BYTES_MAX, DELEGATE_BYTES_MAX, DELEGATE_HEDGE_MS, GROUP_OPERATIONS_MAX,
    GROUPS_AWAY_MAX, HANDED_FOR_MS, HANDED_MAX, OWNER_KEPT_MS, OWNERS_MAX,
};
use crate::message::{Message, Vote};
use crate::quorum::Tally;
use crate::register::{Combined, Errand, Executed};
use crate::request::Path;
use crate::rules::Mutant;
use crate::version::Ballot;

use super::delegation::bytes_of;
use super::group::{Coordinator, Group, Phase, Proposal};
use super::turn::Turn;
use super::votes::unreported;
use super::{Replica, Timer};

/// A group that another coordinator handed over.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    pub(super) from: NodeId,
    /// Its conversation about it: the newest, should it have asked again.
    vote: Vote,
    pub(super) errand: Errand,
    /// Round trips that the group it joined had made before.
    pub(super) joined: u8,
    /// Then it is dropped: its coordinator proposes it itself, or has given it up.
    pub(super) until: Duration,
}

/// Whose ballots won which row a moment ago.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    rows: BTreeMap<Row, (NodeId, Duration)>,
}

impl Owners {
    fn of(&self, row: &Row, now: Duration) -> Option<NodeId> {
        let (owner, until) = self.rows.get(row)?;
        (now < *until).then_some(*owner)
    }

    fn keep(&mut self, row: &Row, owner: NodeId, now: Duration) {
        if self.rows.len() >= OWNERS_MAX {
            self.rows.retain(|_, (_, until)| now < *until);
        }
        // Forgotten is only where to ask first.
        if self.rows.len() < OWNERS_MAX || self.rows.contains_key(row) {
            let until = now + Duration::from_millis(OWNER_KEPT_MS);
            self.rows.insert(row.clone(), (owner, until));
        }
    }

    fn forget(&mut self, row: &Row) {
        self.rows.remove(row);
    }
}

impl Replica {
    /// Whether the row's group, refused by this ballot, goes to the ballot's owner from now on.
    pub(super) fn yields(&mut self, turn: &Turn<'_>, row: &Row, promised: Ballot) -> bool {
        let now = turn.now.monotonic;
        let owner = promised.origin.node;
        let suits = self.suits_as_owner(now, owner);
        let Some(group) = self.group_mut(row) else {
            return false;
        };
        // Were those passed on, too, two owners could send everything to and fro for ever.
        if !suits || !group.handed.is_empty() {
            return false;
        }
        // It is alive: should it have been asked before, its answer was late.
        group.combiners.retain(|asked| *asked != owner);
        self.owners.keep(row, owner, now);
        true
    }

    /// Whether groups may be handed to this node: it answers and votes, and is not much farther from its quorum than this
    /// node is from its own.
    fn suits_as_owner(&self, now: Duration, owner: NodeId) -> bool {
        let Some(peer) = self.peers.get(&owner) else {
            return false;
        };
        let answers = peer.reachable(now) && peer.votes && !peer.clock_disputed(now);
        let own = self.regions_round_trip(now).unwrap_or(Duration::MAX / 5);
        let near = peer.quorum.is_some_and(|theirs| theirs <= own * 5 / 4);
        answers && near && self.may_delegate()
    }

    /// Hands the row's group, which somebody waits for, to the row's owner, if it has one; whether it did.
    pub(super) fn begin_combining(&mut self, turn: &mut Turn<'_>, row: &Row) -> bool {
        let now = turn.now.monotonic;
        // Whoever gave up meanwhile was told that nothing was applied.
        self.prune_group(row);
        let (Some(owner), Some(group)) = (self.owners.of(row, now), self.group(row)) else {
            return false;
        };
        let stays = !group.handed.is_empty()
            || group.combiners.contains(&owner)
            || group.operations.is_empty();
        if stays || !self.suits_as_owner(now, owner) {
            return false;
        }
        let Some(errand) = self.what_to_hand_over(turn, row) else {
            return false;
        };
        let Some(peer) = self.peers.get(&owner) else {
            return false;
        };
        let (there, far) = (peer.round_trip(), peer.region != self.me.region);
        let quorum = peer.quorum.unwrap_or_default();
        let delegated = !self.delegates(now, row.shard()).is_empty()
            && bytes_of(&errand) < DELEGATE_BYTES_MAX / 2;
        let ballot = if delegated { 1 } else { 2 };
        let Some(group) = self.group_mut(row) else {
            return false;
        };
        group.proposed = true;
        group.combiners.push(owner);
        group.phase = Phase::Combine(owner);
        group.round_trips = group.round_trips.saturating_add(u8::from(far));
        for id in group.jobs.clone() {
            self.begun(id);
        }
        // There and back, the ballot under way and the next one; a quarter more, and what a busy machine adds.
        let round_trips = (there + 2 * ballot * quorum) * 5 / 4;
        let patience = round_trips + Duration::from_millis(DELEGATE_HEDGE_MS);
        let round = self.next_round_within(turn, row, patience);
        let vote = self.vote(row, round);
        self.send(turn, owner, Message::Combine { vote, errand });
        if let Some(coordinator) = self.coordinators.get_mut(row) {
            let group = coordinator.take_group();
            coordinator.away.extend(group);
            coordinator.paced_until = now + (there + quorum) / GROUPS_AWAY_MAX as u32;
            let wake = coordinator.paced_until;
            self.set_timer(wake, Timer::Retry(row.clone()));
        }
        self.next_group(turn, row);
        true
    }

    /// The row's group with what this node has applied. `None` when the record is damaged, or it is too much to send.
    fn what_to_hand_over(&self, turn: &Turn<'_>, row: &Row) -> Option<Errand> {
        let (slot, record) = self.load_row(turn, row).ok()?;
        let group = self.group(row)?;
        let errand = Errand {
            eventual: unreported(record, &slot),
            ..self.own_errand(row, group)
        };
        (bytes_of(&errand) <= COMBINE_BYTES_MAX).then_some(errand)
    }

    /// A peer hands its group over: it goes out with the next ballot.
    pub(super) fn on_combine(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vote: Vote,
        errand: Errand,
    ) {
        let honest = errand.operations.len() <= GROUP_OPERATIONS_MAX;
        if !honest || errand.proposer.node != from {
            return;
        }
        if !self.quorum_reachable(turn.now.monotonic, vote.row.shard()) {
            // The asker, who may reach one, proposes it when this node does not answer.
            return;
        }
        let row = vote.row.clone();
        let coordinator = self.coordinators.entry(row.clone()).or_default();
        let handed = Handed {
            from,
            vote,
            errand,
            joined: 0,
            until: turn.now.monotonic + Duration::from_millis(HANDED_FOR_MS),
        };
        let group = coordinator.group_mut();
        let known = group.and_then(|group| group.known(&handed));
        if let Some(known) = known {
            // It asked again about a group that is under way.
            (known.vote, known.until) = (handed.vote, handed.until);
            return;
        }
        let number = handed.errand.group;
        coordinator
            .handed
            .retain(|other| other.from != from || other.errand.group != number);
        if coordinator.handed.len() < HANDED_MAX {
            coordinator.handed.push(handed);
        }
        // Its own group may be away, too: each proposes the other's.
        self.next_group(turn, &row);
    }

    /// A ballot is chosen: tells those whose groups it carried.
    pub(super) fn answer_handed(
        &mut self,
        turn: &mut Turn<'_>,
        row: &Row,
        group: &Group,
        proposal: &Proposal,
    ) {
        if group.handed.is_empty() {
            return;
        }
        // The votes are used up here, whoever logs the outcome.
        self.store_all_seen(turn);
        // Who hands its own groups to somebody else is no owner.
        let owner = self.owners.of(row, turn.now.monotonic).is_none();
        let coordinator = self.coordinators.get(row);
        let others = |node: NodeId| {
            let waits = coordinator.is_some_and(|c| c.is_wanted_beside(node));
            let beside = group.handed.iter().any(|handed| handed.from != node);
            waits || beside || !group.jobs.is_empty()
        };
        let busy: Vec<bool> = group
            .handed
            .iter()
            .map(|it| owner && others(it.from))
            .collect();
        let mut outcomes = proposal
            .outcomes
            .iter()
            .skip(group.operations.len())
            .cloned();
        for (handed, busy) in group.handed.iter().zip(busy) {
            turn.note(Note::Combined);
            let count = handed.errand.operations.len();
            let combined = Combined {
                executed: Executed {
                    value: proposal.value.clone(),
                    outcomes: outcomes.by_ref().take(count).collect(),
                    absorbed: proposal.absorbed,
                    recalled: false,
                },
                voters: proposal.votes.nodes().iter().copied().collect(),
                round_trips: group.round_trips.saturating_sub(handed.joined),
                busy,
            };
            let answer = Message::Combined {
                vote: handed.vote.clone(),
                ballot: proposal.ballot,
                combined,
            };
            self.send(turn, handed.from, answer);
        }
    }

    /// The owner combined a group of the row, and it is chosen.
    pub(super) fn on_combined(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vote: &Vote,
        ballot: Ballot,
        combined: Combined,
    ) {
        let (now, row) = (turn.now.monotonic, &vote.row);
        let Combined {
            executed,
            voters,
            round_trips,
            busy,
        } = combined;
        let Some(coordinator) = self.coordinators.get_mut(row) else {
            return;
        };
        let asked = |group: &Group| {
            let to = matches!(group.phase, Phase::Combine(owner) if owner == from);
            to && executed.outcomes.len() == group.operations.len()
        };
        let mut away = coordinator.away.iter();
        if !away.any(|group| group.round == vote.round && asked(group)) {
            return;
        }
        let Some(mut group) = coordinator.take_away(vote.round) else {
            return;
        };
        let mut votes = Tally::default();
        for voter in voters {
            votes.count(voter);
        }
        group.round_trips = group.round_trips.saturating_add(round_trips);
        group.phase = Phase::Accept(Proposal {
            ballot,
            value: executed.value,
            outcomes: executed.outcomes,
            votes,
            absorbed: executed.absorbed,
            path: Path::Combined,
        });
        match busy {
            true => self.owners.keep(row, from, now),
            false => self.owners.forget(row),
        }
        self.conclude(turn, row, &group);
        self.next_group(turn, row);
    }

    /// The time of a conversation with a row's owner is over: the group is proposed here. Whether it was one.
    pub(super) fn take_back(&mut self, turn: &mut Turn<'_>, row: &Row, round: u64) -> bool {
        let coordinator = self.coordinators.get_mut(row);
        let Some(mut group) = coordinator.and_then(|c| c.take_away(round)) else {
            return false;
        };
        self.proposals.remove(&round);
        self.owners.forget(row);
        group.refused = true;
        if let Some(coordinator) = self.coordinators.get_mut(row) {
            coordinator.back.push_back(group);
        }
        self.next_group(turn, row);
        true
    }

    /// What a row's coordinator handed to a node, or to anybody, is proposed here.
    pub(super) fn take_back_all(&mut self, turn: &mut Turn<'_>, row: &Row, from: Option<NodeId>) {
        let Some(coordinator) = self.coordinators.get(row) else {
            return;
        };
        let handed = |group: &&Group| match group.phase {
            Phase::Combine(owner) => from.is_none_or(|node| node == owner),
            _ => false,
        };
        let away = coordinator.away.iter().filter(handed);
        for round in away.map(|group| group.round).collect::<Vec<u64>>() {
            self.take_back(turn, row, round);
        }
    }

    /// A node does not answer any more: what was handed to it is proposed here.
    pub(super) fn take_back_combined(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let some = |(_, coordinator): &(&Row, &Coordinator)| !coordinator.away.is_empty();
        let rows = self.coordinators.iter().filter(some);
        for row in rows.map(|(row, _)| row.clone()).collect::<Vec<Row>>() {
            self.take_back_all(turn, &row, Some(node));
        }
    }

    /// Tells those whose groups a ballot carries before it is chosen. Only a mutant does.
    pub(super) fn answer_handed_early(&mut self, turn: &mut Turn<'_>, row: &Row) {
        if !self.rules.broken(Mutant::CombinedBeforeChosen) {
            return;
        }
        let group = self.group(row).cloned();
        if let Some(group) = group
            && let Phase::Accept(proposal) = &group.phase
        {
            self.answer_handed(turn, row, &group, proposal);
        }
    }
}
